//! Takes crossbeam-channel's integration tests out of its published package and makes two versions of each,
//! for OS threads and for green threads, in which paths lead to `gvt::channel` and to `crate::threads`.
//!
//! The tests are read where cargo keeps the package's source, and written to the build directory only.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const FILES: [&str; 14] = [
    "after",
    "array",
    "golang",
    "iter",
    "list",
    "mpsc",
    "never",
    "ready",
    "same_channel",
    "select",
    "select_macro",
    "thread_locals",
    "tick",
    "zero",
];

/// Has a test that counts what the process allocates: its tests run one at a time.
const COUNTS: &str = "golang";

/// What is left out: file, test, in which runs, why.
const LEFT_OUT: [(&str, &str, &[&str], &str); 1] = [(
    "thread_locals",
    "use_while_exiting",
    &["green"],
    "it waits in the destructor of an OS thread's local, and a green thread has none of its own",
)];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let tests = package().join("tests");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for run in ["os", "green"] {
        let folder = out.join(run);
        fs::create_dir_all(&folder).expect("the build directory is writable");
        for file in FILES {
            let path = tests.join(file).with_extension("rs");
            let source = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
            fs::write(folder.join(file).with_extension("rs"), adapt(&source, file, run))
                .expect("the build directory is writable");
        }
    }
}

/// Where cargo keeps the source of crossbeam-channel.
fn package() -> PathBuf {
    let cargo = env::var_os("CARGO").expect("cargo sets CARGO");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform"])
        .arg(env::var_os("TARGET").expect("cargo sets TARGET"))
        .arg("--manifest-path")
        .arg(Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("Cargo.toml"))
        .output()
        .expect("cargo can be run");
    let metadata = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    metadata
        .split("\"manifest_path\":\"")
        .filter_map(|rest| rest.split('"').next())
        .map(PathBuf::from)
        .find_map(|manifest| {
            let package = manifest.parent()?.to_owned();
            let name = package.file_name()?.to_str()?;
            name.starts_with("crossbeam-channel-0.5").then_some(package)
        })
        .unwrap_or_else(|| {
            panic!(
                "cargo metadata names no crossbeam-channel 0.5: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
}

fn adapt(source: &str, file: &str, run: &str) -> String {
    let threads = format!("gvt_crossbeam_tests::{run}");
    let source = source
        // mpsc.rs calls the macro that is inside `select!`.
        .replace("crossbeam_channel_internal!", "select!")
        .replace("crossbeam_utils::thread::scope", &format!("{threads}::scope"))
        .replace("crossbeam_channel", "gvt::channel")
        .replace("use std::thread;", &format!("use {threads} as thread;"))
        .replace("::std::thread::", &format!("::{threads}::"))
        .replace("use std::thread::", &format!("use {threads}::"))
        .replace("!std::thread::panicking", &format!("!{threads}::panicking"));
    let mut adapted = String::new();
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        let trimmed = line.trim_start();
        // Attributes of the whole file have no place where it is included.
        if trimmed.starts_with("#![") || trimmed.starts_with("//!") {
            continue;
        }
        if trimmed != "#[test]" {
            adapted += line;
            adapted += "\n";
            continue;
        }
        let mut attributes = vec![line];
        while lines.peek().is_some_and(|line| line.trim_start().starts_with("#[")) {
            attributes.extend(lines.next());
        }
        let header = lines.next().unwrap_or_default();
        let name = header
            .trim_start()
            .strip_prefix("fn ")
            .and_then(|rest| rest.split('(').next())
            .unwrap_or_else(|| panic!("{file}.rs: `#[test]` is followed by `{header}`"));
        adapted += &attributes.join("\n");
        if let Some((.., why)) =
            LEFT_OUT.iter().find(|(of, test, runs, _)| *of == file && *test == name && runs.contains(&run))
        {
            adapted += &format!("\n#[ignore = {why:?}]");
        }
        let (before, after) = header.split_once(&format!("fn {name}")).expect("found above");
        // What the scheduling of a few thousand rounds brings about, and whether a sleep is over in time, is
        // a matter of chance on a busy machine; three failures in a row are not.
        let about_time = file == "after" || file == "tick" || name.contains("timeout");
        let run = match () {
            _ if file == COUNTS => "run_alone",
            _ if about_time || name.contains("fairness") => "run_up_to_three_times",
            _ => "run",
        };
        adapted += &format!("\n{before}fn {name}() {{ {threads}::{run}(inner_{name}) }}\n");
        adapted += &format!("{before}fn inner_{name}{after}\n");
    }
    adapted
}
