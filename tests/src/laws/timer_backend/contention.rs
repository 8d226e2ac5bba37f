//! Laws under contention: 16 OS threads, more than most machines have cores.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;

use gvt_traits::{Factory, TimerBackend, TimerHandle};

use crate::laws::midway::looks_wait_for_nobody;

use super::{WORKERS, build, entry, must_be_out, scramble, worker};
use crate::{Verdict, Violation};

const THREADS: usize = 16;
const STEPS: usize = if cfg!(debug_assertions) { 3_000 } else { 20_000 };
/// How far time moves in a step of one thread.
const TICK_NS: u64 = 40;

/// **T1, T2, T4** under contention: threads insert, cancel each other's entries and expire, all at
/// once, around one clock; each entry comes out once, none early, each cancelled under its own
/// handle.
pub fn t1_under_contention<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    let backend = build(factory, WORKERS);
    let clock = AtomicU64::new(1);
    let times_out: Vec<AtomicU8> = (0..THREADS * STEPS).map(|_| AtomicU8::new(0)).collect();
    // Handles that whoever comes by may use, stale ones among them.
    let pool: Vec<Mutex<Vec<(u64, TimerHandle)>>> = (0..THREADS).map(|_| Mutex::default()).collect();
    let broken: Mutex<Option<Violation>> = Mutex::new(None);
    let report = |clause, what| {
        broken.lock().unwrap().get_or_insert(Violation::new(clause, what));
    };
    let expire = |number: usize, now: u64| {
        let mut given = 0;
        let count = backend.expire(worker(number), now, &mut |out| {
            given += 1;
            if out.deadline_ns > now {
                report("T2", format!("at {now} it gave out {out:?}"));
            }
            match times_out.get(out.ticket.sequence as usize) {
                Some(times) => _ = times.fetch_add(1, Relaxed),
                None => report("T1", format!("it gave out {out:?}, which was never inserted")),
            }
        });
        if count != given {
            report("T1", format!("expire gave {given} entries and returned {count} as their number"));
        }
    };
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (backend, clock, pool, barrier) = (&backend, &clock, &pool, &barrier);
            let (report, expire, times_out) = (&report, &expire, &times_out);
            scope.spawn(move || {
                barrier.wait();
                for step in 0..STEPS {
                    let key = (number * STEPS + step) as u64;
                    let dice = scramble(key);
                    let now = clock.fetch_add(TICK_NS, Relaxed);
                    // Soon: so that cancelling and expiring meet.
                    let entry = entry(key, now + dice % (64 * TICK_NS));
                    let handle = backend.insert(entry);
                    pool[number].lock().unwrap().push((key, handle));
                    let victims = &pool[(number + dice as usize % 3) % THREADS];
                    if dice >> 8 & 1 == 0 {
                        let victim = {
                            let mut victims = victims.lock().unwrap();
                            let recent = victims.len().saturating_sub(dice as usize >> 16 & 7);
                            // Half of them stay in the pool, to be tried again when stale.
                            match victims.get(recent).copied() {
                                Some(victim) if dice >> 9 & 1 == 0 => {
                                    victims.swap_remove(recent);
                                    Some(victim)
                                }
                                victim => victim,
                            }
                        };
                        if let Some((key, handle)) = victim
                            && let Some(out) = backend.cancel(handle)
                        {
                            if out.ticket.sequence != key {
                                report("T4", format!("the handle of entry {key} cancelled {out:?}"));
                            }
                            if let Some(times) = times_out.get(out.ticket.sequence as usize) {
                                times.fetch_add(1, Relaxed);
                            }
                        }
                    }
                    if dice >> 32 & 3 == 0 {
                        expire(number, now);
                    }
                }
            });
        }
    });
    // Alone now: everything is out after this, by T3.
    expire(0, clock.load(Relaxed) + (1 << 40));
    for (key, times) in times_out.iter().enumerate() {
        let times = times.load(Relaxed);
        if times != 1 {
            report("T1", format!("entry {key} was given out {times} times, not once"));
        }
    }
    match broken.into_inner().unwrap() {
        None => Ok(()),
        Some(violation) => Err(violation),
    }
}

/// **T5** under contention: when `insert` has returned, its deadline is accounted for, while others
/// insert, cancel and expire.
pub fn t5_insert_is_seen<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    let backend = build(factory, WORKERS);
    let resolution = backend.resolution_ns();
    let broken: Mutex<Option<Violation>> = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (backend, broken, stop, barrier) = (&backend, &broken, &stop, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for step in 0..STEPS {
                    if stop.load(Relaxed) {
                        return;
                    }
                    let key = (number * STEPS + step) as u64;
                    // Some threads move the past about, the others insert what is not due yet.
                    let now = 1_000_000;
                    if number % 4 == 0 {
                        backend.insert(entry(key, now - scramble(key) % 1_000));
                        backend.expire(worker(number), now, &mut |_| ());
                        continue;
                    }
                    let deadline = now + 1 + resolution + scramble(key) % 1_000_000;
                    let handle = backend.insert(entry(key, deadline));
                    let next = backend.next_deadline_ns();
                    if next.is_none_or(|next| must_be_out(deadline, resolution, next.saturating_sub(1))) {
                        broken.lock().unwrap().get_or_insert(Violation::new(
                            "T5",
                            format!("an entry for {deadline} is inserted, and {next:?} is said to be next"),
                        ));
                        stop.store(true, Relaxed);
                    }
                    backend.cancel(handle);
                }
            });
        }
    });
    match broken.into_inner().unwrap() {
        None => Ok(()),
        Some(violation) => Err(violation),
    }
}

/// **B6**: the monitor asks for the next deadline while a worker stands still in the middle of an insert or
/// an expiry, and is not held up.
pub fn b6_looks_wait_for_nobody<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    let backend = &build(factory, WORKERS);
    let mut key = 0;
    let work = || {
        for _ in 0..64 {
            key += 1;
            let handle = backend.insert(entry(key, key));
            if key % 4 == 0 {
                backend.cancel(handle);
            }
        }
        backend.expire(worker(0), key, &mut |_| ());
    };
    looks_wait_for_nobody("next_deadline_ns", work, || {
        backend.next_deadline_ns();
        backend.now_ns();
    })
}
