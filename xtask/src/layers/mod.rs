//! `cargo xtask layers`: imports point downward.
//!
//! Two laws, over the imports of each crate's `src` (tests and models left out):
//!
//! - **no circle**: the files of a crate that import each other form no circle;
//! - **floors**: where `xtask/floors.txt` lists the floors of a folder, an import goes to the same floor or
//!   to a lower one.
//!
//! An import is what names a module of the same crate: a `use`, a path in code, or a path inside a macro's
//! call. A name that a module re-exports is followed to the file that defines it, so that a folder's `mod.rs`
//! may re-export its files without a circle. `lib.rs` is the top of each crate and re-exports what it likes;
//! what it defines as a macro may be used everywhere.

mod floors;
mod graph;
mod imports;

use std::path::Path;

pub use floors::Floors;
pub use graph::Graph;

use crate::tree::{Finding, Tree};

/// Where the floors are listed.
pub const FLOORS: &str = "xtask/floors.txt";

/// What breaks a law, and the graph as text.
pub fn look(tree: &Tree, root: &Path) -> Result<(Vec<Finding>, String), String> {
    let text = std::fs::read_to_string(root.join(FLOORS)).map_err(|error| format!("{FLOORS}: {error}"))?;
    let floors = Floors::parse(&text).map_err(|error| format!("{FLOORS}: {error}"))?;
    let graph = Graph::read(tree)?;
    let mut findings = graph.circles();
    findings.extend(floors.refuse(&graph));
    Ok((findings, floors.picture(&graph)))
}
