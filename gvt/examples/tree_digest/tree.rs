//! What is in a directory tree, in an order that does not depend on the system.
//!
//! Symbolic links are noted and not followed, so a loop of them is no loop here. Names are bytes, as the
//! kernel has them. What cannot be read is an entry like others, with the reason.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What an entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file of so many bytes, when it was looked at.
    File(u64),
    /// A directory with nothing in it. Others are implied by what they hold.
    EmptyDirectory,
    /// A symbolic link, and what it says.
    Link(Vec<u8>),
    /// A pipe, socket or device, by name: it has no contents that end.
    Special(&'static str),
    /// Something that could not be looked at, and why.
    Unreadable(String),
}

/// One entry of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Relative to the root; empty for the root itself.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// Lists everything below `root`, sorted by the bytes of the paths.
///
/// # Errors
///
/// If `root` itself cannot be listed.
pub fn walk(root: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    // A list of what is to be visited, not recursion: a tree may be deeper than a stack.
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let listed = match fs::read_dir(root.join(&directory)) {
            Ok(listed) => listed,
            Err(error) if directory.as_os_str().is_empty() => return Err(error),
            Err(error) => {
                entries.push(Entry { path: directory, kind: Kind::Unreadable(error.to_string()) });
                continue;
            }
        };
        let mut empty = true;
        for item in listed {
            empty = false;
            match item {
                Ok(item) => {
                    let path = directory.join(item.file_name());
                    match look(&item) {
                        Ok(Some(kind)) => entries.push(Entry { path, kind }),
                        Ok(None) => directories.push(path),
                        Err(error) => entries.push(Entry { path, kind: Kind::Unreadable(error.to_string()) }),
                    }
                }
                Err(error) => {
                    let kind = Kind::Unreadable(format!("its listing broke off: {error}"));
                    entries.push(Entry { path: directory.clone(), kind });
                    break;
                }
            }
        }
        if empty && !directory.as_os_str().is_empty() {
            entries.push(Entry { path: directory, kind: Kind::EmptyDirectory });
        }
    }
    entries.sort_unstable_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    Ok(entries)
}

/// What a directory's item is; `None` for a directory.
fn look(item: &fs::DirEntry) -> io::Result<Option<Kind>> {
    let kind = item.file_type()?;
    Ok(Some(if kind.is_dir() {
        return Ok(None);
    } else if kind.is_symlink() {
        Kind::Link(fs::read_link(item.path())?.into_os_string().into_vec())
    } else if kind.is_file() {
        Kind::File(item.metadata()?.len())
    } else if kind.is_fifo() {
        Kind::Special("pipe")
    } else if kind.is_socket() {
        Kind::Special("socket")
    } else {
        Kind::Special("device")
    }))
}

/// A path as `sha256sum` writes it: bytes as they are, but with backslashes, line feeds and carriage returns
/// escaped, and then a backslash at the line's start (`true`).
pub fn escaped(path: &OsStr) -> (bool, Vec<u8>) {
    let mut text = Vec::with_capacity(path.len());
    for &byte in path.as_bytes() {
        match byte {
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            byte => text.push(byte),
        }
    }
    (text.len() != path.len(), text)
}
