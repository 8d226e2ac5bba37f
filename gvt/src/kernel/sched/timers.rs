//! Firing timers: threads whose deadline has passed are queued.

use std::sync::atomic::Ordering::*;

use gvt_traits::{PushKind, TimerBackend, WakeTicket};

use crate::kernel::sched::enqueue::push_here;
use crate::kernel::sched::look_ahead::prefetch_record;
use crate::kernel::thread::record::Record;
use crate::kernel::worker::contract;
use crate::kernel::worker::core::{Parts, Worker};
use crate::protocol::wait;
use gvt_traits::TimerEntry;
use gvt_traits::WorkerId;

/// Wakes the threads whose timers have expired; returns the number of entries.
///
/// # Safety
///
/// C1 of `pick::pick`.
pub(crate) unsafe fn fire_timers<P: Parts>(worker: &Worker<P>) -> usize {
    let core = worker.core();
    let Some(deadline) = core.timer.next_deadline_ns() else {
        return 0;
    };
    let now = core.now_ns();
    worker.base.coarse_ns.store(now, Relaxed);
    if deadline > now {
        return 0;
    }
    let me = WorkerId::new(worker.base.index);
    // A record that is cold costs a cache miss or two, so a few are fetched at a time.
    let mut behind = [None::<(&Record, WakeTicket)>; 8];
    let mut place = 0;
    let wake = |(record, ticket): (&Record, WakeTicket)| {
        if !wait::is_pending(&record.meta.wait, ticket.sequence) {
            return;
        }
        // ORDERING O1: Acquire pairs with the Release in `Wait::park_until`: while this wait is the present
        // one, the deadline is its own; if a later wait's deadline is seen here, so is that wait's number
        // below.
        if record.meta.wake_time_ns.load(Acquire) == 0 && wait::is_pending(&record.meta.wait, ticket.sequence)
        {
            contract::broken("T1", format_args!("a timer gave out {ticket:?}, a wait that has no deadline"));
        }
        if wait::wake(&record.meta.wait, ticket.sequence) == wait::Woken::Queue {
            // SAFETY: this call ended the wait of a parked thread: it has no `Runnable`.
            let task = unsafe { record.runnable() };
            let kind = if record.take_busy() { PushKind::TimerBusy } else { PushKind::Timer };
            // SAFETY: C1; the timer backend does not touch queues.
            unsafe { push_here(worker, task, kind) };
        }
    };
    let fired = core.timer.expire(me, now, &mut |entry: TimerEntry| {
        let Some(record) = core.base.table.find(entry.ticket.id) else {
            contract::broken("T1", format_args!("a timer gave out {:?}, where no thread is", entry.ticket));
        };
        prefetch_record(record);
        behind[place].replace((record, entry.ticket)).into_iter().for_each(wake);
        place = (place + 1) % behind.len();
    });
    behind[place..].iter().chain(&behind[..place]).copied().flatten().for_each(wake);
    worker.base.moderation.fired(fired, now);
    fired
}
