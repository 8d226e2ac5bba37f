//! Forced preemption of everything, with mimalloc.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "torture/mod.rs"]
mod torture;

#[global_allocator]
static ALLOCATOR: torture::Counted<mimalloc::MiMalloc> = torture::Counted { inner: mimalloc::MiMalloc };

#[test]
fn one_worker() {
    torture::torture("one_worker", 1);
}

#[test]
fn two_workers() {
    torture::torture("two_workers", 2);
}

#[test]
fn eight_workers() {
    torture::torture("eight_workers", 8);
}
