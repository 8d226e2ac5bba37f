//! P6: several runtimes at once, and one after the other.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use gvt_traits::{Factory, Preemptor, Strength};

use super::stage::{HOOKS, RECORDS, Stage, Target};
use super::{calls, interrupt_once, refuses, signals, violation, weaker_ones_refuse};
use crate::{Verdict, Violation};

/// P6, P2: of several runtimes that are attached each has its own hook called, and no other's.
pub fn p6_each_its_own<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    let stage = Stage::enter();
    let backends: Vec<_> = (0..HOOKS).map(|hook| stage.attached(factory, hook)).collect();
    weaker_ones_refuse!(stage, backends[0]);
    let target = stage.spinner(0);
    let mut expected = [0; HOOKS];
    for round in 0..100 {
        let hook = round * 3 % HOOKS;
        interrupt_once(&*backends[hook], &target, hook)?;
        expected[hook] += 1;
        let found: [usize; HOOKS] = std::array::from_fn(calls);
        if found != expected {
            return violation(
                "P6",
                format!("the hooks ran {found:?} times, they were asked for {expected:?} times"),
            );
        }
    }
    Ok(())
}

/// P6: runtimes detach in any order; those that remain are still interrupted; in the end no hook runs.
pub fn p6_detach_in_any_order<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    let stage = Stage::enter();
    weaker_ones_refuse!(stage, stage.attached(factory, 0));
    let target = stage.spinner(0);
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
        let mut backends: Vec<_> = (0..3).map(|hook| stage.attached(factory, hook)).collect();
        let mut remaining = vec![0, 1, 2];
        for leaving in order {
            // One interrupt is under way while its runtime goes.
            backends[leaving].interrupt(target.thread);
            backends[leaving].detach();
            RECORDS[leaving].allowed.store(false, SeqCst);
            remaining.retain(|&hook| hook != leaving);
            for &hook in &remaining {
                let backend = &backends[hook];
                if let Err(Violation { what, .. }) = interrupt_once(&**backend, &target, hook) {
                    return violation("P6", format!("after another runtime's `detach`: {what}"));
                }
            }
        }
        for _ in 0..20 {
            signals::signal(target.thread, libc::SIGURG);
        }
        target.within_cpu_time(Duration::from_millis(20), || false);
        for record in &RECORDS {
            if record.forbidden.load(SeqCst) != 0 {
                return violation("P6", "a hook ran after its runtime's `detach` had returned");
            }
            record.allowed.store(true, SeqCst);
        }
    }
    Ok(())
}

/// P6: runtimes attach, interrupt and detach on several OS threads at once.
pub fn p6_storm<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    const ROUNDS: usize = 150;
    let stage = Stage::enter();
    weaker_ones_refuse!(stage, stage.attached(factory, 0));
    let targets: Vec<Target> = (0..HOOKS + 2).map(|place| stage.spinner(place)).collect();
    for record in &RECORDS {
        record.allowed.store(false, SeqCst);
    }
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for hook in 0..HOOKS {
            let (stage, targets, failed) = (&stage, &targets, &failed);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    RECORDS[hook].allowed.store(true, SeqCst);
                    let backend = stage.attached(factory, hook);
                    for step in 0..5 {
                        let target = &targets[(hook + round + step) % targets.len()];
                        if !backend.interrupt(target.thread) {
                            failed.fetch_add(1, SeqCst);
                        }
                    }
                    drop(backend);
                    RECORDS[hook].allowed.store(false, SeqCst);
                }
            });
        }
    });
    drop(targets);
    if RECORDS.iter().any(|record| record.forbidden.load(SeqCst) != 0) {
        return violation("P6", "a hook ran while its runtime was not attached");
    }
    if failed.load(SeqCst) != 0 {
        return violation("P2", "`interrupt` of a running OS thread returned `false`");
    }
    if (0..HOOKS).any(|hook| calls(hook) > ROUNDS * 5) {
        return violation("P2", "a hook ran more often than it was asked for");
    }
    Ok(())
}
