//! The laws of `TimerBackend`, over every backend here, and over backends that must fail.

use gvt_conformance::counting::live_bytes;
use gvt_conformance::laws::timer_backend as laws;
use gvt_conformance::wrong::timer_backend::{Defect, Faulty};
use gvt_conformance::{Verdict, Violation};
use gvt_timer_heap::HeapTimer;
use gvt_timer_timerfd::{Sorted, TimerFd};
use gvt_timer_wheel::Wheel;
use gvt_traits::{Factory, TimerBackend};
use rstest::rstest;
use rstest_reuse::{apply, template};

#[template]
#[rstest]
#[case::reference(Faulty::sound())]
#[case::reference_with_descriptor(Faulty::sound_with_descriptor())]
#[case::heap(HeapTimer)]
#[case::wheel(Wheel::default())]
#[case::exact_wheel(Wheel::default().tick_ns(1))]
#[case::coarse_wheel(Wheel::default().tick_ns(1 << 20))]
#[case::sorted(Sorted)]
#[case::timerfd(TimerFd::default())]
#[case::timerfd_over_wheel(TimerFd::<Wheel>::default())]
#[case::timerfd_over_heap(TimerFd::over(HeapTimer))]
fn every_timer(#[case] factory: impl Factory<Output: TimerBackend>) {}

fn kept(verdict: Verdict) {
    if let Err(violation) = verdict {
        panic!("{violation}");
    }
}

#[apply(every_timer)]
fn b6_looks_wait_for_nobody(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::b6_looks_wait_for_nobody(&factory));
}

#[test]
fn b6_can_fail() {
    let verdict = laws::b6_looks_wait_for_nobody(&Faulty::new(Defect::NextWaits));
    assert_eq!(verdict.unwrap_err().clause, "B6");
}

#[apply(every_timer)]
fn t1_exactly_once(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t1_exactly_once(&factory));
}

#[apply(every_timer)]
fn t1_under_contention(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t1_under_contention(&factory));
}

#[apply(every_timer)]
fn t2_never_early(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t2_never_early(&factory));
}

#[apply(every_timer)]
fn t3_complete(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t3_complete(&factory));
}

#[apply(every_timer)]
fn t4_cancel(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t4_cancel(&factory));
}

#[apply(every_timer)]
fn t4_frees(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t4_frees(&factory));
}

#[apply(every_timer)]
fn t4_memory(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t4_memory(&factory, live_bytes));
}

#[apply(every_timer)]
fn t5_next_deadline(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t5_next_deadline(&factory));
}

#[apply(every_timer)]
fn t5_insert_is_seen(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t5_insert_is_seen(&factory));
}

#[apply(every_timer)]
fn t6_quiet(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t6_quiet(&factory));
}

#[apply(every_timer)]
fn t7_descriptor(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t7_descriptor(&factory));
}

#[apply(every_timer)]
fn t8_any_deadline(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::t8_any_deadline(&factory));
}

#[apply(every_timer)]
fn matches_model(factory: impl Factory<Output: TimerBackend>) {
    kept(laws::matches_model(&factory));
}

type Law = fn(&Faulty) -> Verdict;

#[rstest]
#[case::gives_twice(Defect::GivesTwice, laws::t1_exactly_once, "T1")]
#[case::loses_one(Defect::LosesOne, laws::t1_exactly_once, "T1")]
#[case::loses_one_of_those_due(Defect::LosesOne, laws::t3_complete, "T3")]
#[case::cancel_races_expire(Defect::CancelRacesExpire, laws::t1_under_contention, "T1")]
#[case::early(Defect::Early, laws::t2_never_early, "T2")]
#[case::never_wakes(Defect::NeverWakes, laws::t3_complete, "T3")]
#[case::only_near(Defect::OnlyNear, laws::t3_complete, "T3")]
#[case::stops_in_floods(Defect::StopsInFloods, laws::t3_complete, "T3")]
#[case::only_marks(Defect::OnlyMarks, laws::t4_frees, "T4")]
#[case::no_generation(Defect::NoGeneration, laws::t4_cancel, "T4")]
#[case::cancels_in_name(Defect::CancelsInName, laws::t4_cancel, "T4")]
#[case::next_forgets_insert(Defect::NextForgetsInsert, laws::t5_next_deadline, "T5")]
#[case::next_forgets_insert_by_others(Defect::NextForgetsInsert, laws::t5_insert_is_seen, "T5")]
#[case::next_is_stuck(Defect::NextIsStuck, laws::t5_next_deadline, "T5")]
#[case::wakes_to_prepare(Defect::WakesToPrepare, laws::t6_quiet, "T6")]
#[case::max_is_never(Defect::MaxIsNever, laws::t8_any_deadline, "T8")]
#[case::descriptor_forgets_insert(Defect::DescriptorForgetsInsert, laws::t7_descriptor, "T7")]
#[case::descriptor_stops_in_expire(Defect::DescriptorStopsInExpire, laws::t7_descriptor, "T7")]
#[case::descriptor_zero_stops(Defect::DescriptorZeroStops, laws::t7_descriptor, "T7")]
#[case::descriptor_stays_readable(Defect::DescriptorStaysReadable, laws::t7_descriptor, "T7")]
fn wrong_backend_is_rejected(#[case] defect: Defect, #[case] law: Law, #[case] clause: &str) {
    match law(&Faulty::new(defect)) {
        Err(Violation { clause: found, .. }) if found == clause => {}
        other => panic!("{defect:?} should break {clause}; the law says {other:?}"),
    }
}

#[rstest]
#[case::gives_twice(Defect::GivesTwice)]
#[case::early(Defect::Early)]
#[case::never_wakes(Defect::NeverWakes)]
#[case::no_generation(Defect::NoGeneration)]
#[case::next_forgets_insert(Defect::NextForgetsInsert)]
#[case::next_is_stuck(Defect::NextIsStuck)]
fn the_model_tells_wrong_backends_too(#[case] defect: Defect) {
    laws::matches_model(&Faulty::new(defect)).expect_err("a wrong backend");
}

/// A leak that `len` does not own up to: the reference, and 32 bytes kept a cancelled entry.
#[test]
fn a_leak_is_rejected() {
    let leaked = std::cell::Cell::new(0);
    let gauge = || {
        leaked.set(leaked.get() + 45_000 * 32);
        leaked.get()
    };
    let violation = laws::t4_memory(&Faulty::sound(), gauge).expect_err("a leak");
    assert_eq!(violation.clause, "T4");
}

/// What the backends' documentation says that an entry costs.
#[rstest]
#[case::heap(HeapTimer, 44.0)]
#[case::wheel(Wheel::default(), 40.0)]
fn a_million_entries_take_what_is_claimed(
    #[case] factory: impl Factory<Output: TimerBackend>,
    #[case] claimed: f64,
) {
    use gvt_traits::{GvtId, Plan, TimerEntry, TimerType, WakeTicket, WorkerId};
    const COUNT: u64 = 1_000_000;
    let before = live_bytes();
    let backend = factory.build(&Plan::new(1, 1)).unwrap();
    for key in 0..COUNT {
        backend.insert(TimerEntry {
            deadline_ns: key * 7919 % COUNT,
            ticket: WakeTicket { sequence: key, id: GvtId::new(0) },
            affinity: WorkerId::new(0),
            kind: TimerType::Sleep,
        });
    }
    let each = (live_bytes() - before) as f64 / COUNT as f64;
    assert!((claimed..claimed + 1.0).contains(&each), "{each} bytes an entry");
    backend.expire(WorkerId::NONE, u64::MAX, &mut |_| ());
    assert!(live_bytes() - before < 200_000, "{} bytes are left", live_bytes() - before);
}
