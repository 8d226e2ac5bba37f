//! The runtime's system calls.

pub(crate) mod altstack;
pub(crate) mod flag;

use std::io::{self, Write};
use std::sync::atomic::AtomicU32;

/// `CLOCK_MONOTONIC`, ns.
#[inline]
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_MONOTONIC_COARSE`, ns: the value at the kernel's last tick.
#[inline]
pub(crate) fn monotonic_coarse_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC_COARSE)
}

#[inline]
fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps while `word` is `expected`, at the longest until `deadline_ns`; `false` when that has passed. May
/// return early.
pub(crate) fn futex_wait_until(word: &AtomicU32, expected: u32, deadline_ns: Option<u64>) -> bool {
    let time;
    let timeout = match deadline_ns {
        // Beyond the range of the kernel's time: infinite.
        Some(ns) if ns < i64::MAX as u64 => {
            time = libc::timespec {
                tv_sec: (ns / 1_000_000_000) as _,
                tv_nsec: (ns % 1_000_000_000) as libc::c_long,
            };
            &time as *const libc::timespec
        }
        _ => std::ptr::null(),
    };
    // SAFETY: `word` is a live, aligned u32; `timeout` is null or points to `time`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
            expected,
            timeout,
            std::ptr::null::<u32>(),
            u32::MAX,
        )
    };
    answer == 0 || errno() != libc::ETIMEDOUT
}

/// Wakes up to `count` sleepers on `word`, which need not exist.
pub(crate) fn futex_wake(word: *const AtomicU32, count: i32) {
    // SAFETY: the kernel uses the address only as a key.
    unsafe {
        libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, count);
    }
}

pub(crate) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

// Out of line: each OS thread has its own `errno`, and a green thread may change OS threads.
#[inline(never)]
pub(crate) fn set_errno(errno: i32) {
    // SAFETY: the calling OS thread's own `errno`.
    unsafe { *libc::__errno_location() = errno };
}

/// The kernel's number of this OS thread.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() }
}

/// Lets this OS thread's timed waits end when they are due (the default is up to 50 µs later).
pub(crate) fn set_timer_slack() {
    // SAFETY: sets a number of this OS thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0) };
}

/// How long the kernel lets an OS thread run while others wait. With a shorter slice it runs sooner after it
/// wakes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slice {
    Usual,
    /// For an OS thread that never runs for long.
    Shortest,
}

/// Requests such slices for this OS thread and those that it starts (Linux 6.12 and later; no effect before,
/// or under other policies than the usual one).
pub(crate) fn set_slice(slice: Slice) {
    const SIZE: usize = size_of::<[u64; 6]>();
    // The kernel's layout: size, policy; flags; nice value, priority; slice in ns, 0 for the usual; two for
    // other policies.
    let mut attributes = [0u64; 6];
    // SAFETY: a buffer of the stated size.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), SIZE, 0) };
    let policy = (attributes[0] >> 32) as i32;
    if got == 0 && policy == libc::SCHED_OTHER {
        attributes[3] = match slice {
            Slice::Usual => 0,
            Slice::Shortest => 100_000,
        };
        // SAFETY: as the kernel filled it, except for the slice.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attributes.as_ptr(), 0) };
    }
}

/// Whether an OS thread runs before all ordinary ones whenever it wakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    RealTime,
    Ordinary,
}

/// Lets this OS thread run before all ordinary ones whenever it wakes, if the process may have that
/// (`CAP_SYS_NICE`, `RLIMIT_RTPRIO`); returns whether it was granted. An OS thread that starts under another
/// policy than the usual one keeps that, since it was chosen. OS threads that it starts do not inherit it.
pub(crate) fn become_real_time() -> bool {
    // SAFETY: no pointers.
    (unsafe { libc::sched_getscheduler(0) }) == libc::SCHED_OTHER && set_policy(Policy::RealTime)
}

/// Switches an OS thread to which [`become_real_time`] was granted between the two policies.
pub(crate) fn set_policy(to: Policy) -> bool {
    let (policy, priority) = match to {
        Policy::RealTime => (libc::SCHED_FIFO, 1),
        Policy::Ordinary => (libc::SCHED_OTHER, 0),
    };
    // SAFETY: a valid parameter.
    unsafe {
        libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &scheduling_parameter(priority)) == 0
    }
}

/// With other C libraries than glibc there are more fields, which the kernel does not have.
fn scheduling_parameter(priority: i32) -> libc::sched_param {
    // SAFETY: plain numbers, for which zero is valid.
    let mut parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    parameter.sched_priority = priority;
    parameter
}

/// Prevents `dlclose` from unloading the shared library whose code is at `address`. Does nothing if that is
/// the program itself.
pub(crate) fn keep_loaded(address: usize) {
    // With musl `dlclose` unloads nothing, and a static program has no libraries.
    #[cfg(target_env = "gnu")]
    // SAFETY: a valid buffer; the name found is of a loaded object, which stays loaded during this call: its
    // code is what runs. The returned handle is kept for good.
    unsafe {
        let mut found = std::mem::zeroed::<libc::Dl_info>();
        if libc::dladdr(address as *const libc::c_void, &mut found) != 0 && !found.dli_fname.is_null() {
            libc::dlopen(found.dli_fname, libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = address;
}

/// The processor that the caller runs on. Async-signal-safe.
pub(crate) fn processor() -> Option<u32> {
    // SAFETY: no arguments.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// A set of processors in the kernel's layout; those above 1,023 do not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Processors([u64; 16]);

impl Processors {
    pub(crate) const NONE: Processors = Processors([0; 16]);

    /// Only one.
    pub(crate) fn only(number: u32) -> Option<Processors> {
        let mut set = Processors::NONE;
        *set.0.get_mut(number as usize / 64)? = 1 << (number % 64);
        Some(set)
    }

    /// The processors in both sets, if there are any.
    pub(crate) fn and(&self, other: &Processors) -> Option<Processors> {
        let both = Processors(std::array::from_fn(|word| self.0[word] & other.0[word]));
        (both != Processors::NONE).then_some(both)
    }

    /// The processors in either set.
    #[cfg(test)]
    pub(crate) fn or(&self, other: &Processors) -> Processors {
        Processors(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// The processors that an OS thread may run on. Async-signal-safe.
    pub(crate) fn of(thread_id: i32) -> Option<Processors> {
        let mut set = Processors::NONE;
        let size = size_of_val(&set.0);
        // SAFETY: a buffer of the stated size.
        let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, thread_id, size, set.0.as_mut_ptr()) };
        (got > 0).then_some(set)
    }

    /// Confines an OS thread to this set. Async-signal-safe.
    pub(crate) fn confine(&self, thread_id: i32) -> bool {
        // SAFETY: a set of the stated size.
        unsafe {
            libc::syscall(libc::SYS_sched_setaffinity, thread_id, size_of_val(&self.0), self.0.as_ptr()) == 0
        }
    }
}

/// A counter that polls readable while it is not zero.
pub(crate) struct EventFd(i32);

impl EventFd {
    pub(crate) fn new() -> Result<Self, i32> {
        // SAFETY: no pointers.
        match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) } {
            -1 => Err(errno()),
            descriptor => Ok(EventFd(descriptor)),
        }
    }

    pub(crate) fn raw(&self) -> i32 {
        self.0
    }

    pub(crate) fn signal(&self) {
        let one = 1u64;
        // SAFETY: eight readable bytes. A full counter (EAGAIN) is readable already.
        unsafe { libc::write(self.0, (&raw const one).cast(), 8) };
    }

    pub(crate) fn drain(&self) {
        let mut count = 0u64;
        // SAFETY: eight writable bytes. An empty counter (EAGAIN) is the goal.
        unsafe { libc::read(self.0, (&raw mut count).cast(), 8) };
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this value's own.
        unsafe { libc::close(self.0) };
    }
}

/// Blocks until one of two descriptors is readable; returns which.
pub(crate) fn poll_two(first: i32, second: i32) -> (bool, bool) {
    let mut entries = [first, second].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // A sandbox may allow only one of the calls.
    // SAFETY: two valid entries; no time and no mask.
    let failed = unsafe {
        let failed = libc::poll(entries.as_mut_ptr(), 2, -1) < 0 && errno() != libc::EINTR;
        failed && libc::ppoll(entries.as_mut_ptr(), 2, std::ptr::null(), std::ptr::null()) < 0
    };
    if failed && errno() != libc::EINTR {
        // Neither call works: looks at both now and then instead.
        std::thread::sleep(std::time::Duration::from_millis(1));
        return (true, true);
    }
    (entries[0].revents != 0, entries[1].revents != 0)
}

/// Registers for `membarrier`; returns whether the kernel has it.
pub(crate) fn prepare_membarrier() -> bool {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 }
}

/// A full barrier on every OS thread of this process that runs at this moment; `false` if it is not
/// available.
pub(crate) fn membarrier() -> bool {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0 }
}

/// Reads the beginning of a file about an OS thread of this process; returns the number of bytes, 0 if it
/// cannot be read. Allocates nothing.
fn read_about(thread_id: i32, file: &str, buffer: &mut [u8]) -> usize {
    let mut path = [0u8; 48];
    let Ok(()) = write!(&mut path[..], "/proc/self/task/{thread_id}/{file}\0") else {
        return 0;
    };
    // SAFETY: a path that ends with a zero byte; a buffer of the stated size.
    let count = unsafe {
        let file = libc::open(path.as_ptr().cast(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return 0;
        }
        let count = libc::read(file, buffer.as_mut_ptr().cast(), buffer.len());
        libc::close(file);
        count
    };
    usize::try_from(count).unwrap_or(0)
}

/// Whether the kernel has put an OS thread of this process to sleep (rather than only descheduled it).
/// Allocates nothing.
pub(crate) fn is_asleep_in_kernel(thread_id: i32) -> bool {
    matches!(state(thread_id), Some(b'S' | b'D'))
}

/// Whether an OS thread of this process runs or waits for a processor; `false` if the kernel does not tell.
/// Allocates nothing.
pub(crate) fn is_runnable(thread_id: i32) -> bool {
    state(thread_id) == Some(b'R')
}

/// The kernel's letter for the state of an OS thread of this process.
fn state(thread_id: i32) -> Option<u8> {
    let mut line = [0u8; 128];
    let count = read_about(thread_id, "stat", &mut line);
    let line = &line[..count];
    // "number (name) state …"; the name may contain any byte, but has at most 15.
    let end = line.iter().rposition(|&byte| byte == b')')?;
    line.get(end + 2).copied()
}

/// Whether an OS thread of this process that sleeps in the kernel may do so in a futex, as for a lock; `true`
/// if the kernel does not tell. Allocates nothing.
pub(crate) fn is_asleep_in_futex(thread_id: i32) -> bool {
    const CALLS: [i64; 2] = [libc::SYS_futex, libc::SYS_futex_waitv];
    let mut line = [0u8; 24];
    let count = read_about(thread_id, "syscall", &mut line);
    // "number arguments…", "-1 …" outside of a call, "running".
    let call = line[..count].split(|&byte| byte == b' ').next().and_then(|word| str::from_utf8(word).ok());
    call.and_then(|number| number.parse().ok()).is_none_or(|number: i64| CALLS.contains(&number))
}

/// The CPU time of an OS thread of this process, ns; 0 if there is none of that number.
pub(crate) fn cpu_time_ns(thread_id: i32) -> u64 {
    // The kernel's name for the clock: the number's complement, "of one thread", "as the scheduler counts".
    const OF_ONE_THREAD: libc::clockid_t = 4;
    const SCHEDULER: libc::clockid_t = 2;
    clock_ns((!thread_id << 3) | OF_ONE_THREAD | SCHEDULER)
}

/// The signals that the calling OS thread blocks: the first word of the kernel's set.
pub(crate) fn signal_mask() -> u64 {
    let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a valid place; changes nothing. The first word is the kernel's set.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
        mask.as_ptr().cast::<u64>().read()
    }
}

/// Sets the signals that the calling OS thread blocks. Async-signal-safe.
pub(crate) fn set_signal_mask(mask: u64) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a valid place, whose first word is the kernel's set.
    unsafe {
        set.as_mut_ptr().cast::<u64>().write(mask);
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of `check` on an OS thread of its own, under `policy`.
    fn under(policy: i32, check: fn() -> bool) -> bool {
        let checked = std::thread::spawn(move || {
            // SAFETY: a valid parameter.
            let set = unsafe { libc::sched_setscheduler(0, policy, &scheduling_parameter(0)) };
            assert_eq!(set, 0, "every process may have this policy");
            check()
        });
        checked.join().expect("no panic")
    }

    fn policy() -> i32 {
        // SAFETY: no pointers.
        unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
    }

    #[test]
    fn real_time_and_back() {
        assert!(under(libc::SCHED_OTHER, || {
            let granted = become_real_time();
            let then = policy();
            (then == libc::SCHED_FIFO) == granted
                && (!granted || set_policy(Policy::Ordinary))
                && policy() == libc::SCHED_OTHER
        }));
    }

    #[test]
    fn a_policy_that_was_chosen_is_kept() {
        assert!(under(libc::SCHED_BATCH, || !become_real_time() && policy() == libc::SCHED_BATCH));
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn a_library_is_kept_loaded() {
        let is_loaded = |name: &std::ffi::CStr| {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has /proc");
            maps.contains(name.to_str().expect("ASCII"))
        };
        // Small ones that come with the C library.
        let names =
            [c"libanl.so.1", c"libBrokenLocale.so.1", c"libnsl.so.1", c"libresolv.so.2", c"libutil.so.1"];
        let mut kept = 0;
        for name in names.into_iter().filter(|&name| !is_loaded(name)) {
            // SAFETY: these libraries do nothing special at load and unload; their code is not called.
            unsafe {
                let open = || libc::dlopen(name.as_ptr(), libc::RTLD_NOW);
                let first = open();
                if first.is_null() {
                    continue;
                }
                libc::dlclose(first);
                if is_loaded(name) {
                    continue; // one that asks to stay
                }
                let second = open();
                // The library's base is an address in it.
                let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has /proc");
                let line =
                    maps.lines().find(|line| line.contains(name.to_str().expect("ASCII"))).expect("loaded");
                let base =
                    usize::from_str_radix(line.split('-').next().expect("a range"), 16).expect("a number");
                keep_loaded(base);
                libc::dlclose(second);
            }
            assert!(is_loaded(name), "{name:?} has been unloaded");
            kept += 1;
        }
        // A program without a library to unload proves nothing.
        if kept == 0 {
            println!("no library could be tried");
        }
    }
}
