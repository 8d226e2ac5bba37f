//! The laws of `Preemptor` over backends that are wrong on purpose. Apart from `preemptor`, since these
//! leave the process's signal handling in disorder.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::sync::{Mutex, PoisonError};

use gvt_conformance::Verdict;
use gvt_conformance::laws::preemptor as laws;
use gvt_conformance::wrong::preemptor::{Call, Flaw, Flawed, Forgetful, reset};
use gvt_preempt_sigurg::Sigurg;
use rstest::rstest;

type Law = fn(&Flawed) -> Verdict;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn run(law: Law, flaw: Flaw) -> Verdict {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let verdict = law(&Flawed(flaw));
    reset();
    verdict
}

fn p5_foreign_signals(flawed: &Flawed) -> Verdict {
    laws::p5_foreign_signals(flawed, libc::SIGURG)
}

fn p5_refused(flawed: &Flawed) -> Verdict {
    laws::p5_refused(flawed, libc::SIGURG)
}

fn p5_restored(flawed: &Flawed) -> Verdict {
    laws::p5_restored(flawed, libc::SIGURG)
}

/// All but `p5_covered`: the plain backend has no answer to a handler above it that passes signals on.
#[rstest]
#[case::p1_strength(laws::p1_strength)]
#[case::p2_target(laws::p2_target)]
#[case::p2_burst(laws::p2_burst)]
#[case::p3_registers(laws::p3_registers)]
#[case::p3_errno(laws::p3_errno)]
#[case::p3_system_calls(laws::p3_system_calls)]
#[case::p5_foreign_signals(p5_foreign_signals)]
#[case::p5_refused(p5_refused)]
#[case::p5_restored(p5_restored)]
#[case::p6_each_its_own(laws::p6_each_its_own)]
#[case::p6_detach_in_any_order(laws::p6_detach_in_any_order)]
#[case::p6_storm(laws::p6_storm)]
#[case::p7_context(laws::p7_context)]
#[case::p8_ready(laws::p8_ready)]
fn without_a_flaw_it_is_accepted(#[case] law: Law) {
    run(law, Flaw::None).unwrap();
}

#[rstest]
#[case::claims_too_much(laws::p1_strength, Flaw::ClaimsTooMuch, "P1")]
#[case::claims_too_little(laws::p1_strength, Flaw::ClaimsTooLittle, "P1")]
#[case::wrong_thread(laws::p2_target, Flaw::WrongThread, "P2")]
#[case::calls_twice(laws::p2_target, Flaw::CallsTwice, "P2")]
#[case::interrupts_the_gone(laws::p2_target, Flaw::InterruptsTheGone, "P2")]
#[case::calls_for_foreign(p5_foreign_signals, Flaw::CallsForForeign, "P2")]
#[case::loses_every_second(laws::p2_target, Flaw::LosesEverySecond, "P2")]
#[case::clobbers_errno(laws::p3_errno, Flaw::ClobbersErrno, "P3")]
#[case::clobbers_register(laws::p3_registers, Flaw::ClobbersRegister, "P3")]
#[case::clobbers_vector(laws::p3_registers, Flaw::ClobbersVector, "P3")]
#[case::fails_system_calls(laws::p3_system_calls, Flaw::FailsSystemCalls, "P3")]
#[case::keeps_foreign(p5_foreign_signals, Flaw::KeepsForeign, "P5")]
#[case::keeps_refused(p5_refused, Flaw::KeepsRefused, "P5")]
#[case::stays(p5_restored, Flaw::Stays, "P5")]
#[case::takes_away_others(p5_restored, Flaw::TakesAwayOthers, "P5")]
#[case::detaches_all(laws::p6_detach_in_any_order, Flaw::DetachesAll, "P6")]
#[case::copies_context(laws::p7_context, Flaw::CopiesContext, "P7")]
#[case::leaves_blocked(laws::p8_ready, Flaw::LeavesBlocked, "P8")]
#[case::keeps_hook(laws::p6_detach_in_any_order, Flaw::KeepsHook, "P6")]
fn wrong_preemptors_are_rejected(#[case] law: Law, #[case] flaw: Flaw, #[case] clause: &str) {
    match run(law, flaw) {
        Ok(()) => panic!("accepted, but it breaks {clause}"),
        Err(violation) => assert_eq!(violation.clause, clause, "{violation}"),
    }
}

fn forgetful(law: fn(&Forgetful<Sigurg>) -> Verdict, forgets: Option<Call>) -> Verdict {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    law(&Forgetful(Sigurg, forgets))
}

fn p5_restored_by(wrapper: &Forgetful<Sigurg>) -> Verdict {
    laws::p5_restored(wrapper, libc::SIGURG)
}

/// `Sigurg` detaches when it is dropped, which must not hide that a wrapper does not pass `detach` on.
#[rstest]
#[case::attach(laws::p1_strength, Call::Attach, "P1")]
#[case::attach_and_targets(laws::p2_target, Call::Attach, "P2")]
#[case::enter_thread(laws::p8_ready, Call::EnterThread, "P8")]
#[case::detach(p5_restored_by, Call::Detach, "P5")]
fn forgetful_wrappers_are_rejected(
    #[case] law: fn(&Forgetful<Sigurg>) -> Verdict,
    #[case] forgets: Call,
    #[case] clause: &str,
) {
    assert_eq!(forgetful(law, None), Ok(()), "one that passes all on");
    match forgetful(law, Some(forgets)) {
        Ok(()) => panic!("accepted, though it does not pass on {forgets:?}"),
        Err(violation) => assert_eq!(violation.clause, clause, "{violation}"),
    }
}
