//! Deadlock reports: their contents, and the hook that receives them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gvt_traits::{GvtState, Priority, WaitReason};

use crate::kernel::thread::id::ThreadId;
use crate::kernel::thread::inner::InnerLock;
use crate::protocol::user;

/// A green thread as [`Runtime::threads`](crate::Runtime::threads) lists it. Displayed as one line.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ThreadInfo {
    /// Its id.
    pub id: ThreadId,
    /// Its name, if it was given one.
    pub name: Option<String>,
    /// Its priority.
    pub priority: Priority,
    /// Its state.
    pub state: GvtState,
    /// If it is blocked: the reason.
    pub reason: Option<WaitReason>,
    /// If it is blocked: for about how long.
    pub blocked_for: Option<Duration>,
    /// If it waits with a deadline: the time until then.
    pub wakes_in: Option<Duration>,
}

impl fmt::Display for ThreadInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("unnamed");
        write!(f, "green thread {} '{name}': ", self.id)?;
        let (Some(reason), Some(since)) = (self.reason, self.blocked_for) else {
            return f.write_str(self.state.name());
        };
        write!(
            f,
            "blocked on {} for about {}.{} s",
            reason.name(),
            since.as_secs(),
            since.subsec_millis() / 100
        )?;
        match self.wakes_in {
            Some(left) => write!(f, ", {}.{} s to go", left.as_secs(), left.subsec_millis() / 100),
            None => Ok(()),
        }
    }
}

/// Threads that nothing in their runtime will wake; see
/// [`SchedulerConfig::deadlock_report`](crate::SchedulerConfig::deadlock_report). Displayed as a report of
/// several lines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadlockReport {
    /// How long no thread has run.
    pub quiet_for: Duration,
    /// All green threads of the runtime.
    pub threads: Vec<ThreadInfo>,
}

/// Most lines in a report.
const MOST_LINES: usize = 100;

impl fmt::Display for DeadlockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.threads.len();
        write!(
            f,
            "gvt: nothing has run for {:?}; {} and no timer is pending. Unless an OS thread or another runtime wakes \
             one of them, this is a deadlock:",
            self.quiet_for,
            if count == 1 {
                "the one green thread waits".into()
            } else {
                format!("all {count} green threads wait")
            }
        )?;
        f.write_str(&lines(&self.threads, MOST_LINES))
    }
}

/// A list of threads, one a line, and the number in each state; each line starts with a line break.
pub(crate) fn lines(threads: &[ThreadInfo], most: usize) -> String {
    let mut text = String::new();
    for thread in threads.iter().take(most) {
        text.push_str(&format!("\n  {thread}"));
    }
    if threads.len() > most {
        text.push_str(&format!("\n  … and {} more", threads.len() - most));
    }
    if threads.len() > 1 {
        text.push_str(&format!("\n  in all: {}", counts(threads)));
    }
    text
}

/// The number of threads in each state, or blocked for each reason; largest first.
fn counts(threads: &[ThreadInfo]) -> String {
    let mut counts = BTreeMap::new();
    for thread in threads {
        let what = match thread.reason {
            Some(reason) => ("blocked on ", reason.name()),
            None => ("", thread.state.name()),
        };
        *counts.entry(what).or_insert(0_usize) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(_, count)| Reverse(count));
    let counts: Vec<_> =
        counts.iter().map(|((blocked, what), count)| format!("{count} {blocked}{what}")).collect();
    counts.join(", ")
}

pub(crate) type Hook = Box<dyn Fn(&DeadlockReport) + Send + Sync>;

/// A runtime's deadlock detection.
pub(crate) struct Watch {
    /// `None`: off.
    pub(crate) after: Option<Duration>,
    pub(crate) hook: InnerLock<Option<Arc<Hook>>>,
}

impl Watch {
    pub(crate) fn new(after: Option<Duration>) -> Self {
        Watch { after, hook: InnerLock::new(None) }
    }

    pub(crate) fn set_hook(&self, hook: Hook) {
        let hook = Some(Arc::new(hook));
        let before = std::mem::replace(&mut *self.hook.lock(), hook);
        // User code, so without the lock. If the monitor is in that hook, the monitor drops it.
        user::discard(before);
    }

    /// The runtime has ended.
    pub(crate) fn end(&self) {
        let hook = self.hook.lock().take();
        user::discard(hook);
    }

    pub(crate) fn hook(&self) -> Option<Arc<Hook>> {
        self.hook.lock().clone()
    }
}
