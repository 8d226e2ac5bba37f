//! The laws of `ContextSwitch` over this repository's backends.
#![cfg(target_arch = "x86_64")]

use gvt_arch_x86_64::X86_64Lean;
use gvt_conformance::laws::context_switch as laws;
use gvt_conformance::wrong::context_switch as wrong;
use gvt_conformance::{Verdict, context_switch_laws};
use gvt_traits::ContextSwitch;
use rstest::rstest;
use rstest_reuse::{apply, template};

context_switch_laws!(x86_64, gvt_arch_x86_64::X86_64);

/// The laws that hold without control words.
#[template]
#[rstest]
#[case::lean(X86_64Lean)]
#[case::sound(wrong::Sound)]
fn without_control_words(#[case] context: impl ContextSwitch) {}

macro_rules! hold {
    ($template:ident: $($law:ident)*) => {
        $(#[apply($template)]
        fn $law(context: impl ContextSwitch) {
            laws::$law(context).unwrap();
        })*
    };
}

hold! { without_control_words: x1_registers x1_ping_pong x1_ring x1_deep_chains x3_entry x4_backtrace x4_panic x4_root x5_moves x5_storm x7_diverted }

/// That a backend is rejected, and for breaking `clause`.
#[track_caller]
fn rejects(verdict: Verdict, clause: &str) {
    match verdict {
        Ok(()) => panic!("accepted, but it breaks {clause}"),
        Err(violation) => assert_eq!(violation.clause, clause, "{violation}"),
    }
}

#[rstest]
#[case::loses_rbx(laws::x1_registers(wrong::LosesRbx), "X1")]
#[case::loses_r15(laws::x1_registers(wrong::LosesR15), "X1")]
#[case::leaks_mxcsr(laws::x1_control_words(wrong::LeaksMxcsr), "X1")]
#[case::leaks_x87(laws::x1_control_words(wrong::LeaksX87), "X1")]
#[case::lean_leaks_control_words(laws::x1_control_words(X86_64Lean), "X1")]
#[case::misaligned(laws::x3_entry(wrong::Misaligned), "X3")]
#[case::wrong_argument(laws::x3_entry(wrong::WrongArgument), "X3")]
#[case::backwards(laws::x3_entry(wrong::Backwards), "X3")]
#[case::flushes_to_zero(laws::x3_control_words(wrong::FlushesToZero), "X3")]
#[case::lean_inherits_control_words(laws::x3_control_words(X86_64Lean), "X3")]
#[case::endless_backtrace(laws::x4_backtrace(wrong::Endless), "X4")]
#[case::endless_exception(laws::x4_root(wrong::Endless), "X4")]
#[case::loses_r10_when_diverted(laws::x7_diverted(wrong::DivertsAndLosesR10), "X7")]
#[case::bound_to_thread(laws::x5_moves(wrong::BoundToThread), "X5")]
fn wrong_switches_are_rejected(#[case] verdict: Verdict, #[case] clause: &str) {
    rejects(verdict, clause);
}
