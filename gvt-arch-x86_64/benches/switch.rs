//! ns for two switches (there and back), beside corosensei's resume + suspend and beside two rejected
//! designs, medians of interleaved rounds: `cargo bench -p gvt-arch-x86_64 --bench switch`.
//!
//! - `direct`: two contexts that switch to each other from two places in the code.
//! - `same chain`: two contexts, each three calls deep, in the same code: returns matter.
//! - `7 chains`: seven contexts, three calls deep, through seven different outer functions.

use std::arch::naked_asm;
use std::hint::black_box;
use std::ptr::NonNull;
use std::time::Instant;

use gvt_arch_x86_64::{X86_64, X86_64Lean};
use gvt_traits::{ContextSwitch, Entry, Registers, StackBounds};

// Rejected: an out-of-line switch; without control words, as in `X86_64Lean`.
macro_rules! naked {
    ($(#[$doc:meta])* $type:ident, $function:ident, [$($go:literal),*]) => {
        $(#[$doc])*
        struct $type;

        #[unsafe(naked)]
        unsafe extern "C" fn $function(save: *mut Registers, load: *const Registers) {
            naked_asm!(
                "pop rax",
                "mov [rdi + 0x00], rsp",
                "mov [rdi + 0x08], rax",
                "mov [rdi + 0x10], rbx",
                "mov [rdi + 0x18], rbp",
                "mov [rdi + 0x20], r12",
                "mov [rdi + 0x28], r13",
                "mov [rdi + 0x30], r14",
                "mov [rdi + 0x38], r15",
                "mov rcx, [rsi + 0x08]",
                "mov rsp, [rsi + 0x00]",
                "mov rbx, [rsi + 0x10]",
                "mov rbp, [rsi + 0x18]",
                "mov r12, [rsi + 0x20]",
                "mov r13, [rsi + 0x28]",
                "mov r14, [rsi + 0x30]",
                "mov r15, [rsi + 0x38]",
                $($go),*
            )
        }

        // SAFETY: X1–X6 as in `X86_64Lean`; r12–r15 go through the block.
        unsafe impl ContextSwitch for $type {
            unsafe fn prepare(registers: *mut Registers, stack: StackBounds, entry: Entry, argument: *mut ()) {
                // SAFETY: C1, C2 are the caller's.
                unsafe { X86_64::prepare(registers, stack, entry, argument) }
            }
            #[inline(always)]
            unsafe fn switch(save: *mut Registers, load: *const Registers) {
                // SAFETY: C1–C3 are the caller's.
                unsafe { $function(save, load) }
            }
            unsafe fn leave(load: *const Registers) -> ! {
                // SAFETY: C2, C3 are the caller's.
                unsafe { X86_64::leave(load) }
            }
        }
    };
}

naked!(
    /// Leaves by `jmp`: the return stack is one entry off afterwards.
    NakedJmp, naked_jmp, ["jmp rcx"]
);
naked!(
    /// Leaves by `ret`: right only for contexts that called from the same place.
    NakedRet, naked_ret, ["push rcx", "ret"]
);

struct Ring {
    blocks: *mut Registers,
    count: usize,
    at: usize,
    left: u64,
    main: Registers,
}

/// Switches to the next of the ring, or back to the bench when the count is up.
#[inline(always)]
unsafe fn step<X: ContextSwitch>(ring: *mut Ring) {
    // SAFETY: one OS thread; the ring outlives its contexts' last step; C1, C2: each block is saved by
    // the step before the one that loads it.
    unsafe {
        let at = (*ring).at;
        let next = if at + 1 == (*ring).count { 0 } else { at + 1 };
        (*ring).at = next;
        (*ring).left -= 1;
        let blocks = (*ring).blocks;
        if (*ring).left == 0 {
            X::switch(blocks.add(at), &raw const (*ring).main);
        } else {
            X::switch(blocks.add(at), blocks.add(next));
        }
    }
}

#[inline(never)]
fn inner<X: ContextSwitch>(ring: *mut Ring) {
    // SAFETY: called on the ring's contexts only.
    unsafe { step::<X>(ring) };
    black_box(ring);
}

#[inline(never)]
fn middle<X: ContextSwitch>(ring: *mut Ring) {
    inner::<X>(ring);
    black_box(ring);
}

#[inline(never)]
fn outer<X: ContextSwitch, const CHAIN: u32>(ring: *mut Ring) {
    middle::<X>(ring);
    black_box(CHAIN);
}

unsafe extern "C" fn deep<X: ContextSwitch, const CHAIN: u32>(ring: *mut ()) -> ! {
    loop {
        outer::<X, CHAIN>(ring.cast());
        black_box(CHAIN);
    }
}

/// Two blocks that switch to each other.
struct Direct {
    here: Registers,
    there: Registers,
}

unsafe extern "C" fn back<X: ContextSwitch>(pair: *mut ()) -> ! {
    let pair = pair.cast::<Direct>();
    loop {
        // SAFETY: C1, C2: `here` was saved by the switch that came here.
        unsafe { X::switch(&raw mut (*pair).there, &raw const (*pair).here) };
    }
}

const ROUNDS: usize = 15;
const SWITCHES: u64 = 2_000_000;

fn direct<X: ContextSwitch>(stacks: &[StackBounds]) -> f64 {
    let mut pair = Direct { here: Registers::default(), there: Registers::default() };
    let pair = &raw mut pair;
    // SAFETY: the stack is unused; blocks and stack outlive the loop.
    unsafe {
        X::prepare(&raw mut (*pair).there, stacks[0], back::<X>, pair.cast());
        let start = Instant::now();
        for _ in 0..SWITCHES / 2 {
            X::switch(&raw mut (*pair).here, &raw const (*pair).there);
        }
        start.elapsed().as_nanos() as f64 / (SWITCHES / 2) as f64
    }
}

fn ring<X: ContextSwitch>(stacks: &[StackBounds], entries: &[Entry], count: usize) -> f64 {
    let mut blocks = vec![Registers::default(); count];
    let mut ring =
        Ring { blocks: blocks.as_mut_ptr(), count, at: 0, left: SWITCHES, main: Registers::default() };
    let ring = &raw mut ring;
    for (index, &stack) in stacks.iter().enumerate().take(count) {
        // SAFETY: the stack is unused; block and stack outlive the ring.
        unsafe {
            X::prepare(blocks.as_mut_ptr().add(index), stack, entries[index % entries.len()], ring.cast())
        };
    }
    let start = Instant::now();
    // SAFETY: context 0 is prepared; `step` comes back after `SWITCHES`.
    unsafe { X::switch(&raw mut (*ring).main, (*ring).blocks) };
    start.elapsed().as_nanos() as f64 / SWITCHES as f64 * 2.0
}

fn corosensei() -> f64 {
    let mut other = corosensei::Coroutine::<u64, u64, ()>::new(|yielder, mut value| {
        loop {
            value = yielder.suspend(value);
        }
    });
    let start = Instant::now();
    for value in 0..SWITCHES / 2 {
        black_box(other.resume(value).as_yield());
    }
    let each = start.elapsed().as_nanos() as f64 / (SWITCHES / 2) as f64;
    // SAFETY: nothing on that stack needs dropping.
    unsafe { other.force_reset() };
    each
}

fn round<X: ContextSwitch>(stacks: &[StackBounds]) -> [f64; 3] {
    let chains: [Entry; 7] =
        [deep::<X, 0>, deep::<X, 1>, deep::<X, 2>, deep::<X, 3>, deep::<X, 4>, deep::<X, 5>, deep::<X, 6>];
    [direct::<X>(stacks), ring::<X>(stacks, &chains[..1], 2), ring::<X>(stacks, &chains, 7)]
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    const SIZE: usize = 64 << 10;
    let stacks: Vec<StackBounds> = (0..7)
        .map(|index| {
            let memory = Box::leak(vec![0u8; SIZE].into_boxed_slice()).as_mut_ptr_range();
            // Tops in different sets of the L1 cache.
            let top = memory.end.map_addr(|end| (end & !0xFFF) - 64 * index);
            StackBounds { top: NonNull::new(top).unwrap(), bottom: NonNull::new(memory.start).unwrap() }
        })
        .collect();

    let mut peer = Vec::new();
    let mut ours: [(&str, Vec<[f64; 3]>); 4] = [
        ("X86_64", Vec::new()),
        ("X86_64Lean", Vec::new()),
        ("rejected: naked, jmp, lean", Vec::new()),
        ("rejected: naked, ret, lean", Vec::new()),
    ];
    for _ in 0..ROUNDS {
        peer.push(corosensei());
        ours[0].1.push(round::<X86_64>(&stacks));
        ours[1].1.push(round::<X86_64Lean>(&stacks));
        ours[2].1.push(round::<NakedJmp>(&stacks));
        ours[3].1.push(round::<NakedRet>(&stacks));
    }

    println!("{:28} {:>8} {:>11} {:>9}", "ns for two switches", "direct", "same chain", "7 chains");
    println!("{:28} {:8.1}", "corosensei resume + suspend", median(peer.into_iter()));
    for (name, rounds) in &ours {
        let at = |column: usize| median(rounds.iter().map(|round| round[column]));
        println!("{name:28} {:8.1} {:11.1} {:9.1}", at(0), at(1), at(2));
    }
}
