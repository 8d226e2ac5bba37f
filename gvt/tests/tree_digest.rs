//! The example `tree_digest` computes what a plain sequential program computes.
//!
//! It runs on this project's own tree and on one made of everything that is awkward: names that are no UTF-8,
//! loops of links, pipes, empty directories, files that vanish between being listed and being read.

#[path = "../examples/tree_digest/digest.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod digest;
#[path = "../examples/tree_digest/tree.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod tree;

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use digest::{Reading, Report, Totals, hexadecimal};
use gvt::{Runtime, SchedulerConfig};
use tree::{Entry, Kind};

/// All that a run says: every entry's report in order, and the totals.
type Said = (Vec<(Entry, Report)>, Totals);

/// Runs `digest` with places to hear what it says.
fn hear(digest: impl FnOnce(&(dyn Fn(u64) + Sync), &mut dyn FnMut(&Entry, &Report)) -> Totals) -> Said {
    let heard = AtomicU64::new(0);
    let progress = |more| {
        heard.fetch_add(more, Relaxed);
    };
    let mut lines = Vec::new();
    let totals = digest(&progress, &mut |entry, report| lines.push((entry.clone(), report.clone())));
    assert_eq!(heard.into_inner(), totals.bytes, "every byte is reported as progress");
    (lines, totals)
}

/// One after another, and a green thread a file.
fn both_ways(root: &Path, entries: &[Entry]) -> (Said, Said) {
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(4));
    let [plain, blocking] = [Reading::Plain, Reading::Blocking].map(|reading| {
        hear(|progress, each| {
            // The lines are written on the runtime, so what they are written with must be `Send`.
            let (lines, totals) = runtime.block_on(|| {
                let mut lines = Vec::new();
                let totals = digest::parallel(root, entries, reading, progress, |entry, report| {
                    lines.push((entry.clone(), report.clone()));
                });
                (lines, totals)
            });
            lines.iter().for_each(|(entry, report)| each(entry, report));
            totals
        })
    });
    assert_eq!(plain, blocking);
    (hear(|progress, each| digest::sequential(root, entries, progress, each)), plain)
}

#[test]
fn this_project() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = 0;
    for item in fs::read_dir(&root).unwrap() {
        let item = item.unwrap();
        let name = item.file_name();
        // What other programs write to while this one reads.
        let moving = [".git", "target"].iter().any(|start| name.as_bytes().starts_with(start.as_bytes()));
        if !moving && item.file_type().unwrap().is_dir() {
            let entries = tree::walk(&item.path()).unwrap();
            let (sequential, parallel) = both_ways(&item.path(), &entries);
            assert_eq!(sequential, parallel, "{}", item.path().display());
            files += parallel.1.files;
        }
    }
    assert!(files > 50, "only {files} files were found");
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gvt-tree-digest-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn kind_of<'a>(entries: &'a [Entry], path: &OsStr) -> &'a Kind {
    &entries.iter().find(|entry| entry.path.as_os_str() == path).expect("it is listed").kind
}

#[test]
fn awkward_trees() {
    let scratch = Scratch::new("awkward");
    let root = &scratch.0;
    let no_utf8 = OsStr::from_bytes(b"caf\xe9\nbar\\");
    fs::create_dir_all(root.join("empty/inner")).unwrap();
    fs::write(root.join("nothing"), b"").unwrap();
    fs::write(root.join("abc"), b"abc").unwrap();
    fs::write(root.join("large"), vec![7u8; 1 << 20]).unwrap();
    fs::write(root.join(no_utf8), b"abc").unwrap();
    fs::write(root.join("vanishes"), b"soon gone").unwrap();
    fs::write(root.join("changes"), b"soon a link").unwrap();
    std::os::unix::fs::symlink("loop-b", root.join("loop-a")).unwrap();
    std::os::unix::fs::symlink("loop-a", root.join("loop-b")).unwrap();
    std::os::unix::fs::symlink("..", root.join("empty/up")).unwrap();
    let pipe = CString::new(root.join("pipe").as_os_str().as_bytes()).unwrap();
    // SAFETY: a valid string.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);

    let entries = tree::walk(root).unwrap();
    fs::remove_file(root.join("vanishes")).unwrap();
    fs::remove_file(root.join("changes")).unwrap();
    std::os::unix::fs::symlink("abc", root.join("changes")).unwrap();

    assert!(entries.is_sorted_by_key(|entry| entry.path.as_os_str().as_bytes().to_owned()));
    assert_eq!(*kind_of(&entries, OsStr::new("pipe")), Kind::Special("pipe"));
    assert_eq!(*kind_of(&entries, OsStr::new("empty/inner")), Kind::EmptyDirectory);
    assert_eq!(*kind_of(&entries, OsStr::new("loop-a")), Kind::Link(b"loop-b".to_vec()));
    assert_eq!(*kind_of(&entries, no_utf8), Kind::File(3));
    assert_eq!(tree::escaped(no_utf8), (true, b"caf\xe9\\nbar\\\\".to_vec()));
    assert_eq!(tree::escaped(OsStr::new("plain")), (false, b"plain".to_vec()));

    let (sequential, parallel) = both_ways(root, &entries);
    assert_eq!(sequential, parallel);
    let (lines, totals) = parallel;
    let counts = [totals.files, totals.links, totals.empty_directories, totals.specials, totals.unreadable];
    assert_eq!(counts, [4, 3, 1, 1, 2]);
    assert_eq!(totals.bytes, 3 + 3 + (1 << 20));
    let abc = lines.iter().find(|(entry, _)| entry.path == Path::new("abc")).unwrap();
    let Report::Read(sum, 3) = &abc.1 else { panic!("it was read: {abc:?}") };
    // The published test vector for "abc".
    assert_eq!(hexadecimal(sum), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn the_digest_sees_every_change() {
    let scratch = Scratch::new("changes");
    let root = &scratch.0;
    let mut seen = Vec::new();
    let mut look = |what: &str| {
        let entries = tree::walk(root).unwrap();
        let (sequential, parallel) = both_ways(root, &entries);
        assert_eq!(sequential, parallel);
        assert!(!seen.contains(&parallel.1.sum), "not seen: {what}");
        seen.push(parallel.1.sum);
    };
    look("nothing in it");
    fs::write(root.join("a"), b"1").unwrap();
    look("a file");
    fs::write(root.join("a"), b"2").unwrap();
    look("its contents");
    fs::rename(root.join("a"), root.join("b")).unwrap();
    look("its name");
    fs::create_dir(root.join("c")).unwrap();
    look("an empty directory");
    std::os::unix::fs::symlink("b", root.join("d")).unwrap();
    look("a link");
    fs::remove_file(root.join("d")).unwrap();
    std::os::unix::fs::symlink("c", root.join("d")).unwrap();
    look("where it points");
}

#[test]
fn a_root_that_is_none_is_an_error() {
    let missing = tree::walk(Path::new("/nonexistent/gvt"));
    assert_eq!(missing.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let file = tree::walk(Path::new(file!()).file_name().map(Path::new).unwrap());
    assert!(file.is_err());
}
