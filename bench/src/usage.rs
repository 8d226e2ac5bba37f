//! What this process has used, from the kernel.

use std::fs;

/// CPU seconds of all threads of this process, user and system.
pub fn cpu_seconds() -> f64 {
    // SAFETY: `rusage` is plain data, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the answer.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Bytes of a field of `/proc/<process>/status`, which gives kB.
pub fn status_bytes(process: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Resident memory and page tables, now.
pub fn memory_now() -> u64 {
    status_bytes("self", "VmRSS") + status_bytes("self", "VmPTE")
}

/// The highest resident memory so far, and page tables now (these do not shrink while the stacks
/// stay mapped).
pub fn memory_peak() -> u64 {
    status_bytes("self", "VmHWM") + status_bytes("self", "VmPTE")
}
