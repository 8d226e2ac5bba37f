//! A day's churn in a short time: records, stacks, timers and ids are reused over and over. Memory must not
//! grow, no id be given twice, and no wake-up reach a thread that it was not meant for.
//!
//! `GVT_STRESS_SECONDS=1800` goes on for half an hour, or until a thousand million threads were spawned (best
//! with `--release`); the default is two seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use gvt::channel::RecvTimeoutError;
use gvt::{Builder, JoinHandle, MmapSlots, Runtime, spawn};
use gvt_conformance::process::{Child, Random, Watchdog, status};

const MOST_SPAWNS: u64 = 1_000_000_000;
const BATCH: usize = 1_000;

/// A bit for each id: whether it is still to be given. All of it is touched at once, so that memory that
/// grows is somebody else's.
struct Ids {
    fresh: Vec<u64>,
    highest: u64,
    count: u64,
}

impl Ids {
    fn new(most: u64) -> Self {
        Ids { fresh: vec![u64::MAX; (most / 64) as usize], highest: 0, count: 0 }
    }

    fn note(&mut self, id: u64) {
        let word = &mut self.fresh[(id / 64) as usize];
        let bit = 1 << (id % 64);
        assert_ne!(*word & bit, 0, "id {id} was given twice");
        *word &= !bit;
        self.highest = self.highest.max(id);
        self.count += 1;
    }

    /// Whether there may be no bits for the next round.
    fn is_full(&self) -> bool {
        self.highest + 100_000 > 64 * self.fresh.len() as u64
    }
}

fn my_id() -> u64 {
    gvt::current_id().unwrap().as_u64()
}

/// Threads that end at once, on stacks of any size.
fn plain(random: &mut Random) -> Vec<JoinHandle<u64>> {
    let sizes = [0, 0, 64 << 10, 256 << 10, 1 << 20];
    let size = sizes[random.below(5) as usize];
    let one = |n: usize| match size {
        0 => spawn(|_| my_id()),
        // A closure too large for the record, now and then.
        _ if n.is_multiple_of(64) => {
            let ballast = [n as u64; 20];
            Builder::new().stack_size(size).spawn(move |_| my_id() + (ballast[7] - n as u64)).unwrap()
        }
        _ => Builder::new().stack_size(size).spawn(|_| my_id()).unwrap(),
    };
    (0..BATCH).map(one).collect()
}

/// Threads whose waits end by a message or by a deadline, whichever is first, and who then sleep: the loser
/// of the race must not end that sleep.
fn races(random: &mut Random, early: &Arc<AtomicU64>) -> Vec<JoinHandle<u64>> {
    let (sender, receiver) = gvt::channel(16);
    let mut handles = Vec::new();
    for _ in 0..64 {
        let (receiver, early) = (receiver.clone(), early.clone());
        let (limit, nap) = (Duration::from_micros(random.below(120)), Duration::from_micros(200));
        handles.push(spawn(move |_| {
            let begin = Instant::now();
            match receiver.recv_timeout(limit) {
                Err(RecvTimeoutError::Timeout) if begin.elapsed() < limit => _ = early.fetch_add(1, Relaxed),
                _ => {}
            }
            let begin = Instant::now();
            gvt::sleep(nap);
            if begin.elapsed() < nap {
                early.fetch_add(1, Relaxed);
            }
            my_id()
        }));
    }
    let pause = random.below(3);
    handles.push(spawn(move |_| {
        for n in 0..64 {
            let _ = sender.send_timeout(n, Duration::from_micros(20));
            if n % 8 == 0 {
                gvt::sleep_us(10 * pause);
            }
        }
        my_id()
    }));
    handles
}

/// Threads that all wait at once, so that the high-water marks are reached early on.
fn crowd() -> Vec<JoinHandle<u64>> {
    let (gate, at_gate) = gvt::channel::<()>(1);
    let one = |n: usize| {
        let at_gate = at_gate.clone();
        let wait = move |_: &gvt::CancellationToken| {
            let _ = at_gate.recv();
            my_id()
        };
        Builder::new().stack_size([64 << 10, 0][n % 2]).spawn(wait).unwrap()
    };
    let handles = (0..3_000).map(one).collect();
    gvt::yield_now();
    drop(gate);
    handles
}

#[test]
fn nothing_grows_and_nothing_is_mixed_up() {
    // A process of its own, whose memory it weighs.
    let ended = Child::of("nothing_grows_and_nothing_is_mixed_up").run(churn).succeeded();
    print!("{}", ended.stdout);
}

fn churn() {
    let mut _watchdog = Watchdog::new();
    let seconds = std::env::var("GVT_STRESS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let limit = Duration::from_secs(seconds.unwrap_or(2));
    let slots = MmapSlots::default().keep_warm(Some(Duration::from_millis(100)));
    let runtime = Runtime::builder().workers(2).slots(slots).build().unwrap();
    let mut random = Random::from_environment("endurance");
    let early = Arc::new(AtomicU64::new(0));
    // Some are drawn in advance and never used.
    let mut ids = Ids::new(if limit.as_secs() > 10 { MOST_SPAWNS / 10 * 11 } else { 1 << 26 });
    let begin = Instant::now();
    let mut settled = None;
    let (mut round, mut reports) = (0_u64, 0);
    while begin.elapsed() < limit && ids.count < MOST_SPAWNS && !ids.is_full() {
        runtime.block_on(|| {
            let handles = match round % 512 {
                0 => crowd(),
                n if n % 16 == 1 => races(&mut random, &early),
                _ => plain(&mut random),
            };
            handles.into_iter().for_each(|handle| ids.note(handle.join().unwrap()));
        });
        round += 1;
        // Every kind of round has had its turn.
        if settled.is_none() && (round > 1_100 || begin.elapsed() > limit / 2) {
            settled = Some(status("VmRSS") + status("VmPTE"));
        }
        if begin.elapsed().as_secs() / 60 > reports {
            reports += 1;
            _watchdog = Watchdog::new();
            println!("{} s, {} threads: {}", begin.elapsed().as_secs(), ids.count, runtime.memory());
        }
    }
    let grown = (status("VmRSS") + status("VmPTE")).saturating_sub(settled.unwrap());
    println!(
        "{} threads in {:?}, highest id {}, grown by {grown} KiB: {}",
        ids.count,
        begin.elapsed(),
        ids.highest,
        runtime.memory()
    );
    assert_eq!(early.load(Relaxed), 0, "waits ended early");
    assert!(grown < 48 << 10, "memory has grown by {grown} KiB");
    assert_eq!(runtime.live_threads(), 0);
}
