//! A recorded ready queue.

use std::ptr::NonNull;

use gvt_traits::{Metadata, Order, Priority, PushFence, PushKind, ReadyQueue, Runnable, WorkerId};

use super::{Named, RecordedLocal, RecordedPart};

fn kind_name(kind: PushKind) -> &'static str {
    match kind {
        PushKind::Spawn => "spawn",
        PushKind::Wake => "wake",
        PushKind::Yield => "yield",
        PushKind::Joined => "joined",
        PushKind::TimerBusy => "timer-busy",
        _ => "timer",
    }
}

fn level_name(priority: Priority) -> &'static str {
    match priority {
        Priority::Critical => "critical",
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    }
}

impl<Q: ReadyQueue> ReadyQueue for RecordedPart<Q> {
    type Local = RecordedLocal<Q::Local>;

    const ORDER: Order = Q::ORDER;
    const PUSH_FENCE: PushFence = Q::PUSH_FENCE;

    fn local(&self, worker: WorkerId) -> Self::Local {
        RecordedLocal { local: self.part.local(worker), worker }
    }

    fn inject(&self, task: Runnable) {
        let _turn = self.turn("queue");
        self.log.write(format_args!("queue inject t{} {}", task.id().index(), level_name(task.priority())));
        self.part.inject(task);
    }

    fn push(&self, local: &mut Self::Local, task: Runnable, kind: PushKind) {
        let _turn = self.turn("queue");
        let (worker, id) = (Named(local.worker), task.id().index());
        let (kind_name, level) = (kind_name(kind), level_name(task.priority()));
        self.log.write(format_args!("queue push {worker} {kind_name} t{id} {level}"));
        self.part.push(&mut local.local, task, kind);
    }

    fn pop(&self, local: &mut Self::Local) -> Option<Runnable> {
        let _turn = self.turn("queue");
        let task = self.part.pop(&mut local.local);
        let worker = Named(local.worker);
        match &task {
            Some(task) => self.log.write(format_args!("queue pop {worker} -> t{}", task.id().index())),
            None => self.log.write(format_args!("queue pop {worker} -> -")),
        }
        task
    }

    fn has_work(&self, local: &Self::Local) -> bool {
        let _turn = self.turn("queue");
        let answer = self.part.has_work(&local.local);
        self.log.write(format_args!("queue has_work {} -> {answer}", Named(local.worker)));
        answer
    }

    fn upcoming(&self, local: &Self::Local, distance: usize) -> Option<NonNull<Metadata>> {
        self.part.upcoming(&local.local, distance)
    }

    fn expedite(&self, local: &mut Self::Local, thread: &Metadata) {
        let _turn = self.turn("queue");
        self.log.write(format_args!("queue expedite {} t{}", Named(local.worker), thread.id().index()));
        self.part.expedite(&mut local.local, thread);
    }

    fn len_hint(&self) -> usize {
        self.part.len_hint()
    }
}
