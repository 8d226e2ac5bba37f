//! `gvt-decorators` around every part here: the suites, programs, replays, virtual time; and around parts
//! that are wrong.

mod programs;
mod wrong;

use gvt::{GoQueue, HeapTimer, MmapSlots};
use gvt_decorators::{Checked, Log, Recorded, VirtualTime};
use gvt_queue_priority::{PriorityQueue, StrictPriorityQueue};
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;

/// What is recorded is looked at elsewhere.
fn recorded<B>(part: B) -> Recorded<B> {
    Recorded(part, Log::default())
}

gvt_conformance::ready_queue_suite!(checked_go, Checked(GoQueue));
gvt_conformance::ready_queue_suite!(checked_strict, Checked(StrictPriorityQueue));
gvt_conformance::ready_queue_suite!(recorded_go, recorded(GoQueue));
gvt_conformance::ready_queue_suite!(checked_and_recorded, Checked(recorded(PriorityQueue::default())));

gvt_conformance::timer_backend_suite!(checked_heap, Checked(HeapTimer));
gvt_conformance::timer_backend_suite!(checked_wheel, Checked(Wheel::default()));
gvt_conformance::timer_backend_suite!(checked_timerfd, Checked(TimerFd::<Wheel>::default()));
gvt_conformance::timer_backend_suite!(timerfd_over_checked, TimerFd::over(Checked(HeapTimer)));
gvt_conformance::timer_backend_suite!(recorded_wheel, recorded(Wheel::default()));
gvt_conformance::timer_backend_suite!(recorded_timerfd, recorded(TimerFd::over(HeapTimer)));
gvt_conformance::timer_backend_suite!(virtual_heap, VirtualTime(HeapTimer));
gvt_conformance::timer_backend_suite!(virtual_wheel, VirtualTime(Wheel::default()));

gvt_conformance::slot_allocator_suite!(checked_slots, Checked(MmapSlots::default()));
