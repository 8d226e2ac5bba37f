//! What a runtime keeps for the floors above the kernel.

use std::task::Waker;
use std::time::Instant;

use crate::kernel::state::upper::{Ring, Upper};
use crate::protocol::idle::IdleSet;
use crate::time::ringer;
use crate::wait::settlers::Settlers;

pub(crate) struct Above {
    settlers: Settlers,
}

impl Above {
    pub(crate) fn new() -> Self {
        Above { settlers: Settlers::new() }
    }
}

impl Upper for Above {
    fn ring(&self, when: Instant, waker: &Waker) -> Option<Box<dyn Ring>> {
        ringer::ring(when, waker)
    }

    fn settle(&self) {
        self.settlers.settle();
    }

    fn has_settlers(&self) -> bool {
        self.settlers.has_any()
    }

    fn serve_settlers(&self, idle: &IdleSet, workers: usize, are_all_parked: &dyn Fn() -> bool) -> bool {
        self.settlers.serve_if_quiet(idle, workers, are_all_parked)
    }

    fn parked_without_worker(&self, idle: &IdleSet) -> Option<usize> {
        self.settlers.parked_without_worker(idle)
    }
}
