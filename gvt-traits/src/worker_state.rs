//! What the monitor reads of each worker: 64 rows of 64 bytes, one page.
//!
//! **Protocol.** The OS thread that carries a worker is the only writer of its row, except
//! `thread_id`, which is written while the worker is handed over. The monitor reads rows at any
//! time. All accesses may be relaxed: a row is a set of independent gauges, and the monitor acts
//! on what it saw twice, a tick apart.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use crate::MAX_WORKERS;

/// One worker's row.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct WorkerState {
    /// 0x00: place of the running thread, `u32::MAX` for none.
    pub current_gvthread: AtomicU32,
    /// 0x04: bumped at each safepoint and each scheduling decision.
    pub activity_counter: AtomicU32,
    /// 0x08: when the monitor first saw the present `activity_counter`, ns.
    pub start_time_ns: AtomicU64,
    /// 0x10: kernel id of the OS thread that carries the worker, for signals; 0 for none.
    pub thread_id: AtomicU64,
    /// 0x18: 1 while the worker sleeps for want of work.
    pub is_parked: AtomicU8,
    /// 0x19: 1 if the worker runs only Low threads.
    pub is_low_priority: AtomicU8,
    reserved: [u8; 38],
}

impl WorkerState {
    /// An idle row.
    pub const fn new() -> Self {
        WorkerState {
            current_gvthread: AtomicU32::new(u32::MAX),
            activity_counter: AtomicU32::new(0),
            start_time_ns: AtomicU64::new(0),
            thread_id: AtomicU64::new(0),
            is_parked: AtomicU8::new(0),
            is_low_priority: AtomicU8::new(0),
            reserved: [0; 38],
        }
    }
}

impl Default for WorkerState {
    fn default() -> Self {
        Self::new()
    }
}

/// All rows of a runtime, one 4 KiB page.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct WorkerTable {
    /// Row `n` is worker `n`'s.
    pub rows: [WorkerState; MAX_WORKERS],
}

impl WorkerTable {
    /// A table of idle rows.
    pub const fn new() -> Self {
        WorkerTable { rows: [const { WorkerState::new() }; MAX_WORKERS] }
    }
}

impl Default for WorkerTable {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = {
    assert!(offset_of!(WorkerState, current_gvthread) == 0x00);
    assert!(offset_of!(WorkerState, activity_counter) == 0x04);
    assert!(offset_of!(WorkerState, start_time_ns) == 0x08);
    assert!(offset_of!(WorkerState, thread_id) == 0x10);
    assert!(offset_of!(WorkerState, is_parked) == 0x18);
    assert!(offset_of!(WorkerState, is_low_priority) == 0x19);
    assert!(size_of::<WorkerState>() == 64);
    assert!(size_of::<WorkerTable>() == 4096);
};
