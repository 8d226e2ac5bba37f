//! Random requests, beside a model that knows only which slots are in use.

use gvt_traits::{Factory, MemoryError, SlotAllocator};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use super::probe::Tag;
use super::rig::Rig;
use crate::{Verdict, Violation};

const WORKERS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Request {
    Acquire { worker: usize, class: usize },
    Release { worker: usize, which: usize },
    ReleaseMany { worker: usize, count: usize },
    Reserve { class: usize, threads: usize },
    Trim,
    Decay { seconds: u64 },
}

/// Which of the classes that there are, in turn; mostly the default.
fn class() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0usize), 1 => any::<usize>()]
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let worker = 0..WORKERS;
    let request = prop_oneof![
        8 => (worker.clone(), class())
            .prop_map(|(worker, class)| Request::Acquire { worker, class }),
        4 => (worker.clone(), any::<usize>()).prop_map(|(worker, which)| Request::Release { worker, which }),
        1 => (worker, 1..80usize).prop_map(|(worker, count)| Request::ReleaseMany { worker, count }),
        2 => (class(), prop_oneof![8 => 0..200usize, 1 => (usize::MAX / 2)..usize::MAX])
            .prop_map(|(class, threads)| Request::Reserve { class, threads }),
        1 => Just(Request::Trim),
        1 => (0..3u64).prop_map(|seconds| Request::Decay { seconds }),
    ];
    prop::collection::vec(request, 1..300)
}

/// All clauses: whatever is requested in whatever order, slots in use never overlap, keep their marks, are as
/// large as asked, and are refused only when the model says so.
pub fn agrees_with_model<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let config = Config { cases: 48, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&requests(), |requests| {
        run(factory, &requests).map_err(|violation| TestCaseError::fail(violation.to_string()))
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Abort(reason)) => Err(Violation::new("model", format!("gave up: {reason}"))),
        Err(TestError::Fail(reason, requests)) => Err(match run(factory, &requests) {
            Err(violation) => {
                Violation::new(violation.clause, format!("{} after {requests:?}", violation.what))
            }
            Ok(()) => Violation::new("model", format!("{reason}, but not again, after {requests:?}")),
        }),
    }
}

fn run<F: Factory<Output: SlotAllocator>>(factory: &F, requests: &[Request]) -> Verdict {
    let mut rig = Rig::new(factory, WORKERS, 200)?;
    let classes = rig.classes()?;
    let mut tags: Vec<(Tag, usize)> = Vec::new();
    let mut promised = vec![0; classes.len()];
    let mut now_ns = 1;
    for &request in requests {
        match request {
            Request::Acquire { worker, class } => {
                let n = class % classes.len();
                let (class, size) = classes[n];
                let held = tags.iter().filter(|&&(_, of)| of == n).count();
                match rig.try_acquire(worker, class) {
                    Ok(()) => {
                        let bounds = rig.bounds(tags.len());
                        let stack = bounds.top.as_ptr() as usize - bounds.bottom.as_ptr() as usize;
                        if stack < size / 4 * 3 {
                            return Err(Violation::new("S4", format!("a stack of {stack} bytes for {size}")));
                        }
                        tags.push((Tag::write(bounds)?, n));
                    }
                    Err(MemoryError::SlotsExhausted { .. }) if held >= promised[n] => {}
                    Err(error) => {
                        let what =
                            format!("{class:?}: {held} in use, {} promised, but: {error:?}", promised[n]);
                        return Err(Violation::new("S5", what));
                    }
                }
            }
            Request::Release { worker, which } if !tags.is_empty() => {
                let which = which % tags.len();
                tags.remove(which).0.check("other slots were marked")?;
                rig.release(worker, which);
            }
            Request::Release { .. } => {}
            Request::ReleaseMany { worker, count } => {
                for _ in 0..count.min(tags.len()) {
                    tags.remove(0).0.check("other slots were marked")?;
                    rig.release(worker, 0);
                }
            }
            Request::Reserve { class, threads } => {
                let n = class % classes.len();
                match rig.pool.reserve(classes[n].0, threads) {
                    Ok(()) if threads > u32::MAX as usize => {
                        return Err(Violation::new("S5", format!("{threads} slots cannot all have numbers")));
                    }
                    Ok(()) => promised[n] = threads.max(promised[n]),
                    Err(_) if threads > 200 => {}
                    Err(error) => return Err(Violation::new("S5", format!("{threads} threads: {error}"))),
                }
            }
            Request::Trim => _ = rig.pool.trim(),
            Request::Decay { seconds } => {
                now_ns += seconds * 1_000_000_000;
                rig.pool.decay(now_ns);
            }
        }
        for (n, &(class, _)) in classes.iter().enumerate() {
            let held = tags.iter().filter(|&&(_, of)| of == n).count();
            let counted = rig.pool.memory_use(class).slots_in_use;
            if counted != held {
                return Err(Violation::new("S7", format!("{class:?}: {held} in use, it says {counted}")));
            }
        }
        rig.check_disjoint()?;
    }
    for (tag, _) in &tags {
        tag.check("all requests")?;
    }
    Ok(())
}
