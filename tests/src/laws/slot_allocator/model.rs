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
    Acquire { worker: usize, min_bytes: usize },
    Release { worker: usize, which: usize },
    ReleaseMany { worker: usize, count: usize },
    Reserve { threads: usize },
    Trim,
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let worker = 0..WORKERS;
    let request = prop_oneof![
        8 => (worker.clone(), prop_oneof![4 => Just(0usize), 2 => 1..40_000usize, 1 => any::<usize>()])
            .prop_map(|(worker, min_bytes)| Request::Acquire { worker, min_bytes }),
        4 => (worker.clone(), any::<usize>()).prop_map(|(worker, which)| Request::Release { worker, which }),
        1 => (worker, 1..80usize).prop_map(|(worker, count)| Request::ReleaseMany { worker, count }),
        2 => prop_oneof![8 => 0..200usize, 1 => (usize::MAX / 2)..usize::MAX]
            .prop_map(|threads| Request::Reserve { threads }),
        1 => Just(Request::Trim),
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
    let mut tags: Vec<Tag> = Vec::new();
    let mut promised = 0;
    for &request in requests {
        match request {
            Request::Acquire { worker, min_bytes } => {
                let held = tags.len();
                match rig.try_acquire(worker, min_bytes) {
                    Ok(()) => {
                        let bounds = rig.bounds(held);
                        let size = bounds.top.as_ptr() as usize - bounds.bottom.as_ptr() as usize;
                        if size < min_bytes {
                            return Err(Violation::new("S4", format!("{size} bytes for {min_bytes}")));
                        }
                        tags.push(Tag::write(bounds)?);
                    }
                    Err(MemoryError::SlotTooSmall { asked, largest })
                        if asked == min_bytes && asked > largest => {}
                    Err(MemoryError::SlotsExhausted { .. }) if held >= promised => {}
                    Err(error) => {
                        let what = format!("{held} in use, {promised} promised, but: {error:?}");
                        return Err(Violation::new("S5", what));
                    }
                }
            }
            Request::Release { worker, which } if !tags.is_empty() => {
                let which = which % tags.len();
                tags.remove(which).check("other slots were marked")?;
                rig.release(worker, which);
            }
            Request::Release { .. } => {}
            Request::ReleaseMany { worker, count } => {
                for _ in 0..count.min(tags.len()) {
                    tags.remove(0).check("other slots were marked")?;
                    rig.release(worker, 0);
                }
            }
            Request::Reserve { threads } => match rig.pool.reserve(threads) {
                Ok(()) if threads > u32::MAX as usize => {
                    return Err(Violation::new("S5", format!("{threads} slots cannot all have numbers")));
                }
                Ok(()) => promised = promised.max(threads),
                Err(_) if threads > 200 => {}
                Err(error) => return Err(Violation::new("S5", format!("{threads} threads: {error}"))),
            },
            Request::Trim => _ = rig.pool.trim(),
        }
        rig.check_disjoint()?;
    }
    for tag in &tags {
        tag.check("all requests")?;
    }
    Ok(())
}
