//! Files and what they import, crate by crate.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::{self, Imports, Names};
use crate::tree::{File, Finding, Tree};

const CHECK: &str = "layers";

/// One import: the file that it is in, the line, the file that defines what is named.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Import {
    pub from: String,
    pub to: String,
    pub line: usize,
}

/// All imports between files of one crate, for all crates.
#[derive(Default, Debug)]
pub struct Graph {
    /// Paths from the root of the repository.
    pub files: BTreeSet<String>,
    pub imports: BTreeSet<Import>,
}

/// A crate's modules by their path from its root.
struct Crate<'a> {
    modules: BTreeMap<Names, (&'a File, Imports)>,
}

impl Graph {
    pub fn read(tree: &Tree) -> Result<Self, String> {
        let mut crates: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
        for file in tree.rust() {
            if let Some((root, _)) = file.path.split_once("/src/")
                && !file.path.contains("/src/bin/")
                && !file.path.contains("/composition/")
            {
                crates.entry(root).or_default().push(file);
            }
        }
        let mut graph = Graph::default();
        for (root, files) in crates {
            let one = Crate::read(root, &files)?;
            graph.files.extend(one.modules.values().map(|(file, _)| file.path.clone()));
            one.add(&mut graph.imports);
        }
        Ok(graph)
    }

    /// **no circle**: a finding for each set of files that import each other, with a shortest way round.
    pub fn circles(&self) -> Vec<Finding> {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut findings = Vec::new();
        for file in &self.files {
            if seen.contains(file.as_str()) {
                continue;
            }
            let Some(way) = self.way(file, file) else { continue };
            let circle: BTreeSet<&str> = self
                .files
                .iter()
                .map(String::as_str)
                .filter(|other| self.way(file, other).is_some() && self.way(other, file).is_some())
                .collect();
            let what = format!(
                "{} files import each other in a circle; one way round: {}",
                circle.len(),
                way.join(" → ")
            );
            findings.push(Finding::new(CHECK, file, 1, what));
            seen.extend(circle);
        }
        findings
    }

    /// A shortest way along imports, of one step at least.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut level = vec![from];
        while !level.is_empty() {
            let mut next = Vec::new();
            for at in level {
                for import in self.imports_of(at) {
                    if import.to == to {
                        let mut way = vec![to.to_owned(), at.to_owned()];
                        let mut step = at;
                        while step != from {
                            step = before[step];
                            way.push(step.to_owned());
                        }
                        way.reverse();
                        return Some(way);
                    }
                    if import.to != from && !before.contains_key(import.to.as_str()) {
                        before.insert(&import.to, at);
                        next.push(import.to.as_str());
                    }
                }
            }
            level = next;
        }
        None
    }

    fn imports_of(&self, file: &str) -> impl Iterator<Item = &Import> {
        let first = Import { from: file.into(), to: String::new(), line: 0 };
        let file = file.to_owned();
        self.imports.range(first..).take_while(move |import| import.from == file)
    }
}

impl<'a> Crate<'a> {
    fn read(root: &str, files: &[&'a File]) -> Result<Self, String> {
        let mut modules = BTreeMap::new();
        for &file in files {
            let below = &file.path[root.len() + "/src/".len()..];
            let Some(home) = module_of(below) else { continue };
            let imports =
                imports::read(&file.text, &home).map_err(|error| format!("{}: {error}", file.path))?;
            modules.insert(home, (file, imports));
        }
        Ok(Crate { modules })
    }

    fn add(&self, imports: &mut BTreeSet<Import>) {
        for (home, (file, found)) in &self.modules {
            // The root re-exports what it likes.
            if home.is_empty() {
                continue;
            }
            for (path, line) in &found.paths {
                if let Some(to) = self.definer(path, 0)
                    && to != file.path
                {
                    imports.insert(Import { from: file.path.clone(), to, line: *line });
                }
            }
        }
    }

    /// The file that defines what `path` names; `None` for the crate's root, and for what cannot be told.
    fn definer(&self, path: &[String], depth: usize) -> Option<String> {
        let long = (0..=path.len()).rev().find(|&long| self.modules.contains_key(&path[..long]))?;
        let (file, imports) = &self.modules[&path[..long]];
        let name = path.get(long);
        // Followed so often at the most: two modules may re-export each other's all.
        if let Some(name) = name.filter(|_| depth < 8) {
            let exact = imports.exports.iter().find(|(shown, _)| shown == name);
            if let Some((_, from)) = exact {
                return self.definer(&[from, &path[long + 1..]].concat(), depth + 1);
            }
        }
        (long > 0).then(|| file.path.clone())
    }
}

/// The module that a file below `src` is; `None` for a program beside the library.
fn module_of(below: &str) -> Option<Names> {
    let mut names: Names = below.strip_suffix(".rs")?.split('/').map(Into::into).collect();
    match names.last()?.as_str() {
        "lib" | "mod" => drop(names.pop()),
        "main" if names.len() == 1 => drop(names.pop()),
        _ => {}
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    fn graph(files: &[(&str, &str)]) -> Graph {
        Graph::read(&tree(files)).unwrap()
    }

    #[test]
    fn a_circle_is_found_and_named() {
        let graph = graph(&[
            ("a/src/lib.rs", "mod x; mod y; mod z;"),
            ("a/src/x.rs", "use crate::y::Y;"),
            ("a/src/y.rs", "fn f() { super::z::g() }"),
            ("a/src/z.rs", "use super::x;"),
        ]);
        let findings = graph.circles();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].what.contains("3 files") && findings[0].what.contains("a/src/y.rs → a/src/z.rs"));
    }

    #[test]
    fn what_a_folder_re_exports_is_no_circle() {
        let files = [
            ("a/src/lib.rs", "mod sync;"),
            ("a/src/sync/mod.rs", "mod lock; mod list; pub(crate) use lock::Lock; pub use self::list::List;"),
            ("a/src/sync/lock.rs", "struct Lock;"),
            ("a/src/sync/list.rs", "use super::Lock;"),
        ];
        let graph = graph(&files);
        assert!(graph.circles().is_empty());
        let import = graph.imports.first().unwrap();
        assert_eq!((import.from.as_str(), import.to.as_str()), ("a/src/sync/list.rs", "a/src/sync/lock.rs"));
    }

    #[test]
    fn crates_do_not_mix_and_tests_do_not_count() {
        let graph = graph(&[
            ("a/src/x.rs", "use crate::y::Y;"),
            ("b/src/y.rs", "use crate::x::X;"),
            ("a/src/y.rs", "#[cfg(test)] mod tests { use crate::x; }"),
        ]);
        assert_eq!(graph.imports.len(), 1);
    }
}
