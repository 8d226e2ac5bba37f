//! A timerfd: a file descriptor that polls readable from a given time on.

use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use gvt_traits::WorkerError;

/// What [`Watch`](crate::watch::Watch) sets.
pub(crate) trait Alarm {
    /// Rings from `time_ns` on, until set again; never for `None`. A time that has passed rings
    /// at once.
    fn set(&self, time_ns: Option<u64>);
}

/// The kernel's alarm, on `CLOCK_MONOTONIC`.
pub(crate) struct KernelAlarm(OwnedFd);

impl KernelAlarm {
    pub(crate) fn new() -> Result<Self, WorkerError> {
        // SAFETY: no pointer is passed.
        let descriptor =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        let refused = |error: Error| WorkerError::Descriptor {
            what: "a runtime's timers",
            errno: error.raw_os_error().unwrap_or(0),
        };
        if descriptor < 0 {
            return Err(refused(Error::last_os_error()));
        }
        // SAFETY: the kernel just made this descriptor, and nobody else knows it.
        let alarm = KernelAlarm(unsafe { OwnedFd::from_raw_fd(descriptor) });
        // A sandbox may forbid this alone: then it is an error here, and not a worker's end later.
        alarm.try_set(None).map_err(refused)?;
        Ok(alarm)
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }

    fn try_set(&self, time_ns: Option<u64>) -> Result<(), Error> {
        const SECOND: u64 = 1_000_000_000;
        // The kernel takes 0 for "stop". What lies beyond its own end of time, 292 years after
        // boot, it takes for that.
        let time_ns = time_ns.map_or(0, |time_ns| time_ns.max(1));
        let setting = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: (time_ns / SECOND) as _,
                tv_nsec: (time_ns % SECOND) as libc::c_long,
            },
        };
        // SAFETY: `setting` is a valid `itimerspec`, and the old one is not asked for.
        let answer = unsafe {
            libc::timerfd_settime(self.descriptor(), libc::TFD_TIMER_ABSTIME, &setting, std::ptr::null_mut())
        };
        if answer == 0 { Ok(()) } else { Err(Error::last_os_error()) }
    }
}

impl Alarm for KernelAlarm {
    fn set(&self, time_ns: Option<u64>) {
        if let Err(error) = self.try_set(time_ns) {
            panic!(
                "cannot set a timerfd, without which no timer fires: {error}; a sandbox that forbids `timerfd_settime` must \
                 be there before the runtime is built"
            );
        }
    }
}
