//! The checks, one a file. Each takes the tree and returns what it finds.

mod clauses;
mod graph;
mod heads;
mod links;
mod listings;
mod mutants;
mod ordering;
mod size;
mod user_code;
mod width;

use crate::tree::{Finding, Tree};

/// All of them.
pub const ALL: &[fn(&Tree) -> Vec<Finding>] = &[
    clauses::check,
    graph::check,
    heads::check,
    links::check,
    listings::check,
    mutants::check,
    ordering::check,
    size::check,
    user_code::check,
    width::check,
];
