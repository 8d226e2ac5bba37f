//! Laws of [`Preemptor`], for Linux on x86_64.
//!
//! Each law takes the factory. A backend that is weaker than [`Strength::Anywhere`] has the same laws: it
//! must refuse to interrupt and leave everything alone. P4 is argued by hand.
//!
//! Waiting is measured in the CPU time of the OS thread that should be interrupted, not in time, so
//! that a busy machine does not fail a good backend. Laws run one at a time, whatever the test runner
//! does, since signals belong to the process.
//!
//! **What this cannot see.** Work in the handler that is not async-signal-safe but happens to go well;
//! a signal that meets another already pending.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use gvt_traits::{Factory, Preemptor, Strength};

use crate::{Verdict, Violation};

mod chaining;
mod context;
mod sharing;
mod signals;
mod spin;
mod stage;

pub use chaining::{p5_covered, p5_foreign_signals, p5_refused, p5_restored};
pub use sharing::{p6_detach_in_any_order, p6_each_its_own, p6_storm};
pub(crate) use spin::trash;
pub use spin::{Found, Width};

pub use context::{p7_context, p8_ready};
use stage::{CALLS_ON, CAUSE, CAUSE_SEEN, RECORDS, Stage, TARGETS, Target, build, eventually};

/// Makes a module `$name` with a test for each law, run on the backend that `$factory` builds.
///
/// `$signal` is the signal that the backend uses; for one that uses none, any whose default action is
/// to be ignored.
///
/// ```
/// gvt_conformance::preemptor_laws!(sigurg, gvt_preempt_sigurg::Sigurg, 23);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! preemptor_laws {
    ($name:ident, $factory:expr, $signal:expr) => {
        mod $name {
            $crate::preemptor_laws!(@ ($factory); p1_strength p2_target p2_burst p3_registers p3_errno
                p3_system_calls p6_each_its_own p6_detach_in_any_order p6_storm p7_context p8_ready);
            $crate::preemptor_laws!(@ ($factory, $signal); p5_foreign_signals p5_refused p5_restored p5_covered);
        }
    };
    (@ $arguments:tt; $($law:ident)*) => {
        $(#[test]
        fn $law() {
            $crate::preemptor_laws!(@call $law $arguments);
        })*
    };
    (@call $law:ident ($factory:expr $(, $signal:expr)?)) => {
        $crate::laws::preemptor::$law(&$factory $(, $signal)?).unwrap()
    };
}

fn violation(clause: &'static str, what: impl Into<String>) -> Verdict {
    Err(Violation::new(clause, what))
}

fn calls(hook: usize) -> usize {
    RECORDS[hook].calls.load(SeqCst)
}

/// What a backend that cannot interrupt owes: it says so, and does not.
fn refuses(stage: &Stage, backend: &impl Preemptor) -> Verdict {
    let target = stage.spinner(0);
    for _ in 0..100 {
        if backend.interrupt(target.thread) {
            return violation(
                "P1",
                format!("its strength is {:?}, and it claims to have interrupted", backend.strength()),
            );
        }
    }
    target.within_cpu_time(Duration::from_millis(30), || false);
    target.stop();
    match calls(0) {
        0 => Ok(()),
        calls => violation(
            "P1",
            format!("its strength is {:?}, and it called the hook {calls} times", backend.strength()),
        ),
    }
}

macro_rules! weaker_ones_refuse {
    ($stage:expr, $backend:expr) => {
        let backend = &$backend;
        if backend.strength() < Strength::Anywhere {
            return refuses(&$stage, &**backend);
        }
    };
}
use weaker_ones_refuse;

/// Interrupts `target` once and waits for the hook.
fn interrupt_once(backend: &impl Preemptor, target: &Target, hook: usize) -> Verdict {
    let before = calls(hook);
    if !backend.interrupt(target.thread) {
        return violation("P2", "`interrupt` of a running OS thread returned `false`");
    }
    if !target.within(|| calls(hook) > before) {
        return violation("P2", "the hook did not run on a running OS thread");
    }
    Ok(())
}

/// P1: the strength is always the same, and what it says is so.
pub fn p1_strength<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    let stage = Stage::enter();
    let strength = build(factory).strength();
    let backend = stage.attached(factory, 0);
    if strength < Strength::Anywhere {
        refuses(&stage, &*backend)?;
    } else {
        let target = stage.spinner(0);
        for _ in 0..20 {
            let before = calls(0);
            if !backend.interrupt(target.thread) || !target.within(|| calls(0) > before) {
                return violation(
                    "P1",
                    "its strength is Anywhere, and a computing OS thread was not interrupted",
                );
            }
        }
    }
    if (0..100).any(|_| backend.strength() != strength) {
        return violation(
            "P1",
            format!("its strength was {strength:?} once and is {:?} now", backend.strength()),
        );
    }
    Ok(())
}

/// P2: the hook runs on the OS thread that was named, on no other, once; one that is gone is refused.
pub fn p2_target<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    const ROUNDS: usize = 64;
    let stage = Stage::enter();
    let backend = stage.attached(factory, 0);
    weaker_ones_refuse!(stage, backend);
    // Two that compute, and some that mostly sleep and must not be chosen instead.
    let mut targets: Vec<Target> = (0..2).map(|place| stage.spinner(place)).collect();
    targets.extend((2..8).map(|place| stage.target(place, || std::thread::sleep(Duration::from_millis(1)))));
    for round in 0..ROUNDS {
        let place = round % 2;
        if calls(0) != round {
            return violation("P2", format!("the hook ran {} times for {round} interrupts", calls(0)));
        }
        let before: Vec<usize> = CALLS_ON.iter().map(|calls| calls.load(SeqCst)).collect();
        if !backend.interrupt(targets[place].thread) {
            return violation("P2", "`interrupt` of a running OS thread returned `false`");
        }
        let came = targets[place].within(|| calls(0) > round);
        let after: Vec<usize> = CALLS_ON.iter().map(|calls| calls.load(SeqCst)).collect();
        for (other, (before, after)) in before.into_iter().zip(after).enumerate() {
            if other != place && after != before {
                let who = if other == TARGETS { "an OS thread of no concern" } else { "another target" };
                return violation("P2", format!("the hook ran on {who}"));
            }
        }
        if !came {
            return violation("P2", "the hook did not run on a running OS thread");
        }
    }
    let total = calls(0);
    if total != ROUNDS {
        return violation("P2", format!("the hook ran {total} times for {ROUNDS} interrupts"));
    }
    let gone = targets.pop().expect("there are some").stop();
    // Joining does not wait for the kernel's last word.
    // SAFETY: signal 0 only asks.
    let exists = || unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), gone.0, 0) == 0 };
    assert!(eventually(|| !exists()), "an OS thread that was joined goes away");
    if backend.interrupt(gone) {
        return violation("P2", "`interrupt` of an OS thread that is gone returned `true`");
    }
    Ok(())
}

/// P2: of many interrupts in a row none after the last hook is lost, and hooks are no more than interrupts.
pub fn p2_burst<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    const BURSTS: usize = 20;
    const EACH: usize = 100;
    let stage = Stage::enter();
    let backend = stage.attached(factory, 0);
    weaker_ones_refuse!(stage, backend);
    let target = stage.spinner(0);
    for _ in 0..BURSTS {
        let mut last = 0;
        for _ in 0..EACH {
            last = CAUSE.fetch_add(1, SeqCst) + 1;
            if !backend.interrupt(target.thread) {
                return violation("P2", "`interrupt` of a running OS thread returned `false`");
            }
        }
        if !target.within(|| CAUSE_SEEN.load(SeqCst) == last) {
            return violation("P2", "no hook ran after the last interrupt of a row");
        }
    }
    target.stop();
    let calls = calls(0);
    if calls > BURSTS * EACH {
        return violation("P2", format!("the hook ran {calls} times for {} interrupts", BURSTS * EACH));
    }
    Ok(())
}

/// P3: general, x87, SSE, AVX, AVX-512 and mask registers, control words, flags and the red zone of a
/// computation survive 10,000 interrupts (or what fits in 0.4 s), whose hooks wipe every register they may.
pub fn p3_registers<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    const INTERRUPTS: usize = 10_000;
    let stage = Stage::enter();
    let backend = stage.attached(factory, 0);
    weaker_ones_refuse!(stage, backend);
    spin::trash();
    let width = spin::Width::here();
    let stop = Arc::new(AtomicU32::new(0));
    let (spinning, changed) = (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(None)));
    let target = {
        let (stop, spinning, changed) = (Arc::clone(&stop), Arc::clone(&spinning), Arc::clone(&changed));
        stage.target(0, move || {
            let mut changed = changed.lock().expect("nobody panics with it");
            if changed.is_none() {
                spinning.store(true, SeqCst);
                *changed = Some(width.spin(&stop));
            }
        })
    };
    let mut verdict = Ok(());
    // Some CPU time of its own, so that it is in the assembly.
    target.within_cpu_time(Duration::from_millis(20), || false);
    target.within_cpu_time(Duration::from_millis(400), || {
        for _ in 0..20 {
            let before = calls(0);
            verdict = verdict.clone().and(interrupt_once(&*backend, &target, 0));
            if verdict.is_err() || calls(0) == before {
                break;
            }
        }
        verdict.is_err() || calls(0) >= INTERRUPTS
    });
    stop.store(1, SeqCst);
    target.stop();
    verdict?;
    let changed = changed.lock().expect("nobody panics with it").take().unwrap_or_default();
    if !changed.is_empty() {
        let (calls, changed) = (calls(0), changed.join(", "));
        return violation("P3", format!("after {calls} interrupts ({width:?}) these were others: {changed}"));
    }
    Ok(())
}

/// P3: `errno` survives.
pub fn p3_errno<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    const ERRNO: i32 = 77;
    let stage = Stage::enter();
    let backend = stage.attached(factory, 0);
    weaker_ones_refuse!(stage, backend);
    let changed = Arc::new(AtomicI32::new(0));
    let theirs = Arc::clone(&changed);
    let target = stage.target(0, move || {
        // SAFETY: the OS thread's own.
        unsafe {
            let errno = libc::__errno_location();
            errno.write_volatile(ERRNO);
            for _ in 0..1000 {
                let found = errno.read_volatile();
                if found != ERRNO {
                    theirs.store(found, SeqCst);
                    return;
                }
                std::hint::spin_loop();
            }
        }
    });
    for _ in 0..150 {
        interrupt_once(&*backend, &target, 0)?;
        let found = changed.load(SeqCst);
        if found != 0 {
            return violation("P3", format!("errno was {ERRNO} before an interrupt and {found} after it"));
        }
    }
    Ok(())
}

/// P3: a blocked `read` goes on blocking, and a sleep lasts its time.
pub fn p3_system_calls<F: Factory<Output: Preemptor>>(factory: &F) -> Verdict {
    const INTERRUPTS: usize = 100;
    let stage = Stage::enter();
    let backend = stage.attached(factory, 0);
    weaker_ones_refuse!(stage, backend);

    let (reader, writer) = std::io::pipe().expect("a pipe");
    let outcome = Arc::new(std::sync::Mutex::new(None));
    let target = {
        let (mut reader, outcome) = (reader, Arc::clone(&outcome));
        stage.target(0, move || {
            if outcome.lock().expect("nobody panics with it").is_none() {
                let result = reader.read(&mut [0]).map_err(|error| error.to_string());
                *outcome.lock().expect("nobody panics with it") = Some(result);
            }
        })
    };
    // Closed before the target is joined, whatever happens.
    let writer = writer;
    let ended = || outcome.lock().expect("nobody panics with it").clone();
    for round in 0..INTERRUPTS {
        // A blocked OS thread uses no CPU time to wait by.
        if !backend.interrupt(target.thread) || !eventually(|| calls(0) > round || ended().is_some()) {
            return violation("P2", "the hook did not run on an OS thread blocked in `read`");
        }
        std::thread::sleep(Duration::from_micros(50));
        if let Some(result) = ended() {
            return violation("P3", format!("a blocked `read` returned {result:?} at an interrupt"));
        }
    }
    // SAFETY: the byte is valid, the descriptor is open.
    let written = unsafe { libc::write(writer.as_raw_fd(), [1u8].as_ptr().cast(), 1) };
    assert_eq!(written, 1, "a pipe has room for a byte");
    if !eventually(|| ended().is_some()) || ended() != Some(Ok(1)) {
        return violation(
            "P3",
            format!("after {INTERRUPTS} interrupts a `read` of one byte gave {:?}", ended()),
        );
    }
    drop(writer);
    target.stop();

    const SLEEP: Duration = Duration::from_millis(100);
    let slept = Arc::new(std::sync::Mutex::new(None));
    let theirs = Arc::clone(&slept);
    let target = stage.target(1, move || {
        let start = Instant::now();
        std::thread::sleep(SLEEP);
        theirs.lock().expect("nobody panics with it").get_or_insert(start.elapsed());
    });
    let slept = || *slept.lock().expect("nobody panics with it");
    while slept().is_none() {
        backend.interrupt(target.thread);
        std::thread::sleep(Duration::from_micros(200));
    }
    match slept() {
        Some(slept) if slept < SLEEP => violation("P3", format!("a sleep of {SLEEP:?} lasted {slept:?}")),
        _ => Ok(()),
    }
}
