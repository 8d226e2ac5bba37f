//! The laws of `SlotAllocator`, over every allocator of this repository, and over the wrong ones.

use gvt_conformance::laws::slot_allocator as laws;
use gvt_conformance::wrong::slot_allocator::{Flaw, Naive};
use gvt_mem_mmap::MmapSlots;
use gvt_traits::{Factory, SlotAllocator};
use rstest::rstest;
use rstest_reuse::{apply, template};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SIX: [usize; 6] = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB];

#[template]
#[rstest]
#[case::mmap(MmapSlots::default())]
#[case::mmap_64k(MmapSlots::default().slot_size(64 * KIB))]
#[case::mmap_1m(MmapSlots::default().slot_size(MIB))]
#[case::mmap_2m(MmapSlots::default().slot_size(2 * MIB))]
#[case::mmap_mprotect(MmapSlots::default().force_mprotect_guards(true))]
#[case::mmap_64k_mprotect(MmapSlots::default().slot_size(64 * KIB).force_mprotect_guards(true))]
#[case::mmap_one_class(MmapSlots::default().slot_size(128 * KIB).classes(&[]))]
#[case::mmap_seven(MmapSlots::default().slot_size(128 * KIB).classes(&SIX))]
#[case::mmap_seven_mprotect(MmapSlots::default().slot_size(128 * KIB).classes(&SIX).force_mprotect_guards(true))]
#[case::naive(Naive::right())]
fn every_allocator<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {}

/// S1: slots in use do not overlap.
#[apply(every_allocator)]
fn s1_exclusive<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s1_exclusive(&factory).unwrap();
}

/// S1: nor with many workers at once.
#[apply(every_allocator)]
fn s1_concurrent<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s1_concurrent(&factory).unwrap();
}

/// S2: a slot in use keeps its place and contents.
#[apply(every_allocator)]
fn s2_pinned<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s2_pinned(&factory).unwrap();
}

/// S3: the page below a stack faults.
#[apply(every_allocator)]
fn s3_guarded<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s3_guarded(&factory).unwrap();
}

/// S3: the stack itself does not.
#[apply(every_allocator)]
fn s3_usable<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s3_usable(&factory).unwrap();
}

/// S4: stacks are as large as their class says.
#[apply(every_allocator)]
fn s4_sized<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s4_sized(&factory).unwrap();
}

/// S5: what was promised can be used.
#[apply(every_allocator)]
fn s5_promised<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s5_promised(&factory).unwrap();
}

/// S5: again and again.
#[apply(every_allocator)]
fn s5_kept_on<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s5_kept_on(&factory).unwrap();
}

/// S5: by many workers at once.
#[apply(every_allocator)]
fn s5_concurrent<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s5_concurrent(&factory).unwrap();
}

/// S5, S7: each class by itself.
#[apply(every_allocator)]
fn s5_by_class<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s5_by_class(&factory).unwrap();
}

/// S9: a request gets the smallest class that will do.
#[apply(every_allocator)]
fn s9_classed<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s9_classed(&factory).unwrap();
}

/// S6: impossible requests do no harm.
#[apply(every_allocator)]
fn s6_too_large<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s6_too_large(&factory).unwrap();
}

/// S6: nor does running out.
#[apply(every_allocator)]
fn s6_exhausted<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::s6_exhausted(&factory).unwrap();
}

/// All clauses, beside a naive model.
#[apply(every_allocator)]
fn agrees_with_model<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::agrees_with_model(&factory).unwrap();
}

/// The last slot to come back is the first to go out.
#[apply(every_allocator)]
fn reuses_last<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::reuses_last(&factory).unwrap();
}

/// S7: `memory_use` adds up.
#[apply(every_allocator)]
fn accounts<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::accounts(&factory).unwrap();
}

/// F1, F2: plans of all sizes.
#[apply(every_allocator)]
fn f1_builds<F: Factory<Output: SlotAllocator>>(#[case] factory: F) {
    laws::f1_builds(&factory).unwrap();
}

/// Each wrong allocator is rejected, by the clause that it breaks.
#[rstest]
#[case(Flaw::Overlaps, "S1")]
#[case(Flaw::HandsOutTwice, "S1")]
#[case(Flaw::TrimsInUse, "S2")]
#[case(Flaw::NoGuard, "S3")]
#[case(Flaw::GuardInside, "S3")]
#[case(Flaw::CutsCorners, "S4")]
#[case(Flaw::GrantsAnySize, "S9")]
#[case(Flaw::Generous, "S9")]
#[case(Flaw::SharesPromises, "S5")]
#[case(Flaw::TopNotAligned, "S4")]
#[case(Flaw::Loses, "S5")]
#[case(Flaw::Hoards, "S5")]
#[case(Flaw::GivesUp, "S6")]
#[case(Flaw::RefusalLoses, "S6")]
#[case(Flaw::FirstInFirstOut, "LIFO")]
#[case(Flaw::Miscounts, "S7")]
#[case(Flaw::CountsTogether, "S7")]
fn wrong_ones_are_rejected(#[case] flaw: Flaw, #[case] clause: &str) {
    let violation = laws::first_violation(&Naive(flaw)).expect_err("a wrong allocator passed every law");
    assert_eq!(violation.clause, clause, "{violation}");
}

gvt_conformance::slot_allocator_suite!(by_macro, MmapSlots::default().slot_size(256 * KIB));
