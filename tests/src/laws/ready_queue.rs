//! The laws of [`ReadyQueue`](gvt_traits::ReadyQueue): Q1–Q5, Q7, Q8, and F1, F2, B4, B6 as far as queues can
//! break them.
//!
//! Each law takes a factory and builds as many queues as it likes, for plans of its own. Most laws notice a
//! breach of any clause and name that one: a thread that is lost while order is being watched is Q1.
//!
//! A queue that refuses low-priority workers passes their laws, as Q5 allows.
//!
//! **Not tested.** Q6, which needs the runtime's half: argue it, and model it in loom.

mod concurrent;
mod model;
mod order;
mod rig;
mod sequential;

pub use concurrent::{b6_len_hint_waits_for_nobody, q1_under_theft, q3_never_falsely_false, q5_under_theft};
pub use model::agrees_with_model;
pub use order::{
    q4_arrival_within_level, q4_beside_a_family, q4_beside_sleepers, q4_beside_spawners, q4_critical_next,
    q4_few_by_level, q4_levels_below, q4_outside_beside_yielders, q4_own_beside_flood, q4_stuck_worker,
    q4_two_wakers, q4_urgent_first, q4_yielders,
};
pub use sequential::{
    b4_workers_move, f1_builds, q1_exactly_once, q1_floods, q2_empty_pop, q2_empty_pop_within,
    q3_found_by_all, q3_has_work_exact, q5_low_threads_elsewhere, q5_low_workers, q7_hints, q8_len_hint,
};

/// Puts a test for each law into module `$name`, for the queues that `$factory` builds.
///
/// ```
/// gvt_conformance::ready_queue_suite!(my_queue, crate::MyQueue::default());
/// # #[derive(Default)] struct MyQueue;
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! ready_queue_suite {
    ($name:ident, $factory:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "the factory may be named by a full path")]
            use super::*;

            $crate::ready_queue_suite!(@laws $factory;
                f1_builds, b4_workers_move, b6_len_hint_waits_for_nobody,
                q1_exactly_once, q1_floods, q1_under_theft,
                q2_empty_pop,
                q3_found_by_all, q3_has_work_exact, q3_never_falsely_false,
                q4_two_wakers, q4_yielders, q4_outside_beside_yielders, q4_own_beside_flood, q4_beside_spawners,
                q4_beside_a_family, q4_beside_sleepers,
                q4_stuck_worker, q4_urgent_first, q4_few_by_level, q4_arrival_within_level, q4_critical_next, q4_levels_below,
                q5_low_workers, q5_low_threads_elsewhere, q5_under_theft,
                q7_hints, q8_len_hint,
                agrees_with_model);
        }
    };
    (@laws $factory:expr; $($law:ident),*) => {
        $(
            #[test]
            fn $law() {
                if let ::std::result::Result::Err(violation) = $crate::laws::ready_queue::$law(&$factory) {
                    ::std::panic!("{violation}");
                }
            }
        )*
    };
}
