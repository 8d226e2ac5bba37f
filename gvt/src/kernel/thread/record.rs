//! A green thread's record: metadata, and room for its closure and then its result.
//!
//! **Layout.** 256 bytes: the 192 of [`RecordHead`], then 64 that hold a small closure until the thread first
//! runs, and a small result from its end until it is joined. Larger ones are boxed. So the common spawn
//! allocates nothing.
//!
//! **Lifetime.** Records live in a table that is mapped as long as the runtime's core, so a stale pointer
//! never faults; wait numbers (`wait`) limit what a stale holder may conclude. `references` counts one
//! reference that the thread and its `JoinHandle` share, the clones of its token, and each thread that it
//! spawned (a child's token looks at its parent's). The last release puts the record on a free list.
//!
//! **Access.** Until it is pushed, a record belongs to the spawner. Then entry, storage and registers belong
//! to the holder of its `Runnable` or the OS thread that runs it. After `join_waiters` says FINISHED, the
//! storage belongs to the holder of the `JoinHandle`, or to the thread itself if that was dropped.

use std::any::Any;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use gvt_traits::{GvtId, GvtState, Metadata, RecordHead, Registers, Runnable, StackClass};

use crate::protocol::names;
use crate::protocol::names::Reading;

/// Bytes of closure or result that fit without a box.
pub(crate) const INLINE_BYTES: usize = 64;

/// `Metadata::preempt_flag`: the monitor asks the thread to yield.
const ASKED: u8 = 1;
/// `Metadata::preempt_flag`: the monitor has seen the thread compute for long since it last woke by timer.
const BUSY: u8 = 2;

/// `Metadata::flags`: the runtime shuts down and the thread must unwind from its wait.
pub(crate) const UNWIND: u8 = 1;
/// `Metadata::flags`: tokens end its waits; see `token::run`.
pub(crate) const SCOPED: u8 = 2;
/// `Metadata::flags`: runs only on the OS thread that it began on.
pub(crate) const PINNED: u8 = 4;
/// `Metadata::flags`: reentrant: may be preempted by a stack switch.
pub(crate) const REENTRANT: u8 = 8;
/// `Metadata::flags`: a stack switch is possible now: its closure runs.
pub(crate) const FAST: u8 = 16;
/// `Metadata::flags`: the upper three bits are the class of the thread's stack plus one; 0 for the runtime's
/// default.
const CLASS_SHIFT: u32 = 5;

const _: () = assert!(StackClass::COUNT < 1 << (8 - CLASS_SHIFT));

/// The class of a thread's stack as its record stores it: the runtime's default unless the thread asks for
/// another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StackChoice(u8);

impl StackChoice {
    pub(crate) const DEFAULT: StackChoice = StackChoice(0);

    pub(crate) const fn of(class: StackClass) -> Self {
        StackChoice((class.index() as u8 + 1) << CLASS_SHIFT)
    }

    /// `None` for the runtime's default.
    #[inline]
    pub(crate) const fn class(self) -> Option<StackClass> {
        match self.0 {
            0 => None,
            bits => Some(StackClass::new(((bits >> CLASS_SHIFT) - 1) as usize)),
        }
    }

    /// As a new thread's flags.
    #[inline]
    pub(crate) const fn as_flags(self) -> u8 {
        self.0
    }

    /// From a thread's flags.
    #[inline]
    pub(crate) const fn from_flags(flags: u8) -> Self {
        StackChoice(flags >> CLASS_SHIFT << CLASS_SHIFT)
    }
}

/// In `Metadata::outcome`: the thread keeps its own references beyond its end (J6 of `join`).
const STAYS: u8 = 0x80;

/// The rest of `Metadata::outcome`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// Not ended.
    None = 0,
    /// The result is in the storage, or boxed in `result_ptr`.
    Value = 1,
    /// The panic's payload is in the storage.
    Panic = 2,
}

#[repr(C, align(64))]
pub(crate) struct Record {
    pub(crate) meta: RecordHead,
    storage: UnsafeCell<MaybeUninit<[u64; INLINE_BYTES / 8]>>,
}

const _: () = assert!(size_of::<Record>() == 256);

// SAFETY: `storage` passes from one owner to the next as the module head says; the rest is `Sync`.
unsafe impl Sync for Record {}

/// Data that few threads have. The first part of a larger structure, which the floors above own.
#[repr(C)]
pub(crate) struct Cold {
    /// First, where queues look for it (C1 of `Metadata::of`).
    pub(crate) tag: u64,
    /// Shared, so that it is copied without allocating (`names`).
    pub(crate) name: Option<Arc<str>>,
    /// The functions of the floors above for it.
    pub(crate) above: &'static Above,
}

/// Functions of the floors above for their [`Cold`]. Each is called with one that has this table.
pub(crate) struct Above {
    /// Frees it.
    pub(crate) free: unsafe fn(*mut Cold),
    /// Drops the running thread's locals, at its end.
    pub(crate) end_locals: unsafe fn(NonNull<Cold>),
    /// Whether a token that the running thread's waits end with is cancelled.
    pub(crate) ends_waits: unsafe fn(NonNull<Cold>) -> bool,
    /// Those tokens' earliest deadline.
    pub(crate) earliest_deadline_ns: unsafe fn(NonNull<Cold>) -> Option<u64>,
}

/// Owns a [`Cold`] and the structure that it begins.
pub(crate) struct ColdBox(NonNull<Cold>);

impl ColdBox {
    /// # Safety
    ///
    /// **C1**: `cold` is valid, has no other owner, and its table frees it.
    pub(crate) unsafe fn from_raw(cold: *mut Cold) -> Self {
        // SAFETY: C1: valid, so not null.
        ColdBox(unsafe { NonNull::new_unchecked(cold) })
    }

    fn into_raw(self) -> NonNull<Cold> {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for ColdBox {
    fn drop(&mut self) {
        // SAFETY: C1 of `from_raw`: its own table frees it.
        unsafe { (self.0.as_ref().above.free)(self.0.as_ptr()) };
    }
}

/// What an entry function does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Run the closure and store its result.
    Run,
    /// Drop a stored result.
    DropResult,
    /// Drop the closure unrun and store the reason.
    Refuse,
}

/// A closure's monomorphic code. Called on the thread's own stack with preemption on (`Run`), or wherever the
/// result ends up (`DropResult`).
pub(crate) type EntryFn = unsafe fn(&Record, Step);

/// Whether a closure or result fits into the storage.
pub(crate) const fn fits_inline<T>() -> bool {
    size_of::<T>() <= INLINE_BYTES && align_of::<T>() <= 8
}

impl Record {
    pub(crate) const fn new(id: GvtId) -> Self {
        Record { meta: RecordHead::new(id), storage: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    pub(crate) fn registers(&self) -> *mut Registers {
        self.meta.registers.get()
    }

    /// The `Runnable` of this thread.
    ///
    /// # Safety
    ///
    /// **C1**: the thread has just become ready and has no other `Runnable`.
    pub(crate) unsafe fn runnable(&self) -> Runnable {
        // SAFETY: C1 of `from_raw`: the table outlives its `Runnable`s, and `Cold` begins with the tag. C2:
        // this function's C1.
        unsafe { Runnable::from_raw(NonNull::from(&self.meta).cast()) }
    }

    /// The part that a queue sees.
    pub(crate) fn shown(&self) -> &Metadata {
        // SAFETY: C1 of `of`: `Cold` begins with the tag; the holder of the record keeps it.
        unsafe { Metadata::of(&self.meta) }
    }

    /// Whether it is a thread that has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        use GvtState::*;
        self.meta.references.load(Relaxed) != 0 && !matches!(self.state(), Finished | Cancelled)
    }

    /// Whether it has never run, and so has no stack yet.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        self.meta.state.load(Relaxed) == GvtState::Created as u8
    }

    pub(crate) fn state(&self) -> GvtState {
        GvtState::from_u8(self.meta.state.load(Relaxed)).unwrap_or(GvtState::Finished)
    }

    /// Relaxed: the state is a gauge for reports; decisions use only `Created`, which only the holder of the
    /// `Runnable` reads.
    #[inline]
    pub(crate) fn set_state(&self, state: GvtState) {
        self.meta.state.store(state as u8, Relaxed);
    }

    /// Whether the monitor has asked it to yield.
    #[inline]
    pub(crate) fn is_asked(&self) -> bool {
        // Relaxed, here and below: a hint. Monitor and worker may overwrite each other; then a request comes
        // again at the next look, or a thread counts as one that has computed little.
        self.meta.preempt_flag.load(Relaxed) & ASKED != 0
    }

    /// Asks it to yield; `true` if it was not asked already.
    pub(crate) fn ask(&self) -> bool {
        self.raise(ASKED)
    }

    /// It yields, or is preempted.
    pub(crate) fn answer(&self) {
        self.meta.preempt_flag.store(self.meta.preempt_flag.load(Relaxed) & !ASKED, Relaxed);
    }

    /// It has computed for long.
    pub(crate) fn note_busy(&self) {
        self.raise(BUSY);
    }

    fn raise(&self, flag: u8) -> bool {
        let flags = self.meta.preempt_flag.load(Relaxed);
        if flags & flag == 0 {
            self.meta.preempt_flag.store(flags | flag, Relaxed);
        }
        flags & flag == 0
    }

    /// Whether it has computed for long since this was last asked.
    #[inline]
    pub(crate) fn take_busy(&self) -> bool {
        let flags = self.meta.preempt_flag.load(Relaxed);
        if flags & BUSY != 0 {
            self.meta.preempt_flag.store(flags & !BUSY, Relaxed);
        }
        flags & BUSY != 0
    }

    #[inline]
    pub(crate) fn has_flag(&self, flag: u8) -> bool {
        self.meta.flags.load(Relaxed) & flag != 0
    }

    /// The class of its stack.
    #[inline]
    pub(crate) fn stack_choice(&self) -> StackChoice {
        // Relaxed: written before the thread is pushed.
        StackChoice::from_flags(self.meta.flags.load(Relaxed))
    }

    pub(crate) fn outcome(&self) -> Outcome {
        // Relaxed: ordered by `join_waiters`.
        match self.meta.outcome.load(Relaxed) & !STAYS {
            1 => Outcome::Value,
            2 => Outcome::Panic,
            _ => Outcome::None,
        }
    }

    pub(crate) fn set_outcome(&self, outcome: Outcome) {
        self.meta.outcome.store(outcome as u8, Relaxed);
    }

    /// Whether the thread keeps its own references beyond its end.
    #[inline]
    pub(crate) fn stays(&self) -> bool {
        // Relaxed: ordered by `join_waiters`.
        self.meta.outcome.load(Relaxed) & STAYS != 0
    }

    /// Notes that it does, when its outcome is stored and not yet published.
    pub(crate) fn set_stays(&self) {
        // Relaxed: ordered by `join_waiters`.
        self.meta.outcome.store(self.meta.outcome.load(Relaxed) | STAYS, Relaxed);
    }

    /// Writes a value for its next owner.
    ///
    /// # Safety
    ///
    /// **C1**: the storage is the caller's and empty.
    pub(crate) unsafe fn put<T>(&self, boxed_in: &std::sync::atomic::AtomicU64, value: T) {
        if fits_inline::<T>() {
            // SAFETY: C1: empty; size and alignment were checked.
            unsafe { self.storage.get().cast::<T>().write(value) };
        } else {
            boxed_in.store(Box::into_raw(Box::new(value)) as u64, Relaxed);
        }
    }

    /// Takes a value out.
    ///
    /// # Safety
    ///
    /// **C1**: the storage is the caller's, and `put::<T>` with the same `boxed_in` was last.
    pub(crate) unsafe fn take<T>(&self, boxed_in: &std::sync::atomic::AtomicU64) -> T {
        if fits_inline::<T>() {
            // SAFETY: C1: `put` wrote a `T` there.
            unsafe { self.storage.get().cast::<T>().read() }
        } else {
            // SAFETY: C1: `put` stored a box of a `T` there, and it is taken once.
            unsafe { *Box::from_raw(boxed_in.load(Relaxed) as *mut T) }
        }
    }

    /// Stores a panic's payload as the thread's outcome.
    ///
    /// # Safety
    ///
    /// C1 of [`put`](Self::put).
    pub(crate) unsafe fn put_panic(&self, payload: Box<dyn Any + Send>) {
        // SAFETY: C1: empty; two words fit.
        unsafe { self.put(&self.meta.result_ptr, payload) };
        self.set_outcome(Outcome::Panic);
    }

    /// Takes the thread's result.
    ///
    /// # Safety
    ///
    /// **C1**: the thread has finished, its result is of type `T`, and only this caller takes it.
    pub(crate) unsafe fn take_result<T>(&self) -> Result<T, Box<dyn Any + Send>> {
        match self.outcome() {
            // SAFETY: C1: a `T`, taken once.
            Outcome::Value => Ok(unsafe { self.take::<T>(&self.meta.result_ptr) }),
            // SAFETY: C1; a panic's payload was put.
            Outcome::Panic => Err(unsafe { self.take::<Box<dyn Any + Send>>(&self.meta.result_ptr) }),
            Outcome::None => unreachable!("a finished thread has an outcome"),
        }
    }

    /// The thread's name, if it has one. The caller holds a reference or runs the thread.
    pub(crate) fn name(&self) -> Option<&str> {
        self.cold_if_any().and_then(|cold| cold.name.as_deref())
    }

    /// The cold part, if this thread has it. The caller holds a reference or runs the thread.
    #[inline]
    pub(crate) fn cold_if_any(&self) -> Option<&Cold> {
        // SAFETY: freed only with the last reference.
        self.whole_cold().map(|cold| unsafe { cold.as_ref() })
    }

    /// The whole of it, of which [`Cold`] is the beginning: a reference to a `Cold` reaches no further.
    #[inline]
    fn whole_cold(&self) -> Option<NonNull<Cold>> {
        // ORDERING O1: Acquire pairs with the Release in `set_cold` and `cold`.
        NonNull::new(self.meta.cold.load(Acquire).cast())
    }

    /// Calls one of its table's functions; `None`: the thread has no cold part. The caller holds a reference
    /// or runs the thread.
    pub(crate) fn with_above<R>(&self, f: impl FnOnce(&Above, NonNull<Cold>) -> R) -> Option<R> {
        // SAFETY: freed only with the last reference.
        self.whole_cold().map(|cold| f(unsafe { cold.as_ref() }.above, cold))
    }

    /// The cold part; made if there is none. The caller holds a reference or runs the thread.
    ///
    /// Context: may allocate.
    pub(crate) fn cold(&self, make: impl FnOnce() -> ColdBox) -> NonNull<Cold> {
        if let Some(cold) = self.whole_cold() {
            return cold;
        }
        let fresh = make().into_raw();
        // ORDERING O1: Release publishes it; Acquire on failure sees another's.
        match self.meta.cold.compare_exchange(ptr::null_mut(), fresh.as_ptr().cast(), Release, Acquire) {
            Ok(_) => fresh,
            Err(there) => {
                // SAFETY: never published, so not shared.
                drop(unsafe { ColdBox::from_raw(fresh.as_ptr()) });
                NonNull::new(there.cast()).expect("somebody else's was there")
            }
        }
    }

    /// Drops the running thread's locals, at its end.
    ///
    /// Context: the thread's own stack, preemption on.
    #[inline]
    pub(crate) fn end_locals(&self) {
        // Relaxed: the thread itself makes it, if it has locals.
        if !self.meta.cold.load(Relaxed).is_null() {
            self.end_locals_slow();
        }
    }

    #[cold]
    fn end_locals_slow(&self) {
        // SAFETY: the table's own; this is the running thread, after its closure.
        self.with_above(|above, cold| unsafe { (above.end_locals)(cold) });
    }

    /// For a thread that is not pushed yet.
    pub(crate) fn set_cold(&self, cold: ColdBox) {
        // ORDERING O1: Release pairs with the Acquire in `cold_if_any`.
        self.meta.cold.store(cold.into_raw().as_ptr().cast(), Release);
    }

    /// Takes the cold part; `None` also if a reader of the name frees it (`names`).
    ///
    /// # Safety
    ///
    /// **C1**: there is no other reference to the record.
    pub(crate) unsafe fn take_cold(&self, reading: &Reading) -> Option<ColdBox> {
        let cold = names::take(&self.meta.cold, reading) as *mut Cold;
        // SAFETY: C1; it came from `ColdBox::into_raw`.
        (!cold.is_null()).then(|| unsafe { ColdBox::from_raw(cold) })
    }

    /// A copy of the name of a thread that may end meanwhile, and what then must be dropped outside the
    /// runtime.
    ///
    /// Context: one caller at a time for each `reading`.
    pub(crate) fn read_name(&self, reading: &Reading) -> (Option<Arc<str>>, Option<ColdBox>) {
        // SAFETY: N3 of `names`: it is not freed before this returns.
        let copy = |cold: *mut ()| unsafe { (*(cold as *const Cold)).name.clone() };
        let (name, left) = names::read(&self.meta.cold, reading, copy);
        // SAFETY: M2 of `names`: only this caller has it; it came from `ColdBox::into_raw`.
        (name.flatten(), (!left.is_null()).then(|| unsafe { ColdBox::from_raw(left as *mut Cold) }))
    }
}
