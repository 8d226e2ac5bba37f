//! The floors of a folder, top floor first, and what breaks them.
//!
//! `xtask/floors.txt` has a section a folder: a line that ends with `:` names the folder, each line below it
//! is a floor with the rooms (files without their ending, or folders) that lie on it. `FROM -> TO # REASON`
//! is an import that is allowed though it goes up. Each room of the folder stands on one floor, and each
//! exception is used.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::graph::{Graph, Import};
use crate::tree::Finding;

const CHECK: &str = "layers";

#[derive(Default, Debug)]
pub struct Floors {
    folders: Vec<Folder>,
}

#[derive(Default, Debug)]
struct Folder {
    path: String,
    /// The top one first.
    floors: Vec<Vec<String>>,
    exceptions: Vec<(String, String)>,
}

impl Floors {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut floors = Floors::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            let bad = |what: &str| format!("line {}: {what}", index + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(path) = line.strip_suffix(':') {
                floors.folders.push(Folder { path: path.into(), ..Folder::default() });
                continue;
            }
            let folder = floors.folders.last_mut().ok_or_else(|| bad("a floor before any folder"))?;
            if let Some((from, rest)) = line.split_once("->") {
                let (to, reason) =
                    rest.split_once('#').ok_or_else(|| bad("an exception needs ` # REASON`"))?;
                if reason.trim().is_empty() {
                    return Err(bad("an exception needs a reason"));
                }
                folder.exceptions.push((from.trim().into(), to.trim().into()));
            } else {
                folder.floors.push(line.split_whitespace().map(Into::into).collect());
            }
        }
        Ok(floors)
    }

    pub fn refuse(&self, graph: &Graph) -> Vec<Finding> {
        self.folders.iter().flat_map(|folder| folder.refuse(graph)).collect()
    }

    /// Each folder's floors, with the imports between rooms.
    pub fn picture(&self, graph: &Graph) -> String {
        let mut text = String::new();
        for folder in &self.folders {
            let _ = writeln!(text, "{}", folder.path);
            let arrows = folder.arrows(graph);
            for floor in &folder.floors {
                for room in floor {
                    let below: BTreeSet<&str> =
                        arrows.keys().filter(|(from, _)| from == room).map(|(_, to)| to.as_str()).collect();
                    let below: Vec<&str> = below.into_iter().collect();
                    let _ = writeln!(text, "    {room:<18} → {}", below.join(" "));
                }
            }
        }
        text
    }
}

impl Folder {
    /// The room that a file lies in, if it is below this folder.
    fn room<'a>(&self, file: &'a str) -> Option<&'a str> {
        let below = file.strip_prefix(&self.path)?.strip_prefix('/')?;
        let room = below.split('/').next()?;
        Some(room.strip_suffix(".rs").unwrap_or(room))
    }

    fn floor(&self, room: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.iter().any(|other| other == room))
    }

    /// Imports from room to room.
    fn arrows<'a>(&self, graph: &'a Graph) -> BTreeMap<(String, String), Vec<&'a Import>> {
        let mut arrows: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for import in &graph.imports {
            if let (Some(from), Some(to)) = (self.room(&import.from), self.room(&import.to))
                && from != to
            {
                arrows.entry((from.to_owned(), to.to_owned())).or_default().push(import);
            }
        }
        arrows
    }

    fn refuse(&self, graph: &Graph) -> Vec<Finding> {
        let mut findings = Vec::new();
        let rooms: BTreeSet<&str> = graph.files.iter().filter_map(|file| self.room(file)).collect();
        for &room in &rooms {
            if !["lib", "mod"].contains(&room) && self.floor(room).is_none() {
                let what = format!("`{room}` of {} stands on no floor", self.path);
                findings.push(Finding::new(CHECK, super::FLOORS, 1, what));
            }
        }
        for room in self.floors.iter().flatten().filter(|room| !rooms.contains(room.as_str())) {
            findings.push(Finding::new(
                CHECK,
                super::FLOORS,
                1,
                format!("there is no `{room}` in {}", self.path),
            ));
        }
        let mut unused: BTreeSet<&(String, String)> = self.exceptions.iter().collect();
        for (arrow, imports) in self.arrows(graph) {
            let (Some(from), Some(to)) = (self.floor(&arrow.0), self.floor(&arrow.1)) else { continue };
            if from <= to || unused.remove(&arrow) || self.exceptions.contains(&arrow) {
                continue;
            }
            for import in imports {
                let what =
                    format!("`{}` imports {} from `{}`, a floor above it", arrow.0, import.to, arrow.1);
                findings.push(Finding::new(CHECK, &import.from, import.line, what));
            }
        }
        for (from, to) in unused {
            let what = format!("`{from} -> {to}` allows nothing any more: remove it");
            findings.push(Finding::new(CHECK, super::FLOORS, 1, what));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    const FILES: [(&str, &str); 4] = [
        ("a/src/lib.rs", ""),
        ("a/src/high/x.rs", "use crate::low::Low;"),
        ("a/src/high/mod.rs", ""),
        ("a/src/low.rs", "use crate::high::x::X;"),
    ];

    fn refused(floors: &str) -> Vec<String> {
        let graph = Graph::read(&tree(&FILES)).unwrap();
        Floors::parse(floors).unwrap().refuse(&graph).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn an_import_upward_is_refused() {
        let found = refused("a/src:\nhigh\nlow\n");
        assert_eq!(found, ["`low` imports a/src/high/x.rs from `high`, a floor above it"]);
        assert!(refused("a/src:\nhigh low\n").is_empty());
        assert!(refused("a/src:\nhigh\nlow\nlow -> high # a reason\n").is_empty());
    }

    #[test]
    fn rooms_without_a_floor_and_stale_lines_are_refused() {
        assert_eq!(refused("a/src:\nhigh\n"), ["`low` of a/src stands on no floor"]);
        assert!(refused("a/src:\nhigh low gone\n")[0].contains("no `gone`"));
        assert!(refused("a/src:\nhigh low\nhigh -> low # a reason\n")[0].contains("nothing any more"));
        assert!(Floors::parse("a/src:\nlow -> high\n").is_err());
        assert!(Floors::parse("low\n").is_err());
    }
}
