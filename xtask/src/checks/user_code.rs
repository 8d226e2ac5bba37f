//! Users' code is called in one place: what calls it elsewhere may do so inside a section, or lose a panic's
//! payload.

use crate::text::without_tests;
use crate::tree::{Finding, Tree};

/// The place.
const HOME: &str = "gvt/src/protocol/user.rs";
/// What belongs there, and what to use instead.
const REFUSED: [(&str, &str); 9] = [
    ("catch_unwind", "`user::catch` or `user::call`"),
    ("waker().clone()", "`user::Waker::of`"),
    ("<std::task::Waker>", "a `user::Waker`"),
    ("(std::task::Waker)", "a `user::Waker`"),
    (": std::task::Waker", "a `user::Waker`"),
    (".wake_by_ref()", "a `user::Waker`"),
    ("drop(payload)", "`user::dispose`"),
    ("forget(payload)", "`user::dispose`"),
    ("let _ = std::panic", "`user::call`"),
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The faults that models plant are caught by what runs them.
    let exempt = [HOME, "gvt/src/protocol/atomics.rs"];
    let is_ours = |path: &str| path.starts_with("gvt/src/") && !exempt.contains(&path);
    for file in tree.rust().filter(|file| is_ours(&file.path)) {
        for line in without_tests(&file.text) {
            for (call, instead) in REFUSED.iter().filter(|(call, _)| line.code.contains(call)) {
                let what = format!("`{call}` calls users' code, which `user` does; take {instead}");
                findings.push(Finding::new("user_code", &file.path, line.number, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::made::tree;

    #[test]
    fn calls_elsewhere_are_found() {
        let call = "let _ = std::panic::catch_unwind(|| waker.wake());\nlet w = context.waker().clone();\n";
        let found = |path| check(&tree(&[(path, call)])).iter().map(|found| found.line).collect::<Vec<_>>();
        assert_eq!(found("gvt/src/a.rs"), [1, 1, 2]);
        assert!(found(HOME).is_empty());
        assert!(found("gvt-queue-go/src/a.rs").is_empty());
        assert!(check(&tree(&[("gvt/src/a.rs", "let w = user::Waker::of(context);\n")])).is_empty());
    }
}
