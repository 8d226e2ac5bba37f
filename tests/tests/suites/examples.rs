//! Every example of this workspace says what it does when it is asked, refuses what it does not know, and
//! ends quietly when its reader has gone.
//!
//! `cargo test` builds examples before it runs tests. Where one is missing (a single test program was built),
//! it is built here.

use std::fs::{self, File};
use std::io::pipe;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Arguments with which an example has something to do.
fn arguments(name: &str) -> Vec<PathBuf> {
    match name {
        "tree_digest" => vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")],
        "timer_cost" | "timer_lateness" => vec!["1".into()],
        _ => Vec::new(),
    }
}

/// Names of the examples in `folder`: files, and folders with a `main.rs`.
fn names_in(folder: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).expect("examples are there").flatten().map(|entry| entry.path());
    let examples = entries.filter(|path| path.join("main.rs").exists() || path.extension().is_some());
    let mut names: Vec<String> =
        examples.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Where the built examples lie, by name.
fn examples() -> &'static [(String, PathBuf)] {
    static EXAMPLES: OnceLock<Vec<(String, PathBuf)>> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let program = std::env::current_exe().expect("a test binary knows its path");
        let folder = program.ancestors().nth(2).expect("it lies in deps").join("examples");
        let names = [names_in("../gvt/examples"), names_in("examples")].concat();
        let examples = names.into_iter().map(|name| (name.clone(), folder.join(name)));
        let examples: Vec<(String, PathBuf)> = examples.collect();
        if examples.iter().any(|(_, path)| !path.exists()) {
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--offline", "--examples", "-p", "gvt", "-p", "gvt-conformance"]);
            build.args((!cfg!(debug_assertions)).then_some("--release"));
            build.arg("--target-dir").arg(folder.ancestors().nth(2).expect("it lies in target"));
            let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo is there");
            assert!(status.success(), "the examples do not build");
        }
        examples
    })
}

/// All examples are named, and each is run by `run`; what it says must not be a panic.
fn each(run: impl Fn(&str, Command) -> Output) {
    assert!(examples().len() >= 9, "{:?}", examples());
    for (name, path) in examples() {
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).env_remove("GVT_DEBUG");
        let output = run(name, command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{name} ended with {}: {said}", output.status);
    }
}

#[test]
fn help_is_given_and_nothing_done() {
    each(|name, mut command| {
        let output = command.arg("--help").output().expect("it was built");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{name}: {output:?}");
        assert!(text.contains("usage: ") && text.contains(name), "{name}: {text}");
        assert!((3..=20).contains(&text.lines().count()), "{name}: {text}");
        output
    });
}

#[test]
fn what_is_not_known_is_refused() {
    each(|name, mut command| {
        let output = command.arg("--nonsense").output().expect("it was built");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains("--nonsense") && output.stdout.is_empty(), "{name}: {said}");
        output
    });
}

/// As `example | head -1` and `example 2>&1 | head -1` have it; the reader has gone before it begins.
#[test]
fn a_reader_that_goes_ends_it() {
    each(|name, mut command| {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        let output = command.args(arguments(name)).stdout(writer).output().expect("it was built");
        assert!(output.status.success(), "{name}: {output:?}");
        output
    });
    each(|name, mut command| {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        command.args(arguments(name)).stderr(writer.try_clone().expect("a descriptor")).stdout(writer);
        let output = command.output().expect("it was built");
        assert!(output.status.success(), "{name}: {output:?}");
        output
    });
}

#[test]
fn a_full_disk_is_told() {
    each(|name, mut command| {
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = command.args(arguments(name)).stdout(full).output().expect("it was built");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert!(said.contains("No space left"), "{name}: {said}");
        output
    });
}
