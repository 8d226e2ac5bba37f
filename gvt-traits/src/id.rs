//! Names of things: threads, workers, one particular wait of one thread.

use core::fmt;

/// The place of a green thread in its runtime's record table.
///
/// Places are reused; [`WakeTicket`] tells one use from the next. What users see as a thread's id
/// is another number, unique for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct GvtId(u32);

impl GvtId {
    /// No thread.
    pub const NONE: GvtId = GvtId(u32::MAX);

    /// The thread at `index`.
    pub const fn new(index: u32) -> Self {
        GvtId(index)
    }

    /// The index, `u32::MAX` for [`NONE`](Self::NONE).
    pub const fn index(self) -> u32 {
        self.0
    }

    /// Whether this names a thread at all.
    pub const fn is_some(self) -> bool {
        self.0 != u32::MAX
    }
}

impl fmt::Debug for GvtId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_some() { write!(f, "gvt#{}", self.0) } else { f.write_str("gvt#none") }
    }
}

/// The number of a worker, below [`MAX_WORKERS`](crate::MAX_WORKERS), or none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct WorkerId(u8);

impl WorkerId {
    /// No worker: a call from outside, or no preference.
    pub const NONE: WorkerId = WorkerId(u8::MAX);

    /// Worker number `index`.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`MAX_WORKERS`](crate::MAX_WORKERS).
    pub const fn new(index: usize) -> Self {
        assert!(index < crate::MAX_WORKERS, "a worker's number is below MAX_WORKERS");
        WorkerId(index as u8)
    }

    /// The number, or `None`.
    pub const fn index(self) -> Option<usize> {
        if self.0 == u8::MAX { None } else { Some(self.0 as usize) }
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index() {
            Some(index) => write!(f, "worker#{index}"),
            None => f.write_str("worker#none"),
        }
    }
}

/// One particular wait of one particular thread.
///
/// A thread that is about to wait draws a new sequence number; a waker must name that number. The
/// sequence never goes back, not even when the thread's place is reused, so it is the generation as
/// well: a stale timer, waker or handle misses, whichever thread has the place by then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WakeTicket {
    /// The wait's number, growing for ever in this place.
    pub sequence: u64,
    /// The place of the thread that waits.
    pub id: GvtId,
}
