//! Mistakes in assembling a runtime, and what the compiler says of them.
//!
//! Each program of `tests/composition` holds one mistake, and at its end what must be said: `//~ error:`,
//! `//~ label:` and `//~ note:` are whole texts, ours (`#[diagnostic::on_unimplemented]`), and no error may
//! be said that is not listed; `//~ says:` is a part of what the compiler says in words of its own. Paths
//! before names are left out. A program without expectations must compile.
//!
//! **Rejected.** `trybuild`, which compares the whole of the compiler's output: half of that is the
//! compiler's own (lists of other implementors, spans in our sources), and changes with each release and each
//! edit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("composition")
}

/// What the compiler said of one program.
#[derive(Debug, Default)]
struct Said {
    errors: Vec<String>,
    labels: Vec<String>,
    notes: Vec<String>,
    rendered: String,
}

/// `a::b::C` becomes `C`, inside quotes too.
fn without_paths(text: &str) -> String {
    let mut out = String::new();
    for (index, piece) in text.split("::").enumerate() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        // A path's segment goes, if it is one in a type and more follows.
        if index > 0 && piece.starts_with(is_name) {
            out.truncate(out.trim_end_matches(is_name).len());
        } else if index > 0 {
            out.push_str("::");
        }
        out.push_str(piece);
    }
    out
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Checks all programs, and collects the errors of each.
fn compile() -> BTreeMap<String, Said> {
    let folder = folder();
    // The same versions as here, so that nothing need be fetched.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    fs::copy(lock, folder.join("Cargo.lock")).expect("the workspace has a lock file");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("composition");
    let output = Command::new(env!("CARGO"))
        .args(["check", "--bins", "--keep-going", "--offline", "--message-format=json", "--target-dir"])
        .arg(target)
        .env_remove("RUSTFLAGS")
        .current_dir(&folder)
        .output()
        .expect("cargo is there");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<Value> = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ours = messages.iter().filter(|message| {
        message["reason"] == "compiler-message"
            && message["target"]["src_path"].as_str().is_some_and(is_program)
    });
    let mut said: BTreeMap<String, Said> = BTreeMap::new();
    for message in ours.filter(|message| message["message"]["level"] == "error") {
        let program = said.entry(text(&message["target"]["name"])).or_default();
        let message = &message["message"];
        // Not the closing "aborting due to".
        if message["spans"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        program.errors.push(without_paths(&text(&message["message"])));
        let spans = message["spans"].as_array().into_iter().flatten();
        program.labels.extend(spans.map(|span| without_paths(&text(&span["label"]))));
        let children = message["children"].as_array().into_iter().flatten();
        program.notes.extend(children.map(|child| text(&child["message"])));
        program.rendered += &text(&message["rendered"]);
    }
    assert!(
        messages.iter().any(|message| message["reason"] == "compiler-artifact"),
        "cargo could not begin:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // What fails for another reason must not pass for a mistake that was told of.
    assert!(stdout.contains("everything_fits"), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn is_program(path: &str) -> bool {
    Path::new(path).starts_with(folder())
}

#[test]
fn mistakes_are_told_in_plain_words() {
    let said = compile();
    let mut complaints = String::new();
    let mut programs = 0;
    for entry in fs::read_dir(folder().join("src/bin")).expect("the programs are there").flatten() {
        let name = entry.path().file_stem().expect("a name").to_string_lossy().into_owned();
        let source = fs::read_to_string(entry.path()).expect("a program can be read");
        let expected = |kind: &str| -> Vec<String> {
            let prefix = format!("//~ {kind}: ");
            source.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
        };
        let nothing = Said::default();
        let said = said.get(&name).unwrap_or(&nothing);
        let mut complain = |what: String| complaints += &format!("{name}: {what}\n{}\n", said.rendered);
        for (kind, texts) in [("error", &said.errors), ("label", &said.labels), ("note", &said.notes)] {
            for text in expected(kind).iter().filter(|&text| !texts.contains(text)) {
                complain(format!("does not say: {text}"));
            }
        }
        for part in expected("says").iter().filter(|&part| !said.rendered.contains(part.as_str())) {
            complain(format!("does not say: {part}"));
        }
        let known = expected("error");
        if expected("says").is_empty() {
            for error in said.errors.iter().filter(|&error| !known.contains(error)) {
                complain(format!("says besides: {error}"));
            }
        }
        programs += 1;
    }
    assert!(programs >= 16, "{programs} programs");
    assert!(complaints.is_empty(), "{complaints}");
}

#[test]
fn paths_are_left_out() {
    assert_eq!(without_paths("`a_b::c::D<e::F>` is not `G`"), "`D<F>` is not `G`");
    assert_eq!(without_paths("plain: text"), "plain: text");
}
