//! Records what the comparison has to state: the compiler, and the versions that were locked.

use std::{env, fs, path::Path, process::Command};

const NAMED: [&str; 6] = ["tokio", "may", "go-lib", "corosensei", "crossbeam-channel", "async-channel"];

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.ok().and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default();
    println!("cargo:rustc-env=GVT_BENCH_RUSTC={}", version.trim());

    let lock = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../Cargo.lock");
    println!("cargo:rerun-if-changed={}", lock.display());
    println!("cargo:rerun-if-changed=build.rs");
    let text = fs::read_to_string(lock).unwrap_or_default();
    let versions: Vec<String> = text.split("[[package]]").filter_map(named_package).collect();
    println!("cargo:rustc-env=GVT_BENCH_VERSIONS={}", versions.join(" "));
}

/// `name=version` of one section of the lock file, if the comparison names that package.
fn named_package(section: &str) -> Option<String> {
    let field = |key: &str| {
        section.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
    };
    let name = field("name")?;
    NAMED.contains(&name).then(|| format!("{name}={}", field("version").unwrap_or("?")))
}
