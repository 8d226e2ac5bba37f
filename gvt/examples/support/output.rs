//! What examples write, and what they are called with.
//!
//! `println!` panics where its reader has gone (`| head -1`). [`say!`] ends the process instead, quietly and
//! with status 0: nobody wants more. Where it cannot be written for another reason (a full disk), it says so
//! and ends with status 1. Neither holds a lock of std's over a wait.
#![allow(dead_code, unused_macros, unused_imports, reason = "each example uses its part")]

use std::ffi::OsString;
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::exit;

/// `println!`, to a reader that may go away.
macro_rules! say {
    ($($text:tt)*) => { $crate::support::output::line(format_args!($($text)*)) };
}

/// `eprintln!`, to a reader that may go away.
macro_rules! complain {
    ($($text:tt)*) => { $crate::support::output::complaint(format_args!($($text)*)) };
}

pub(crate) use {complain, say};

/// Writes a line to standard output.
pub fn line(text: Arguments<'_>) {
    // Formatted first: what is written may take its time, and the lock is an OS thread's.
    let text = format!("{text}\n");
    if let Err(error) = io::stdout().write_all(text.as_bytes()) {
        end(&error);
    }
}

/// Writes a line to standard error; there is nowhere to complain if that fails.
pub fn complaint(text: Arguments<'_>) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Ends a process that cannot write.
pub fn end(error: &io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        exit(0);
    }
    complaint(format_args!("the output cannot be written: {error}"));
    exit(1)
}

/// The arguments, unless one before `--` asks for help: then `help` is said, and the process ends.
pub fn arguments(help: &str) -> impl Iterator<Item = OsString> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.iter().take_while(|text| *text != "--").any(|text| text == "--help" || text == "-h") {
        line(format_args!("{}", help.trim()));
        exit(0);
    }
    arguments.into_iter()
}

/// For an example that takes no arguments: what is given in spite of that is refused with status 2.
pub fn no_arguments(help: &str) {
    if let Some(argument) = arguments(help).next() {
        complaint(format_args!("{argument:?} is one argument too many: there are none; --help says more"));
        exit(2);
    }
}

/// For an example that takes one number and no more; what is no number is refused with status 2.
pub fn whole_number(help: &str, name: &str, default: usize) -> usize {
    let mut arguments = arguments(help);
    let Some(first) = arguments.next() else {
        return default;
    };
    match (first.to_str().and_then(|text| text.parse::<usize>().ok()), arguments.next()) {
        (Some(number), None) if number > 0 => return number,
        (_, Some(more)) => complaint(format_args!("{more:?} is one argument too many; --help says more")),
        _ => complaint(format_args!("{name} is {first:?}; give a whole number from 1; --help says more")),
    }
    exit(2)
}
