//! A timerfd: a file descriptor that polls readable from a given time on.

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
        if descriptor < 0 {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return Err(WorkerError::Descriptor { what: "a runtime's timers", errno });
        }
        // SAFETY: the kernel just made this descriptor, and nobody else knows it.
        Ok(KernelAlarm(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl Alarm for KernelAlarm {
    fn set(&self, time_ns: Option<u64>) {
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
        assert!(answer == 0, "a timerfd takes any valid time: {}", std::io::Error::last_os_error());
    }
}
