//! Who may depend on whom.
//!
//! `gvt-traits` depends on nothing. A backend depends on `gvt-traits` and on crates from outside; in its
//! tests also on the suites. Only `gvt`, the suites' tests and what measures see several backends. Nobody
//! depends on `gvt` but those tests and what measures.

use crate::tree::{Edge, Finding, Tree};

const CHECK: &str = "graph";
const TRAITS: &str = "gvt-traits";
const SUITES: &str = "gvt-conformance";
/// Packages that put parts together.
const SEE_SEVERAL: [&str; 3] = ["gvt", "gvt-bench", "gvt-guards"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.edges
        .iter()
        .filter_map(|edge| {
            let why = forbidden(edge)?;
            let kind = if edge.is_dev { " (in its tests)" } else { "" };
            let what = format!("{} depends on {}{kind}: {why}", edge.from, edge.to);
            let folder = if edge.from == SUITES { "tests" } else { &edge.from };
            Some(Finding::new(CHECK, &format!("{folder}/Cargo.toml"), 1, what))
        })
        .collect()
}

fn forbidden(edge: &Edge) -> Option<&'static str> {
    match edge.from.as_str() {
        TRAITS if edge.is_dev => None,
        TRAITS => Some("contracts depend on nothing"),
        _ if !edge.is_ours => None,
        from if SEE_SEVERAL.contains(&from) => None,
        SUITES if edge.is_dev || edge.to == TRAITS => None,
        SUITES => Some("outside backends use the suites, which may need nothing but the contracts"),
        "xtask" => Some("the checks must build when nothing else does"),
        // No backend: what its macros expand to names `gvt`, which its examples need.
        "gvt-macros" if edge.is_dev && edge.to == "gvt" => None,
        from if from.starts_with("gvt-") => match edge.to.as_str() {
            TRAITS => None,
            SUITES if edge.is_dev => None,
            _ => Some("a backend knows only gvt-traits"),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::edge;

    fn finds(edge: Edge) -> bool {
        !check(&Tree { files: Vec::new(), edges: vec![edge] }).is_empty()
    }

    fn dev(edge: Edge) -> Edge {
        Edge { is_dev: true, ..edge }
    }

    #[test]
    fn allowed_edges() {
        for allowed in [
            edge("gvt", "gvt-queue-go"),
            edge("gvt-queue-go", "gvt-traits"),
            edge("gvt-queue-go", "crossbeam-deque"),
            dev(edge("gvt-queue-go", "gvt-conformance")),
            dev(edge("gvt-conformance", "gvt-queue-go")),
            edge("gvt-conformance", "proptest"),
        ] {
            assert!(!finds(allowed.clone()), "{allowed:?}");
        }
    }

    #[test]
    fn forbidden_edges() {
        for refused in [
            edge("gvt-traits", "libc"),
            edge("gvt-timer-timerfd", "gvt-timer-heap"),
            dev(edge("gvt-timer-timerfd", "gvt-timer-heap")),
            edge("gvt-queue-go", "gvt"),
            edge("gvt-queue-go", "gvt-conformance"),
            edge("gvt-conformance", "gvt-queue-go"),
            edge("xtask", "gvt-traits"),
        ] {
            assert!(finds(refused.clone()), "{refused:?}");
        }
    }
}
