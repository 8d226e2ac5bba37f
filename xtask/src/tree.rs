//! The repository as the checks see it: files and their text, packages and their dependencies.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Something to mend.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub check: &'static str,
    pub what: String,
}

impl Finding {
    pub fn new(check: &'static str, file: &str, line: usize, what: impl Into<String>) -> Self {
        Finding { check, file: file.into(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.check, self.what)
    }
}

/// A file; its path is relative to the root, with slashes.
#[derive(Clone, Debug)]
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub fn is_document(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// The file's name without its ending.
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.split('.').next().unwrap_or(name)
    }

    /// The folder at the root that it lies in, which is its package; empty for a file at the root.
    pub fn package(&self) -> &str {
        self.path.split_once('/').map_or("", |(package, _)| package)
    }
}

/// A dependency between two packages of the workspace, or on one outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edge {
    pub from: String,
    pub to: String,
    /// Only for its tests, examples and benchmarks.
    pub is_dev: bool,
    /// Whether `to` is one of the workspace's own.
    pub is_ours: bool,
}

/// Everything that is checked.
#[derive(Clone, Default, Debug)]
pub struct Tree {
    pub files: Vec<File>,
    pub edges: Vec<Edge>,
}

impl Tree {
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut tree = Tree::default();
        read_folder(root, "", &mut tree.files).map_err(|error| format!("{}: {error}", root.display()))?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        tree.edges = read_edges(root)?;
        Ok(tree)
    }

    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    pub fn documents(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_document())
    }
}

fn read_folder(root: &Path, below: &str, files: &mut Vec<File>) -> std::io::Result<()> {
    for item in fs::read_dir(root.join(below))? {
        let item = item?;
        let name = item.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" || name.starts_with("target-") {
            continue;
        }
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if item.file_type()?.is_dir() {
            read_folder(root, &path, files)?;
        } else if path.ends_with(".rs") || path.ends_with(".md") {
            files.push(File { text: fs::read_to_string(item.path())?, path });
        }
    }
    Ok(())
}

fn read_edges(root: &Path) -> Result<Vec<Edge>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let mut edges = Vec::new();
    for package in packages {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let text = |key: &str| dependency[key].as_str().unwrap_or_default();
            edges.push(Edge {
                from: package["name"].as_str().unwrap_or_default().into(),
                to: text("name").into(),
                is_dev: text("kind") == "dev",
                is_ours: dependency["path"].is_string(),
            });
        }
    }
    Ok(edges)
}

/// Trees for the checks' own tests.
#[cfg(test)]
pub mod made {
    use super::*;

    pub fn tree(files: &[(&str, &str)]) -> Tree {
        let file = |&(path, text): &(&str, &str)| File { path: path.into(), text: text.into() };
        Tree { files: files.iter().map(file).collect(), edges: Vec::new() }
    }

    pub fn edge(from: &str, to: &str) -> Edge {
        let is_ours = to.starts_with("gvt");
        Edge { from: from.into(), to: to.into(), is_dev: false, is_ours }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let tree = Tree::read(&root).unwrap();
        assert!(tree.rust().any(|file| file.path == "xtask/src/tree.rs"));
        assert!(tree.documents().any(|file| file.path == "README.md"));
        assert!(tree.edges.iter().any(|edge| edge.from == "gvt" && edge.to == "gvt-traits" && edge.is_ours));
    }

    #[test]
    fn parts_of_a_path() {
        let file = File { path: "gvt/src/sched/wait.rs".into(), text: String::new() };
        assert_eq!((file.stem(), file.package()), ("wait", "gvt"));
    }
}
