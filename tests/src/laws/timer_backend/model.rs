//! The property: any sequence of calls has the effect that it has on a plain list.

use gvt_traits::{Factory, IdleWait, TimerBackend, TimerEntry, TimerHandle};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

use super::{WORKERS, build, entry, expire, must_be_out, worker};
use crate::{Verdict, Violation};

/// One call.
#[derive(Clone, Debug)]
enum Step {
    /// Inserts so far after the present, or so long before.
    Insert { after_ns: u64, past: bool, worker: usize },
    /// Inserts at a fixed deadline.
    InsertAt(u64),
    /// Inserts many at the same deadline.
    Flood { after_ns: u64, count: usize },
    /// Cancels by some handle, stale or not.
    Cancel(prop::sample::Index),
    /// Cancels what comes next.
    CancelFirst,
    /// Lets time pass and expires.
    Expire { pass_ns: u64, near: usize },
    /// Expires at a time that others have left behind.
    ExpireBehind { lag_ns: u64, near: usize },
    /// Expires at the time that the backend asks for.
    ExpireNext,
}

/// Durations of every magnitude alike.
fn duration() -> impl Strategy<Value = u64> {
    (0..50_u32, any::<u64>()).prop_map(|(scale, word)| word & ((1 << scale) - 1))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (duration(), prop::bool::weighted(0.1), 0..=WORKERS)
            .prop_map(|(after_ns, past, worker)| Step::Insert { after_ns, past, worker }),
        1 => prop_oneof![Just(0), Just(1), Just(u64::MAX - 1), Just(u64::MAX)].prop_map(Step::InsertAt),
        1 => (duration(), 1..100_usize).prop_map(|(after_ns, count)| Step::Flood { after_ns, count }),
        5 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => Just(Step::CancelFirst),
        4 => (duration(), 0..=WORKERS).prop_map(|(pass_ns, near)| Step::Expire { pass_ns, near }),
        1 => (duration(), 0..=WORKERS).prop_map(|(lag_ns, near)| Step::ExpireBehind { lag_ns, near }),
        2 => Just(Step::ExpireNext),
    ]
}

/// **T1–T5, T8**: random inserts, cancels and expiries, compared with a plain list.
///
/// Sequences come from `proptest`; a failure is reported with the shortest sequence that shows it.
pub fn matches_model<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    let cases = if cfg!(debug_assertions) { 60 } else { 400 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&prop::collection::vec(step(), 1..250), |steps| {
        run(factory, &steps).map_err(|violation| TestCaseError::fail(violation.to_string()))
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Abort(reason)) => panic!("the property could not be tested: {reason}"),
        Err(TestError::Fail(reason, steps)) => Err(match run(factory, &steps) {
            Err(violation) => {
                Violation::new(violation.clause, format!("{}; after {steps:?}", violation.what))
            }
            Ok(()) => Violation::new("T1", format!("{reason}; now and then, after {steps:?}")),
        }),
    }
}

struct Model<B> {
    backend: B,
    now: u64,
    held: Vec<(TimerEntry, TimerHandle)>,
    /// Every handle ever, with the key of its entry.
    handles: Vec<(TimerHandle, u64)>,
}

fn run<F: Factory<Output: TimerBackend>>(factory: &F, steps: &[Step]) -> Verdict {
    let mut model = Model { backend: build(factory, WORKERS), now: 0, held: Vec::new(), handles: Vec::new() };
    for step in steps {
        model.apply(step)?;
        check_next_deadline(&model.backend, model.held.iter().map(|(entry, _)| entry))?;
    }
    model.expire(u64::MAX, 0)?;
    Ok(())
}

impl<B: TimerBackend> Model<B> {
    fn apply(&mut self, step: &Step) -> Verdict {
        match *step {
            Step::Insert { after_ns, past, worker } => {
                let deadline =
                    if past { self.now.saturating_sub(after_ns) } else { self.now.saturating_add(after_ns) };
                self.insert(deadline, worker);
            }
            Step::InsertAt(deadline) => self.insert(deadline, 0),
            Step::Flood { after_ns, count } => {
                (0..count).for_each(|n| self.insert(self.now.saturating_add(after_ns), n));
            }
            Step::Cancel(ref which) if !self.handles.is_empty() => {
                return self.cancel(which.index(self.handles.len()));
            }
            Step::CancelFirst => {
                let first = self.held.iter().min_by_key(|(entry, _)| entry.deadline_ns);
                if let Some((entry, _)) = first {
                    let key = entry.ticket.sequence;
                    return self.cancel(key as usize);
                }
            }
            Step::Expire { pass_ns, near } => {
                self.now = self.now.saturating_add(pass_ns);
                return self.expire(self.now, near);
            }
            Step::ExpireBehind { lag_ns, near } => return self.expire(self.now.saturating_sub(lag_ns), near),
            Step::ExpireNext => {
                if let Some(next) = self.backend.next_deadline_ns() {
                    // Time itself stays clear of the end of time.
                    if next < 1 << 62 {
                        self.now = self.now.max(next);
                    }
                    let held = self.held.len();
                    self.expire(self.now, 0)?;
                    let stuck = held == self.held.len() && self.backend.next_deadline_ns() == Some(next);
                    if stuck && next <= self.now {
                        return Err(Violation::new(
                            "T5",
                            format!("expire at {} gives nothing, and {next} stays next", self.now),
                        ));
                    }
                }
            }
            Step::Cancel(_) => {}
        }
        Ok(())
    }

    fn insert(&mut self, deadline_ns: u64, number: usize) {
        let key = self.handles.len() as u64;
        let entry = TimerEntry { affinity: worker(number), ..entry(key, deadline_ns) };
        let handle = self.backend.insert(entry);
        self.held.push((entry, handle));
        self.handles.push((handle, key));
    }

    fn cancel(&mut self, index: usize) -> Verdict {
        let (handle, key) = self.handles[index];
        let held = self.held.iter().position(|(entry, _)| entry.ticket.sequence == key);
        let expected = held.map(|index| self.held.swap_remove(index).0);
        match self.backend.cancel(handle) {
            out if out == expected => Ok(()),
            out => Err(Violation::new(
                "T4",
                format!("cancelling entry {key} gave {out:?}; {expected:?} would be right"),
            )),
        }
    }

    fn expire(&mut self, now: u64, near: usize) -> Verdict {
        for out in expire(&self.backend, worker(near), now)? {
            match self.held.iter().position(|(entry, _)| *entry == out) {
                Some(index) => _ = self.held.swap_remove(index),
                None => {
                    return Err(Violation::new(
                        "T1",
                        format!("{out:?} came out, which is not held (any more)"),
                    ));
                }
            }
        }
        let resolution = self.backend.resolution_ns();
        match self.held.iter().find(|(entry, _)| must_be_out(entry.deadline_ns, resolution, now)) {
            None => Ok(()),
            Some((late, _)) => Err(Violation::new("T3", format!("expire at {now} left {late:?} behind"))),
        }
    }
}

/// T5 for what is held, and that `len` counts it (T4: no more than a constant factor beyond).
pub(super) fn check_next_deadline<'a>(
    backend: &impl TimerBackend,
    held: impl IntoIterator<Item = &'a TimerEntry>,
) -> Verdict {
    let (mut count, mut earliest) = (0, u64::MAX);
    for entry in held {
        count += 1;
        earliest = earliest.min(entry.deadline_ns);
    }
    let (len, empty) = (backend.len(), backend.is_empty());
    if len < count || empty != (len == 0) {
        return Err(Violation::new(
            "T1",
            format!("it says that it holds {len} entries (empty: {empty}), not {count}"),
        ));
    }
    if len > 4 * count + 1_000 {
        return Err(Violation::new("T4", format!("{count} entries are live, and it holds {len}")));
    }
    if count == 0 {
        return Ok(());
    }
    let latest = earliest.saturating_add(backend.resolution_ns());
    match backend.next_deadline_ns() {
        Some(next) if next <= latest => {}
        next => {
            return Err(Violation::new(
                "T5",
                format!("the earliest deadline is {earliest}, and {next:?} is said to be next"),
            ));
        }
    }
    match backend.idle_wait() {
        IdleWait::Forever => {
            Err(Violation::new("T5", format!("a worker may sleep for ever; the next deadline is {earliest}")))
        }
        IdleWait::Until(time) if time > latest => Err(Violation::new(
            "T5",
            format!("a worker may sleep until {time}; the next deadline is {earliest}"),
        )),
        _ => Ok(()),
    }
}
