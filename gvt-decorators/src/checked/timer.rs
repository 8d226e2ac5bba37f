//! The ledger of a timer backend: which entries it holds, under which handles.
//!
//! Checked: T1, T2 and handles (T4) at every call; T3, T5, T6 as far as nothing was ever cancelled, stale and
//! lost handles (T4), and `len` at calls that are alone. A deadline that is taken for another (T8) shows as
//! T3 or T5.
//!
//! Entries may be equal, so they are counted, not numbered. An insert is noted before the call, since the
//! entry may be given out before `insert` returns; its handle is noted after, unless all entries equal to it
//! are out by then.

use std::collections::{BTreeMap, HashMap};

use gvt_traits::{IdleWait, TimerBackend, TimerEntry, TimerHandle, TimerType, WorkerId};

use super::{CheckedPart, broken, demand, lock, look};

type Key = (u64, u64, u32, u8);

fn key(entry: &TimerEntry) -> Key {
    let kind = match entry.kind {
        TimerType::Sleep => 0,
        TimerType::Deadline => 1,
        _ => 2,
    };
    (entry.deadline_ns, entry.ticket.sequence, entry.ticket.id.index(), kind)
}

#[derive(Debug, Default)]
struct Held {
    count: usize,
    handles: Vec<TimerHandle>,
    /// One of several equal entries is out, and nobody knows whose handle went stale.
    ambiguous: bool,
}

/// Which entries are held.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    held: HashMap<Key, Held>,
    by_handle: HashMap<TimerHandle, Key>,
    deadlines: BTreeMap<u64, usize>,
    count: usize,
    cancelled_any: bool,
}

impl Ledger {
    fn enter(&mut self, entry: &TimerEntry) {
        self.held.entry(key(entry)).or_default().count += 1;
        *self.deadlines.entry(entry.deadline_ns).or_default() += 1;
        self.count += 1;
    }

    fn name(&mut self, entry: &TimerEntry, handle: TimerHandle) {
        if let Some(other) = self.by_handle.get(&handle) {
            broken(
                "T4",
                &format!("{handle:?} names an entry for {} that is still held, and {entry:?}", other.0),
            );
        }
        if let Some(held) = self.held.get_mut(&key(entry))
            && held.handles.len() < held.count
        {
            held.handles.push(handle);
            self.by_handle.insert(handle, key(entry));
        }
    }

    /// Takes an entry out; by `handle`, if it was cancelled.
    fn leave(&mut self, entry: &TimerEntry, handle: Option<TimerHandle>) {
        let key = key(entry);
        let Some(held) = self.held.get_mut(&key) else {
            broken("T1", &format!("{entry:?} was given out though it is not held"));
        };
        if let Some(handle) = handle {
            demand(self.by_handle.get(&handle) == Some(&key) || held.ambiguous, "T4", || {
                format!("{handle:?} cancelled {entry:?}, which is not its own")
            });
        }
        held.count -= 1;
        if held.count == 0 {
            for handle in self.held.remove(&key).into_iter().flat_map(|held| held.handles) {
                self.by_handle.remove(&handle);
            }
        } else if let Some(handle) = handle {
            held.handles.retain(|&other| other != handle);
            self.by_handle.remove(&handle);
        } else {
            held.ambiguous = true;
        }
        self.count -= 1;
        if let Some(equal) = self.deadlines.get_mut(&entry.deadline_ns) {
            *equal -= 1;
            if *equal == 0 {
                self.deadlines.remove(&entry.deadline_ns);
            }
        }
    }

    fn earliest(&self) -> Option<u64> {
        self.deadlines.first_key_value().map(|(&deadline, _)| deadline)
    }
}

impl<T: TimerBackend> TimerBackend for CheckedPart<T> {
    fn resolution_ns(&self) -> u64 {
        self.part.resolution_ns()
    }

    fn insert(&self, entry: TimerEntry) -> TimerHandle {
        let _call = self.calls.begin();
        lock(&self.timer).enter(&entry);
        let handle = self.part.insert(entry);
        lock(&self.timer).name(&entry, handle);
        handle
    }

    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry> {
        let call = self.calls.begin();
        let out = self.part.cancel(handle);
        let mut ledger = lock(&self.timer);
        match &out {
            Some(entry) => {
                ledger.cancelled_any = true;
                ledger.leave(entry, Some(handle));
            }
            None => {
                let known = ledger.by_handle.get(&handle).filter(|key| !ledger.held[key].ambiguous);
                demand(known.is_none() || !call.is_alone(), "T4", || {
                    format!("{handle:?} cancelled nothing, but {known:?} is held under it")
                });
            }
        }
        out
    }

    fn expire(&self, near: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let call = self.calls.begin();
        let mut given = 0;
        let count = self.part.expire(near, now_ns, &mut |entry| {
            demand(entry.deadline_ns <= now_ns, "T2", || format!("at {now_ns} it gave out {entry:?}"));
            lock(&self.timer).leave(&entry, None);
            given += 1;
            sink(entry);
        });
        demand(count == given, "T1", || {
            format!("expire gave {given} entries and returned {count} as their number")
        });
        let earliest = lock(&self.timer).earliest();
        let late = earliest.and_then(|earliest| earliest.checked_add(self.part.resolution_ns()));
        demand(late.is_none_or(|late| late > now_ns) || !call.is_alone(), "T3", || {
            format!("after expire at {now_ns} an entry for {earliest:?} is still held")
        });
        count
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let call = self.calls.begin();
        let next = self.part.next_deadline_ns();
        // B6: it may be the monitor that asks.
        let Some(ledger) = look(&self.timer) else { return next };
        let (earliest, cancelled_any) = (ledger.earliest(), ledger.cancelled_any);
        drop(ledger);
        if let Some(earliest) = earliest {
            let latest = earliest.saturating_add(self.part.resolution_ns());
            demand(next.is_some_and(|next| next <= latest) || !call.is_alone(), "T5", || {
                format!("the next deadline is said to be {next:?}, and {earliest} is held")
            });
            demand(
                cancelled_any || next.is_none_or(|next| next >= earliest) || !call.is_alone(),
                "T6",
                || {
                    format!(
                        "it asks to be woken at {next:?}, and {earliest} is the earliest that was ever held"
                    )
                },
            );
        }
        next
    }

    fn idle_wait(&self) -> IdleWait {
        self.part.idle_wait()
    }

    fn now_ns(&self) -> Option<u64> {
        self.part.now_ns()
    }

    fn is_virtual(&self) -> bool {
        self.part.is_virtual()
    }

    fn len(&self) -> usize {
        let call = self.calls.begin();
        let len = self.part.len();
        let count = lock(&self.timer).count;
        demand(len == count || !call.is_alone(), "T1", || {
            format!("it says that it holds {len} of {count} entries")
        });
        len
    }

    fn is_empty(&self) -> bool {
        self.part.is_empty()
    }
}
