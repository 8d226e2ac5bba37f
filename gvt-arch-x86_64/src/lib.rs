#![no_std]
#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "gvt-arch-x86_64 switches stacks on x86_64 only; another architecture needs a crate of its own"
);

mod divert;
mod fresh;
mod switch;

pub use switch::{X86_64, X86_64Lean};
