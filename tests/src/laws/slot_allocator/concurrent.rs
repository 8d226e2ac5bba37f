//! Laws with many workers at once.

use std::sync::{Barrier, Mutex};

use gvt_traits::{Factory, Plan, Slot, SlotAllocator, StackClass, WorkerId};

use super::probe::Tag;
use crate::{Verdict, Violation};

const WORKERS: usize = 16;
/// Slots that one worker has in use at the most.
const EACH: usize = 24;
/// Slots on their way from one worker to another at the most.
const UNDER_WAY: usize = 64;
const ROUNDS: usize = 3000;

/// A slot in use, and its mark, if it could be marked.
struct Used(Option<Slot>, Result<Tag, Violation>);

impl Used {
    fn new<A: SlotAllocator>(pool: &A, slot: Slot) -> Self {
        let tag = Tag::write(pool.bounds(&slot));
        Used(Some(slot), tag)
    }

    /// Gives the slot back after a look at its mark.
    fn release<A: SlotAllocator>(mut self, pool: &A, local: &mut A::Local) -> Verdict {
        let verdict = match &self.1 {
            Ok(tag) => tag.check("other workers used theirs"),
            Err(violation) => Err(violation.clone()),
        };
        if let Some(slot) = self.0.take() {
            // SAFETY: C1: the slot came from this pool, and no frame ever ran on it.
            unsafe { pool.release(local, slot) };
        }
        verdict
    }
}

impl Drop for Used {
    fn drop(&mut self) {
        self.0.take().map(Slot::into_index);
    }
}

/// S1: sixteen workers that take slots, hand them to each other and give them back never share one.
pub fn s1_concurrent<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    churn(factory, false)
}

/// S5: nor is any of them refused one of those promised.
pub fn s5_concurrent<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    churn(factory, true)
}

/// Runs the workers; reports the first violation, of S5 or of anything but S5.
fn churn<F: Factory<Output: SlotAllocator>>(factory: &F, of_s5: bool) -> Verdict {
    let promised = WORKERS * EACH + UNDER_WAY;
    let pool = factory
        .build(&Plan::new(WORKERS, promised))
        .map_err(|error| Violation::new("F2", format!("{WORKERS} workers, {promised} threads: {error}")))?;
    let classes: Vec<_> = StackClass::all().filter(|&class| pool.slot_size(class).is_some()).collect();
    for &class in &classes {
        pool.reserve(class, promised)
            .map_err(|error| Violation::new("S5", format!("{promised} threads of {class:?}: {error}")))?;
    }
    let under_way = Mutex::new(Vec::new());
    let start = Barrier::new(WORKERS);
    let verdicts: Vec<Verdict> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (pool, under_way, start, classes) = (&pool, &under_way, &start, &classes);
                scope.spawn(move || {
                    let mut local = pool.local(WorkerId::new(number));
                    start.wait();
                    work(pool, &mut local, number, classes, under_way)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker of the suite panicked")).collect()
    });
    // Marks are looked at once more, when all is quiet.
    let rest = under_way.into_inner().unwrap_or_default();
    let mut local = pool.local(WorkerId::new(0));
    let last: Vec<Verdict> = rest.into_iter().map(|used: Used| used.release(&pool, &mut local)).collect();
    verdicts
        .into_iter()
        .chain(last)
        .filter(|verdict| verdict.as_ref().is_err_and(|violation| (violation.clause == "S5") == of_s5))
        .collect()
}

fn work<A: SlotAllocator>(
    pool: &A,
    local: &mut A::Local,
    number: usize,
    classes: &[StackClass],
    under_way: &Mutex<Vec<Used>>,
) -> Verdict {
    let mut random = 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(number as u64 + 1);
    let mut used: Vec<Used> = Vec::new();
    let mut verdict = Ok(());
    for round in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let n = (random >> 32) as usize;
        match random % 16 {
            0..8 if used.len() < EACH => match pool.acquire(local, classes[n / EACH % classes.len()]) {
                Ok(slot) => used.push(Used::new(pool, slot)),
                Err(error) => {
                    let what =
                        format!("worker {number} uses {} slots, {EACH} are its share: {error:?}", used.len());
                    verdict = verdict.and(Err(Violation::new("S5", what)));
                }
            },
            8..14 if !used.is_empty() => {
                let used = used.swap_remove(n % used.len());
                verdict = verdict.and(used.release(pool, local));
            }
            14 if !used.is_empty() => {
                let mut under_way = under_way.lock().unwrap();
                if under_way.len() < UNDER_WAY {
                    under_way.push(used.swap_remove(n % used.len()));
                }
            }
            15 if used.len() < EACH => used.extend(under_way.lock().unwrap().pop()),
            _ => {}
        }
        if number == 0 && round % 512 == 0 {
            pool.trim();
        }
        // Ten virtual milliseconds a round, so that several periods end.
        if number == 1 {
            pool.decay(1 + round as u64 * 10_000_000);
        }
    }
    used.into_iter().fold(verdict, |verdict, used| verdict.and(used.release(pool, local)))
}
