//! Digests every file of a directory tree, a green thread a file.
//!
//!     cargo run --release -p gvt --example tree_digest -- DIR
//!     cargo run --release -p gvt --example tree_digest -- --sequential DIR
//!
//! Each file's SHA-256 goes to standard output as `sha256sum` writes it (`sha256sum -c` checks it), sorted by
//! path whatever order the threads finish in. Totals, the digest of the whole tree, and what could not be
//! read go to standard error, with a progress bar if that is a terminal. Exit status: 0, or 1 if something
//! could not be read, or 2 for a bad call.
//!
//! Symbolic links are not followed: what they say is part of the tree's digest. Empty directories are part of
//! it too. Pipes, sockets and devices are counted and not read. Files without an end (some in `/proc`) are
//! read until you lose patience.
//!
//! Reading a file is a system call, and one that waits for a disk holds up its worker. For files in the page
//! cache that does not matter; for a slow disk say `--cold`, and each read gives its worker on
//! ([`gvt::blocking`]).

#[path = "../support/mod.rs"]
mod support;

mod digest;
mod tree;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use digest::{Reading, Report, Totals, hexadecimal};
use gvt::{MmapSlots, Runtime};
use support::output::{self, complain};
use support::{bytes, grouped, parse};
use tree::{Entry, Kind};

const USAGE: &str = "usage: tree_digest [--sequential | --cold] [--quiet] [--workers N] DIR";

const HELP: &str = "\
SHA-256 of every file of a directory tree, as sha256sum writes it, a green thread a file.

usage: tree_digest [--sequential | --cold] [--quiet] [--workers N] DIR

  --sequential   one file after another, without a runtime
  --cold         each read gives its worker on: for slow disks
  --quiet        the totals only
  --workers N    workers; one a processor otherwise

Exit status: 0, or 1 if something could not be read or written, or 2 for a bad call.";

struct Settings {
    directory: PathBuf,
    sequential: bool,
    reading: Reading,
    quiet: bool,
    workers: usize,
}

fn settings() -> Result<Settings, String> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(64);
    let mut settings = Settings {
        directory: PathBuf::new(),
        sequential: false,
        reading: Reading::Plain,
        quiet: false,
        workers,
    };
    let mut arguments = output::arguments(HELP);
    let mut only_paths = false;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--") if !only_paths => only_paths = true,
            Some("--sequential") if !only_paths => settings.sequential = true,
            Some("--cold") if !only_paths => settings.reading = Reading::Blocking,
            Some("--quiet") if !only_paths => settings.quiet = true,
            Some("--workers") if !only_paths => {
                let value = arguments.next().ok_or(format!("--workers needs a number; {USAGE}"))?;
                settings.workers = parse("--workers", &value.to_string_lossy(), 1, 64)? as usize;
            }
            Some(flag) if !only_paths && flag.starts_with('-') => {
                return Err(format!("{flag} is no option; {USAGE}"));
            }
            _ if !settings.directory.as_os_str().is_empty() => {
                return Err(format!("one DIR at a time; {USAGE}"));
            }
            _ => settings.directory = argument.into(),
        }
    }
    if settings.directory.as_os_str().is_empty() {
        return Err(USAGE.into());
    }
    Ok(settings)
}

fn main() -> ExitCode {
    let settings = match settings() {
        Ok(settings) => settings,
        Err(sentence) => return refuse(&sentence),
    };
    let entries = match tree::walk(&settings.directory) {
        Ok(entries) => entries,
        Err(error) => return refuse(&format!("cannot list {}: {error}", settings.directory.display())),
    };
    let total = entries.iter().map(|entry| if let Kind::File(size) = entry.kind { size } else { 0 }).sum();
    let bar = support::progress(total, "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    let progress = |count| bar.inc(count);
    let mut output = Output { buffer: Vec::new(), failed: None };
    let each = |entry: &Entry, report: &Report| {
        if let Report::Unreadable(why) = report {
            bar.suspend(|| complain!("tree_digest: {}: {why}", entry.path.display()));
        }
        if !settings.quiet {
            output.add(entry, report);
            if output.buffer.len() > 32 << 10 {
                bar.suspend(|| output.flush());
            }
        }
    };

    let begin = Instant::now();
    let totals = if settings.sequential {
        digest::sequential(&settings.directory, &entries, &progress, each)
    } else {
        let runtime = Runtime::builder()
            .workers(settings.workers)
            .slots(MmapSlots::default().slot_size(256 << 10))
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(|| {
                digest::parallel(&settings.directory, &entries, settings.reading, &progress, each)
            }),
            Err(error) => return refuse(&error.to_string()),
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    bar.finish_and_clear();
    output.flush();
    summary(&settings, &totals, seconds);
    match output.failed {
        Some(error) => {
            complain!("tree_digest: cannot write the digests: {error}");
            ExitCode::FAILURE
        }
        None if totals.unreadable > 0 => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    }
}

fn refuse(sentence: &str) -> ExitCode {
    complain!("tree_digest: {sentence}");
    ExitCode::from(2)
}

fn summary(settings: &Settings, totals: &Totals, seconds: f64) {
    let how = if settings.sequential {
        "one after another".into()
    } else {
        format!("{} workers", settings.workers)
    };
    complain!(
        "files read: {}, {} in {seconds:.2} s ({}/s), {how}",
        grouped(totals.files),
        bytes(totals.bytes),
        bytes((totals.bytes as f64 / seconds) as u64)
    );
    for (count, what) in [
        (totals.links, "symbolic links, not followed; what they say is part of the digest"),
        (totals.empty_directories, "empty directories, part of the digest"),
        (totals.specials, "pipes, sockets and devices, not read"),
        (totals.unreadable, "UNREADABLE, named above; the digest is of the rest"),
    ] {
        if count > 0 {
            complain!("{what}: {}", grouped(count));
        }
    }
    complain!("tree {}", hexadecimal(&totals.sum));
}

/// Lines for standard output, collected.
///
/// std's lock on it belongs to an OS thread, so it must not be held while a green thread may move to another:
/// it is taken for each full buffer, with no wait inside.
struct Output {
    buffer: Vec<u8>,
    failed: Option<io::Error>,
}

impl Output {
    fn add(&mut self, entry: &Entry, report: &Report) {
        let (Kind::File(_), Report::Read(sum, _)) = (&entry.kind, report) else {
            return;
        };
        let (marked, path) = tree::escaped(entry.path.as_os_str());
        if marked {
            self.buffer.push(b'\\');
        }
        self.buffer.extend_from_slice(hexadecimal(sum).as_bytes());
        self.buffer.extend_from_slice(b"  ");
        self.buffer.extend_from_slice(&path);
        self.buffer.push(b'\n');
    }

    fn flush(&mut self) {
        if self.failed.is_none() {
            let mut out = io::stdout().lock();
            self.failed = out.write_all(&self.buffer).and_then(|()| out.flush()).err();
            drop(out);
            // Nobody wants more, so the rest of the tree need not be read.
            if let Some(error) = &self.failed
                && error.kind() == io::ErrorKind::BrokenPipe
            {
                output::end(error);
            }
        }
        self.buffer.clear();
    }
}
