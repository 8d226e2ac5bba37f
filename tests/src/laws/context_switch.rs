//! Laws of [`ContextSwitch`], for x86_64.
//!
//! One function a clause, or several where a clause has parts that a backend may rightly lack. X2 and
//! X6 cannot be shown by running: X2 is exercised by [`x5_storm`], X6 by every law in an optimised
//! build. [`crate::context_switch_laws`] makes tests of all of them.
//!
//! **What this cannot see.** A register lost only when a signal comes in the middle of a switch; a
//! stack that is walkable between switches but not during one.

use std::backtrace::Backtrace;
use std::collections::VecDeque;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use gvt_traits::{ContextSwitch, Registers};

use crate::stacks::Stack;
use crate::{Verdict, Violation};

mod divert;
mod probe;
mod ring;
mod strand;
mod walk;

pub use divert::x7_diverted;
use probe::{Pattern, probe};
pub use ring::x1_ring;
use strand::{Pause, Strand};

const STACK: usize = 64 << 10;

/// Makes a module `$name` with a test for each law, run on `$backend`.
///
/// ```
/// gvt_conformance::context_switch_laws!(x86_64, gvt_arch_x86_64::X86_64);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! context_switch_laws {
    ($name:ident, $backend:expr) => {
        mod $name {
            $crate::context_switch_laws!(@ $backend; x1_registers x1_control_words x1_ping_pong x1_ring
                x1_deep_chains x3_entry x3_control_words x4_backtrace x4_panic x4_root x5_moves x5_storm x7_diverted);
        }
    };
    (@ $backend:expr; $($law:ident)*) => {
        $(#[test]
        fn $law() {
            $crate::laws::context_switch::$law($backend).unwrap();
        })*
    };
}

/// Two contexts with patterns in their registers.
struct Pair {
    here: Registers,
    there: Registers,
    pattern: Pattern,
    changed: u64,
    rounds: u32,
}

unsafe extern "C" fn far_side<X: ContextSwitch>(pair: *mut ()) -> ! {
    let pair = pair.cast::<Pair>();
    // SAFETY: `pair` outlives the law; C1, C2: each side saves itself before it loads the other.
    unsafe {
        for _ in 0..(*pair).rounds {
            (*pair).changed |= probe(
                probe::switch::<X>,
                &raw mut (*pair).there,
                &raw const (*pair).here,
                &raw const (*pair).pattern,
            );
        }
        X::leave(&raw const (*pair).here)
    }
}

/// Switches to and fro between `near` and `far`; which registers each side lost.
fn exchange<X: ContextSwitch>(near: Pattern, far: Pattern) -> (u64, u64) {
    const ROUNDS: u32 = 100;
    let stack = Stack::new(STACK);
    let mut pair = Pair {
        here: Registers::default(),
        there: Registers::default(),
        pattern: far,
        changed: 0,
        rounds: ROUNDS,
    };
    let pair = &raw mut pair;
    let mut changed = 0;
    // SAFETY: `prepare` C1, C2: block and stack are unused. `switch` C1, C2: as in `far_side`, which
    // is entered once, switched to once a round, and then leaves.
    unsafe {
        X::prepare(&raw mut (*pair).there, stack.bounds(), far_side::<X>, pair.cast());
        for _ in 0..=ROUNDS {
            changed |=
                probe(probe::switch::<X>, &raw mut (*pair).here, &raw const (*pair).there, &raw const near);
        }
        (changed, (*pair).changed)
    }
}

fn unchanged(clause: &'static str, situation: &str, (near, far): (u64, u64)) -> Verdict {
    for (changed, side) in [(near, "the context that prepared"), (far, "the context that was prepared")] {
        if changed != 0 {
            let names = probe::names(changed);
            return Err(Violation::new(clause, format!("{situation}, {side} lost {names} over a switch")));
        }
    }
    Ok(())
}

/// X1: rbx, rbp, r12–r15 (and rsp, or nothing would work) come back over a switch and over `leave`.
pub fn x1_registers<X: ContextSwitch>(_: X) -> Verdict {
    unchanged("X1", "with different values", exchange::<X>(Pattern::new(0x5A), Pattern::new(0xC3)))
}

/// X1: MXCSR's control bits and the x87 control word come back, and those of one context do not reach
/// the other. Rounding modes, flush-to-zero, denormals-are-zero, exception masks, x87 precision.
///
/// Apart from [`x1_registers`] because a backend may rely on Rust's rule that they never change.
pub fn x1_control_words<X: ContextSwitch>(_: X) -> Verdict {
    let modes = [
        (0x3F80, 0x077F),
        (0x5F80, 0x0B7F),
        (0x7F80, 0x0F7F),
        (0x9F80, 0x027F),
        (0x1FC0, 0x007F),
        (0x1E80, 0x037E),
        (0x0000, 0x0340),
    ];
    let default = Pattern::new(0x11);
    for (mxcsr, x87) in modes {
        let other = Pattern::new(0xEE).under(mxcsr, x87);
        for (near, far) in [(default, other), (other, default)] {
            let situation = format!(
                "between MXCSR {:#x} and {:#x}, x87 {:#x} and {:#x}",
                near.mxcsr, far.mxcsr, near.x87, far.x87
            );
            unchanged("X1", &situation, exchange::<X>(near, far))?;
        }
    }
    Ok(())
}

/// X1, X6: two contexts count to a million in turn, each in a local variable of its own.
pub fn x1_ping_pong<X: ContextSwitch>(_: X) -> Verdict {
    const ROUNDS: u64 = 1_000_000;
    let total = Arc::new(Mutex::new(0));
    let theirs = Arc::clone(&total);
    let mut strand = Strand::<X>::new(STACK, move |pause| {
        let mut count = 0u64;
        while count < ROUNDS {
            count = black_box(count + 1);
            pause.pause();
        }
        *theirs.lock().unwrap_or_else(PoisonError::into_inner) = count;
    });
    let mut count = 0u64;
    while !strand.resume() {
        count = black_box(count + 1);
    }
    let theirs = *total.lock().unwrap_or_else(PoisonError::into_inner);
    if (count, theirs) != (ROUNDS, ROUNDS) {
        return Err(Violation::new(
            "X1",
            format!("of {ROUNDS} rounds one side counted {count}, the other {theirs}"),
        ));
    }
    Ok(())
}

#[inline(never)]
fn descend<X: ContextSwitch>(pause: &Pause<X>, depth: u64) -> u64 {
    let local = black_box([depth; 8]);
    pause.pause();
    let below = if depth == 0 { 0 } else { descend(pause, depth - 1) };
    pause.pause();
    below + black_box(local).iter().sum::<u64>()
}

/// X1: chains of 200 calls, switching at each level on the way down and on the way up, of several
/// contexts at once.
pub fn x1_deep_chains<X: ContextSwitch>(_: X) -> Verdict {
    const DEPTH: u64 = 200;
    let sums = Arc::new(Mutex::new(Vec::new()));
    let mut strands: Vec<_> = (0..7)
        .map(|_| {
            let sums = Arc::clone(&sums);
            Strand::<X>::new(256 << 10, move |pause| {
                let sum = descend(pause, DEPTH);
                sums.lock().unwrap_or_else(PoisonError::into_inner).push(sum);
            })
        })
        .collect();
    let mut left = strands.len();
    for _ in 0..=2 * (DEPTH + 1) {
        for strand in &mut strands {
            left -= usize::from(strand.resume());
        }
    }
    let sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
    let expected = 8 * DEPTH * (DEPTH + 1) / 2;
    if left != 0 || sums.iter().any(|&sum| sum != expected) {
        return Err(Violation::new(
            "X1",
            format!("{left} chains are unfinished; sums {sums:?}, expected {expected}"),
        ));
    }
    Ok(())
}

/// What the fresh context of the X3 laws goes back to. Guarded by [`arrive`]'s lock.
static mut X3_PAIR: Option<(Registers, Registers)> = None;

unsafe extern "C" fn arrived<X: ContextSwitch>() -> ! {
    // SAFETY: the law that prepared this context waits in `arrive`, under the lock.
    unsafe {
        let pair = (&raw const X3_PAIR).cast::<Option<(Registers, Registers)>>();
        X::leave(&raw const (*pair).as_ref().expect("the law has set it").0)
    }
}

/// Enters a fresh context under unusual control words; how it was called, and whether its stack pointer was
/// in the stack.
fn arrive<X: ContextSwitch>(argument: *mut ()) -> (probe::Arrival, bool) {
    static LOCK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let stack = Stack::new(STACK);
    let bounds = stack.bounds();
    let unusual = Pattern::new(0x77).under(0x7F80, 0x0F7F);
    // SAFETY: the statics are ours under the lock. `prepare` C1, C2: unused block and stack. `switch` C1,
    // C2: the fresh context is entered once and leaves for the block just saved.
    let arrival = unsafe {
        let arrival = &raw mut probe::ARRIVAL;
        arrival.write(probe::Arrival {
            rsp: 0,
            argument: 0,
            mxcsr: 0,
            x87: 0,
            flags: 0,
            then: Some(arrived::<X>),
        });
        let pair = &raw mut X3_PAIR;
        pair.write(Some(Default::default()));
        let (here, there) =
            (*pair).as_mut().map(|pair| (&raw mut pair.0, &raw mut pair.1)).expect("just set");
        X::prepare(there, bounds, probe::first_instruction, argument);
        probe(probe::switch::<X>, here, there, &unusual);
        arrival.read()
    };
    let inside = (bounds.bottom.addr().get()..bounds.top.addr().get()).contains(&(arrival.rsp as usize));
    (arrival, inside)
}

/// X3: `entry` is called with its argument, on the stack given, aligned, with the direction flag clear.
pub fn x3_entry<X: ContextSwitch>(_: X) -> Verdict {
    let mut target = 0u64;
    let argument = (&raw mut target).cast();
    let (arrival, inside) = arrive::<X>(argument);
    if arrival.argument != argument.addr() as u64 {
        return Err(Violation::new(
            "X3",
            format!("the argument was {:#x}, not {argument:p}", arrival.argument),
        ));
    }
    if !inside {
        return Err(Violation::new("X3", format!("rsp was {:#x}, outside the stack", arrival.rsp)));
    }
    if arrival.rsp % 16 != 8 {
        let rest = arrival.rsp % 16;
        return Err(Violation::new(
            "X3",
            format!("rsp was 16 n + {rest} at the entry; a call leaves 16 n + 8"),
        ));
    }
    if arrival.flags & probe::DIRECTION_FLAG != 0 {
        return Err(Violation::new("X3", "the direction flag was set"));
    }
    Ok(())
}

/// X3: a fresh context starts under the ABI's default control words, whatever those of its maker.
///
/// Apart from [`x3_entry`] because a backend may rely on Rust's rule that they never change.
pub fn x3_control_words<X: ContextSwitch>(_: X) -> Verdict {
    let (arrival, _) = arrive::<X>(std::ptr::null_mut());
    if arrival.mxcsr & probe::MXCSR_CONTROL != probe::MXCSR_DEFAULT & probe::MXCSR_CONTROL {
        return Err(Violation::new("X3", format!("a fresh context had MXCSR {:#x}", arrival.mxcsr)));
    }
    if arrival.x87 != probe::X87_DEFAULT {
        return Err(Violation::new(
            "X3",
            format!("a fresh context had the x87 control word {:#x}", arrival.x87),
        ));
    }
    Ok(())
}

#[inline(never)]
fn frame_to_be_found() -> String {
    black_box(Backtrace::force_capture().to_string())
}

/// X4: a backtrace from a fresh stack ends at its root; std's own shows the frames that are on it.
pub fn x4_backtrace<X: ContextSwitch>(_: X) -> Verdict {
    walk::ends_at_root::<X>()?;

    let seen = Arc::new(Mutex::new(String::new()));
    let theirs = Arc::clone(&seen);
    let mut strand = Strand::<X>::new(1 << 20, move |_| {
        *theirs.lock().unwrap_or_else(PoisonError::into_inner) = frame_to_be_found();
    });
    strand.resume();
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    // On an ordinary stack first: a stripped program shows no names anywhere.
    let name = "frame_to_be_found";
    if frame_to_be_found().contains(name) && !seen.contains(name) {
        return Err(Violation::new(
            "X4",
            format!("a backtrace on a fresh stack lacks its own frame:\n{seen}"),
        ));
    }
    Ok(())
}

/// X4: a panic inside a fresh context unwinds to its `catch_unwind` and runs the destructors on its
/// way, also when the context was switched away from and back to meanwhile.
pub fn x4_panic<X: ContextSwitch>(_: X) -> Verdict {
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            // Relaxed: one OS thread.
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[inline(never)]
    fn fail<X: ContextSwitch>(pause: &Pause<X>, dropped: &Arc<AtomicUsize>, depth: usize) {
        let _count = Counts(Arc::clone(dropped));
        pause.pause();
        if depth == 0 {
            // No message on stderr, unlike `panic!`.
            std::panic::resume_unwind(Box::new("expected"));
        }
        fail(pause, dropped, depth - 1);
        black_box(());
    }

    const DEPTH: usize = 20;
    let dropped = Arc::new(AtomicUsize::new(0));
    let caught = Arc::new(AtomicBool::new(false));
    let (their_dropped, their_caught) = (Arc::clone(&dropped), Arc::clone(&caught));
    let mut strand = Strand::<X>::new(STACK, move |pause| {
        let outcome = catch_unwind(AssertUnwindSafe(|| fail(pause, &their_dropped, DEPTH)));
        pause.pause();
        // Relaxed, here and below: one OS thread.
        their_caught.store(outcome.is_err(), Relaxed);
        std::panic::resume_unwind(Box::new("at the end"));
    });
    while !strand.resume() {}
    let dropped = dropped.load(Relaxed);
    if dropped != DEPTH + 1 || !caught.load(Relaxed) {
        return Err(Violation::new("X4", format!("a panic through {} frames dropped {dropped}", DEPTH + 1)));
    }
    match strand.panic_message().as_deref() {
        Some("at the end") => Ok(()),
        other => Err(Violation::new("X4", format!("the body's last panic came out as {other:?}"))),
    }
}

/// X4: an exception that nobody on the stack catches finds the stack's end, not somebody else's frames.
pub fn x4_root<X: ContextSwitch>(_: X) -> Verdict {
    walk::ends_at_root::<X>()?;
    walk::exception_ends_at_root::<X>()
}

/// X5: a context saved on one OS thread goes on, registers and all, on another, and `leave`s there.
pub fn x5_moves<X: ContextSwitch>(_: X) -> Verdict {
    struct Shared(*mut Pair);
    // SAFETY: the OS threads use the pair one after the other.
    unsafe impl Send for Shared {}
    impl Shared {
        /// Whole, so that a closure captures the wrapper and not the pointer in it.
        fn pair(&self) -> *mut Pair {
            self.0
        }
    }

    let stack = Stack::new(STACK);
    let modes = Pattern::new(0x3C);
    let rounds = 8;
    let mut pair =
        Pair { here: Registers::default(), there: Registers::default(), pattern: modes, changed: 0, rounds };
    let pair = &raw mut pair;
    // SAFETY: `prepare` C1, C2: unused block and stack.
    unsafe { X::prepare(&raw mut (*pair).there, stack.bounds(), far_side::<X>, pair.cast()) };
    for _ in 0..=rounds {
        let shared = Shared(pair);
        std::thread::spawn(move || {
            let pair = shared.pair();
            // SAFETY: as in `exchange`; `join` orders each OS thread's part before the next one's.
            unsafe { probe::switch::<X>(&raw mut (*pair).here, &raw const (*pair).there) };
        })
        .join()
        .expect("the thread does not panic");
    }
    // SAFETY: the far side has left for good.
    unchanged("X5", "resumed on another OS thread each time", (0, unsafe { (*pair).changed }))
}

/// X5, X2: 16 OS threads resume contexts that others have just saved, as fast as they can.
pub fn x5_storm<X: ContextSwitch>(_: X) -> Verdict {
    const STRANDS: u64 = 48;
    const STEPS: u64 = 300;
    let sums = Arc::new(Mutex::new(Vec::new()));
    let strands: VecDeque<Strand<X>> = (0..STRANDS)
        .map(|number| {
            let sums = Arc::clone(&sums);
            Strand::new(STACK, move |pause: &Pause<X>| {
                let mut values = black_box([number; 16]);
                for step in 0..STEPS {
                    pause.pause();
                    values[(step % 16) as usize] += black_box(step);
                }
                sums.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(values.iter().sum::<u64>() - 16 * number);
            })
        })
        .collect();
    let ready = Mutex::new(strands);
    let left = AtomicUsize::new(STRANDS as usize);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                // Relaxed: a count; the strands' own data is ordered by the queue's lock.
                while left.load(Relaxed) > 0 {
                    let next = ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(mut strand) = next else {
                        std::thread::yield_now();
                        continue;
                    };
                    if strand.resume() {
                        left.fetch_sub(1, Relaxed);
                    } else {
                        ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(strand);
                    }
                }
            });
        }
    });
    let sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
    let expected = STEPS * (STEPS - 1) / 2;
    if sums.len() != STRANDS as usize || sums.iter().any(|&sum| sum != expected) {
        return Err(Violation::new("X5", format!("{} of {STRANDS} ended, sums {sums:?}", sums.len())));
    }
    Ok(())
}
