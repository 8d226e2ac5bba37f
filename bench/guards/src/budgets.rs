//! The file of budgets: `name count`, a line each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The most instructions that each operation may take.
#[derive(Default)]
pub struct Budgets(BTreeMap<String, u64>);

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("budgets.txt")
}

impl Budgets {
    /// Reads the file; none is an empty one.
    pub fn read() -> Result<Self, String> {
        let text = fs::read_to_string(path()).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let pair = |line: &str| {
            let (name, count) = line.split_once(char::is_whitespace)?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        };
        let budgets =
            lines.map(|line| pair(line).ok_or_else(|| format!("budgets.txt: `{line}` is not `name count`")));
        Ok(Budgets(budgets.collect::<Result<_, _>>()?))
    }

    /// The budget of one operation.
    pub fn of(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Sets it to what was counted, and 5 % or 2 instructions more.
    pub fn set(&mut self, name: &str, counted: f64) {
        self.0.insert(name.to_owned(), (counted * 1.05).max(counted + 2.0).ceil() as u64);
    }

    /// Writes the file.
    pub fn write(&self) -> Result<(), String> {
        let rustc = Command::new("rustc").arg("--version").output().map_err(|e| e.to_string())?;
        let mut text = String::from(
            "# The most instructions that one operation may take; `cargo run --release -p gvt-guards`.\n",
        );
        let _ = writeln!(text, "# Counted with {}", String::from_utf8_lossy(&rustc.stdout).trim());
        for (name, count) in &self.0 {
            let _ = writeln!(text, "{name:<22} {count}");
        }
        fs::write(path(), text).map_err(|e| e.to_string())
    }
}
