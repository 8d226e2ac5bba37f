//! One mechanism a file: one that has grown too long holds several. 500 lines are a reason to look; this
//! refuses what nobody can call one thing any more.

use crate::tree::{Finding, Tree};

const MOST: usize = 650;

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter_map(|file| {
            let lines = file.text.lines().count();
            (lines > MOST).then(|| {
                let what = format!("{lines} lines, of {MOST} that a file should have at the most");
                Finding::new("size", &file.path, lines, what)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    #[test]
    fn long_files_are_found() {
        let long = "\n".repeat(MOST + 1);
        let short = "\n".repeat(MOST);
        assert_eq!(check(&tree(&[("a.rs", &long), ("b.rs", &short)])).len(), 1);
    }
}
