//! Every queue with every timer and every preemptor: the same scenes on each stack of parts.
//!
//! The roster below is a list a part; rstest multiplies them. A backend joins with one line, and is then
//! tried in every combination. Scenes ask a stack what it promises (order of the queue, strength of the
//! preemptor) and hold it to that; they are compiled once, since a stack hides its types.
//!
//! **What it cannot see.** What takes more than a tenth of a second to go wrong: the stress tests of the
//! default parts, and the conformance suites of each part, are for that.

mod scenes;
mod stack;

use std::sync::{PoisonError, RwLock};

use gvt::{Cooperative, GoQueue, HeapTimer, NoPreempt, Sigurg};
use gvt_conformance::process::Watchdog;
use gvt_queue_priority::{PriorityQueue, StrictPriorityQueue};
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;
use rstest::rstest;
use rstest_reuse::{apply, template};

use stack::{Parts, Preempt, Queue, Stack, Timer};

// The roster: a line a backend.
#[template]
#[rstest]
fn every_stack(
    #[values(GoQueue, PriorityQueue::default(), StrictPriorityQueue)] queue: impl Queue,
    #[values(
        HeapTimer,
        Wheel::default(),
        TimerFd::<Wheel>::default(),
        TimerFd::over(HeapTimer),
    )]
    timer: impl Timer,
    #[values(Sigurg, Cooperative, NoPreempt)] preemptor: impl Preempt,
) {
}

/// Scenes that count the wake-ups of the process have it to themselves.
static PROCESS: RwLock<()> = RwLock::new(());

fn play(stack: &dyn Stack, scene: fn(&dyn Stack)) {
    let _watchdog = Watchdog::new();
    let _shared = PROCESS.read().unwrap_or_else(PoisonError::into_inner);
    scene(stack);
}

/// A test a scene and stack.
macro_rules! scenes {
    ($($scene:ident)*) => { $(
        #[apply(every_stack)]
        fn $scene(queue: impl Queue, timer: impl Timer, preemptor: impl Preempt) {
            play(&Parts(queue, timer, preemptor), scenes::$scene);
        }
    )* };
}

scenes! {
    spawn_and_join
    panics_come_out
    sleeps_are_never_short
    sleeps_end_in_order
    channels
    contended_mutex
    cancellation
    urgent_threads_first
    low_priority_workers
    turns_end
    blocking_calls
    shutdown_with_sleepers
}

#[apply(every_stack)]
fn idle_means_idle(queue: impl Queue, timer: impl Timer, preemptor: impl Preempt) {
    let _watchdog = Watchdog::new();
    let _alone = PROCESS.write().unwrap_or_else(PoisonError::into_inner);
    scenes::idle_means_idle(&Parts(queue, timer, preemptor));
}
