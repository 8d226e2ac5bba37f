//! What the examples share: checks that end in an exit status, figures of the process, numbers for people.
#![allow(dead_code, reason = "each example uses its part")]

pub mod output;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use output::{complain, say};

/// Checks that were made, and which of them failed.
#[derive(Default)]
pub struct Checks {
    made: usize,
    failed: Vec<String>,
}

impl Checks {
    /// Notes whether `holds`; if not, says at once what was expected.
    pub fn check(&mut self, holds: bool, expectation: impl Display) {
        self.made += 1;
        if !holds {
            complain!("FAILED: {expectation}");
            self.failed.push(expectation.to_string());
        }
    }

    /// Says how the checks came out, and with which status to exit.
    pub fn finish(self) -> ExitCode {
        if self.failed.is_empty() {
            say!("\nall {} checks hold", self.made);
            ExitCode::SUCCESS
        } else {
            say!("\n{} of {} checks failed:", self.failed.len(), self.made);
            self.failed.iter().for_each(|what| say!("  {what}"));
            ExitCode::FAILURE
        }
    }
}

/// Waits until no green thread is left. `block_on` returns as soon as its closure has; the thread that ran
/// it, and others, may be a moment from their end.
pub fn settles(runtime: &gvt::Runtime) -> bool {
    let begin = Instant::now();
    while runtime.live_threads() > 0 {
        if begin.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
}

/// What this process has used so far, and holds now.
#[derive(Clone, Copy, Default)]
pub struct ProcessUse {
    /// User and system time.
    pub cpu: Duration,
    /// Times that an OS thread gave up its processor by itself.
    pub switches: u64,
    /// Physical memory, bytes.
    pub resident: u64,
    /// The most physical memory that there was at once, bytes.
    pub most_resident: u64,
    /// Page tables, bytes: the half of a sparse stack's memory that RSS does not show.
    pub page_tables: u64,
    /// OS threads.
    pub os_threads: u64,
}

impl ProcessUse {
    pub fn now() -> Self {
        // SAFETY: zero is a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: points to a valid structure.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
        let time =
            |t: libc::timeval| Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
        };
        ProcessUse {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            switches: usage.ru_nvcsw as u64,
            resident: field("VmRSS").unwrap_or(0) * 1024,
            most_resident: field("VmHWM").unwrap_or(0) * 1024,
            page_tables: field("VmPTE").unwrap_or(0) * 1024,
            os_threads: field("Threads").unwrap_or(0),
        }
    }

    /// Memory all told: physical pages and the page tables that map them.
    pub fn memory(&self) -> u64 {
        self.resident + self.page_tables
    }
}

/// Physical memory that the system says it could still give, bytes.
pub fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A progress bar on a terminal; nothing elsewhere.
pub fn progress(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    bar.set_style(ProgressStyle::with_template(template).expect("a valid template").progress_chars("=> "));
    bar
}

/// The value at `share` (0 to 1) of `sorted`.
pub fn quantile(sorted: &[u64], share: f64) -> u64 {
    match sorted.len() {
        0 => 0,
        length => sorted[((length - 1) as f64 * share).round() as usize],
    }
}

/// Reads a whole number out of a string that the user supplied.
///
/// # Errors
///
/// A sentence that says what was given and what would do.
pub fn parse(what: &str, text: &str, least: u64, most: u64) -> Result<u64, String> {
    let would_do = format!("give a whole number from {} to {}", grouped(least), grouped(most));
    let plain = text.trim().replace(['_', ','], "");
    let value: u64 = plain.parse().map_err(|_| format!("{what} is {text:?}; {would_do}"))?;
    if (least..=most).contains(&value) { Ok(value) } else { Err(format!("{what} is {text}; {would_do}")) }
}

/// [`parse`] of an environment variable, `default` if it is not set.
///
/// # Errors
///
/// As [`parse`].
pub fn from_env(name: &str, default: u64, least: u64, most: u64) -> Result<u64, String> {
    match std::env::var(name) {
        Ok(text) => parse(name, &text, least, most),
        Err(std::env::VarError::NotPresent) => Ok(default),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
