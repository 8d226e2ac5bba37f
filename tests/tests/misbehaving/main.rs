//! Parts in safe code that misbehave at random: no memory is corrupted, and who ends the process says why.
//!
//! **Method.** A script is a number: it decides what is wrong with a queue and a timer (`parts`), when, and
//! what runs on them (`scene`). Children, forked off a parent that has one OS thread and no runtime, run
//! scripts one after the other until one strands threads or aborts. Right is: the script ends; or it leaves
//! threads behind, which nobody waits for longer than a moment; or SIGABRT, with the number of a clause on
//! stderr. Any other signal, and a value that changed, fail.
//!
//! `GVT_FUZZ_SCRIPTS` is how many, `GVT_FUZZ_SEED` the first; each failure is printed with its number, and
//! `GVT_FUZZ_SEED=number GVT_FUZZ_SCRIPTS=1` runs it again (its OS threads are not replayed, so it may take a
//! few times). Under AddressSanitizer:
//!
//! ```sh
//! RUSTFLAGS=-Zsanitizer=address RUSTC_BOOTSTRAP=1 cargo test -p gvt-conformance --test misbehaving \
//!     --target x86_64-unknown-linux-gnu --target-dir target-asan
//! ```
//!
//! **What it cannot see.** A race that needs more runs than it gets; a part that never returns.

mod dice;
mod parts;
mod scene;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use scene::Outcome;

/// A value was not what it had been.
pub(crate) const CORRUPTED: i32 = 42;
/// The script strands its threads: the next begins in a fresh process.
const STRANDED: i32 = 10;
/// Scripts that one child runs at the most.
const BATCH: u64 = 64;
/// After so long a script counts as one that strands.
const BOUND: Duration = Duration::from_millis(300);
/// After so long a child hangs: it looks at the bound no more.
const WATCHDOG: Duration = Duration::from_secs(60);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn child(from: u64, to: u64, at: &AtomicU64) -> ! {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or(String::new(), ToString::to_string);
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        eprintln!("{place}: {}", text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic"));
    }));
    for seed in from..to {
        at.store(seed, SeqCst);
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let _ = sender.send(std::panic::catch_unwind(|| scene::run(seed)));
        });
        // A panic that comes out is the caller's: building a part failed.
        if !matches!(receiver.recv_timeout(BOUND), Ok(Ok(Outcome::Ended) | Err(_))) {
            // SAFETY: ends the process, without destructors: OS threads still run.
            unsafe { libc::_exit(STRANDED) };
        }
    }
    // SAFETY: as above.
    unsafe { libc::_exit(0) };
}

/// A number that a child writes and the parent reads.
fn shared_number() -> &'static AtomicU64 {
    // SAFETY: a fresh mapping, zeroed, never unmapped.
    unsafe {
        let place = libc::mmap(
            ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert!(place != libc::MAP_FAILED, "a page can be had");
        &*place.cast()
    }
}

/// Runs scripts in a child; its status, and what it complained of.
fn fork(from: u64, to: u64, at: &AtomicU64) -> (i32, String) {
    let mut ends = [0; 2];
    // SAFETY: `ends` is valid.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0, "a pipe can be had");
    // SAFETY: fresh descriptors.
    let [reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    // SAFETY: this process has one OS thread.
    let child_id = unsafe { libc::fork() };
    assert!(child_id >= 0, "a child can be had");
    if child_id == 0 {
        // SAFETY: descriptors that are open; no core files.
        unsafe {
            libc::dup2(writer.as_raw_fd(), 2);
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &none);
        }
        child(from, to, at);
    }
    drop(writer);
    let begin = Instant::now();
    let mut words = Vec::new();
    let mut reader = File::from(reader);
    loop {
        let left = WATCHDOG.saturating_sub(begin.elapsed()).as_millis() as i32;
        let mut poll = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        if unsafe { libc::poll(&mut poll, 1, left) } == 0 {
            words.extend_from_slice(b"HANGS");
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(child_id, libc::SIGKILL) };
            break;
        }
        let mut piece = [0; 4096];
        match reader.read(&mut piece) {
            Ok(0) | Err(_) => break,
            // The end has what matters.
            Ok(count) => {
                words.extend_from_slice(&piece[..count]);
                let surplus = words.len().saturating_sub(1 << 16);
                words.drain(..surplus);
            }
        }
    }
    let mut status = 0;
    loop {
        // SAFETY: our own child.
        let ended = unsafe { libc::waitpid(child_id, &mut status, 0) };
        if ended == child_id {
            break;
        }
    }
    (status, String::from_utf8_lossy(&words).into_owned())
}

/// The clause that the last words name.
fn clause(words: &str) -> Option<String> {
    let named =
        words.rsplit_once("(clause ").map(|(_, rest)| rest.split(')').next().unwrap_or_default().into());
    named.or_else(|| words.contains("R2: ").then(|| "R2".into()))
}

fn main() {
    if std::env::args().any(|word| word == "--list") {
        return;
    }
    let scripts = setting("GVT_FUZZ_SCRIPTS").unwrap_or(3_000);
    let first = setting("GVT_FUZZ_SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.as_nanos() as u64 >> 20)
    });
    println!("misbehaving: {scripts} scripts from {first}");
    let at = shared_number();
    let begin = Instant::now();
    let mut counts = BTreeMap::<String, u64>::new();
    let mut failures = 0;
    let (mut next, end) = (first, first.saturating_add(scripts));
    while next < end {
        let to = end.min(next + BATCH);
        let (status, words) = fork(next, to, at);
        let seed = at.load(SeqCst);
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
            *counts.entry("ended".into()).or_default() += to - next;
            next = to;
            continue;
        }
        *counts.entry("ended".into()).or_default() += seed - next;
        next = seed + 1;
        let named = clause(&words);
        let signal = if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 };
        let how = match named {
            _ if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == STRANDED => "stranded".into(),
            Some(clause) if signal == libc::SIGABRT => format!("aborted, {clause}"),
            _ => {
                failures += 1;
                println!("script {seed} FAILED: wait status {status:#x}; it said:\n{words}");
                "failed".into()
            }
        };
        *counts.entry(how).or_default() += 1;
    }
    let counts: Vec<_> = counts.into_iter().map(|(how, count)| format!("{how}: {count}")).collect();
    println!("{} in {:?}", counts.join(", "), begin.elapsed());
    assert_eq!(failures, 0, "scripts failed; run each again with GVT_FUZZ_SEED=number GVT_FUZZ_SCRIPTS=1");
}
