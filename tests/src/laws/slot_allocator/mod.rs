//! Laws of [`SlotAllocator`]: S1 to S7, S9, and reuse; over the default class, and over all classes at once.
//!
//! Each law takes a factory and builds pools of its own, so that laws do not disturb each other. All
//! memory that a law touches lies within what `bounds` answered; guards are probed through system calls
//! that report a fault instead of raising a signal. No law reserves more than it planned for, but for
//! impossible numbers.
//!
//! **Not covered.** S2 can only be tested for what the laws do meanwhile; that physical memory really goes
//! back to the system cannot be seen through the trait.

mod concurrent;
mod model;
mod probe;
mod rig;

pub use concurrent::{s1_concurrent, s5_concurrent};
pub use model::agrees_with_model;

use std::collections::HashSet;

use gvt_traits::{Factory, GUARD_SIZE, MemoryError, Plan, SlotAllocator, StackClass};

use crate::{Verdict, Violation};
use probe::{Probe, Tag};
use rig::Rig;

const DEFAULT: StackClass = StackClass::DEFAULT;

/// A law over a factory.
type Law<F> = fn(&F) -> Verdict;

/// Every law, in the order of the clauses, with its name.
pub fn all<F: Factory<Output: SlotAllocator>>() -> [(&'static str, Law<F>); 16] {
    [
        ("s1_exclusive", s1_exclusive),
        ("s1_concurrent", s1_concurrent),
        ("s2_pinned", s2_pinned),
        ("s3_guarded", s3_guarded),
        ("s3_usable", s3_usable),
        ("s4_sized", s4_sized),
        ("s5_promised", s5_promised),
        ("s5_kept_on", s5_kept_on),
        ("s5_concurrent", s5_concurrent),
        ("s5_by_class", s5_by_class),
        ("s9_classed", s9_classed),
        ("s6_too_large", s6_too_large),
        ("s6_exhausted", s6_exhausted),
        ("agrees_with_model", agrees_with_model),
        ("reuses_last", reuses_last),
        ("accounts", accounts),
    ]
}

/// The first violation in the order of [`all`].
pub fn first_violation<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    all().into_iter().try_for_each(|(_, law)| law(factory))
}

/// S1: slots in use at once, guards included, do not overlap; also after some came back and went out again
/// on other workers.
pub fn s1_exclusive<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let mut rig = Rig::new(factory, 3, 300)?;
    rig.reserve(DEFAULT, 300)?;
    for n in 0..300 {
        rig.acquire(n % 3, DEFAULT)?;
    }
    rig.check_disjoint()?;
    for n in 0..150 {
        rig.release(n % 3, n);
    }
    for n in 0..150 {
        rig.acquire((n + 1) % 3, DEFAULT)?;
    }
    rig.check_disjoint()
}

/// S2: a slot in use keeps its place and its contents while others come and go, more are reserved and memory
/// is trimmed.
pub fn s2_pinned<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let mut rig = Rig::new(factory, 2, 200)?;
    rig.reserve(DEFAULT, 100)?;
    for n in 0..8 {
        rig.acquire(n % 2, DEFAULT)?;
    }
    let before: Vec<_> = (0..8).map(|n| rig.bounds(n)).collect();
    let tags = before.iter().map(|&bounds| Tag::write(bounds)).collect::<Result<Vec<_>, _>>()?;
    for round in 0..4 {
        for n in 0..80 {
            rig.acquire(n % 2, DEFAULT)?;
            Tag::write(rig.bounds(8 + n))?;
        }
        for n in 0..80 {
            rig.release((n + round) % 2, 8);
        }
        rig.pool.trim();
        rig.reserve(DEFAULT, 100 + 20 * round)?;
        for (n, tag) in tags.iter().enumerate() {
            if rig.bounds(n) != before[n] {
                return Err(Violation::new(
                    "S2",
                    format!("slot {n} moved from {:?} to {:?}", before[n], rig.bounds(n)),
                ));
            }
            tag.check("slots were released, reserved and trimmed")?;
        }
    }
    Ok(())
}

/// S3: the page below a stack can be neither read nor written: on a fresh slot, on one used before, and
/// after memory was trimmed.
pub fn s3_guarded<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    const SLOTS: usize = 80;
    let probe = Probe::new();
    let mut rig = Rig::new(factory, 1, SLOTS)?;
    rig.reserve(DEFAULT, SLOTS)?;
    for when in ["fresh", "used before", "trimmed"] {
        for n in 0..SLOTS {
            rig.acquire(0, DEFAULT)?;
            let bounds = rig.bounds(n);
            let bottom = bounds.bottom.as_ptr();
            for below in [1, 8, GUARD_SIZE / 2, GUARD_SIZE] {
                let address = bottom.wrapping_sub(below);
                let touched = if probe.can_read(address) {
                    "read"
                } else if probe.can_write(address) {
                    "written"
                } else {
                    continue;
                };
                return Err(Violation::new(
                    "S3",
                    format!("slot {n} ({when}): the byte {below} below its stack's bottom can be {touched}"),
                ));
            }
            Tag::write(bounds)?;
        }
        for _ in 0..SLOTS {
            rig.release(0, 0);
        }
        if when == "used before" {
            rig.pool.trim();
        }
    }
    Ok(())
}

/// S3, other half: every page from bottom to top can be written and read.
pub fn s3_usable<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let probe = Probe::new();
    let mut rig = Rig::new(factory, 1, 40)?;
    rig.reserve(DEFAULT, 40)?;
    for n in 0..40 {
        rig.acquire(0, DEFAULT)?;
        let bounds = rig.bounds(n);
        let (top, bottom) = (bounds.top.as_ptr(), bounds.bottom.as_ptr());
        let bytes = top as usize - bottom as usize;
        // Every page of two slots; of the others the ends, where mistakes are.
        let step = if n % 32 == 1 { GUARD_SIZE } else { bytes - 1 };
        for offset in (0..bytes).step_by(step).chain([bytes - 1]) {
            let address = bottom.wrapping_add(offset);
            if !probe.can_write(address) || !probe.can_read(address) {
                return Err(Violation::new(
                    "S3",
                    format!("slot {n}: byte {offset} of the {bytes} of its stack cannot be read and written"),
                ));
            }
        }
    }
    Ok(())
}

/// S4: of each class's slots three quarters are stack, and it ends at a multiple of 16.
pub fn s4_sized<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let mut rig = Rig::new(factory, 1, 100)?;
    let classes = rig.classes()?;
    for &(class, size) in &classes {
        rig.reserve(class, 100)?;
        for n in 0..100 {
            rig.acquire(0, class)?;
            let bounds = rig.bounds(rig.len() - 1);
            let (top, bottom) = (bounds.top.as_ptr() as usize, bounds.bottom.as_ptr() as usize);
            if top < bottom || top - bottom < size / 4 * 3 {
                return Err(Violation::new(
                    "S4",
                    format!(
                        "slot {n} of {class:?}: a stack from {top:#x} down to {bottom:#x} for {size} bytes"
                    ),
                ));
            }
            if !top.is_multiple_of(16) {
                return Err(Violation::new("S4", format!("slot {n}: top {top:#x} is no multiple of 16")));
            }
        }
    }
    rig.check_disjoint()
}

/// S9: of all classes a request gets the smallest that is large enough; what is too large is refused, and the
/// largest that the refusal names is not.
pub fn s9_classed<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let wrong = |what: String| Err(Violation::new("S9", what));
    let rig = Rig::new(factory, 1, 10)?;
    let classes = rig.classes()?;
    if rig.pool.class_for(0) != Ok(DEFAULT) {
        return wrong(format!("class_for(0) is {:?}", rig.pool.class_for(0)));
    }
    let largest = classes.iter().map(|&(_, size)| size).max().unwrap_or(0);
    let around = |size: usize| [size / 2 + 1, size - 1, size, size.saturating_add(1)];
    for bytes in classes.iter().flat_map(|&(_, size)| around(size)).chain([1, 4096, usize::MAX]) {
        let fits = classes.iter().map(|&(_, size)| size).filter(|&size| size >= bytes).min();
        let right = match (rig.pool.class_for(bytes), fits) {
            (Ok(class), Some(size)) => rig.pool.slot_size(class) == Some(size),
            (Err(MemoryError::SlotTooSmall { asked, largest: named }), None) => {
                asked == bytes && named == largest
            }
            _ => false,
        };
        if !right {
            let answer = rig.pool.class_for(bytes);
            return wrong(format!("class_for({bytes}) is {answer:?}; the classes are {classes:?}"));
        }
    }
    Ok(())
}

/// S5, S7: what is promised of one class is there whatever the others are used for, and each counts its own.
pub fn s5_by_class<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let mut rig = Rig::new(factory, 2, 60)?;
    let classes = rig.classes()?;
    for round in 0..3 {
        for &(class, _) in &classes {
            rig.reserve(class, 20 * (round + 1))?;
        }
        for n in 0..20 * (round + 1) {
            for &(class, _) in &classes {
                rig.acquire(n % 2, class)?;
            }
        }
        rig.check_disjoint()?;
        for &(class, _) in &classes {
            let counted = rig.pool.memory_use(class).slots_in_use;
            if counted != 20 * (round + 1) {
                return Err(Violation::new("S7", format!("of {class:?}, it says {counted} are in use")));
            }
        }
        while rig.len() > 0 {
            rig.release(round % 2, rig.len() / 2);
        }
        if round == 1 {
            rig.pool.trim();
        }
    }
    Ok(())
}

/// S5: what was reserved can be used at once, also when free slots lie in other workers' caches.
pub fn s5_promised<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    for threads in [1, 7, 64, 500] {
        let mut rig = Rig::new(factory, 4, 500)?;
        rig.reserve(DEFAULT, threads)?;
        for round in 0..8 {
            // Each worker in turn has all of them; so its cache is as full as it gets when the next begins.
            for _ in 0..threads {
                rig.acquire(round % 4, DEFAULT)?;
            }
            for _ in 0..threads {
                rig.release((round + round / 4) % 4, 0);
            }
        }
    }
    Ok(())
}

/// S5: the promise does not wear off, grows with each `reserve`, and never shrinks.
pub fn s5_kept_on<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let mut rig = Rig::new(factory, 2, 300)?;
    let mut promised = 0;
    for round in 0..300 {
        let asked = if round % 3 == 2 { 1 } else { round };
        rig.reserve(DEFAULT, asked)?;
        promised = promised.max(asked);
        while rig.len() < promised {
            rig.acquire(round % 2, DEFAULT)?;
        }
        for n in 0..rig.len() / 2 + 1 {
            if rig.len() > 0 {
                rig.release(n % 2, (n * 7) % rig.len());
            }
        }
    }
    Ok(())
}

/// S6: after impossible requests the pool works as before. (An impossible `reserve` is one for more threads
/// than a slot's number can tell apart.)
pub fn s6_too_large<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let mut rig = Rig::new(factory, 2, 100)?;
    rig.reserve(DEFAULT, 50)?;
    for n in 0..20 {
        rig.acquire(n % 2, DEFAULT)?;
    }
    let tags = (0..20).map(|n| Tag::write(rig.bounds(n))).collect::<Result<Vec<_>, _>>()?;
    for round in 0..5 {
        let _ = rig.pool.class_for(usize::MAX - round);
        for (class, _) in rig.classes()? {
            if rig.pool.reserve(class, usize::MAX - round).is_ok() {
                return Err(Violation::new("S5", "more threads were promised than slots can have numbers"));
            }
        }
        works_as_before(&mut rig, 50)?;
        for tag in &tags {
            tag.check("impossible requests were refused")?;
        }
    }
    rig.reserve(DEFAULT, 100).map_err(|v| Violation::new("S6", format!("after refusals: {}", v.what)))?;
    works_as_before(&mut rig, 100)
}

/// S6: a pool that ran out of slots goes on as soon as one comes back, and can still grow. Passes where a
/// pool does not run out within reason.
pub fn s6_exhausted<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let mut rig = Rig::new(factory, 2, 10_000)?;
    rig.reserve(DEFAULT, 16)?;
    let mut refusal = None;
    for _ in 0..4096 {
        if let Err(error) = rig.try_acquire(0, DEFAULT) {
            refusal = Some(error);
            break;
        }
    }
    let Some(refusal) = refusal else { return Ok(()) };
    let held = rig.len();
    if !matches!(refusal, MemoryError::SlotsExhausted { .. }) {
        return Err(Violation::new(
            "S6",
            format!("with {held} slots in use, refused with {refusal:?}, not SlotsExhausted"),
        ));
    }
    if held < 16 {
        return Err(Violation::new(
            "S5",
            format!("16 threads were promised, but slot number {} was refused", held + 1),
        ));
    }
    rig.check_disjoint()?;
    for round in 0..40 {
        rig.release(0, (round * 5) % held);
        rig.try_acquire(0, DEFAULT).map_err(|error| {
            Violation::new(
                "S6",
                format!("{held} slots were in use, one came back, and the next is refused: {error:?}"),
            )
        })?;
        let _ = rig.try_acquire(round % 2, DEFAULT);
        while rig.len() > held {
            rig.release(0, held);
        }
    }
    rig.check_disjoint()?;
    rig.reserve(DEFAULT, held + 32)
        .map_err(|v| Violation::new("S6", format!("after running out: {}", v.what)))?;
    works_as_before(&mut rig, held + 32)
}

/// That `promised` slots can be in use, and that those in use stay what they are.
fn works_as_before<A: SlotAllocator>(rig: &mut Rig<A>, promised: usize) -> Verdict {
    let held = rig.len();
    for n in held..promised {
        rig.try_acquire(n % 2, DEFAULT).map_err(|error| {
            Violation::new(
                "S6",
                format!("after a refusal, slot {} of {promised} promised is refused: {error:?}", n + 1),
            )
        })?;
    }
    rig.check_disjoint()?;
    for n in held..promised {
        rig.release(n % 2, held);
    }
    Ok(())
}

/// LIFO, which the trait asks for: on one worker the slot that came back last goes out first.
pub fn reuses_last<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let wrong = |what: String| Err(Violation::new("LIFO", what));
    let mut rig = Rig::new(factory, 1, 10)?;
    rig.reserve(DEFAULT, 10)?;
    for _ in 0..10 {
        rig.acquire(0, DEFAULT)?;
    }
    for n in [3, 0, 7, 7] {
        let place = rig.bounds(n);
        rig.release(0, n);
        rig.acquire(0, DEFAULT)?;
        if rig.bounds(9) != place {
            return wrong(format!("{place:?} came back, but {:?} went out", rig.bounds(9)));
        }
    }
    let (first, second) = (rig.bounds(4), rig.bounds(5));
    rig.release(0, 4);
    rig.release(0, 4);
    rig.acquire(0, DEFAULT)?;
    rig.acquire(0, DEFAULT)?;
    if (rig.bounds(8), rig.bounds(9)) != (second, first) {
        return wrong("of two slots, the one that came back first went out first".into());
    }
    Ok(())
}

/// S7: `memory_use` counts: with no call under way, the slots in use; never fewer slots reserved than
/// promised.
pub fn accounts<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let mut rig = Rig::new(factory, 3, 200)?;
    for round in 0..200 {
        rig.reserve(DEFAULT, round)?;
        match round * 7 % 5 {
            0 | 1 if rig.len() > 0 => rig.release(round % 3, round % rig.len()),
            _ if rig.len() < round => rig.acquire(round % 3, DEFAULT)?,
            _ => {}
        }
        if round % 50 == 49 {
            rig.pool.trim();
        }
        let memory = rig.pool.memory_use(DEFAULT);
        if memory.slots_in_use != rig.len() || memory.slots_reserved < round {
            return Err(Violation::new(
                "S7",
                format!("{} slots are in use and {round} promised, but it says {memory:?}", rig.len()),
            ));
        }
    }
    Ok(())
}

/// That a factory builds for plans of all sizes, and twice (F1, F2).
pub fn f1_builds<F: Factory<Output: SlotAllocator>>(factory: &F) -> Verdict {
    let mut places = HashSet::new();
    let mut rigs = Vec::new();
    for (workers, threads) in [(1, 1), (64, 1), (2, 2_097_152), (2, 2_097_152), (64, 16 << 20)] {
        let plan = Plan::new(workers, threads);
        let pool =
            factory.build(&plan).map_err(|error| Violation::new("F2", format!("{plan:?}: {error}")))?;
        let mut rig = Rig::with(pool, workers);
        rig.reserve(DEFAULT, 1)?;
        rig.acquire(0, DEFAULT)?;
        if !places.insert(rig.bounds(0).top) {
            return Err(Violation::new("F1", "two pools of one factory share a slot"));
        }
        rigs.push(rig);
    }
    Ok(())
}

/// Every law of [`SlotAllocator`] as tests in a module of their own.
///
/// ```
/// # mod doc {
/// use gvt_conformance::wrong::slot_allocator::Naive;
/// gvt_conformance::slot_allocator_suite!(naive, Naive::right());
/// # }
/// ```
#[macro_export]
macro_rules! slot_allocator_suite {
    ($module:ident, $factory:expr) => {
        $crate::slot_allocator_suite!(
            @laws $module, $factory, s1_exclusive, s1_concurrent, s2_pinned, s3_guarded, s3_usable, s4_sized, s5_promised,
            s5_kept_on, s5_concurrent, s5_by_class, s9_classed, s6_too_large, s6_exhausted, agrees_with_model, reuses_last, accounts, f1_builds
        );
    };
    (@laws $module:ident, $factory:expr, $($law:ident),*) => {
        mod $module {
            #[allow(unused_imports, reason = "the factory may be named by a full path")]
            use super::*;
            $(
                #[test]
                fn $law() {
                    if let Err(violation) = $crate::laws::slot_allocator::$law(&$factory) {
                        panic!("{violation}");
                    }
                }
            )*
        }
    };
}
