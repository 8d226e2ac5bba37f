//! What the figures depend on and the reader cannot see.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::usage;

/// Facts about this machine.
pub fn facts() -> BTreeMap<String, String> {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map(|x| x.1);
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let memory = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or("?").trim();
    let facts = [
        ("cpu", model.unwrap_or("?").to_owned()),
        ("cpus", cpus.to_string()),
        ("memory", memory.to_owned()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("load before", read("/proc/loadavg")),
        ("transparent huge pages", read("/sys/kernel/mm/transparent_hugepage/enabled")),
        ("vm.max_map_count", read("/proc/sys/vm/max_map_count")),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Whether others use more than a quarter of the CPUs.
pub fn is_busy() -> bool {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last_minute = load.split(' ').next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    last_minute > std::thread::available_parallelism().map_or(1, usize::from) as f64 / 4.0
}

/// Versions of this build.
pub fn versions() -> BTreeMap<String, String> {
    let mut versions: BTreeMap<String, String> = env!("GVT_BENCH_VERSIONS")
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect();
    versions.insert("rustc".into(), env!("GVT_BENCH_RUSTC").trim_start_matches("rustc ").into());
    let commit = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=10"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    if let Some(out) = commit.ok().filter(|out| out.status.success()) {
        versions.insert("gvt commit".into(), String::from_utf8_lossy(&out.stdout).trim().into());
    }
    versions
}

/// A limit for one child's memory: most of what is free now.
pub fn memory_limit() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = text.lines().find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    let free = free.and_then(|kb| kb.parse::<u64>().ok()).map_or(4 << 30, |kb| kb * 1024);
    free.saturating_sub(usage::memory_now()) / 4 * 3
}
