//! The state of a runtime's shutdown, and the closer that waits for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Condvar, Mutex};

use crate::kernel::thread::inner::InnerLock;
use crate::kernel::thread::record::Record;
use crate::protocol::names::Reading;

pub(crate) struct Lifecycle {
    pub(crate) closing: AtomicBool,
    pub(crate) stopping: AtomicBool,
    pub(crate) closer: Mutex<()>,
    pub(crate) idled: Condvar,
    /// Held while one name is read: for some instructions, without allocating.
    pub(crate) reader: InnerLock<()>,
    pub(crate) reading: Reading,
    /// Records still referred to after the end; `usize::MAX` while the runtime lives.
    pub(crate) orphans: AtomicUsize,
}

impl Lifecycle {
    pub(crate) const fn new() -> Self {
        Lifecycle {
            closing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            closer: Mutex::new(()),
            idled: Condvar::new(),
            reader: InnerLock::new(()),
            reading: Reading::new(),
            orphans: AtomicUsize::new(usize::MAX),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        // ORDERING: SeqCst, as all of these: `close` sets them and then looks at the workers' announcements,
        // which are in one total order with them.
        self.stopping.load(SeqCst)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// The name of a thread that may end meanwhile.
    ///
    /// Context: anywhere; allocates.
    pub(crate) fn name_of(&self, record: &Record) -> Option<String> {
        // Relaxed: a gauge; `names` looks again.
        if record.meta.cold.load(Relaxed).is_null() {
            return None;
        }
        // The monitor reads names too.
        let reader = self.reader.lock();
        let (name, left) = record.read_name(&self.reading);
        drop(reader);
        // Outside: its token may hold the last reference to other records.
        drop(left);
        name.map(|name| name.as_ref().to_owned())
    }

    /// A worker has announced that it is idle.
    #[inline]
    pub(crate) fn note_idle(&self) {
        if self.is_closing() {
            let _closer = self.closer.lock().unwrap();
            self.idled.notify_all();
        }
    }
}
