//! A recorded timer backend.

use std::fmt::Write as _;

use gvt_traits::{IdleWait, TimerBackend, TimerEntry, TimerHandle, TimerType, WorkerId};

use super::{Named, RecordedPart};

fn kind_name(kind: TimerType) -> &'static str {
    match kind {
        TimerType::Sleep => "sleep",
        TimerType::Deadline => "deadline",
        _ => "interval",
    }
}

impl<T: TimerBackend> TimerBackend for RecordedPart<T> {
    fn resolution_ns(&self) -> u64 {
        self.part.resolution_ns()
    }

    fn insert(&self, entry: TimerEntry) -> TimerHandle {
        let _turn = self.turn("timer");
        let handle = self.part.insert(entry);
        let TimerEntry { deadline_ns, ticket, affinity, kind } = entry;
        self.log.write(format_args!(
            "timer insert {} {} t{}#{} at {deadline_ns} -> h{}:{}",
            Named(affinity),
            kind_name(kind),
            ticket.id.index(),
            ticket.sequence,
            handle.place,
            handle.generation
        ));
        handle
    }

    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry> {
        let _turn = self.turn("timer");
        let out = self.part.cancel(handle);
        let TimerHandle { place, generation } = handle;
        match &out {
            Some(TimerEntry { ticket, .. }) => self.log.write(format_args!(
                "timer cancel h{place}:{generation} -> t{}#{}",
                ticket.id.index(),
                ticket.sequence
            )),
            None => self.log.write(format_args!("timer cancel h{place}:{generation} -> -")),
        }
        out
    }

    fn expire(&self, near: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let _turn = self.turn("timer");
        let mut line = format!("timer expire {} at {now_ns} ->", Named(near));
        let count = self.part.expire(near, now_ns, &mut |entry| {
            let _ = write!(line, " t{}#{}", entry.ticket.id.index(), entry.ticket.sequence);
            sink(entry);
        });
        self.log.write(format_args!("{line}"));
        count
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.part.next_deadline_ns()
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
        self.part.len()
    }

    fn is_empty(&self) -> bool {
        self.part.is_empty()
    }
}
