//! `Checked` stops wrong backends. The drivers here check nothing themselves: they are programs that use a
//! part.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use gvt_conformance::process::Random;
use gvt_conformance::threads::{Threads, put_away};
use gvt_conformance::wrong::ready_queue::{AgeingPriority, Defect, Fair, Faulty, Promise, StrictPriority};
use gvt_conformance::wrong::slot_allocator::{Flaw, Naive};
use gvt_conformance::wrong::{preemptor, timer_backend};
use gvt_decorators::Checked;
use gvt_traits::{
    Factory, GvtId, Plan, Preemptor, Priority, PushKind, ReadyQueue, Runnable, SlotAllocator, StackClass,
    TimerBackend, TimerEntry, TimerType, WakeTicket, WorkerId,
};
use rstest::rstest;

/// The clause with which `driver` is stopped; none if it is not.
fn stopped(driver: impl FnOnce()) -> Option<String> {
    let text = |panic: Box<dyn Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast_ref::<&str>().map_or("?".into(), |text| (*text).into()),
    };
    let panic = text(catch_unwind(AssertUnwindSafe(driver)).err()?);
    Some(panic.split_once(" is broken").unwrap_or_else(|| panic!("stopped by another: {panic}")).0.to_owned())
}

/// How a thread that was popped becomes ready again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Return {
    /// By any way, to any worker.
    Anyhow,
    /// It yields; one worker runs all.
    Yields,
    /// It is woken there.
    Woken,
    /// It is queued from outside.
    Outside,
}

/// Workers take turns; each runs what it pops and queues it again.
fn run_queue<P: Promise>(factory: Faulty<P>, how: Return, steps: usize) {
    let low = usize::from(how == Return::Anyhow);
    let plan = Plan::new(3, 8).with_low_priority_workers(low);
    // What is stopped half-way is leaked with its tokens (R2).
    let queue = ManuallyDrop::new(Checked(factory).build(&plan).unwrap());
    let mut locals: Vec<_> =
        (0..3).map(|index| ManuallyDrop::new(queue.local(WorkerId::new(index)))).collect();
    let threads = Threads::new(8);
    for index in 0..8 {
        threads.set_priority(index, Priority::ALL[index % 4]);
        // SAFETY: C1: each once.
        let task = unsafe { threads.runnable(index) };
        match index % 3 {
            0 => queue.inject(task),
            1 => queue.push(&mut locals[1], task, PushKind::Yield),
            _ => queue.push(&mut locals[0], task, PushKind::Spawn),
        }
    }
    let mut random = Random::with_seed(7);
    let mut out: ManuallyDrop<Vec<Runnable>> = ManuallyDrop::default();
    for step in 0..steps {
        let worker = if how == Return::Anyhow { random.below(3) as usize } else { 0 };
        queue.has_work(&locals[worker]);
        queue.len_hint();
        queue.upcoming(&locals[worker], 0);
        let popped = queue.pop(&mut locals[worker]);
        let Some(task) = popped.or_else(|| out.pop()) else { continue };
        match how {
            Return::Yields => queue.push(&mut locals[0], task, PushKind::Yield),
            Return::Woken => queue.push(&mut locals[0], task, PushKind::Wake),
            Return::Outside => queue.inject(task),
            Return::Anyhow => match random.below(4) {
                _ if step / 40 % 2 == 0 => out.push(task),
                0 => queue.inject(task),
                1 => queue.push(&mut locals[worker], task, PushKind::Wake),
                _ => queue.push(&mut locals[worker], task, PushKind::Yield),
            },
        }
    }
    out.drain(..).for_each(|task| _ = put_away(task));
    while let Some(task) = queue.pop(&mut locals[0]) {
        put_away(task);
    }
    drop(ManuallyDrop::into_inner(queue));
}

/// More than the bound on passing over that `Checked` has for so few threads.
const LONG: usize = 120_000;
const SHORT: usize = 5_000;

#[rstest]
#[case::loses_one(Defect::LosesOne, Return::Anyhow, SHORT, "Q3")]
#[case::doubles_one(Defect::DoublesOne, Return::Anyhow, SHORT, "Q1")]
#[case::never_steals(Defect::NeverSteals, Return::Anyhow, SHORT, "Q3")]
#[case::nothing_now_and_then(Defect::NothingNowAndThen, Return::Anyhow, SHORT, "Q3")]
#[case::has_work_own_only(Defect::HasWorkOwnOnly, Return::Anyhow, SHORT, "Q3")]
#[case::has_work_always(Defect::HasWorkAlways, Return::Yields, SHORT, "")]
#[case::has_work_always_when_empty(Defect::HasWorkAlways, Return::Anyhow, SHORT, "Q3 or Q5")]
#[case::upcoming_takes(Defect::UpcomingTakes, Return::Anyhow, SHORT, "Q3 or Q8")]
#[case::newest_first(Defect::NewestFirst, Return::Yields, LONG, "Q4")]
#[case::next_up_unbounded(Defect::NextUpUnbounded, Return::Woken, LONG, "Q4")]
#[case::own_first(Defect::OwnFirst, Return::Yields, LONG, "Q4")]
#[case::outside_first(Defect::OutsideFirst, Return::Outside, LONG, "Q4")]
#[case::steals_only_when_idle(Defect::StealsOnlyWhenIdle, Return::Yields, LONG, "Q4")]
#[case::anything_on_low_workers(Defect::AnythingOnLowWorkers, Return::Anyhow, SHORT, "Q5")]
#[case::has_work_tells_all(Defect::HasWorkTellsAll, Return::Anyhow, SHORT, "Q5")]
#[case::hints_nothing(Defect::HintsNothing, Return::Anyhow, SHORT, "Q8")]
#[case::hints_always(Defect::HintsAlways, Return::Anyhow, SHORT, "Q8")]
#[case::hint_forgets_outside(Defect::HintForgetsOutside, Return::Outside, SHORT, "Q8")]
#[case::hint_forgets_low(Defect::HintForgetsLow, Return::Anyhow, SHORT, "Q8")]
#[case::sound(Defect::None, Return::Anyhow, SHORT, "")]
#[case::sound_yields(Defect::None, Return::Yields, LONG, "")]
#[case::sound_woken(Defect::None, Return::Woken, LONG, "")]
fn fair_queues(#[case] defect: Defect, #[case] how: Return, #[case] steps: usize, #[case] clauses: &str) {
    expect(defect, stopped(|| run_queue(Faulty::<Fair>::new(defect), how, steps)), clauses);
}

#[rstest]
#[case::ignores_levels(Defect::IgnoresLevels, Return::Anyhow, SHORT, "Q4")]
#[case::own_levels_first(Defect::OwnLevelsFirst, Return::Anyhow, SHORT, "Q4")]
#[case::sound(Defect::None, Return::Anyhow, SHORT, "")]
#[case::sound_yields(Defect::None, Return::Yields, LONG, "")]
fn strict_queues(#[case] defect: Defect, #[case] how: Return, #[case] steps: usize, #[case] clauses: &str) {
    expect(defect, stopped(|| run_queue(Faulty::<StrictPriority>::new(defect), how, steps)), clauses);
}

#[rstest]
#[case::never_lifts(Defect::NeverLifts, Return::Yields, LONG, "Q4")]
#[case::sound(Defect::None, Return::Yields, LONG, "")]
fn ageing_queues(#[case] defect: Defect, #[case] how: Return, #[case] steps: usize, #[case] clauses: &str) {
    expect(defect, stopped(|| run_queue(Faulty::<AgeingPriority>::new(defect), how, steps)), clauses);
}

/// `clauses` are joined by ` or `; none is a part that must not be stopped.
fn expect(what: impl std::fmt::Debug, stopped: Option<String>, clauses: &str) {
    let found = stopped.unwrap_or_default();
    assert!(
        clauses.split(" or ").any(|clause| clause == found),
        "{what:?}: stopped by `{found}`, not `{clauses}`"
    );
}

/// Time goes by in steps; entries come, go, and run out.
fn run_timer(factory: timer_backend::Faulty, steps: u64, concurrently: bool) {
    let timers = Checked(factory).build(&Plan::new(4, 1_000)).unwrap();
    let run = |lane: u64| {
        let mut random = Random::with_seed(lane);
        let mut handles = Vec::new();
        for step in 0..steps {
            let now = 1_000_000 + step * 100;
            let sequence = lane * steps + step;
            let deadline_ns = if random.below(500) == 0 { u64::MAX } else { now + random.below(5_000) };
            handles.push(timers.insert(TimerEntry {
                deadline_ns,
                ticket: WakeTicket { sequence, id: GvtId::new(1) },
                affinity: WorkerId::new(random.below(4) as usize),
                kind: TimerType::Sleep,
            }));
            timers.next_deadline_ns();
            if random.below(3) == 0 {
                // Perhaps a stale one.
                let recent = handles.len() - 1 - random.below(handles.len().min(30) as u64) as usize;
                timers.cancel(handles[recent]);
                timers.next_deadline_ns();
            }
            if random.below(4) == 0 {
                timers.expire(WorkerId::new(0), now, &mut |_| ());
                timers.len();
            }
        }
    };
    if concurrently {
        let panics: Vec<_> = thread::scope(|scope| {
            let lanes: Vec<_> = (0..4).map(|lane| scope.spawn(move || run(lane))).collect();
            lanes.into_iter().filter_map(|lane| lane.join().err()).collect()
        });
        if let Some(panic) = panics.into_iter().next() {
            std::panic::resume_unwind(panic);
        }
    } else {
        run(0);
        timers.expire(WorkerId::NONE, u64::MAX, &mut |_| ());
        timers.next_deadline_ns();
    }
}

#[rstest]
#[case::gives_twice(timer_backend::Defect::GivesTwice, "T1")]
#[case::loses_one(timer_backend::Defect::LosesOne, "T1 or T3 or T5")]
#[case::early(timer_backend::Defect::Early, "T2")]
#[case::never_wakes(timer_backend::Defect::NeverWakes, "T3")]
#[case::only_near(timer_backend::Defect::OnlyNear, "T3")]
#[case::only_marks(timer_backend::Defect::OnlyMarks, "T1")]
#[case::no_generation(timer_backend::Defect::NoGeneration, "T4")]
#[case::cancels_in_name(timer_backend::Defect::CancelsInName, "T1")]
#[case::next_forgets_insert(timer_backend::Defect::NextForgetsInsert, "T5")]
#[case::wakes_to_prepare(timer_backend::Defect::WakesToPrepare, "T6")]
#[case::max_is_never(timer_backend::Defect::MaxIsNever, "T1 or T3 or T5")]
#[case::sound(timer_backend::Defect::None, "")]
fn timers(#[case] defect: timer_backend::Defect, #[case] clauses: &str) {
    expect(defect, stopped(|| run_timer(timer_backend::Faulty::new(defect), 3_000, false)), clauses);
}

/// Races that the decorator lets happen.
#[rstest]
#[case::cancel_races_expire(timer_backend::Defect::CancelRacesExpire, "T1")]
#[case::sound(timer_backend::Defect::None, "")]
fn timers_at_once(#[case] defect: timer_backend::Defect, #[case] clauses: &str) {
    let verdict = || stopped(|| run_timer(timer_backend::Faulty::new(defect), 5_000, true));
    // The race may be missed once.
    let verdict = (0..20).find_map(|_| verdict());
    expect(defect, verdict, clauses);
}

#[rstest]
#[case::overlaps(Flaw::Overlaps, "S1")]
#[case::hands_out_twice(Flaw::HandsOutTwice, "S1")]
#[case::top_not_aligned(Flaw::TopNotAligned, "S4")]
#[case::cuts_corners(Flaw::CutsCorners, "S4")]
#[case::grants_any_size(Flaw::GrantsAnySize, "S9")]
#[case::counts_together(Flaw::CountsTogether, "S7")]
#[case::miscounts(Flaw::Miscounts, "S7")]
#[case::right(Flaw::None, "")]
fn slots(#[case] flaw: Flaw, #[case] clauses: &str) {
    let run = || {
        let slots = Checked(Naive(flaw)).build(&Plan::new(1, 100)).unwrap();
        let mut local = slots.local(WorkerId::new(0));
        let classes = [StackClass::DEFAULT, StackClass::new(1)];
        classes.into_iter().for_each(|class| slots.reserve(class, 100).unwrap());
        let mut random = Random::with_seed(1);
        // Not dropped if a check stops it.
        let mut held = ManuallyDrop::new(Vec::new());
        for _ in 0..2_000 {
            if random.below(2) == 0 && held.len() < 90 {
                let bytes = [1 << 30, 100 << 10, 4096, 4096][random.below(4) as usize];
                if let Ok(class) = slots.class_for(bytes) {
                    held.push(slots.acquire(&mut local, class).unwrap());
                }
            } else if !held.is_empty() {
                let place = random.below(held.len() as u64) as usize;
                let slot = held.swap_remove(place);
                // SAFETY: C1: it came from there and was never used.
                unsafe { slots.release(&mut local, slot) };
            }
            classes.into_iter().for_each(|class| _ = slots.memory_use(class));
        }
        while let Some(slot) = held.pop() {
            // SAFETY: as above.
            unsafe { slots.release(&mut local, slot) };
        }
    };
    expect(flaw, stopped(run), clauses);
}

/// A preemptor that says one thing and does another.
#[rstest]
#[case::claims_too_little(preemptor::Flaw::ClaimsTooLittle, "P1")]
fn preemptors(#[case] flaw: preemptor::Flaw, #[case] clauses: &str) {
    unsafe extern "C" fn hook(_: *mut std::ffi::c_void) -> gvt_traits::Interrupted {
        gvt_traits::Interrupted::Taken
    }
    let run = || {
        let preemptor = Checked(preemptor::Flawed(flaw)).build(&Plan::new(1, 1)).unwrap();
        preemptor.strength();
        // SAFETY: C1: the hook does nothing.
        unsafe { preemptor.attach(hook).unwrap() };
        // SAFETY: no pointer is passed.
        let me = unsafe { libc::gettid() };
        preemptor.interrupt(gvt_traits::OsThreadId(me));
        preemptor.detach();
    };
    expect(flaw, stopped(run), clauses);
}
