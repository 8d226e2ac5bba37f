//! Panic messages that name green threads.
//!
//! std's own hook prints the OS thread's name, which cannot be set from outside. So the first runtime of a
//! process looks at the hook. If it is std's own, it is wrapped: a panic on a named green thread is printed
//! here, in std's form, and all others go to std's hook. Another hook stays as it is: it can ask
//! [`current_name`](crate::current_name()).
//!
//! A hook that is set later replaces this one; `take_hook` returns it together with std's. A program that
//! sets its hook before its first runtime sees no difference.
//!
//! **How std's own is recognised.** Taking the hook leaves std's own in its place, so a second `take_hook`
//! returns std's. The two are compared by address and method table. If they are different instances
//! nevertheless, the message names the OS thread.
//!
//! **Limits.** Backtraces have more frames than std's. A hook that another OS thread sets while the first
//! runtime is built may be lost.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Installs the hook, once in a process.
pub(crate) fn install() {
    // Relaxed: the second caller need not wait for the first.
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    // A panicking thread cannot take the hook; the next runtime does it.
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
        // The program has a hook of its own.
        return set_hook(found);
    }
    set_hook(Box::new(move |info| match crate::current_name() {
        Some(name) => print(&name, info),
        None => own(info),
    }));
}

/// Prints a panic as std does. Errors of writing are ignored.
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
    // Relaxed: printing it twice does no harm.
    } else if !TOLD.swap(true, Relaxed) {
        text.push_str("note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n");
    }
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
