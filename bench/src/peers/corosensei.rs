//! corosensei: a resume and a suspend in a loop. No scheduler does less; it is the floor for yields.

use std::time::Instant;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};

use crate::outcome::Outcome;
use crate::params::Params;

/// Runs `yield`, the one work that makes sense without a scheduler.
pub fn run(work: &str, p: &Params) -> Result<Outcome, String> {
    if work != "yield" {
        return Err("a bare coroutine can only yield".into());
    }
    let (threads, each) = (p.count("threads"), p.get("each"));
    let warm = (each / 10).max(2);
    let mut ring: Vec<Coroutine<(), (), u64, DefaultStack>> = (0..threads)
        .map(|_| {
            let stack = DefaultStack::new(64 << 10).expect("a stack");
            Coroutine::with_stack(stack, move |yielder, ()| {
                let mut yielded = 0;
                for i in 0..warm + each {
                    yielder.suspend(());
                    yielded += u64::from(i >= warm);
                }
                yielded
            })
        })
        .collect();
    let mut round = |count: u64| {
        for _ in 0..count {
            ring.iter_mut().for_each(|one| assert!(matches!(one.resume(()), CoroutineResult::Yield(()))));
        }
    };
    round(warm);
    let begin = Instant::now();
    round(each);
    let elapsed = begin.elapsed();
    let ends = ring.iter_mut().map(|one| match one.resume(()) {
        CoroutineResult::Return(yielded) => yielded,
        CoroutineResult::Yield(()) => 0,
    });
    let yielded = ends.sum();
    Ok(Outcome::per_op(yielded, threads as u64 * each, elapsed).with_usage())
}
