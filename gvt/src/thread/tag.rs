//! A number that a thread carries for the ready queue.

use crate::thread::builder::Builder;
use crate::wait::park;

impl Builder {
    /// Sets a number that the ready queue may order by: a deadline, a weight, a tenant (see
    /// [`Runnable::tag`](gvt_traits::Runnable::tag)). The queues that come with gvt ignore it. 0 is none.
    /// Costs an allocation.
    pub fn tag(mut self, tag: u64) -> Self {
        self.options.tag = tag;
        self
    }
}

/// The running green thread's [tag](Builder::tag); 0 if it has none; `None` outside a runtime.
///
/// Context: anywhere.
pub fn current_tag() -> Option<u64> {
    park::current().map(|record| record.shown().tag())
}
