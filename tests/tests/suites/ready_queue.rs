//! The laws of `ReadyQueue`, over every backend here, and over backends that must fail.

use std::time::Duration;

use gvt_conformance::laws::ready_queue as laws;
use gvt_conformance::wrong::ready_queue::{
    AgeingPriority, Defect, Fair, FairByLevel, Faulty, StrictPriority,
};
use gvt_conformance::{Verdict, Violation};
use gvt_queue_go::GoQueue;
use gvt_queue_priority::{PriorityQueue, StrictPriorityQueue};
use gvt_traits::{Factory, ReadyQueue};
use rstest::rstest;
use rstest_reuse::{apply, template};

#[template]
#[rstest]
#[case::reference(Faulty::<Fair>::sound())]
#[case::strict_reference(Faulty::<StrictPriority>::sound())]
#[case::ageing_reference(Faulty::<AgeingPriority>::sound())]
#[case::by_level_reference(Faulty::<FairByLevel>::sound())]
#[case::go(GoQueue)]
#[case::priority(PriorityQueue::default())]
#[case::strict_priority(StrictPriorityQueue)]
fn every_queue(#[case] factory: impl Factory<Output: ReadyQueue>) {}

fn kept(verdict: Verdict) {
    if let Err(violation) = verdict {
        panic!("{violation}");
    }
}

/// A test a law, over every queue.
macro_rules! laws {
    ($($law:ident)*) => { $(
        #[apply(every_queue)]
        fn $law(factory: impl Factory<Output: ReadyQueue>) {
            kept(laws::$law(&factory));
        }
    )* };
}

laws! {
    f1_builds b4_workers_move
    q1_exactly_once q1_floods q1_under_theft
    q2_empty_pop
    q3_found_by_all q3_has_work_exact q3_never_falsely_false
    q4_two_wakers q4_yielders q4_outside_beside_yielders q4_own_beside_flood q4_beside_spawners
    q4_beside_a_family q4_beside_sleepers q4_stuck_worker q4_urgent_first q4_few_by_level q4_arrival_within_level q4_critical_next q4_levels_below
    q5_low_workers q5_low_threads_elsewhere q5_under_theft
    q7_hints q8_len_hint b6_len_hint_waits_for_nobody
    agrees_with_model
}

// The line that an outsider writes.
gvt_conformance::ready_queue_suite!(by_macro, Faulty::<Fair>::sound());

#[track_caller]
fn rejected(clause: &str, verdict: Verdict) {
    match verdict {
        Err(Violation { clause: found, .. }) if found == clause => {}
        other => panic!("expected a violation of {clause}, found {other:?}"),
    }
}

fn fair(defect: Defect) -> Faulty<Fair> {
    Faulty::new(defect)
}

fn strict(defect: Defect) -> Faulty<StrictPriority> {
    Faulty::new(defect)
}

fn ageing(defect: Defect) -> Faulty<AgeingPriority> {
    Faulty::new(defect)
}

fn by_level(defect: Defect) -> Faulty<FairByLevel> {
    Faulty::new(defect)
}

#[rstest]
#[case(Defect::LosesOne)]
#[case(Defect::DropsOne)]
#[case(Defect::DoublesOne)]
fn q1_can_fail(#[case] defect: Defect) {
    rejected("Q1", laws::q1_exactly_once(&fair(defect)));
    rejected("Q1", laws::q1_floods(&fair(defect)));
    rejected("Q1", laws::q1_under_theft(&fair(defect)));
    rejected("Q1", laws::agrees_with_model(&fair(defect)));
}

#[test]
fn q2_can_fail() {
    rejected("Q2", laws::q2_empty_pop_within(&fair(Defect::WaitsWhenEmpty), Duration::from_millis(200)));
}

#[rstest]
#[case(Defect::NeverSteals)]
#[case(Defect::NothingNowAndThen)]
fn q3_pop_can_fail(#[case] defect: Defect) {
    rejected("Q3", laws::q3_found_by_all(&fair(defect)));
    rejected("Q3", laws::agrees_with_model(&fair(defect)));
}

#[rstest]
#[case(Defect::HasWorkOwnOnly)]
#[case(Defect::HasWorkAlways)]
fn q3_has_work_can_fail(#[case] defect: Defect) {
    rejected("Q3", laws::q3_has_work_exact(&fair(defect)));
    rejected("Q3", laws::agrees_with_model(&fair(defect)));
}

#[rstest]
#[case(Defect::HasWorkBlinks)]
#[case(Defect::HidesWhileMoving)]
fn q3_under_way_can_fail(#[case] defect: Defect) {
    rejected("Q3", laws::q3_never_falsely_false(&fair(defect)));
}

#[rstest]
#[case::newest_first(laws::q4_yielders(&fair(Defect::NewestFirst)))]
#[case::next_up_unbounded(laws::q4_two_wakers(&fair(Defect::NextUpUnbounded)))]
#[case::own_first(laws::q4_outside_beside_yielders(&fair(Defect::OwnFirst)))]
#[case::outside_first(laws::q4_own_beside_flood(&fair(Defect::OutsideFirst)))]
#[case::newest_beside_spawners(laws::q4_beside_spawners(&fair(Defect::NewestFirst)))]
#[case::expedites_to_the_front(laws::q4_beside_a_family(&fair(Defect::ExpeditesUnbounded)))]
#[case::sleepers_always_first(laws::q4_beside_sleepers(&fair(Defect::SleepersUnbounded)))]
#[case::steals_only_when_idle(laws::q4_stuck_worker(&fair(Defect::StealsOnlyWhenIdle)))]
#[case::strict_without_levels(laws::q4_urgent_first(&strict(Defect::IgnoresLevels)))]
#[case::strict_own_first(laws::q4_urgent_first(&strict(Defect::OwnLevelsFirst)))]
#[case::strict_own_first_by_model(laws::agrees_with_model(&strict(Defect::OwnLevelsFirst)))]
#[case::strict_newest_first(laws::q4_arrival_within_level(&strict(Defect::NewestInLevel)))]
#[case::strict_critical_waits(laws::q4_critical_next(&strict(Defect::OwnLevelsFirst)))]
#[case::strict_lower_gets_on(laws::q4_levels_below(&strict(Defect::IgnoresLevels)))]
#[case::ageing_newest_first(laws::q4_arrival_within_level(&ageing(Defect::NewestInLevel)))]
#[case::ageing_never_lifts(laws::q4_levels_below(&ageing(Defect::NeverLifts)))]
#[case::ageing_lifts_too_often(laws::q4_critical_next(&ageing(Defect::LiftsTooOften)))]
#[case::ageing_urgent_last(laws::q4_urgent_first(&ageing(Defect::LiftsTooOften)))]
#[case::ageing_without_levels(laws::q4_few_by_level(&ageing(Defect::IgnoresLevels)))]
#[case::strict_fresh_first(laws::q4_few_by_level(&strict(Defect::FreshBeforeLevels)))]
#[case::by_level_without_levels(laws::q4_few_by_level(&by_level(Defect::IgnoresLevels)))]
#[case::by_level_without_urgency(laws::q4_urgent_first(&by_level(Defect::IgnoresLevels)))]
#[case::by_level_critical_waits(laws::q4_critical_next(&by_level(Defect::IgnoresLevels)))]
#[case::by_level_without_levels_by_model(laws::agrees_with_model(&by_level(Defect::IgnoresLevels)))]
#[case::by_level_fresh_first(laws::q4_few_by_level(&by_level(Defect::FreshBeforeLevels)))]
#[case::by_level_never_lifts(laws::q4_levels_below(&by_level(Defect::NeverLifts)))]
fn q4_can_fail(#[case] verdict: Verdict) {
    rejected("Q4", verdict);
}

#[test]
fn q5_can_fail() {
    rejected("Q5", laws::q5_low_workers(&fair(Defect::AnythingOnLowWorkers)));
    rejected("Q5", laws::q5_under_theft(&fair(Defect::AnythingOnLowWorkers)));
    rejected("Q5", laws::q5_low_workers(&fair(Defect::HasWorkTellsAll)));
}

#[rstest]
#[case(Defect::UpcomingTakes)]
#[case(Defect::UpcomingInvents)]
#[case(Defect::ExpediteLoses)]
fn q7_can_fail(#[case] defect: Defect) {
    rejected("Q7", laws::q7_hints(&fair(defect)));
}

#[rstest]
#[case(Defect::HintsNothing)]
#[case(Defect::HintsAlways)]
#[case(Defect::HintForgetsOutside)]
#[case(Defect::HintForgetsLow)]
fn q8_can_fail(#[case] defect: Defect) {
    rejected("Q8", laws::q8_len_hint(&fair(defect)));
    rejected("Q8", laws::agrees_with_model(&fair(defect)));
}

#[rstest]
#[case(Defect::HintsNothing)]
#[case(Defect::HintsAlways)]
fn q8_under_theft_can_fail(#[case] defect: Defect) {
    rejected("Q8", laws::q1_under_theft(&fair(defect)));
}

#[test]
fn building_can_fail() {
    rejected("F1", laws::f1_builds(&fair(Defect::SharesBetweenBuilds)));
    rejected("F1", laws::f1_builds(&fair(Defect::RefusesWorkers)));
    rejected("F2", laws::f1_builds(&fair(Defect::PanicsOnLowWorkers)));
}

#[test]
fn b4_can_fail() {
    rejected("B4", laws::b4_workers_move(&fair(Defect::InThreadLocal)));
}

#[test]
fn b6_can_fail() {
    rejected("B6", laws::b6_len_hint_waits_for_nobody(&fair(Defect::HintWaits)));
}
