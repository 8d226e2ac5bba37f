//! Programs on decorated parts, replays of what they did, and a program in virtual time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gvt::{Cooperative, GoQueue, HeapTimer, MmapSlots, Runtime, Sigurg, channel, sleep_us, spawn, yield_now};
use gvt_conformance::process::{Watchdog, becomes};
use gvt_decorators::{Checked, Log, Recorded, VirtualTime, replay_queue, replay_timer};
use gvt_queue_priority::{PriorityQueue, StrictPriorityQueue};
use gvt_timer_timerfd::TimerFd;
use gvt_timer_wheel::Wheel;
use gvt_traits::{Factory, ReadyQueue, TimerBackend};
use rstest::rstest;

/// Spawns, yields, sleeps, waits with and without limits.
fn program() {
    let (to, from) = channel::<u32>(2);
    let threads: Vec<_> = (0..40_u32)
        .map(|n| {
            let (to, from) = (to.clone(), from.clone());
            spawn(move |_| {
                for step in 0..5 {
                    match (n + step) % 5 {
                        0 => sleep_us(u64::from(n)),
                        1 => yield_now(),
                        2 => to.send(n).unwrap(),
                        3 => _ = from.recv_timeout(Duration::from_micros(50)),
                        _ => drop(spawn(move |_| yield_now()).join()),
                    }
                    _ = from.try_recv();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Every part checked.
#[rstest]
fn checked_from_top_to_bottom(
    #[values(GoQueue, PriorityQueue::default(), StrictPriorityQueue)] queue: impl Factory<Output: ReadyQueue>,
    #[values(HeapTimer, Wheel::default(), TimerFd::<Wheel>::default())] timer: impl Factory<Output: TimerBackend>,
    #[values(1, 3)] workers: usize,
) {
    let _watchdog = Watchdog::new();
    let runtime = Runtime::builder()
        .workers(workers)
        .queue(Checked(queue))
        .timer(Checked(timer))
        .preemptor(Checked(Sigurg))
        .slots(Checked(MmapSlots::default()))
        .build()
        .unwrap();
    (0..5).for_each(|_| runtime.block_on(program));
    // A thread that has ended lets go of its stack when the next one arrives.
    assert!(becomes(|| runtime.memory_use().slots_in_use <= workers));
}

/// A run on one worker, recorded, is repeated call by call by a queue and a timer of the same kind.
#[rstest]
fn a_run_replays(
    #[values(GoQueue, PriorityQueue::default(), StrictPriorityQueue)] queue: impl Factory<Output: ReadyQueue>
    + Clone,
    #[values(HeapTimer, Wheel::default(), TimerFd::<Wheel>::default())] timer: impl Factory<Output: TimerBackend>
    + Clone,
) {
    let _watchdog = Watchdog::new();
    let log = Log::default();
    let runtime = Runtime::builder()
        .workers(1)
        .queue(Recorded(queue.clone(), log.clone()))
        .timer(Recorded(timer.clone(), log.clone()))
        .build()
        .unwrap();
    runtime.block_on(program);
    drop(runtime);
    let text = log.take();
    assert!(log.to_string().is_empty());
    for part in
        ["queue push w0 spawn", "queue push w0 yield", "queue pop w0 -> t", "timer insert", "timer expire"]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let followed = replay_queue(&text, &queue).unwrap() + replay_timer(&text, &timer).unwrap();
    assert_eq!(followed, text.lines().count());
}

/// A replay says where another backend goes another way.
#[test]
fn a_replay_tells_backends_apart() {
    let text = "queue plan 1 0 9\nqueue push w0 spawn t1 low\nqueue push w0 spawn t2 critical\n\
                queue pop w0 -> t2\nqueue pop w0 -> t1\nqueue pop w0 -> -\nqueue has_work w0 -> false\n";
    assert_eq!(replay_queue(text, &StrictPriorityQueue), Ok(7));
    let fifo =
        gvt_conformance::wrong::ready_queue::Faulty::<gvt_conformance::wrong::ready_queue::Fair>::sound();
    let divergence = replay_queue(text, &fifo).unwrap_err();
    assert_eq!(
        divergence.to_string(),
        "line 4: recorded `queue pop w0 -> t2`, replayed `queue pop w0 -> t1`"
    );
    let doubled = "queue plan 1 0 9\nqueue inject t1 low\nqueue inject t1 low\n";
    assert_eq!(replay_queue(doubled, &fifo).unwrap_err().replayed, "not understood");

    let text = "timer plan 1 0 9\ntimer insert w0 sleep t1#1 at 5000 -> h7:3\ntimer insert w- deadline t2#1 at 90000 -> h8:1\n\
                timer cancel h7:3 -> t1#1\ntimer cancel h7:3 -> -\ntimer expire w0 at 90000 -> t2#1\n";
    assert_eq!(replay_timer(text, &HeapTimer), Ok(6));
    let coarse = replay_timer(text, &Wheel::default().tick_ns(1 << 20)).unwrap_err();
    assert_eq!((coarse.line, coarse.replayed.as_str()), (6, "timer expire w0 at 90000 ->"));
}

/// Hours pass in no time, and the same way in every run, to the nanosecond.
#[rstest]
fn a_day_in_virtual_time(
    #[values(HeapTimer, Wheel::default(), Checked(HeapTimer))] timer: impl Factory<Output: TimerBackend> + Clone,
) {
    let _watchdog = Watchdog::new();
    let begin = Instant::now();
    let day = || {
        let runtime = Runtime::builder()
            .workers(1)
            .timer(VirtualTime(timer.clone()))
            .preemptor(Cooperative)
            .time_slice(Duration::from_secs(3_600))
            .build()
            .unwrap();
        let diary = Arc::new(Mutex::new(Vec::new()));
        let ended = runtime.block_on(|| {
            let threads: Vec<_> = (0..30_u64)
                .map(|n| {
                    let diary = diary.clone();
                    spawn(move |_| {
                        // 3,600 seconds and as many minutes as are left of an hour of 31.
                        for hour in 0..24_u64 {
                            gvt::sleep(Duration::from_secs(3_600 + (n * 7 + hour) % 31 * 60));
                            diary.lock().unwrap().push((gvt::now_ns(), n));
                        }
                    })
                })
                .collect();
            // Waits with limits that do not run out: they leave cancelled deadlines behind.
            let (to, from) = channel(0);
            let other = spawn(move |_| (0..10).for_each(|n| to.send(n).unwrap()));
            assert!((0..10).all(|n| from.recv_timeout(Duration::from_secs(3_000)).is_ok_and(|m| m == n)));
            other.join().unwrap();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            gvt::now_ns()
        });
        assert!(ended >= 24 * 3_600 * 1_000_000_000, "{ended}");
        Arc::into_inner(diary).unwrap().into_inner().unwrap()
    };
    let first = day();
    assert_eq!(first.len(), 30 * 24);
    assert!(first.is_sorted_by_key(|&(now, _)| now), "time went back");
    assert!((0..3).all(|_| day() == first), "two days were not the same");
    // Far below the four days that have passed; far above what a loaded machine needs.
    assert!(begin.elapsed() < Duration::from_secs(100));
}

/// Parts that do not go together although their types fit: the builder says so in a sentence.
#[test]
fn what_does_not_go_together_is_refused() {
    let refused = |error: Option<gvt::SchedError>| error.expect("this cannot be built").to_string();
    let kernel = Runtime::builder().timer(TimerFd::over(VirtualTime(HeapTimer))).build().err();
    let sentence = refused(kernel);
    assert!(sentence.contains("`timer`: a timerfd cannot wait in the virtual time"), "{sentence}");
    let checked =
        Runtime::builder().workers(2).num_low_priority_workers(2).queue(Checked(GoQueue)).build().err();
    let sentence = refused(checked);
    assert!(sentence.contains("`num_low_priority_workers`"), "{sentence}");
}
