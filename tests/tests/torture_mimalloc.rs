//! Forced preemption of everything, with mimalloc.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

#[path = "stress/torture/mod.rs"]
mod torture;

#[global_allocator]
static ALLOCATOR: torture::Counted<mimalloc::MiMalloc> = torture::Counted { inner: mimalloc::MiMalloc };
