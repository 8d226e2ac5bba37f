//! What can go wrong, in sentences: what was asked, what stood in the way, how to mend it.

use alloc::string::String;
use core::fmt;

/// Why the scheduler refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchedError {
    /// A setting has a value that cannot work.
    Config {
        /// The setting's name, as the builder spells it.
        setting: &'static str,
        /// What was asked and what would work.
        problem: String,
    },
    /// `max_gvthreads` threads are alive already.
    TooManyThreads {
        /// The limit.
        limit: usize,
    },
    /// The call needs a runtime and there is none here.
    NoRuntime {
        /// The call.
        call: &'static str,
    },
    /// `block_on` was called on a green thread.
    NestedBlockOn,
    /// The runtime has been shut down.
    ShutDown,
    /// Memory is not available.
    Memory(MemoryError),
    /// A worker could not be started.
    Worker(WorkerError),
}

/// Why memory is not available.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryError {
    /// Address space could not be reserved.
    Reserve {
        /// What for.
        what: &'static str,
        /// How much.
        bytes: usize,
        /// The kernel's answer.
        errno: i32,
    },
    /// A guard page could not be set up.
    Guard {
        /// The kernel's answer.
        errno: i32,
    },
    /// Every slot is in use.
    SlotsExhausted {
        /// How many there are.
        slots: usize,
    },
    /// No slot is as large as that.
    SlotTooSmall {
        /// What was asked for.
        asked: usize,
        /// The largest there is.
        largest: usize,
    },
}

/// Why a worker could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerError {
    /// The OS refused a thread.
    ThreadCreation {
        /// The number of OS threads that the runtime had already.
        running: usize,
        /// The kernel's answer.
        errno: i32,
    },
    /// A signal handler could not be installed.
    SignalHandler {
        /// The signal.
        signal: i32,
        /// The kernel's answer.
        errno: i32,
    },
    /// OS threads cannot be sent signals.
    Interrupt {
        /// The kernel's answer.
        errno: i32,
    },
    /// A file descriptor is not available.
    Descriptor {
        /// What for.
        what: &'static str,
        /// The kernel's answer.
        errno: i32,
    },
}

impl fmt::Display for SchedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { setting, problem } => write!(f, "cannot build the runtime: `{setting}`: {problem}"),
            Self::TooManyThreads { limit } => write!(
                f,
                "cannot spawn: {limit} green threads are alive, which is the limit; raise `max_gvthreads` or let \
                 some finish first"
            ),
            Self::NoRuntime { call } => write!(
                f,
                "cannot {call} outside a runtime: call it from a closure given to `Runtime::block_on`, or use \
                 `Runtime::handle()`"
            ),
            Self::NestedBlockOn => f.write_str(
                "cannot `block_on` inside a green thread: it would hold up a worker; call the closure itself, or \
                 `spawn` and `join`",
            ),
            Self::ShutDown => f.write_str("cannot spawn: the runtime is shut down; build another"),
            Self::Memory(error) => error.fmt(f),
            Self::Worker(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserve { what, bytes, errno } => write!(
                f,
                "cannot reserve {} of address space for {what} (errno {errno}): raise `ulimit -v`, or lower \
                 `max_gvthreads` or the slot size",
                Bytes(*bytes)
            ),
            Self::Guard { errno } if is_denied(*errno) => write!(
                f,
                "cannot guard a stack (errno {errno}): a sandbox, such as a seccomp filter, forbids `mprotect`; allow it, or, \
                 from Linux 6.13 on, `madvise` with `MADV_GUARD_INSTALL`"
            ),
            Self::Guard { errno } => write!(
                f,
                "cannot guard a stack (errno {errno}): on kernels before 6.13 each guard costs two mappings, so raise \
                 the sysctl `vm.max_map_count`; otherwise memory is short"
            ),
            Self::SlotsExhausted { slots } => write!(
                f,
                "cannot give a green thread a stack: all {slots} slots are in use; raise `max_gvthreads` or let some \
                 threads finish"
            ),
            Self::SlotTooSmall { asked, largest } => write!(
                f,
                "cannot give a green thread a stack of {}: the largest slot is {}; raise the slot size",
                Bytes(*asked),
                Bytes(*largest)
            ),
        }
    }
}

impl fmt::Display for WorkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThreadCreation { running, errno } if is_denied(*errno) => write!(
                f,
                "cannot start an OS thread for a worker (errno {errno}; the runtime has {running}): a sandbox, such as a \
                 seccomp filter, forbids a system call that this takes; allow `clone`, `clone3` and `mprotect`, or have `clone3` \
                 answer ENOSYS"
            ),
            Self::ThreadCreation { running, errno } => write!(
                f,
                "cannot start an OS thread for a worker (errno {errno}; the runtime has {running}): raise `ulimit -u` \
                 or the cgroup's `pids.max`, or ask for fewer workers"
            ),
            Self::SignalHandler { signal, errno } => {
                write!(
                    f,
                    "cannot install a handler for signal {signal} (errno {errno}): a sandbox, such as a seccomp filter, \
                     forbids `rt_sigaction`; allow it"
                )
            }
            Self::Interrupt { errno } => write!(
                f,
                "cannot preempt OS threads by a signal (errno {errno}): a sandbox, such as a seccomp filter, forbids both \
                 `rt_tgsigqueueinfo` and `tgkill`; allow one of them, or choose the preemptor `Cooperative` or `NoPreempt`"
            ),
            Self::Descriptor { what, errno } if is_denied(*errno) => write!(
                f,
                "cannot open a descriptor for {what} (errno {errno}): a sandbox, such as a seccomp filter, forbids the system \
                 calls for it (`eventfd2` for waking, `timerfd_create` and `timerfd_settime` for timers); allow them, or \
                 choose a timer backend without a descriptor"
            ),
            Self::Descriptor { what, errno } => {
                write!(f, "cannot open a descriptor for {what} (errno {errno}): raise `ulimit -n`")
            }
        }
    }
}

/// Whether the call is forbidden, as opposed to a resource being short: EPERM, EACCES, ENOSYS.
fn is_denied(errno: i32) -> bool {
    matches!(errno, 1 | 13 | 38)
}

struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, unit) in UNITS {
            if self.0 >> shift > 0 && self.0.trailing_zeros() >= shift.saturating_sub(10) {
                let whole = self.0 >> shift;
                let tenth = ((self.0 >> (shift - 10)) & 1023) * 10 / 1024;
                return if tenth == 0 {
                    write!(f, "{whole} {unit}")
                } else {
                    write!(f, "{whole}.{tenth} {unit}")
                };
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

impl core::error::Error for SchedError {}
impl core::error::Error for MemoryError {}
impl core::error::Error for WorkerError {}

impl From<MemoryError> for SchedError {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

impl From<WorkerError> for SchedError {
    fn from(error: WorkerError) -> Self {
        Self::Worker(error)
    }
}
