//! What cannot be built says why. A program of its own, since it lowers the limit on descriptors.

use gvt_timer_timerfd::TimerFd;
use gvt_traits::{Factory, Plan, SchedError, TimerBackend, TimerEntry, TimerHandle, WorkerError, WorkerId};

struct Empty {
    virtual_time: bool,
}

impl Factory for Empty {
    type Output = Empty;

    fn build(&self, _plan: &Plan) -> Result<Empty, SchedError> {
        Ok(Empty { virtual_time: self.virtual_time })
    }
}

impl TimerBackend for Empty {
    fn insert(&self, _entry: TimerEntry) -> TimerHandle {
        TimerHandle { place: 0, generation: 0 }
    }

    fn cancel(&self, _handle: TimerHandle) -> Option<TimerEntry> {
        None
    }

    fn expire(&self, _near: WorkerId, _now_ns: u64, _sink: &mut dyn FnMut(TimerEntry)) -> usize {
        0
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        None
    }

    fn now_ns(&self) -> Option<u64> {
        self.virtual_time.then_some(0)
    }

    fn len(&self) -> usize {
        0
    }
}

#[test]
fn errors_say_what_and_how_to_mend_it() {
    let plan = Plan::new(1, 1);
    let Err(error) = TimerFd::over(Empty { virtual_time: true }).build(&plan) else {
        panic!("virtual time is refused");
    };
    assert!(error.to_string().contains("virtual time"), "{error}");

    let factory = TimerFd::over(Empty { virtual_time: false });
    let none_left = libc::rlimit { rlim_cur: 0, rlim_max: 4096 };
    // SAFETY: a valid `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &none_left) }, 0);
    let refused = factory.build(&plan).err();
    let enough = libc::rlimit { rlim_cur: 256, rlim_max: 4096 };
    // SAFETY: a valid `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &enough) }, 0);
    assert!(
        matches!(refused, Some(SchedError::Worker(WorkerError::Descriptor { errno: libc::EMFILE, .. }))),
        "{refused:?}"
    );
    assert!(refused.unwrap().to_string().contains("ulimit -n"));
    assert!(factory.build(&plan).is_ok());
}
