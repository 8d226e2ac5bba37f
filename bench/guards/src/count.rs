//! Counts instructions: the same operation under callgrind a few times, then many times.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::ops::Op;

/// Repetitions of the short run.
const FEW: u64 = 1_000;

/// Instructions of one operation, as `exe` does it. With `keep`, callgrind's file of the long run stays.
pub fn per_operation(exe: &Path, op: &Op, keep: bool) -> Result<f64, String> {
    let few = total(exe, op, FEW, false)?;
    let many = total(exe, op, FEW + op.times, keep)?;
    Ok((many as f64 - few as f64) / op.times as f64)
}

/// Instructions of a whole run.
fn total(exe: &Path, op: &Op, times: u64, keep: bool) -> Result<u64, String> {
    let file = env::temp_dir().join(format!("callgrind.gvt-guards.{}.{}", op.name, std::process::id()));
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--max-stackframe=4294967296"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(exe)
        .args(["run", op.name, &times.to_string()])
        .output()
        .map_err(|e| format!("valgrind: {e}; is it installed?"))?;
    if !ran.status.success() {
        return Err(format!("{} failed under valgrind:\n{}", op.name, String::from_utf8_lossy(&ran.stderr)));
    }
    let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    if keep {
        println!("callgrind_annotate {}", file.display());
    } else {
        let _ = fs::remove_file(&file);
    }
    let line = text.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")));
    let count = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    count.ok_or_else(|| format!("{} has no total", file.display()))
}
