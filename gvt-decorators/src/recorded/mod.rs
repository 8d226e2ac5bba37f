//! `Recorded`: a part, and a log of each call with its answer.
//!
//! A recorded part makes one call at a time, so that the log's order is the order in which the part saw the
//! calls, and a deterministic part answers a replay (`replay`) as it answered the program. A line a call:
//!
//! ```text
//! queue plan 2 0 1000             workers, of them for Low threads, threads
//! queue push w0 wake t5 normal    worker, kind, thread, level
//! queue inject t6 low
//! queue expedite w0 t5            worker, thread
//! queue pop w1 -> t5              or -
//! queue has_work w1 -> true
//! timer plan 2 0 1000
//! timer insert w0 sleep t5#12 at 1000 -> h3:9
//! timer cancel h3:9 -> t5#12      or -
//! timer expire w0 at 2000 -> t5#12 t6#1
//! ```
//!
//! A thread is the number of its place, `#` the number of its wait. Not on record are questions that change
//! nothing and that the runtime asks at times of its own: `upcoming`, `len_hint`, `next_deadline_ns`,
//! `idle_wait`, `len`.
//!
//! **Hazard.** Expired entries are pushed to the queue from inside `expire`, and the queue may write to the
//! same log. So the log is locked for one line at a time, and each part has a lock of its own for its turn.

mod queue;
mod timer;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gvt_traits::{Factory, Plan, SchedError, WorkerId};

/// What recorded parts write; clones are the same log. `to_string` is its text so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    fn write(&self, line: fmt::Arguments<'_>) {
        let mut text = self.text();
        // Writing to a string cannot fail.
        let _ = fmt::Write::write_fmt(&mut *text, format_args!("{line}\n"));
    }

    /// Takes the text out: what is written from now on starts a new one.
    pub fn take(&self) -> String {
        std::mem::take(&mut *self.text())
    }

    fn text(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A queue or timer whose every decision is written to a [`Log`].
#[derive(Clone, Debug, Default)]
pub struct Recorded<B>(pub B, pub Log);

impl<B: Factory> Factory for Recorded<B> {
    type Output = RecordedPart<B::Output>;

    fn build(&self, plan: &Plan) -> Result<Self::Output, SchedError> {
        let part = self.0.build(plan)?;
        Ok(RecordedPart { part, plan: plan.clone(), log: self.1.clone(), turn: Mutex::new(Started(false)) })
    }
}

/// What [`Recorded`] builds: a part of the same kind.
#[derive(Debug)]
pub struct RecordedPart<B> {
    part: B,
    plan: Plan,
    log: Log,
    turn: Mutex<Started>,
}

/// Whether the plan is on record.
#[derive(Debug)]
struct Started(bool);

impl<B> RecordedPart<B> {
    /// Waits for this part's turn. `what` it is was not known when it was built.
    fn turn(&self, what: &str) -> MutexGuard<'_, Started> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut turn.0, true) {
            let Plan { workers, low_priority_workers, max_gvthreads, .. } = self.plan;
            self.log.write(format_args!("{what} plan {workers} {low_priority_workers} {max_gvthreads}"));
        }
        turn
    }
}

/// A worker's end of a [`RecordedPart`].
#[derive(Debug)]
pub struct RecordedLocal<L> {
    local: L,
    worker: WorkerId,
}

/// A worker as the log names it.
struct Named(WorkerId);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.index() {
            Some(index) => write!(f, "w{index}"),
            None => f.write_str("w-"),
        }
    }
}
