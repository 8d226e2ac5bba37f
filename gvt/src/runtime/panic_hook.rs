//! Panic messages that name green threads.
//!
//! std's own hook names the OS thread, and no name of that can be set from outside. So the first runtime of a process puts a hook
//! before the one that it finds. If that is std's own, a panic on a green thread with a name is printed here, in std's form; all
//! others are left to it. If it is another, the program has said what it wants, and gets it: such a hook can ask
//! [`current_name`](crate::current_name).
//!
//! Whoever sets a hook later replaces this one; whoever takes it has it with the one behind it. A program whose hook is
//! set before its first runtime notices nothing.
//!
//! **How std's own is told from others.** Taking the hook leaves std's own in its place, so that a second taking gives it for
//! certain; the two are compared, address and table of methods. Should they be different instances all the same, the
//! message names the OS thread.
//!
//! **Limits.** The frames of a backtrace are not cut as short as std's. Another OS thread that sets a hook while the first
//! runtime is built may lose it.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Once a process.
pub(crate) fn install() {
    // Relaxed: whoever is second need not wait for the first.
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    // While a thread panics no hook can be taken; the next runtime will.
    if std::thread::panicking() || INSTALLED.swap(true, Relaxed) {
        return;
    }
    let found: Hook = take_hook();
    let own: Hook = take_hook();
    #[allow(
        ambiguous_wide_pointer_comparisons,
        reason = "as the head says; a difference costs the name only"
    )]
    let is_own = std::ptr::eq(&raw const *found, &raw const *own);
    if !is_own {
        // Nothing to do for who brings its own.
        return set_hook(found);
    }
    set_hook(Box::new(move |info| match crate::current_name() {
        Some(name) => print(&name, info),
        None => own(info),
    }));
}

/// Prints a panic as std does. A message that cannot be written is lost.
fn print(name: &str, info: &PanicHookInfo<'_>) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let payload = info.payload();
    let words = payload.downcast_ref::<&str>().copied();
    let words =
        words.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("Box<dyn Any>");
    let mut text = format!("\nthread '{name}' panicked at ");
    let _ = match info.location() {
        Some(location) => writeln!(text, "{location}:\n{words}"),
        None => writeln!(text, "an unknown place:\n{words}"),
    };
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let _ = writeln!(text, "stack backtrace:\n{backtrace}");
    // Relaxed: said once or twice.
    } else if !TOLD.swap(true, Relaxed) {
        text.push_str("note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n");
    }
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
