//! What the builder's generics cost: the same operations through the generic runtime and through a fused
//! build.
//!
//! **The fused build** is a copy of `gvt`'s sources in which the parts are written out. A free function such
//! as `yield_now` does not know the parts of the runtime that it finds itself in, so it goes through a table
//! of functions (`Vtable`); in the copy each such call names the function for the default parts,
//! `Assembly<GoQueue, HeapTimer, Sigurg, X86_64, MmapSlots>`, so that the compiler sees through it and may
//! inline it. That is what is left of the genericity at run time: everything behind the table is compiled for
//! these very types in both builds. The copy is made by replacing text, anew each time, so it cannot lag
//! behind; it is no runtime for use, since it takes every runtime for one of these parts.
//!
//! Both builds are made twice, with the ordinary release profile and with link-time optimisation over all
//! crates: like is compared with like, and neither may show more than 2 %. (What LTO itself gains, either
//! build has.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{count, ops};

/// The generic build may take so much more than the fused one.
const MOST: f64 = 1.02;

/// The operations that are compared; they run on the default parts.
const COMPARED: [&str; 5] = ["yield-1", "yield-2", "yield-100", "spawn-join", "spawn-batch"];

/// Where the entries of the table are.
const SCHED: &str = "crate::kernel::sched";
/// The type of the parts, written out.
const FUSED: &str = "crate::runtime::runtime::Fused";

const PARTS: &str = "GoQueue, HeapTimer, Sigurg, X86_64, MmapSlots";

/// Compares; `false` if the generic build takes too much.
pub fn check() -> Result<bool, String> {
    let root =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().map_err(say("the root"))?;
    let fused = root.join("target/fused");
    let calls = write(&root, &fused)?;
    println!("{calls} calls through the table are direct in the fused build");
    let lto = ["profile.release.lto=\"fat\"", "profile.release.codegen-units=1"];
    let programs = [
        [build(&root, &fused, "generic", &[])?, build(&fused, &fused, "plain", &[])?],
        [build(&root, &fused, "generic-lto", &lto)?, build(&fused, &fused, "lto", &lto)?],
    ];
    println!(
        "{:<14} {:>9} {:>9} {:>7}   with LTO: {:>9} {:>9} {:>7}",
        "operation", "generic", "fused", "ratio", "generic", "fused", "ratio"
    );
    let mut good = true;
    for op in ops::ALL.iter().filter(|op| COMPARED.contains(&op.name)) {
        let mut line = format!("{:<14}", op.name);
        for (program, gap) in programs.iter().zip(["", "             "]) {
            let (generic, fused) = (
                count::per_operation(&program[0], op, false)?,
                count::per_operation(&program[1], op, false)?,
            );
            let ratio = generic / fused;
            good &= ratio <= MOST;
            let verdict = if ratio > MOST { " TOO MANY" } else { "" };
            line += &format!("{gap} {generic:>9.1} {fused:>9.1} {ratio:>7.3}{verdict}");
        }
        println!("{line}");
    }
    Ok(good)
}

fn say(what: &str) -> impl Fn(std::io::Error) -> String {
    let what = what.to_owned();
    move |error| format!("{what}: {error}")
}

/// Writes the fused copy; how many calls were made direct.
fn write(root: &Path, fused: &Path) -> Result<usize, String> {
    for folder in ["gvt", "guards"] {
        match fs::remove_dir_all(fused.join(folder)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(say(folder)(error)),
            _ => {}
        }
    }
    let here = root.display().to_string();
    let read = |path: &Path| fs::read_to_string(path).map_err(say(&path.display().to_string()));
    let mut workspace = String::new();
    for line in read(&root.join("Cargo.toml"))?.lines() {
        let line = match line {
            _ if line.starts_with("members = ") => "members = [\"gvt\", \"guards\"]".to_owned(),
            _ if line.starts_with("exclude = ") => continue,
            _ if line.starts_with("gvt = ") => line.to_owned(),
            _ => line.replace("path = \"", &format!("path = \"{here}/")),
        };
        workspace += &(line + "\n");
    }
    fs::create_dir_all(fused).map_err(say("target/fused"))?;
    fs::write(fused.join("Cargo.toml"), workspace).map_err(say("Cargo.toml"))?;
    fs::copy(root.join("Cargo.lock"), fused.join("Cargo.lock")).map_err(say("Cargo.lock"))?;
    let table = read(&root.join("gvt/src/kernel/sched/calls.rs"))?;
    let mut calls = 0;
    copy(&root.join("bench/guards"), &fused.join("guards"), &mut |_, text| Ok(text))?;
    copy(&root.join("gvt"), &fused.join("gvt"), &mut |path, text| fuse(path, text, &table, &mut calls))?;
    if calls < 10 {
        return Err(format!("only {calls} calls through the table were found: has `Vtable` changed?"));
    }
    Ok(calls)
}

fn copy(
    from: &Path,
    to: &Path,
    edit: &mut dyn FnMut(&Path, String) -> Result<String, String>,
) -> Result<(), String> {
    fs::create_dir_all(to).map_err(say("a folder"))?;
    for entry in fs::read_dir(from).map_err(say("a folder"))? {
        let entry = entry.map_err(say("a folder"))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        // Examples and tests of the copy would be compiled for nothing.
        if path.is_dir() && !["tests", "examples", "benches"].iter().any(|name| path.ends_with(name)) {
            copy(&path, &to, edit)?;
        } else if path.is_file() {
            let text = fs::read_to_string(&path).map_err(say(&path.display().to_string()))?;
            fs::write(&to, edit(&path, text)?).map_err(say(&to.display().to_string()))?;
        }
    }
    Ok(())
}

/// One file of `gvt` with the parts written out.
fn fuse(path: &Path, mut text: String, table: &str, calls: &mut usize) -> Result<String, String> {
    if path.ends_with("src/lib.rs") {
        text = text.replace("#![doc = include_str!(\"../../README.md\")]", "#![doc = \"A fused copy.\"]");
    }
    if path.ends_with("src/runtime/runtime.rs") {
        text += &format!("\npub(crate) type Fused = Assembly<{PARTS}>;\n");
        text = text.replace("struct Assembly<", "pub(crate) struct Assembly<");
    }
    if path.parent().is_some_and(|folder| folder.ends_with("sched")) {
        text = text.replace("\nunsafe fn ", "\npub(crate) unsafe fn ");
        text = text.replace("\npub(super) unsafe fn ", "\npub(crate) unsafe fn ");
    }
    // `(worker.vtable.park)(worker)` becomes `crate::kernel::sched::leave::park::<Fused>(worker)`.
    while let Some(at) = text.find(".vtable.") {
        let rest = &text[at + ".vtable.".len()..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !rest[name.len()..].starts_with(")(") {
            // Not a call: the table is handed on. Out of sight for the search.
            text.replace_range(at..at + ".vtable.".len(), ".vtable .");
            continue;
        }
        let begin = text[..at]
            .rfind("{ (")
            .ok_or_else(|| format!("{}: a call that is not `{{ (`", path.display()))?
            + 2;
        let end = at + ".vtable.".len() + name.len() + 1;
        let target = target_of(table, &name)?;
        text.replace_range(begin..end, &format!("{SCHED}::{target}::<{FUSED}>"));
        *calls += 1;
    }
    Ok(text)
}

/// Where the table's entry `name` leads, as `calls.rs` says where it fills the table: its module and
/// function.
fn target_of(table: &str, name: &str) -> Result<String, String> {
    let entry = format!("        {name}: ");
    let target = table.lines().find_map(|line| line.strip_prefix(&entry)?.strip_suffix("::<P>,"));
    match target {
        Some(target) if target.contains("::") => Ok(target.to_owned()),
        Some(target) => Ok(format!("calls::{target}")),
        None => Err(format!("the table of functions in calls.rs has no `{name}`: has it changed?")),
    }
}

/// Builds the guards of a workspace; the program.
fn build(workspace: &Path, fused: &Path, name: &str, configs: &[&str]) -> Result<PathBuf, String> {
    let target = fused.join("target").join(name);
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--release", "--offline", "-p", "gvt-guards", "--manifest-path"]);
    cargo.arg(workspace.join("Cargo.toml")).arg("--target-dir").arg(&target);
    // Warnings about what the replacing left unused help nobody.
    cargo.env("RUSTFLAGS", "-Awarnings");
    configs.iter().for_each(|config| _ = cargo.args(["--config", config]));
    let status = cargo.status().map_err(say("cargo"))?;
    if !status.success() {
        return Err(format!("{} does not build", workspace.display()));
    }
    Ok(target.join("release/gvt-guards"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each call that was made direct names a function that is there, and can be seen from elsewhere in the
    /// crate.
    #[test]
    fn every_direct_call_finds_its_function() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let copy = std::env::temp_dir().join(format!("gvt-fused-{}", std::process::id()));
        let calls = write(&root, &copy).unwrap();
        let source = copy.join("gvt/src");
        let mut found = 0;
        let mut look = |_: &Path, text: String| {
            for call in text.split(&format!("{SCHED}::")).skip(1) {
                let Some((target, _)) = call.split_once(&format!("::<{FUSED}>")) else { continue };
                let Some((module, function)) = target.split_once("::") else { continue };
                if target.contains(|c: char| c.is_whitespace()) {
                    continue;
                }
                let text = fs::read_to_string(source.join(format!("kernel/sched/{module}.rs"))).unwrap();
                assert!(text.contains(&format!("\npub(crate) unsafe fn {function}<P: Parts>(")), "{target}");
                found += 1;
            }
            Ok(text)
        };
        super::copy(&source, &copy.join("looked-at"), &mut look).unwrap();
        fs::remove_dir_all(&copy).unwrap();
        assert_eq!(found, calls);
    }
}
