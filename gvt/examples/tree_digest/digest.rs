//! Digests of a tree's entries, one after another or a green thread a file, and of the tree.
//!
//! **The tree's digest** is SHA-256 over all entries in order; for each: a letter for its kind, the length of
//! its path (8 bytes, little-endian), the path, and for files and links the SHA-256 of the contents. So a
//! moved, renamed, added or removed entry changes it, and so does an empty directory.
//!
//! **Order.** Threads finish in any order. Each sends its report with its entry's number over a channel, and
//! the one who collects keeps what comes early until it is its turn.
//!
//! **Bounds.** A permit, which is room in a second channel, is taken before a thread is spawned and given
//! back when it ends. Without it a tree of a million files would be a million open files as soon as threads
//! yield half-way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::tree::{Entry, Kind};

/// A SHA-256.
pub type Sum = [u8; 32];

/// Files that are being read at once, at the most.
const IN_FLIGHT: usize = 64;
/// Read at a time.
const CHUNK: usize = 256 << 10;

/// What became of one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// Contents that were read: their digest and length.
    Read(Sum, u64),
    /// There is nothing to read in it.
    Nothing,
    /// It could not be read, and why.
    Unreadable(String),
}

/// All of a tree.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// The digest of the tree.
    pub sum: Sum,
    /// Regular files that were read.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Symbolic links.
    pub links: u64,
    /// Empty directories.
    pub empty_directories: u64,
    /// Pipes, sockets, devices.
    pub specials: u64,
    /// What could not be read.
    pub unreadable: u64,
}

/// How files are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// By plain calls: right where what is read lies in the page cache, since those do not wait.
    Plain,
    /// By calls that give the worker on: right for a slow disk.
    Blocking,
}

/// Reads one entry. `progress` hears of each chunk.
pub fn read(root: &Path, entry: &Entry, reading: Reading, progress: &(dyn Fn(u64) + Sync)) -> Report {
    match &entry.kind {
        Kind::File(size) => match read_file(&root.join(&entry.path), *size, reading, progress) {
            Ok((sum, bytes)) => Report::Read(sum, bytes),
            Err(error) => Report::Unreadable(error.to_string()),
        },
        Kind::Link(target) => Report::Read(Sha256::digest(target).into(), 0),
        Kind::EmptyDirectory | Kind::Special(_) => Report::Nothing,
        Kind::Unreadable(why) => Report::Unreadable(why.clone()),
    }
}

fn read_file(
    path: &Path,
    size: u64,
    reading: Reading,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<(Sum, u64)> {
    // It may have become something else since it was listed: a link is not followed, a pipe not waited for.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut file = reading.call(|| options.open(path))?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file any more"));
    }
    // One byte more than a small file has, so that its end is met without a second buffer's worth.
    let mut buffer = vec![0; CHUNK.min(size.saturating_add(1).try_into().unwrap_or(CHUNK)).max(512)];
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        match reading.call(|| file.read(&mut buffer)) {
            Ok(0) => return Ok((hash.finalize().into(), bytes)),
            Ok(count) => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
                progress(count as u64);
                // A long file lets others have their turn.
                gvt::safepoint!();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Reading {
    fn call<T>(self, f: impl FnOnce() -> T) -> T {
        match self {
            Reading::Plain => f(),
            Reading::Blocking => gvt::blocking(f),
        }
    }
}

/// The tree's digest in the making.
#[derive(Default)]
struct Summing {
    hash: Sha256,
    totals: Totals,
}

impl Summing {
    fn add(&mut self, entry: &Entry, report: &Report) {
        let path = entry.path.as_os_str().as_bytes();
        let letter = match (&entry.kind, report) {
            (_, Report::Unreadable(_)) => b'u',
            (Kind::File(_), _) => b'f',
            (Kind::Link(_), _) => b'l',
            (Kind::EmptyDirectory, _) => b'd',
            (Kind::Special(_), _) => b's',
            (Kind::Unreadable(_), _) => b'u',
        };
        self.hash.update([letter]);
        self.hash.update((path.len() as u64).to_le_bytes());
        self.hash.update(path);
        if let Report::Read(sum, bytes) = report {
            self.hash.update(sum);
            self.totals.bytes += bytes;
        }
        *match letter {
            b'f' => &mut self.totals.files,
            b'l' => &mut self.totals.links,
            b'd' => &mut self.totals.empty_directories,
            b's' => &mut self.totals.specials,
            _ => &mut self.totals.unreadable,
        } += 1;
    }

    fn finish(mut self) -> Totals {
        self.totals.sum = self.hash.finalize().into();
        self.totals
    }
}

/// Digests all entries one after another, without a runtime. `each` sees them in order.
pub fn sequential(
    root: &Path,
    entries: &[Entry],
    progress: &(dyn Fn(u64) + Sync),
    mut each: impl FnMut(&Entry, &Report),
) -> Totals {
    let mut summing = Summing::default();
    for entry in entries {
        let report = read(root, entry, Reading::Plain, progress);
        summing.add(entry, &report);
        each(entry, &report);
    }
    summing.finish()
}

/// Digests all entries with a green thread a file. `each` sees them in the same order.
///
/// Context: a green thread.
pub fn parallel(
    root: &Path,
    entries: &[Entry],
    reading: Reading,
    progress: &(dyn Fn(u64) + Sync),
    mut each: impl FnMut(&Entry, &Report),
) -> Totals {
    let (reports, reported) = gvt::channel::<(usize, Report)>(IN_FLIGHT);
    let (permits, permit) = gvt::channel::<()>(IN_FLIGHT);
    let mut summing = Summing::default();
    gvt::scope(|scope| {
        scope.spawn(move |_| {
            for (number, entry) in entries.iter().enumerate() {
                // Waits while `IN_FLIGHT` files are being read.
                if permits.send(()).is_err() {
                    return;
                }
                let (reports, permit) = (reports.clone(), permit.clone());
                scope.spawn(move |_| {
                    // Nobody to send to any more: then nobody wants it.
                    let _ = reports.send((number, read(root, entry, reading, progress)));
                    let _ = permit.recv();
                });
            }
        });
        let mut early = BTreeMap::new();
        let mut next = 0;
        // Ends when the last sender is gone: the spawner's, and each thread's.
        while let Ok((number, report)) = reported.recv() {
            early.insert(number, report);
            while let Some(report) = early.remove(&next) {
                let entry = &entries[next];
                summing.add(entry, &report);
                each(entry, &report);
                next += 1;
            }
        }
        assert_eq!(next, entries.len(), "every entry is reported");
    });
    summing.finish()
}

/// A digest as people write it.
pub fn hexadecimal(sum: &Sum) -> String {
    sum.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
