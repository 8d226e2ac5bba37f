//! A stack that overflows, faults that are somebody else's, and backtraces.

use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::*};

use gvt::{Builder, MmapSlots, Runtime, SchedulerConfig, spawn, yield_now};
use gvt_conformance::process::{Child, Ended};
use rstest::rstest;

fn runtime(workers: usize) -> Runtime {
    Runtime::new(SchedulerConfig::default().num_workers(workers))
}

#[allow(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    recurse(depth + 1) + black_box(frame)[7]
}

fn died_of_overflow(ended: &Ended, name: &str, kib: &str) {
    assert_eq!(ended.signal(), Some(libc::SIGABRT), "{ended}");
    let Some((_, rest)) = ended.stderr.split_once("green thread ") else {
        panic!("no message; {ended}");
    };
    let (id, rest) = rest.split_once(' ').unwrap();
    assert!(id.parse::<u64>().is_ok_and(|id| id > 0), "the id: {ended}");
    assert!(rest.starts_with(&format!("'{name}' has overflowed its stack of {kib}")), "{ended}");
    assert!(ended.stderr.contains("stack_size"), "how to mend it: {ended}");
    assert!(ended.stderr.contains("fatal runtime error: stack overflow"), "{ended}");
}

#[test]
fn names_the_thread() {
    let ended = Child::of("names_the_thread").run(|| {
        runtime(2).block_on(|| {
            let handle = Builder::new().name("deep thought").spawn(|_| recurse(0)).unwrap();
            drop(handle.join());
        });
    });
    died_of_overflow(&ended, "deep thought", "1");
}

#[test]
fn a_nameless_thread_in_a_small_slot() {
    let ended = Child::of("a_nameless_thread_in_a_small_slot").run(|| {
        let slots = MmapSlots::default().slot_size(64 << 10);
        let runtime = Runtime::builder().workers(1).slots(slots).build().unwrap();
        runtime.block_on(|| {
            // Behind others, so that the thread has a stack that others used, and came back from a switch.
            (0..100).for_each(|_| spawn(|_| yield_now()).join().unwrap());
            drop(
                spawn(|_| {
                    yield_now();
                    gvt::sleep_us(10);
                    recurse(0)
                })
                .join(),
            );
        });
    });
    died_of_overflow(&ended, "unnamed", "5");
}

#[test]
fn guards_set_by_mprotect() {
    let ended = Child::of("guards_set_by_mprotect").run(|| {
        let slots = MmapSlots::default().slot_size(256 << 10).force_mprotect_guards(true);
        let runtime = Runtime::builder().workers(1).slots(slots).build().unwrap();
        runtime.block_on(|| recurse(0));
    });
    died_of_overflow(&ended, "unnamed", "2");
}

/// A long name must not push the message out.
#[test]
fn a_very_long_name() {
    let ended = Child::of("a_very_long_name").run(|| {
        let name = "é".repeat(5_000);
        runtime(1).block_on(|| drop(Builder::new().name(name).spawn(|_| recurse(0)).unwrap().join()));
    });
    assert_eq!(ended.signal(), Some(libc::SIGABRT), "{ended}");
    ended.complained("has overflowed its stack").complained("stack overflow, aborting");
}

/// In a destructor of a thread that unwinds on an OS thread of its own.
#[test]
fn while_unwinding() {
    struct Deep;
    impl Drop for Deep {
        fn drop(&mut self) {
            gvt::sleep_us(100);
            recurse(0);
        }
    }
    let ended = Child::of("while_unwinding").run(|| {
        runtime(2).block_on(|| {
            let unwinds = |_: &gvt::CancellationToken| {
                let _deep = Deep;
                std::panic::resume_unwind(Box::new(()))
            };
            let handle = Builder::new().name("unwinding").spawn(unwinds);
            drop(handle.unwrap().join().map(|(): ()| ()));
        });
    });
    died_of_overflow(&ended, "unwinding", "1");
}

/// Beside a runtime, an OS thread's overflow is std's to report.
#[test]
fn an_os_threads_overflow_is_stds() {
    let ended = Child::of("an_os_threads_overflow_is_stds").run(|| {
        let runtime = runtime(2);
        let deep = std::thread::Builder::new().name("an OS thread".into()).spawn(|| recurse(0)).unwrap();
        drop(deep.join());
        drop(runtime);
    });
    assert_eq!(ended.signal(), Some(libc::SIGABRT), "{ended}");
    let ended = ended.complained("'an OS thread'").complained("has overflowed its stack");
    assert!(!ended.stderr.contains("green thread"), "{ended}");
}

/// Where a fault happens that no runtime has to do with.
#[derive(Clone, Copy)]
enum Where {
    Green,
    Os,
}

fn fault() {
    // SAFETY: none; the fault is what is wanted.
    unsafe { ptr::without_provenance_mut::<u32>(black_box(0xdead_0000)).write_volatile(1) };
}

#[rstest]
#[case::green("a_fault_without_a_handler::case_1_green", Where::Green)]
#[case::os("a_fault_without_a_handler::case_2_os", Where::Os)]
fn a_fault_without_a_handler(#[case] name: &'static str, #[case] place: Where) {
    let ended = Child::of(name).run(|| {
        let runtime = runtime(2);
        match place {
            Where::Green => runtime.block_on(fault),
            Where::Os => fault(),
        }
    });
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended}");
    assert!(!ended.stderr.contains("green thread"), "{ended}");
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

/// A user's handler: notes the fault and ends the process with a status of its own.
extern "C" fn with_info(_signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes valid structures.
    let address = unsafe { (*info).si_addr() } as usize;
    let fine = address == 0xdead_0000 && !context.is_null();
    HANDLED.fetch_add(1, SeqCst);
    // SAFETY: ends the process.
    unsafe { libc::_exit(if fine { 42 } else { 43 }) };
}

extern "C" fn without_info(signal: i32) {
    // SAFETY: ends the process.
    unsafe { libc::_exit(if signal == libc::SIGSEGV { 44 } else { 45 }) };
}

fn handle_faults(handler: usize, flags: i32) {
    // SAFETY: valid structures and a handler of the right kind.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()), 0);
    }
}

#[rstest]
#[case::green("a_handler_that_was_there_before::case_1_green", Where::Green)]
#[case::os("a_handler_that_was_there_before::case_2_os", Where::Os)]
fn a_handler_that_was_there_before(#[case] name: &'static str, #[case] place: Where) {
    let ended = Child::of(name).run(|| {
        let handler = with_info as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
        handle_faults(handler as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
        let runtime = runtime(2);
        match place {
            Where::Green => runtime.block_on(fault),
            Where::Os => fault(),
        }
    });
    assert_eq!(ended.code(), Some(42), "{ended}");
}

#[test]
fn a_handler_of_the_old_kind() {
    let ended = Child::of("a_handler_of_the_old_kind").run(|| {
        handle_faults(without_info as extern "C" fn(i32) as usize, libc::SA_ONSTACK);
        runtime(2).block_on(fault);
    });
    assert_eq!(ended.code(), Some(44), "{ended}");
}

/// Even then an overflow is reported.
#[test]
fn an_overflow_beside_another_handler() {
    let ended = Child::of("an_overflow_beside_another_handler").run(|| {
        let handler = with_info as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
        handle_faults(handler as usize, libc::SA_SIGINFO | libc::SA_ONSTACK);
        runtime(2).block_on(|| recurse(0));
    });
    died_of_overflow(&ended, "unnamed", "1");
}

/// The process goes on after many runtimes have come and gone with faults still handled.
#[test]
fn handlers_survive_runtimes() {
    let ended = Child::of("handlers_survive_runtimes").run(|| {
        (0..20).for_each(|_| runtime(2).block_on(|| ()));
        let last = runtime(1);
        last.block_on(|| drop(Builder::new().name("the last").spawn(|_| recurse(0)).unwrap().join()));
    });
    died_of_overflow(&ended, "the last", "1");
}

/// Sends the calling OS thread a signal, as `kill` does.
fn send(signal: i32) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// std's handler lets the first sent SIGSEGV pass and is gone afterwards.
#[rstest]
#[case::green("an_overflow_after_a_sent_signal::case_1_green", Where::Green, libc::SIGSEGV)]
#[case::os("an_overflow_after_a_sent_signal::case_2_os", Where::Os, libc::SIGSEGV)]
#[case::bus("an_overflow_after_a_sent_signal::case_3_bus", Where::Green, libc::SIGBUS)]
fn an_overflow_after_a_sent_signal(#[case] name: &'static str, #[case] place: Where, #[case] signal: i32) {
    let ended = Child::of(name).run(|| {
        let runtime = runtime(2);
        match place {
            Where::Green => runtime.block_on(|| spawn(move |_| send(signal)).join().unwrap()),
            Where::Os => send(signal),
        }
        eprintln!("goes on");
        runtime.block_on(|| drop(Builder::new().name("deep").spawn(|_| recurse(0)).unwrap().join()));
    });
    let ended = ended.complained("goes on");
    died_of_overflow(&ended, "deep", "1");
}

/// Who sends it again means it.
#[test]
fn a_second_sent_signal_ends_the_process() {
    let ended = Child::of("a_second_sent_signal_ends_the_process").run(|| {
        let runtime = runtime(1);
        send(libc::SIGSEGV);
        eprintln!("goes on");
        runtime.block_on(|| send(libc::SIGSEGV));
        eprintln!("goes on again");
    });
    let ended = ended.complained("goes on");
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended}");
    assert!(!ended.stderr.contains("again"), "{ended}");
}

#[rstest]
#[case::default("a_sent_signal_and_its_disposition::case_1_default", libc::SIG_DFL, Some(libc::SIGSEGV))]
#[case::ignored("a_sent_signal_and_its_disposition::case_2_ignored", libc::SIG_IGN, Some(libc::SIGABRT))]
fn a_sent_signal_and_its_disposition(
    #[case] name: &'static str,
    #[case] disposition: usize,
    #[case] ends_by: Option<i32>,
) {
    let ended = Child::of(name).run(|| {
        handle_faults(disposition, 0);
        let runtime = runtime(1);
        runtime.block_on(|| send(libc::SIGSEGV));
        runtime.block_on(|| recurse(0));
    });
    assert_eq!(ended.signal(), ends_by, "{ended}");
}

extern "C" fn returns(_signal: i32) {
    HANDLED.fetch_add(1, SeqCst);
}

/// What a crash reporter does.
extern "C" fn sends_again(signal: i32) {
    handle_faults(libc::SIG_DFL, 0);
    send(signal);
}

#[test]
fn sent_signals_go_to_the_handler_before() {
    let ended = Child::of("sent_signals_go_to_the_handler_before").run(|| {
        handle_faults(returns as extern "C" fn(i32) as usize, 0);
        let runtime = runtime(1);
        (0..3).for_each(|_| runtime.block_on(|| send(libc::SIGSEGV)));
        assert_eq!(HANDLED.load(SeqCst), 3);
        runtime.block_on(|| recurse(0));
    });
    died_of_overflow(&ended, "unnamed", "1");
}

#[test]
fn a_handler_that_sends_it_again() {
    let ended = Child::of("a_handler_that_sends_it_again").run(|| {
        handle_faults(sends_again as extern "C" fn(i32) as usize, 0);
        let runtime = runtime(1);
        runtime.block_on(|| send(libc::SIGSEGV));
        eprintln!("goes on");
    });
    assert_eq!(ended.signal(), Some(libc::SIGSEGV), "{ended}");
    assert!(!ended.stderr.contains("goes on"), "{ended}");
}

#[inline(never)]
fn innermost() -> String {
    let text = std::backtrace::Backtrace::force_capture().to_string();
    black_box(text)
}

#[inline(never)]
fn middle(depth: u32) -> String {
    let text = if depth == 0 { innermost() } else { middle(depth - 1) };
    black_box(text)
}

/// A backtrace shows the thread's frames, in order, and ends at its root.
#[test]
fn a_backtrace_ends_at_the_root() {
    let text = runtime(2).block_on(|| {
        let handle = spawn(|_| {
            yield_now();
            gvt::sleep_us(10);
            middle(3)
        });
        handle.join().unwrap()
    });
    let frames: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
    let place = |name: &str| {
        frames.iter().position(|frame| frame.contains(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    assert!(place("innermost") < place("middle"));
    assert_eq!(frames.iter().filter(|frame| frame.contains("middle")).count(), 4, "{text}");
    assert!(place("middle") < place("a_backtrace_ends_at_the_root"));
    assert!(frames.last().unwrap().contains("root"), "{text}");
    assert!(frames.len() < 60, "{text}");
}

/// Printing a panic's backtrace from a green thread works too.
#[test]
fn a_panic_prints_its_backtrace() {
    let ended = Child::of("a_panic_prints_its_backtrace").env("RUST_BACKTRACE", "1").run(|| {
        runtime(2).block_on(|| assert!(spawn(|_| panic!("with frames")).join().is_err()));
    });
    ended.succeeded().complained("with frames").complained("a_panic_prints_its_backtrace");
}
