//! P5: handlers that were installed before, and those that come later.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use gvt_traits::{Factory, Preemptor, Strength};

use super::signals::{self, Disposition, Handler};
use super::stage::{RECORDS, Stage};
use super::{calls, interrupt_once, refuses, violation, weaker_ones_refuse};
use crate::Verdict;

/// P5: signals that the backend did not send reach the handler that was there before, with all that
/// came with them, and no hook (P2). What was ignored stays ignored.
pub fn p5_foreign_signals<F: Factory<Output: Preemptor>>(factory: &F, signal: i32) -> Verdict {
    let stage = Stage::enter();
    for handler in [Handler::Informed, Handler::Plain, Handler::Ignore, Handler::Default] {
        let _theirs = Disposition::install(signal, handler);
        let _backend = stage.attached(factory, 0);
        let target = stage.spinner(0);
        let heard = matches!(handler, Handler::Informed | Handler::Plain);
        for round in 1..=50 {
            let value = 0x1000 + round as u64;
            let with_value = round % 2 == 0;
            if with_value {
                signals::signal_with_value(target.thread, signal, value);
            } else {
                signals::signal(target.thread, signal);
            }
            if !heard {
                continue;
            }
            let reached = target.within(|| signals::CALLS.load(SeqCst) >= round);
            if calls(0) != 0 {
                return violation("P2", "the hook ran for a foreign signal");
            }
            if !reached {
                return violation(
                    "P5",
                    format!("a foreign signal did not reach the previous handler ({handler:?})"),
                );
            }
            let found = signals::LAST_SIGNAL.load(SeqCst);
            if found != signal {
                return violation(
                    "P5",
                    format!("the previous handler was told signal {found} instead of {signal}"),
                );
            }
            let code = if with_value { libc::SI_QUEUE } else { libc::SI_TKILL };
            let (found_code, found_value) =
                (signals::LAST_CODE.load(SeqCst), signals::LAST_VALUE.load(SeqCst));
            if handler == Handler::Informed && (found_code != code || with_value && found_value != value) {
                let what = format!("the previous handler was told code {found_code}, value {found_value:#x}");
                return violation("P5", format!("{what}, instead of {code}, {value:#x}"));
            }
        }
        target.within_cpu_time(Duration::from_millis(20), || false);
        target.stop();
        if calls(0) != 0 {
            return violation("P2", format!("the hook ran {} times for foreign signals", calls(0)));
        }
        let calls = signals::CALLS.load(SeqCst);
        if heard && calls != 50 {
            return violation("P5", format!("the previous handler was called {calls} times for 50 signals"));
        }
    }
    Ok(())
}

/// P5: an interrupt that the hook takes does not reach the previous handler, one that it refuses does.
pub fn p5_refused<F: Factory<Output: Preemptor>>(factory: &F, signal: i32) -> Verdict {
    let stage = Stage::enter();
    let _theirs = Disposition::install(signal, Handler::Plain);
    let backend = stage.attached(factory, 0);
    weaker_ones_refuse!(stage, backend);
    let target = stage.spinner(0);
    let mut refused = 0;
    for round in 0..30 {
        let refuses = round % 3 == 0;
        refused += usize::from(refuses);
        RECORDS[0].refuses.store(refuses, SeqCst);
        interrupt_once(&*backend, &target, 0)?;
        if !target.within(|| signals::CALLS.load(SeqCst) >= refused) {
            return violation("P5", "an interrupt that the hook refused did not reach the previous handler");
        }
        // The next interrupt comes after this one's handler has returned.
        target.within_cpu_time(Duration::from_micros(100), || false);
        if signals::CALLS.load(SeqCst) > refused {
            return violation("P5", "an interrupt that the hook took reached the previous handler too");
        }
    }
    Ok(())
}

/// P5: after the last `detach` the previous handler is in place again; one installed later is left alone.
pub fn p5_restored<F: Factory<Output: Preemptor>>(factory: &F, signal: i32) -> Verdict {
    let stage = Stage::enter();
    for handler in [Handler::Informed, Handler::Plain, Handler::Ignore, Handler::Default] {
        let before = Disposition::install(signal, handler);
        let mut first = stage.attached(factory, 0);
        let mut second = stage.attached(factory, 1);
        first.detach();
        second.detach();
        if !before.is_current() {
            return violation(
                "P5",
                format!("after the last `detach` the previous handler ({handler:?}) was not in place"),
            );
        }
        let mut backend = stage.attached(factory, 0);
        let after = Disposition::install(signal, Handler::Plain);
        backend.detach();
        if !after.is_current() {
            return violation("P5", "`detach` took away a handler that was installed after `attach`");
        }
    }
    Ok(())
}

/// P5, P6: with a handler installed over the backend's, which passes signals on, runtimes come and go and
/// are interrupted, once for each interrupt, and foreign signals reach each foreign handler once; with
/// one that keeps them, the next runtime to attach is interrupted all the same.
pub fn p5_covered<F: Factory<Output: Preemptor>>(factory: &F, signal: i32) -> Verdict {
    let stage = Stage::enter();
    let _ground = Disposition::install(signal, Handler::Plain);
    let target = stage.spinner(0);
    let first = stage.attached(factory, 0);
    weaker_ones_refuse!(stage, first);

    let cover = Disposition::install(signal, Handler::Above);
    let foreign = |when: &str| {
        let heard = signals::CALLS.load(SeqCst);
        signals::signal(target.thread, signal);
        target.within(|| signals::CALLS.load(SeqCst) >= heard + 2);
        target.within_cpu_time(Duration::from_millis(5), || false);
        match signals::CALLS.load(SeqCst) - heard {
            2 => Ok(()),
            calls => {
                violation("P5", format!("{when}, a foreign signal led to {calls} calls of two handlers"))
            }
        }
    };
    foreign("with a handler installed over the backend's")?;
    interrupt_once(&*first, &target, 0)?;
    let second = stage.attached(factory, 1);
    interrupt_once(&*first, &target, 0)?;
    interrupt_once(&*second, &target, 1)?;
    foreign("after an `attach` under a foreign handler")?;
    drop(first);
    interrupt_once(&*second, &target, 1)?;
    drop(second);
    if !cover.is_current() {
        return violation("P5", "`detach` took away a handler that was installed after `attach`");
    }
    for _ in 0..3 {
        foreign("with no runtime left")?;
        let third = stage.attached(factory, 2);
        interrupt_once(&*third, &target, 2)?;
        foreign("after another `attach` under a foreign handler")?;
    }

    let _deaf = Disposition::install(signal, Handler::Plain);
    let fourth = stage.attached(factory, 3);
    interrupt_once(&*fourth, &target, 3)?;
    let heard = signals::CALLS.load(SeqCst);
    signals::signal(target.thread, signal);
    if !target.within(|| signals::CALLS.load(SeqCst) > heard) {
        return violation(
            "P5",
            "a foreign signal did not reach the handler that was there before the last `attach`",
        );
    }
    drop(fourth);
    target.stop();
    let counts = [calls(0), calls(1), calls(2), calls(3)];
    if counts != [2, 2, 3, 1] {
        return violation("P2", format!("the hooks ran {counts:?} times for [2, 2, 3, 1] interrupts"));
    }
    Ok(())
}
