//! Laws of one caller at a time.

use std::collections::HashMap;

use gvt_traits::{Factory, IdleWait, TimerBackend, TimerEntry, TimerHandle, WorkerId};

use super::{
    MANY, WORKERS, build, deadlines_of_all_scales, entry, expire, must_be_out, only, scramble, worker,
};
use crate::descriptor::readable;
use crate::{Verdict, Violation};

/// **T1**: whatever is inserted comes out once and unchanged, by `expire` or by `cancel`.
pub fn t1_exactly_once<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    only("T1", exactly_once(factory))
}

fn exactly_once<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    const COUNT: u64 = 3_000;
    let backend = build(factory, WORKERS);
    let entries: Vec<_> = (0..COUNT).map(|key| entry(key, 1_000 + scramble(key) % 1_000_000)).collect();
    let handles: Vec<_> = entries.iter().map(|&entry| backend.insert(entry)).collect();
    let mut times_out = vec![0_u32; COUNT as usize];
    let mut take = |out: TimerEntry| {
        let key = out.ticket.sequence;
        if entries.get(key as usize) != Some(&out) {
            return Err(Violation::new("T1", format!("it gave out {out:?}, which was never inserted")));
        }
        times_out[key as usize] += 1;
        Ok(())
    };
    for step in 0..40 {
        for key in (step..COUNT as usize).step_by(120) {
            if let Some(out) = backend.cancel(handles[key]) {
                take(out)?;
            }
        }
        for out in expire(&backend, worker(step), step as u64 * 25_000)? {
            take(out)?;
        }
    }
    for end in [2_000_000, u64::MAX - 1, u64::MAX] {
        for out in expire(&backend, WorkerId::NONE, end)? {
            take(out)?;
        }
    }
    match times_out.iter().position(|&times| times != 1) {
        None => Ok(()),
        Some(key) => Err(Violation::new(
            "T1",
            format!("{:?} was given out {} times, not once", entries[key], times_out[key]),
        )),
    }
}

/// **T2**: nothing is given out before its deadline, at whatever scale, and also if calls name
/// times that go back, as calls from different workers do.
pub fn t2_never_early<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    only("T2", never_early(factory))
}

fn never_early<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    for start in [0, 1_000_000_007, 1 << 40] {
        let backend = build(factory, WORKERS);
        expire(&backend, WorkerId::NONE, start)?;
        let mut deadlines = deadlines_of_all_scales(start);
        for (key, &deadline) in deadlines.iter().enumerate() {
            backend.insert(entry(key as u64, deadline));
        }
        deadlines.sort_unstable();
        for (step, &deadline) in deadlines.iter().enumerate() {
            expire(&backend, worker(step), deadline.saturating_sub(1))?;
            // Behind the present of the other workers: due for them, early for this one.
            let behind = deadline.saturating_sub(3);
            for key in 0..3 {
                backend.insert(entry(10_000 + key, behind + key));
            }
            expire(&backend, worker(step), behind)?;
            expire(&backend, worker(step + 1), deadline)?;
        }
    }
    Ok(())
}

/// **T3**: one call, from any worker, gives out everything that is due, wherever it was filed,
/// however much it is, however time has moved.
pub fn t3_complete<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    only("T3", complete(factory))
}

fn complete<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    for near in 0..=WORKERS {
        let backend = build(factory, WORKERS);
        let resolution = backend.resolution_ns();
        let mut held: HashMap<u64, TimerEntry> = HashMap::new();
        let mut next_key = 0;
        let mut add = |held: &mut HashMap<u64, TimerEntry>, deadline| {
            let entry = entry(next_key, deadline);
            next_key += 1;
            held.insert(entry.ticket.sequence, entry);
            backend.insert(entry);
        };
        let check = |held: &mut HashMap<u64, TimerEntry>, now| -> Verdict {
            for out in expire(&backend, worker(near), now)? {
                held.remove(&out.ticket.sequence);
            }
            match held.values().find(|entry| must_be_out(entry.deadline_ns, resolution, now)) {
                None => Ok(()),
                Some(late) => Err(Violation::new("T3", format!("expire at {now} left {late:?} behind"))),
            }
        };
        // Scales, each filed at a time of its own.
        let mut now = 0;
        for scale in 0..55 {
            for deadline in [now + (1 << scale), now + (1 << scale) + scramble(scale) % (1 << scale)] {
                for _ in 0..=WORKERS {
                    add(&mut held, deadline);
                }
            }
            now += (1 << scale) + resolution.min(1 << scale);
            check(&mut held, now)?;
        }
        // The past, then a clock that lags behind.
        for back in [0, 1, 1_000, 1 << 20] {
            add(&mut held, now - back);
            check(&mut held, now)?;
            add(&mut held, now - back - resolution - 10);
            check(&mut held, now - 5)?;
        }
        // A flood of equal deadlines in one call.
        for _ in 0..20_000 {
            add(&mut held, now + 77);
        }
        check(&mut held, now + 77 + resolution)?;
        check(&mut held, u64::MAX)?;
    }
    Ok(())
}

/// **T4**: `cancel` returns what was inserted, once; a handle whose entry is out cancels nothing,
/// whatever has taken its place since.
pub fn t4_cancel<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    only("T4", cancel(factory))
}

fn cancel<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    let backend = build(factory, WORKERS);
    let mut stale: Vec<(TimerHandle, u64)> = Vec::new();
    let mut now = 1;
    for round in 0..30_u64 {
        let entries: Vec<_> =
            (0..60).map(|n| entry(round * 60 + n, now + 1 + scramble(n) % 100_000)).collect();
        let handles: Vec<_> = entries.iter().map(|&entry| backend.insert(entry)).collect();
        for &(handle, key) in &stale {
            if let Some(out) = backend.cancel(handle) {
                return Err(Violation::new(
                    "T4",
                    format!("the handle of entry {key}, which is out, cancelled {out:?}"),
                ));
            }
        }
        // The even ones by cancelling, the odd ones by expiry.
        for (&handle, &entry) in handles.iter().zip(&entries).step_by(2) {
            match backend.cancel(handle) {
                Some(out) if out == entry => {}
                other => {
                    return Err(Violation::new("T4", format!("cancelling {entry:?} gave {other:?}")));
                }
            }
        }
        now += 200_000 + backend.resolution_ns();
        let out = expire(&backend, worker(round as usize), now)?;
        if let Some(cancelled) = out.iter().find(|out| out.ticket.sequence % 2 == 0) {
            return Err(Violation::new(
                "T4",
                format!("{cancelled:?} was cancelled and expired all the same"),
            ));
        }
        stale.extend(handles.iter().copied().zip(entries.iter().map(|entry| entry.ticket.sequence)));
    }
    Ok(())
}

/// **T4**: what is cancelled makes room: the number of entries held stays within a constant factor
/// of the live ones.
pub fn t4_frees<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    const LIVE: usize = 100;
    let backend = build(factory, WORKERS);
    for key in 0..LIVE {
        backend.insert(entry(key as u64, 1 << 39));
    }
    for key in 0..MANY {
        let handle = backend.insert(entry(key as u64, (1 << 40) + scramble(key as u64) % (1 << 40)));
        backend.cancel(handle);
        if key % 1024 == 0 && backend.len() > 4 * LIVE {
            return Err(Violation::new(
                "T4",
                format!(
                    "it holds {} entries, of which {LIVE} are live, after {key} were cancelled",
                    backend.len()
                ),
            ));
        }
    }
    Ok(())
}

/// **T4**: the memory of cancelled entries is used again. `live_bytes` tells how much this thread
/// has allocated, for example [`counting::live_bytes`](crate::counting::live_bytes).
///
/// Not in the macro, since it needs a test program with an allocator that counts.
pub fn t4_memory<F: Factory<Output: TimerBackend>>(factory: &F, live_bytes: impl Fn() -> isize) -> Verdict {
    let backend = build(factory, WORKERS);
    let round = |first: u64| {
        let handles: Vec<_> = (first..first + 5_000)
            .map(|key| backend.insert(entry(key, (1 << 30) + scramble(key) % (1 << 45))))
            .collect();
        for handle in handles {
            backend.cancel(handle);
        }
    };
    round(0);
    let warm = live_bytes();
    for number in 1..10 {
        round(number * 5_000);
    }
    let grown = live_bytes() - warm;
    // The least that an entry could take is its 16 bytes of deadline and ticket.
    if grown > 5_000 * 16 {
        return Err(Violation::new(
            "T4",
            format!("its memory grew by {grown} bytes while 45,000 entries were inserted and cancelled"),
        ));
    }
    Ok(())
}

/// **T5**: `next_deadline_ns` and `idle_wait` are never too late, and move on if too early.
pub fn t5_next_deadline<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    let backend = build(factory, WORKERS);
    let mut held: HashMap<u64, (TimerEntry, TimerHandle)> = HashMap::new();
    let mut now = 0;
    for step in 0..4_000_u64 {
        let choice = scramble(step);
        if choice % 4 < 2 || held.is_empty() {
            let deadline = now + (scramble(choice) >> (10 + (choice >> 8) % 54));
            let entry = entry(step, deadline);
            held.insert(step, (entry, backend.insert(entry)));
        } else if choice % 4 == 2 {
            // The earliest, which is what an answer kept from before would get wrong.
            let (&key, &(_, handle)) =
                held.iter().min_by_key(|(_, (entry, _))| entry.deadline_ns).expect("some");
            if backend.cancel(handle).is_some() {
                held.remove(&key);
            }
        } else {
            now += scramble(choice) >> (20 + (choice >> 8) % 44);
            for out in expire(&backend, worker(step as usize), now).unwrap_or_default() {
                held.remove(&out.ticket.sequence);
            }
        }
        super::model::check_next_deadline(&backend, held.values().map(|(entry, _)| entry))?;
    }
    // Too early, but not for ever.
    let mut idle_steps = 0;
    while let Some(next) = backend.next_deadline_ns() {
        let out = expire(&backend, worker(idle_steps), next).unwrap_or_default();
        for out in &out {
            held.remove(&out.ticket.sequence);
        }
        let moved = backend.next_deadline_ns() != Some(next);
        if out.is_empty() && !moved {
            return Err(Violation::new(
                "T5",
                format!("expire at {next} gives nothing, and {next} stays next"),
            ));
        }
        idle_steps += 1;
        if idle_steps > 100_000 {
            return Err(Violation::new(
                "T5",
                "100,000 deadlines were announced for fewer than 4,000 entries",
            ));
        }
    }
    match held.len() {
        0 => Ok(()),
        left => Err(Violation::new("T5", format!("no deadline is next, but {left} entries are held"))),
    }
}

/// **T6**: with nothing cancelled, nobody is woken while nothing is due: not for an empty slot, nor
/// to move entries about. (That the backend has no thread is tested end to end.)
pub fn t6_quiet<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    let backend = build(factory, WORKERS);
    let mut held: HashMap<u64, u64> = HashMap::new();
    for key in 0..2_000 {
        let deadline = (1 << 33) + (scramble(key) >> (scramble(!key) % 40 + 10));
        held.insert(key, deadline);
        backend.insert(entry(key, deadline));
    }
    let mut wakes = 0;
    while let Some(wake) = backend.next_deadline_ns() {
        let earliest = held.values().min().copied();
        if earliest.is_none_or(|earliest| wake < earliest) {
            return Err(Violation::new(
                "T6",
                format!("it asks to be woken at {wake}; the earliest is {earliest:?}"),
            ));
        }
        for out in expire(&backend, worker(wakes), wake).unwrap_or_default() {
            held.remove(&out.ticket.sequence);
        }
        wakes += 1;
        if wakes > 2 * 2_000 {
            return Err(Violation::new("T6", "it woke more than twice a deadline"));
        }
    }
    // A descriptor is quiet too.
    let backend = build(factory, WORKERS);
    if let IdleWait::Readable(descriptor) = backend.idle_wait() {
        if readable(descriptor, 20) {
            return Err(Violation::new("T6", "its descriptor is readable and it holds nothing"));
        }
        backend.insert(entry(0, crate::descriptor::monotonic_ns() + (1 << 42)));
        if backend.idle_wait() != IdleWait::Readable(descriptor) || readable(descriptor, 20) {
            return Err(Violation::new("T6", "its descriptor is readable an hour before the deadline"));
        }
    }
    Ok(())
}

/// **T8**: 0, the past and `u64::MAX` are deadlines like others.
pub fn t8_any_deadline<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    let as_t8 =
        |violation: Violation| Violation::new("T8", format!("({}) {}", violation.clause, violation.what));
    for now in [0, 1, 1 << 30, 1 << 62, u64::MAX - 1, u64::MAX] {
        for deadline in [0, 1, now / 2, now.saturating_sub(1), now, u64::MAX - 1, u64::MAX] {
            let backend = build(factory, WORKERS);
            let resolution = backend.resolution_ns();
            let fail =
                |what: &str| Err(Violation::new("T8", format!("deadline {deadline} at {now}: {what}")));
            let entry = entry(7, deadline);
            expire(&backend, WorkerId::NONE, now).map_err(as_t8)?;
            let handle = backend.insert(entry);
            if backend.len() != 1 || backend.is_empty() {
                return fail("it is inserted and not counted");
            }
            super::model::check_next_deadline(&backend, [&entry]).map_err(as_t8)?;
            if backend.cancel(handle) != Some(entry) {
                return fail("it cannot be cancelled");
            }
            backend.insert(entry);
            for end in [now, u64::MAX - 1, u64::MAX] {
                let out = expire(&backend, WorkerId::NONE, end).map_err(as_t8)?;
                if out.is_empty() && must_be_out(deadline, resolution, end) {
                    return fail("it does not expire");
                }
                if !out.is_empty() {
                    break;
                }
            }
        }
    }
    Ok(())
}
