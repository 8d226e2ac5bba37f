//! What is allowed in spite of a check, and why.
//!
//! One line each: the check, the file, optionally a colon and a piece of the finding's text, then ` # ` and
//! the reason. Blank lines and lines that start with `#` say nothing.

use std::path::Path;

use crate::tree::Finding;

/// Where the list lies.
pub const FILE: &str = "xtask/allow.txt";

struct Entry {
    line: usize,
    check: String,
    file: String,
    detail: String,
    used: bool,
}

/// The list, and which entries were needed.
pub struct AllowList {
    entries: Vec<Entry>,
    bad: Vec<Finding>,
}

impl AllowList {
    pub fn read(root: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(root.join(FILE)).map_err(|error| format!("{FILE}: {error}"))?;
        Ok(Self::parse(&text))
    }

    pub fn parse(text: &str) -> Self {
        let mut list = AllowList { entries: Vec::new(), bad: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = line.split_once(" # ").and_then(|(what, reason)| {
                let (check, place) = what.trim().split_once(' ')?;
                let (file, detail) = place.split_once(':').unwrap_or((place, ""));
                (!reason.trim().is_empty()).then(|| Entry {
                    line: index + 1,
                    check: check.into(),
                    file: file.trim().into(),
                    detail: detail.trim().into(),
                    used: false,
                })
            });
            match entry {
                Some(entry) => list.entries.push(entry),
                None => list.bad.push(Finding::new(
                    "allow",
                    FILE,
                    index + 1,
                    "an entry is `CHECK FILE[: TEXT] # REASON`",
                )),
            }
        }
        list
    }

    /// Whether an entry allows `finding`; notes that it was needed.
    pub fn covers(&mut self, finding: &Finding) -> bool {
        let mut covered = false;
        for entry in &mut self.entries {
            if entry.check == finding.check
                && entry.file == finding.file
                && finding.what.contains(&entry.detail)
            {
                entry.used = true;
                covered = true;
            }
        }
        covered
    }

    /// Entries that nothing needed, and those that are none.
    pub fn unused(self) -> Vec<Finding> {
        let stale = self.entries.iter().filter(|entry| !entry.used).map(|entry| {
            let what = format!("`{} {}` allows nothing any more: remove it", entry.check, entry.file);
            Finding::new("allow", FILE, entry.line, what)
        });
        stale.chain(self.bad.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_covers_its_finding_only() {
        let mut list =
            AllowList::parse("# heading\n\nsize a.rs # it is one table\nclauses b.rs: L1 # a cache\n");
        assert!(list.covers(&Finding::new("size", "a.rs", 1, "700 lines")));
        assert!(list.covers(&Finding::new("clauses", "b.rs", 1, "L1 is not defined")));
        assert!(!list.covers(&Finding::new("clauses", "b.rs", 1, "L2 is not defined")));
        assert!(!list.covers(&Finding::new("size", "c.rs", 1, "700 lines")));
        assert!(list.unused().is_empty());
    }

    #[test]
    fn entries_without_use_or_reason_are_findings() {
        assert_eq!(AllowList::parse("size a.rs # because\n").unused().len(), 1);
        assert_eq!(AllowList::parse("size a.rs\n").unused().len(), 1);
        assert_eq!(AllowList::parse("size a.rs #  \n").unused().len(), 1);
    }
}
