//! Wake-affine hand-over: the receiver of a worker continues on the giver's processor.
//!
//! When an OS thread passes its worker on and sleeps, its processor becomes free. The kernel does not know
//! that when it chooses a processor for the receiver: it takes the one where the receiver ran last, where
//! another worker may be computing, and the two take turns there for milliseconds while the giver's processor
//! idles. (1,000 threads that compute on 2 workers of 2 processors then lose a fifth of the CPU time, and
//! slices take 0.8 to 10 ms instead of 2.)
//!
//! **Protocol.** **P1** The giver notes the affinity of the sleeping receiver, confines it to the giver's
//! processor, and wakes it (`os_thread` H2). **P2** The receiver undoes that before it runs for longer than
//! to pass the worker on; a giver that does not sleep undoes it before it wakes the receiver. So an OS thread
//! that relays a worker and sleeps again pays nothing. A giver writes `allowed` while the receiver sleeps and
//! has no other giver; H2 and H3 order it.
//!
//! **Hazard: another process changes the affinity** (`taskset -a -p`, a cgroup) while an OS thread is
//! confined, which may last as long as it sleeps. The note is outdated then.
//! **So** P2 looks first: an OS thread that is not where it was confined to has been moved, and stays.
//! Otherwise it gets the noted affinity, reduced to that of the monitor, which is never confined and has been
//! moved with the others.
//!
//! **Limits.** A change within the microseconds between such a look and the restoring may miss one OS thread.
//! A set of more than 1,024 processors does not fit, and then nothing is confined; nor where the kernel
//! forbids it.
//!
//! **Rejected.** Leaving each OS thread confined: the kernel could not balance load. Waking through a pipe,
//! whose readers the kernel puts on the writer's processor: two descriptors for each OS thread.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::os::{Processors, processor};

/// An OS thread's affinity.
pub(crate) struct Affinity {
    /// Before it was confined.
    allowed: UnsafeCell<Processors>,
    /// The processor that it is confined to, plus one; 0: not confined.
    confined: AtomicU32,
}

impl Affinity {
    pub(crate) const fn new() -> Self {
        Affinity { allowed: UnsafeCell::new(Processors::NONE), confined: AtomicU32::new(0) }
    }

    /// For the next OS thread.
    pub(crate) fn reset(&self) {
        self.confined.store(0, Relaxed);
    }

    /// P1 for the OS thread `thread_id`. Async-signal-safe.
    pub(crate) fn take_over(&self, thread_id: i32) {
        // An OS thread that has just been started has no number yet.
        let Some(here) = processor().filter(|_| thread_id != 0) else {
            return;
        };
        let confined = self.confined.load(Relaxed);
        if confined == here + 1 {
            return;
        }
        if confined == 0 {
            let Some(allowed) = Processors::of(thread_id) else {
                return;
            };
            // SAFETY: the receiver sleeps and has one giver.
            unsafe { *self.allowed.get() = allowed };
        }
        if Processors::only(here).is_some_and(|only| only.confine(thread_id)) {
            self.confined.store(here + 1, Relaxed);
        }
    }

    /// P2 for the OS thread `thread_id`; 0 for the calling one. `free` is an OS thread that is never
    /// confined. Async-signal-safe.
    #[inline]
    pub(crate) fn release(&self, thread_id: i32, free: i32) {
        if self.confined.load(Relaxed) != 0 {
            self.undo(thread_id, free);
        }
    }

    #[cold]
    fn undo(&self, thread_id: i32, free: i32) {
        let here = self.confined.swap(0, Relaxed).wrapping_sub(1);
        // SAFETY: called by the receiver, or by its one giver while it sleeps.
        let noted = unsafe { *self.allowed.get() };
        restore(thread_id, here, noted, free);
    }
}

/// Gives the calling OS thread, a new one, the affinity of `free`, an OS thread that is never confined,
/// instead of its creator's.
pub(crate) fn begin(free: i32) {
    let process = if free == 0 { None } else { Processors::of(free) };
    if let Some(process) = process.filter(|&process| Processors::of(0) != Some(process)) {
        process.confine(0);
    }
}

/// Restores the affinity `noted` of the OS thread `thread_id` (0: the calling one), which was confined to the
/// processor `here`; unless it was moved meanwhile, or the process was, and with it the OS thread `free`.
/// Async-signal-safe.
pub(crate) fn restore(thread_id: i32, here: u32, noted: Processors, free: i32) {
    let (now, only) = (Processors::of(thread_id), Processors::only(here));
    if now.is_some() && now == only {
        let process = Processors::of(free).filter(|_| free != 0).unwrap_or(noted);
        noted.and(&process).unwrap_or(process).confine(thread_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On OS threads of its own: one confined to a processor, and one that may run on `process`.
    fn restored(confined: &[u32], noted: &[u32], process: &[u32]) -> Option<Processors> {
        let set =
            |numbers: &[u32]| numbers.iter().filter_map(|&n| Processors::only(n)).reduce(|a, b| a.or(&b));
        let (confined, noted, process) = (set(confined)?, set(noted)?, set(process)?);
        let (sender, receiver) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let free = std::thread::spawn(move || {
            assert!(process.confine(0));
            sender.send(crate::os::thread_id()).unwrap();
            let _ = wait.recv();
        });
        let free_id = receiver.recv().unwrap();
        let test = std::thread::spawn(move || {
            assert!(confined.confine(0));
            restore(0, 0, noted, free_id);
            Processors::of(0)
        });
        let after = test.join().unwrap();
        drop(done);
        free.join().unwrap();
        after
    }

    fn may_run_on(numbers: &[u32]) -> bool {
        let all = Processors::of(0).expect("the kernel tells");
        numbers.iter().all(|&n| Processors::only(n).is_some_and(|one| all.and(&one).is_some()))
    }

    #[test]
    fn a_thread_goes_back_to_where_it_may_run() {
        if !may_run_on(&[0, 1]) {
            return;
        }
        let only = Processors::only;
        let both = only(0).unwrap().or(&only(1).unwrap());
        assert_eq!(restored(&[0], &[0, 1], &[0, 1]), Some(both), "undone");
        assert_eq!(restored(&[1], &[0, 1], &[1]), only(1), "moved meanwhile, with the process");
        assert_eq!(restored(&[0], &[0, 1], &[0]), only(0), "moved meanwhile, to where it was confined");
        assert_eq!(restored(&[0, 1], &[0], &[0, 1]), Some(both), "set free meanwhile");
        assert_eq!(restored(&[0], &[1], &[0, 1]), only(1), "a place of its own");
        assert_eq!(restored(&[0], &[1], &[0]), only(0), "the process has left that place");
    }
}
