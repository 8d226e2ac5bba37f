//! Timer backends that break one clause each, and the sound one that they are made from.
//!
//! The sound one is an ordered map behind one lock: the shortest `TimerBackend` that keeps every
//! clause, and a reference to compare others with.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use gvt_traits::{
    Factory, IdleWait, Plan, SchedError, TimerBackend, TimerEntry, TimerHandle, WorkerError, WorkerId,
};

/// What is wrong with a [`Faulty`] backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// Nothing.
    None,
    /// Every 50th entry expires twice (T1).
    GivesTwice,
    /// Every 50th insert is forgotten (T1, T3).
    LosesOne,
    /// `cancel` looks under one turn of the lock and removes under the next, so that an
    /// expiry in between gives the entry out as well (T1, under contention).
    CancelRacesExpire,
    /// Entries expire up to 1,000 ns before they are due (T2).
    Early,
    /// Nothing ever expires (T3).
    NeverWakes,
    /// `expire` looks at the entries of the worker that calls, and no others (T3).
    OnlyNear,
    /// At most 10,000 entries expire in a call (T3).
    StopsInFloods,
    /// `cancel` marks the entry, and its place is freed when the deadline passes (T4).
    OnlyMarks,
    /// Handles carry no generation: one that is stale cancels what came after (T4).
    NoGeneration,
    /// `cancel` gives back the entry and leaves it to expire as well (T4).
    CancelsInName,
    /// The next deadline is worked out in `expire`, and an insert does not change it (T5).
    NextForgetsInsert,
    /// The next deadline is read under the lock under which entries are inserted (B6).
    NextWaits,
    /// The next deadline never moves on from one that was cancelled (T5).
    NextIsStuck,
    /// Asks to be woken a while before each deadline, to prepare (T6).
    WakesToPrepare,
    /// `u64::MAX` is taken for "never", and is not even held (T8).
    MaxIsNever,
    /// Waits by descriptor; an insert after `idle_wait` does not set the timer anew (T7).
    DescriptorForgetsInsert,
    /// Waits by descriptor; each `expire` stops the timer, due or not (T7).
    DescriptorStopsInExpire,
    /// Waits by descriptor; a deadline of 0 switches the kernel's timer off (T7).
    DescriptorZeroStops,
    /// Waits by descriptor; it stays readable after `expire` (T7).
    DescriptorStaysReadable,
}

/// Configures a backend with a given [`Defect`].
#[derive(Clone, Copy, Debug)]
pub struct Faulty {
    defect: Defect,
    descriptor: bool,
}

impl Faulty {
    /// With this defect.
    pub const fn new(defect: Defect) -> Self {
        use Defect::*;
        let descriptor = matches!(
            defect,
            DescriptorForgetsInsert | DescriptorStopsInExpire | DescriptorZeroStops | DescriptorStaysReadable
        );
        Faulty { defect, descriptor }
    }

    /// Without any: the reference.
    pub const fn sound() -> Self {
        Faulty { defect: Defect::None, descriptor: false }
    }

    /// Without any, and waiting by descriptor.
    pub const fn sound_with_descriptor() -> Self {
        Faulty { defect: Defect::None, descriptor: true }
    }
}

impl Factory for Faulty {
    type Output = FaultyBackend;

    fn build(&self, _plan: &Plan) -> Result<FaultyBackend, SchedError> {
        let descriptor = self.descriptor.then(Alarm::new).transpose()?;
        Ok(FaultyBackend {
            defect: self.defect,
            descriptor,
            timers: Mutex::default(),
            next_ns: AtomicU64::new(0),
            has_next: AtomicBool::new(false),
        })
    }
}

/// Deadline, then number: a key that orders entries.
type Key = (u64, u64);

#[derive(Default)]
struct Timers {
    /// Each with its place.
    entries: BTreeMap<Key, (TimerEntry, usize)>,
    /// Per place the key of its entry; a handle is a place and a number.
    places: Vec<Option<Key>>,
    free: Vec<usize>,
    number: u64,
    /// What `next_deadline_ns` says, for the defects that keep it.
    kept_next: Option<u64>,
    marked: Vec<Key>,
}

impl Timers {
    fn remove(&mut self, key: Key) -> Option<TimerEntry> {
        let (entry, place) = self.entries.remove(&key)?;
        if self.places[place] == Some(key) {
            self.places[place] = None;
            self.free.push(place);
        }
        Some(entry)
    }

    fn get(&self, key: Key) -> Option<TimerEntry> {
        self.entries.get(&key).map(|&(entry, _)| entry)
    }

    fn earliest(&self) -> Option<u64> {
        self.entries.first_key_value().map(|(key, _)| key.0)
    }
}

/// The backend; see [`Defect`].
pub struct FaultyBackend {
    defect: Defect,
    descriptor: Option<Alarm>,
    timers: Mutex<Timers>,
    /// What `next_deadline_ns` says, if anything (B6). Relaxed: gauges, written under the lock.
    next_ns: AtomicU64,
    has_next: AtomicBool,
}

/// The timers, locked; what is said of them is brought up to date before they are let go.
struct Locked<'a> {
    backend: &'a FaultyBackend,
    timers: MutexGuard<'a, Timers>,
}

impl Deref for Locked<'_> {
    type Target = Timers;

    fn deref(&self) -> &Timers {
        &self.timers
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Timers {
        &mut self.timers
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let next = self.backend.next(&self.timers);
        if let Some(next) = next {
            self.backend.next_ns.store(next, Relaxed);
        }
        self.backend.has_next.store(next.is_some(), Relaxed);
    }
}

impl FaultyBackend {
    fn lock(&self) -> Locked<'_> {
        let timers = self.timers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Locked { backend: self, timers }
    }

    fn next(&self, timers: &Timers) -> Option<u64> {
        match self.defect {
            Defect::NextForgetsInsert | Defect::NextIsStuck => timers.kept_next,
            Defect::WakesToPrepare => timers.earliest().map(|next| next - next % 1024),
            _ => timers.earliest(),
        }
    }

    fn ring_at(&self, next: Option<u64>) {
        if let Some(alarm) = &self.descriptor {
            // The kernel takes 0 for "stop".
            let least = if self.defect == Defect::DescriptorZeroStops { 0 } else { 1 };
            alarm.set(next.map_or(0, |next| next.max(least)));
        }
    }
}

impl TimerBackend for FaultyBackend {
    fn insert(&self, entry: TimerEntry) -> TimerHandle {
        let timers = &mut *self.lock();
        let before = timers.earliest();
        timers.number += 1;
        let key = (entry.deadline_ns, timers.number);
        let place = timers.free.pop().unwrap_or_else(|| {
            timers.places.push(None);
            timers.places.len() - 1
        });
        let lost = self.defect == Defect::LosesOne && timers.number.is_multiple_of(50)
            || self.defect == Defect::MaxIsNever && entry.deadline_ns == u64::MAX;
        if !lost {
            timers.places[place] = Some(key);
            timers.entries.insert(key, (entry, place));
        }
        if self.defect != Defect::NextForgetsInsert || timers.kept_next.is_none() {
            timers.kept_next = Some(timers.kept_next.map_or(key.0, |next| next.min(key.0)));
        }
        if self.defect != Defect::DescriptorForgetsInsert && timers.earliest() != before {
            self.ring_at(timers.earliest());
        }
        TimerHandle { place: place as u64, generation: timers.number }
    }

    fn cancel(&self, handle: TimerHandle) -> Option<TimerEntry> {
        let mut timers = self.lock();
        let key = (*timers.places.get(handle.place as usize)?)?;
        if self.defect != Defect::NoGeneration && key.1 != handle.generation {
            return None;
        }
        match self.defect {
            Defect::CancelsInName => {
                timers.places[handle.place as usize] = None;
                timers.get(key)
            }
            Defect::OnlyMarks => {
                timers.places[handle.place as usize] = None;
                timers.free.push(handle.place as usize);
                timers.marked.push(key);
                timers.get(key)
            }
            Defect::CancelRacesExpire => {
                let entry = timers.get(key);
                drop(timers);
                std::thread::yield_now();
                self.lock().remove(key);
                entry
            }
            _ => {
                let before = timers.earliest();
                let entry = timers.remove(key);
                if timers.earliest() != before {
                    self.ring_at(timers.earliest());
                }
                entry
            }
        }
    }

    fn expire(&self, near: WorkerId, now_ns: u64, sink: &mut dyn FnMut(TimerEntry)) -> usize {
        let timers = &mut *self.lock();
        let until = match self.defect {
            Defect::NeverWakes => return 0,
            Defect::Early => now_ns.saturating_add(1_000),
            _ => now_ns,
        };
        let mut due: Vec<Key> = timers.entries.range(..=(until, u64::MAX)).map(|(&key, _)| key).collect();
        match self.defect {
            Defect::OnlyNear => due.retain(|key| timers.entries[key].0.affinity == near),
            Defect::StopsInFloods => due.truncate(10_000),
            _ => {}
        }
        let mut given = 0;
        for key in due {
            let Some(entry) = timers.remove(key) else { continue };
            if let Some(marked) = timers.marked.iter().position(|&marked| marked == key) {
                timers.marked.swap_remove(marked);
                continue;
            }
            sink(entry);
            given += 1;
            if self.defect == Defect::GivesTwice && key.1.is_multiple_of(50) {
                sink(entry);
                given += 1;
            }
        }
        if self.defect != Defect::NextIsStuck || given > 0 {
            timers.kept_next = timers.earliest();
        }
        match self.defect {
            Defect::DescriptorStopsInExpire => self.ring_at(None),
            Defect::DescriptorStaysReadable if given > 0 => self.ring_at(Some(1)),
            Defect::DescriptorStaysReadable => {}
            _ => self.ring_at(timers.earliest()),
        }
        given
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        if self.defect == Defect::NextWaits {
            return self.next(&self.lock());
        }
        self.has_next.load(Relaxed).then(|| self.next_ns.load(Relaxed))
    }

    fn idle_wait(&self) -> IdleWait {
        if let Some(alarm) = &self.descriptor {
            // Sets the timer anew, but the defects keep what they are there for.
            if !matches!(self.defect, Defect::DescriptorStopsInExpire | Defect::DescriptorStaysReadable) {
                self.ring_at(self.lock().earliest());
            }
            return IdleWait::Readable(alarm.0.as_raw_fd());
        }
        self.next_deadline_ns().map_or(IdleWait::Forever, IdleWait::Until)
    }

    fn len(&self) -> usize {
        self.lock().entries.len()
    }
}

/// A `timerfd`.
struct Alarm(OwnedFd);

impl Alarm {
    fn new() -> Result<Self, SchedError> {
        // SAFETY: no pointer is passed.
        let descriptor =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if descriptor < 0 {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return Err(WorkerError::Descriptor { what: "a test's timer", errno }.into());
        }
        // SAFETY: the kernel just gave us this descriptor, and nobody else has it.
        Ok(Alarm(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Readable from `time_ns` on; 0 for never.
    fn set(&self, time_ns: u64) {
        const SECOND: u64 = 1_000_000_000;
        let time =
            libc::timespec { tv_sec: (time_ns / SECOND) as _, tv_nsec: (time_ns % SECOND) as libc::c_long };
        let once = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: time };
        // SAFETY: `once` is a valid `itimerspec`; the old setting is not asked for.
        let answer = unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &once, std::ptr::null_mut())
        };
        assert!(answer == 0, "a valid time can be set");
    }
}
