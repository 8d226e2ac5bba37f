//! The part of a thread's record that contracts speak of.
//!
//! **Two views.** [`RecordHead`] is the layout, for the runtime that owns the record. A queue sees the same
//! memory as [`Metadata`], which shows only what an order may depend on: safe code cannot change anything
//! through it.
//!
//! ```text
//! offset size  field
//! 0x00   1     preempt_flag      bit 0: the monitor asks for a yield, cleared at a safepoint; others private
//! 0x01   1     cancelled         this thread's own token was cancelled
//! 0x02   1     state             GvtState
//! 0x03   1     priority          Priority
//! 0x04   4     gvthread_id       place in the record table
//! 0x08   4     parent_id         place of the spawning thread, or u32::MAX
//! 0x0C   4     worker_id         worker it runs on or ran on last
//! 0x10   8     entry_fn          runs the closure
//! 0x18   8     entry_arg         boxed closure, if it is too large for the record
//! 0x20   8     result_ptr        boxed result, if it is too large for the record
//! 0x28   8     join_waiters      the waiter for its end; see the runtime's `join`
//! 0x30   8     start_time_ns     when it was first run (coarse)
//! 0x38   8     wake_time_ns      deadline of its present wait, 0 for none
//! 0x40   64    voluntary registers
//! 0x80   8     suspended         see below
//! 0x88   8     wait              number and stage of its present wait
//! 0x90   8     unique_id         what users see
//! 0x98   8     blocked_since_ns  (coarse)
//! 0xA0   4     references        holders of the record
//! 0xA4   4     slot              stack it is bound to, or u32::MAX
//! 0xA8   1     wait_reason       WaitReason
//! 0xA9   1     outcome           how it ended; private to the runtime
//! 0xAA   1     flags             private to the runtime
//! 0xAB   1     affinity          preferred worker, or 255
//! 0xAC   4     children_credit   private to the runtime
//! 0xB0   8     runtime           owner of the record
//! 0xB8   8     cold              what few threads have (a name, …), or null; begins with the tag, a u64
//! ```
//!
//! **Departure from the specified layout.** The 256 bytes of forced registers are not at 0x80 but
//! out of line. With kernel-thread preemption they lie in the kernel's own signal frame, on the
//! thread's stack, and only a thread taken off in the fast mode ever needs a block of ours; inline
//! they would double the record of each of two million threads. `suspended` is what remains at
//! 0x80: the OS thread that keeps a thread taken off by force, or its [`ForcedRegisters`].
//!
//! The first 64 bytes are what a scheduling decision touches, the next 64 what a switch touches;
//! the pair is one 128-byte unit, which adjacent-line prefetchers fetch at once.

use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64};

use core::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::{GvtId, GvtState, Priority, WorkerId};

/// Registers that a voluntary switch keeps: those that the System V ABI calls callee-saved.
///
/// MXCSR and the x87 control word are callee-saved too; a [`ContextSwitch`](crate::ContextSwitch)
/// keeps them on the stack being left.
#[derive(Debug, Default, Clone)]
#[repr(C, align(64))]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct Registers {
    pub rsp: u64,
    pub rip: u64,
    pub rbx: u64,
    pub rbp: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
}

/// Registers of a thread taken off at an arbitrary instruction (fast mode).
#[derive(Debug, Default, Clone)]
#[repr(C, align(64))]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct ForcedRegisters {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cs: u64,
    pub ss: u64,
    /// Address of the XSAVE area, 0 for none.
    pub extended: u64,
    reserved: [u64; 11],
}

/// The head of each thread's record, with all its fields. See the module's table.
///
/// All fields that several OS threads may touch are atomics; the rest belong to the OS thread that holds the
/// thread's [`Runnable`](crate::Runnable) or runs it.
#[derive(Debug)]
#[repr(C, align(64))]
#[allow(missing_docs, reason = "the module's table describes the fields")]
pub struct RecordHead {
    pub preempt_flag: AtomicU8,
    pub cancelled: AtomicU8,
    pub state: AtomicU8,
    pub priority: AtomicU8,
    pub gvthread_id: u32,
    pub parent_id: AtomicU32,
    pub worker_id: AtomicU32,
    pub entry_fn: AtomicU64,
    pub entry_arg: AtomicU64,
    pub result_ptr: AtomicU64,
    pub join_waiters: AtomicU64,
    pub start_time_ns: AtomicU64,
    pub wake_time_ns: AtomicU64,
    pub registers: core::cell::UnsafeCell<Registers>,
    pub suspended: AtomicPtr<()>,
    pub wait: AtomicU64,
    pub unique_id: AtomicU64,
    pub blocked_since_ns: AtomicU64,
    pub references: AtomicU32,
    pub slot: AtomicU32,
    pub wait_reason: AtomicU8,
    pub outcome: AtomicU8,
    pub flags: AtomicU8,
    pub affinity: AtomicU8,
    pub children_credit: AtomicU32,
    pub runtime: AtomicPtr<()>,
    pub cold: AtomicPtr<()>,
}

// SAFETY: every field but `registers` is atomic or never written after `new`; `registers` is
// touched only by a `ContextSwitch` for the OS thread that holds the thread (C1, C2 of
// `ContextSwitch::switch`).
unsafe impl Sync for RecordHead {}
// SAFETY: as above; nothing in it belongs to an OS thread.
unsafe impl Send for RecordHead {}

impl RecordHead {
    /// A record that names place `id` and is otherwise blank.
    pub const fn new(id: GvtId) -> Self {
        RecordHead {
            preempt_flag: AtomicU8::new(0),
            cancelled: AtomicU8::new(0),
            state: AtomicU8::new(0),
            priority: AtomicU8::new(Priority::Normal as u8),
            gvthread_id: id.index(),
            parent_id: AtomicU32::new(u32::MAX),
            worker_id: AtomicU32::new(u32::MAX),
            entry_fn: AtomicU64::new(0),
            entry_arg: AtomicU64::new(0),
            result_ptr: AtomicU64::new(0),
            join_waiters: AtomicU64::new(0),
            start_time_ns: AtomicU64::new(0),
            wake_time_ns: AtomicU64::new(0),
            registers: core::cell::UnsafeCell::new(Registers {
                rsp: 0,
                rip: 0,
                rbx: 0,
                rbp: 0,
                r12: 0,
                r13: 0,
                r14: 0,
                r15: 0,
            }),
            suspended: AtomicPtr::new(core::ptr::null_mut()),
            wait: AtomicU64::new(0),
            unique_id: AtomicU64::new(0),
            blocked_since_ns: AtomicU64::new(0),
            references: AtomicU32::new(0),
            slot: AtomicU32::new(u32::MAX),
            wait_reason: AtomicU8::new(0),
            outcome: AtomicU8::new(0),
            flags: AtomicU8::new(0),
            affinity: AtomicU8::new(u8::MAX),
            children_credit: AtomicU32::new(0),
            runtime: AtomicPtr::new(core::ptr::null_mut()),
            cold: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// The thread's place.
    pub const fn id(&self) -> GvtId {
        GvtId::new(self.gvthread_id)
    }
}

/// What a queue sees of a thread: a [`RecordHead`] whose fields are out of its reach.
///
/// ```compile_fail,E0616
/// # use gvt_traits::{GvtId, Metadata};
/// // Fields belong to the runtime.
/// Metadata::new(GvtId::new(1)).0.entry_fn.store(0x4141_4141, std::sync::atomic::Ordering::Relaxed);
/// ```
#[derive(Debug)]
#[repr(transparent)]
pub struct Metadata(RecordHead);

impl Metadata {
    /// A record that names place `id` and is otherwise blank, for tests of queues.
    pub const fn new(id: GvtId) -> Self {
        Metadata(RecordHead::new(id))
    }

    /// The same with a priority.
    pub const fn with_priority(mut self, priority: Priority) -> Self {
        self.0.priority = AtomicU8::new(priority as u8);
        self
    }

    /// What a queue sees of `head`.
    ///
    /// # Safety
    ///
    /// **C1**: `head.cold` is null, or points to what begins with a `u64` and is kept as long as `head` is
    /// lent.
    #[inline]
    pub const unsafe fn of(head: &RecordHead) -> &Self {
        // SAFETY: `repr(transparent)`.
        unsafe { &*core::ptr::from_ref(head).cast() }
    }

    /// All fields, for the owner of the record.
    ///
    /// # Safety
    ///
    /// **C1**: the caller made the record, or acts for its owner; C1 of [`of`](Self::of) stays true.
    pub const unsafe fn head(&self) -> &RecordHead {
        &self.0
    }

    /// The thread's place.
    #[inline]
    pub const fn id(&self) -> GvtId {
        self.0.id()
    }

    /// How urgent it is. Does not change while it is queued.
    #[inline]
    pub fn priority(&self) -> Priority {
        // Relaxed: written before the token was made, by its maker.
        Priority::from_u8(self.0.priority.load(Relaxed))
    }

    /// What its spawner tagged it with (a deadline, a weight, a tenant); 0 unless it did. Does not change.
    #[inline]
    pub fn tag(&self) -> u64 {
        // ORDERING: Acquire pairs with the Release by which the runtime publishes what the pointer leads to.
        let cold = self.0.cold.load(Acquire).cast_const().cast::<u64>();
        if cold.is_null() {
            return 0;
        }
        // SAFETY: C1 of `of`, and C1 of `Runnable::from_raw`.
        unsafe { cold.read() }
    }

    /// Whether it has run before, and so holds a stack.
    #[inline]
    pub fn has_started(&self) -> bool {
        // Relaxed: as in `priority`.
        self.0.state.load(Relaxed) != GvtState::Created as u8
    }

    /// The worker that it would like to run on: a wish, not a condition.
    #[inline]
    pub fn preferred_worker(&self) -> WorkerId {
        // Relaxed: as in `priority`.
        match self.0.worker_id.load(Relaxed) {
            worker if (worker as usize) < crate::MAX_WORKERS => WorkerId::new(worker as usize),
            _ => WorkerId::NONE,
        }
    }
}

const _: () = {
    assert!(offset_of!(RecordHead, preempt_flag) == 0x00);
    assert!(offset_of!(RecordHead, cancelled) == 0x01);
    assert!(offset_of!(RecordHead, state) == 0x02);
    assert!(offset_of!(RecordHead, priority) == 0x03);
    assert!(offset_of!(RecordHead, gvthread_id) == 0x04);
    assert!(offset_of!(RecordHead, parent_id) == 0x08);
    assert!(offset_of!(RecordHead, worker_id) == 0x0C);
    assert!(offset_of!(RecordHead, entry_fn) == 0x10);
    assert!(offset_of!(RecordHead, entry_arg) == 0x18);
    assert!(offset_of!(RecordHead, result_ptr) == 0x20);
    assert!(offset_of!(RecordHead, join_waiters) == 0x28);
    assert!(offset_of!(RecordHead, start_time_ns) == 0x30);
    assert!(offset_of!(RecordHead, wake_time_ns) == 0x38);
    assert!(offset_of!(RecordHead, registers) == 0x40);
    assert!(offset_of!(RecordHead, suspended) == 0x80);
    assert!(offset_of!(RecordHead, wait) == 0x88);
    assert!(offset_of!(RecordHead, unique_id) == 0x90);
    assert!(offset_of!(RecordHead, blocked_since_ns) == 0x98);
    assert!(offset_of!(RecordHead, references) == 0xA0);
    assert!(offset_of!(RecordHead, slot) == 0xA4);
    assert!(offset_of!(RecordHead, wait_reason) == 0xA8);
    assert!(offset_of!(RecordHead, outcome) == 0xA9);
    assert!(offset_of!(RecordHead, flags) == 0xAA);
    assert!(offset_of!(RecordHead, affinity) == 0xAB);
    assert!(offset_of!(RecordHead, children_credit) == 0xAC);
    assert!(offset_of!(RecordHead, runtime) == 0xB0);
    assert!(offset_of!(RecordHead, cold) == 0xB8);
    assert!(size_of::<RecordHead>() == 0xC0);
    assert!(align_of::<RecordHead>() == 64);

    assert!(offset_of!(Registers, rsp) == 0x00);
    assert!(offset_of!(Registers, rip) == 0x08);
    assert!(offset_of!(Registers, rbx) == 0x10);
    assert!(offset_of!(Registers, rbp) == 0x18);
    assert!(offset_of!(Registers, r12) == 0x20);
    assert!(offset_of!(Registers, r13) == 0x28);
    assert!(offset_of!(Registers, r14) == 0x30);
    assert!(offset_of!(Registers, r15) == 0x38);
    assert!(size_of::<Registers>() == 64);

    assert!(offset_of!(ForcedRegisters, rip) == 0x80);
    assert!(offset_of!(ForcedRegisters, rflags) == 0x88);
    assert!(offset_of!(ForcedRegisters, cs) == 0x90);
    assert!(offset_of!(ForcedRegisters, ss) == 0x98);
    assert!(offset_of!(ForcedRegisters, extended) == 0xA0);
    assert!(size_of::<ForcedRegisters>() == 256);
};
