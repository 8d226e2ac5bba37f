//! What an end-to-end test needs of the process it runs in: children, gauges, a watchdog, seeds.
//!
//! A test that may end its process, or wants a limit or a quiet process of its own, runs its body in
//! a [`Child`]: the test binary started anew, with this one test selected.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells a test binary which test's body it is to run, and nothing else.
const MARK: &str = "GVT_CHILD";

/// What `setrlimit` limits, as the C library spells its type.
#[cfg(target_env = "gnu")]
pub type Resource = libc::__rlimit_resource_t;
/// What `setrlimit` limits, as the C library spells its type.
#[cfg(not(target_env = "gnu"))]
pub type Resource = libc::c_int;

/// A test's body in a process of its own.
///
/// ```no_run
/// use gvt_conformance::process::Child;
///
/// // In a test function called `it_aborts`, in any module:
/// let ended = Child::of("it_aborts").run(|| std::process::abort());
/// assert_eq!(ended.signal(), Some(6), "{ended}");
/// ```
#[derive(Debug)]
pub struct Child {
    test: &'static str,
    command: Command,
}

/// How a [`Child`] ended.
#[derive(Debug)]
pub struct Ended {
    status: ExitStatus,
    /// What it wrote.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Child {
    /// A child that runs the body given to [`run`](Self::run) in `test`, which is the name of the
    /// calling test function (with rstest's `::case`), without the modules of the file that calls `run`.
    pub fn of(test: &'static str) -> Self {
        let exe = std::env::current_exe().expect("a test binary knows its path");
        let mut command = Command::new(exe);
        command.env_remove("RUST_BACKTRACE").stdin(Stdio::null());
        Child { test, command }
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Limits a resource, as `setrlimit` does, soft and hard.
    pub fn limit(mut self, resource: Resource, most: u64) -> Self {
        let set = move || {
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            // SAFETY: a valid structure.
            match unsafe { libc::setrlimit(resource, &limit) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: `setrlimit` is async-signal-safe, and nothing else is done.
        unsafe { self.command.pre_exec(set) };
        self
    }

    /// In the child: runs `body` and ends the process. In the parent: waits for the child.
    ///
    /// # Panics
    ///
    /// If the child cannot be started, or has no such test.
    pub fn run<F: FnOnce()>(mut self, body: F) -> Ended {
        let test = modules_of(std::any::type_name::<F>()) + self.test;
        if std::env::var_os(MARK).as_deref() == Some(OsStr::new(&test)) {
            let _watchdog = Watchdog::new();
            body();
            std::process::exit(0);
        }
        self.command.args([&*test, "--exact", "--nocapture", "--test-threads=1", "--include-ignored"]);
        let output = self.command.env(MARK, &test).output().expect("a test binary can be started anew");
        let ended = Ended {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(!ended.stdout.contains("running 0 tests"), "there is no test '{test}'; {ended}");
        ended
    }
}

/// The modules, without the crate and with a closing `::`, in which the function or closure stands whose type
/// has this name: `a::b::` of `crate::a::b::test::{{closure}}`.
fn modules_of(body: &str) -> String {
    // A generic function's parameters have paths of their own.
    let body = body.split('<').next().unwrap_or_default().trim_end_matches("::{{closure}}");
    let inner = body.split_once("::").map_or("", |(_, inner)| inner);
    inner.rsplit_once("::").map_or(String::new(), |(modules, _)| format!("{modules}::"))
}

#[cfg(test)]
mod tests {
    use super::modules_of;

    #[test]
    fn modules_are_found_in_the_names_of_types() {
        assert_eq!(modules_of("program::test::{{closure}}"), "");
        assert_eq!(modules_of("program::a::b::test::{{closure}}::{{closure}}"), "a::b::");
        assert_eq!(modules_of("program::a::test<x::Y>::{{closure}}"), "a::");
        assert_eq!(modules_of("program::a::body"), "a::");
    }
}

impl Ended {
    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Its exit status.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// # Panics
    ///
    /// With all that it wrote, if it did not exit with status 0.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code(), Some(0), "{self}");
        self
    }

    /// # Panics
    ///
    /// With all that it wrote, if its standard error does not contain `text`.
    #[track_caller]
    pub fn complained(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no '{text}' in the child's stderr; {self}");
        self
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ended { status, stdout, stderr } = self;
        write!(f, "the child ended with {status}\n--- its stdout\n{stdout}\n--- its stderr\n{stderr}---")
    }
}

/// A number from `/proc/self/status`: `VmRSS`, `Threads`, …
///
/// # Panics
///
/// If there is no such field.
pub fn status(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    number(&text, field).unwrap_or_else(|| panic!("/proc/self/status has no {field}"))
}

fn number(text: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// OS threads of this process.
pub fn os_threads() -> u64 {
    status("Threads")
}

/// Open file descriptors of this process, the one that this look needs not counted.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

/// How often OS threads went to sleep, by id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sleeps(BTreeMap<(String, String), u64>);

impl Sleeps {
    /// Of all of them.
    pub fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    /// How many OS threads there are.
    pub fn os_threads(&self) -> usize {
        self.0.len()
    }
}

/// How often the OS threads of this process went to sleep whose name begins with `prefix`.
pub fn sleeps_of(prefix: &str) -> Sleeps {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has /proc").flatten();
    let sleeps = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("status")).ok()?;
        let name = text.lines().next()?.strip_prefix("Name:")?.trim();
        name.starts_with(prefix).then(|| {
            let id = task.file_name().to_string_lossy().into_owned();
            ((id, name.to_owned()), number(&text, "voluntary_ctxt_switches").unwrap_or(0))
        })
    });
    Sleeps(sleeps.collect())
}

/// Waits until the OS threads whose name begins with `prefix`, of which there are `least` or more, have slept
/// for `span` without waking; whether they ever did, and how often they slept before.
///
/// An OS thread gives itself its name, so on a busy machine it may not yet be counted. What wakes again and
/// again within `span` is found out. What ends once (a spare OS thread, the return of a stack), or comes from
/// outside (a debugger, a machine that is put to sleep), is not held against anybody.
pub fn sleeps_through(prefix: &str, least: usize, span: Duration) -> (bool, Sleeps) {
    let mut before = sleeps_of(prefix);
    let slept = becomes(|| {
        std::thread::sleep(span);
        let now = sleeps_of(prefix);
        std::mem::replace(&mut before, now.clone()) == now && now.os_threads() >= least
    });
    (slept, before)
}

/// Processor time of this process so far.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Gives the process's allocator room that it keeps, so that a limit on address space set after it meets
/// those who map memory, not the next small allocation, at whose failure Rust aborts.
///
/// All OS threads started later share this room: a new thread gets no arena of its own.
pub fn stock_up_on_heap() {
    const ROOM: usize = 8 << 20;
    // SAFETY: parameters of glibc's allocator, within their ranges.
    #[cfg(target_env = "gnu")]
    unsafe {
        assert_eq!(libc::mallopt(libc::M_ARENA_MAX, 1), 1);
        assert_eq!(libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX), 1);
    }
    // In pieces that are too small to be mapped one by one.
    let pieces: Vec<Vec<u8>> = (0..ROOM >> 16).map(|_| Vec::with_capacity(1 << 16)).collect();
    drop(pieces);
}

/// From here on no OS thread of this process can start another: `clone` and `clone3` answer `EAGAIN`, as they
/// do at the limit of `ulimit -u` (which does not bind root) or of a cgroup's `pids.max`.
///
/// # Panics
///
/// If the kernel refuses the filter.
pub fn deny_new_os_threads() {
    deny(&[Call::any(libc::SYS_clone), Call::any(libc::SYS_clone3)], libc::EAGAIN);
}

/// A system call that [`deny`] denies.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    number: libc::c_long,
    /// Which argument must have which value, if not all calls are meant.
    argument: Option<(u32, u32)>,
}

impl Call {
    /// All calls of this number.
    pub const fn any(number: libc::c_long) -> Self {
        Call { number, argument: None }
    }

    /// Those in whose argument `index`, from 0 on, the lower half is `value`.
    pub const fn with(number: libc::c_long, index: u32, value: i32) -> Self {
        Call { number, argument: Some((index, value as u32)) }
    }
}

/// From here on these calls answer `errno` in all of this process, as under a container's filter.
///
/// # Panics
///
/// If the kernel refuses the filter.
pub fn deny(calls: &[Call], errno: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // In the record that a filter looks at, the number comes first, the arguments at byte 16.
    const NUMBER: u32 = 0;
    const ARGUMENTS: u32 = 16;
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let denied = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32);
    let mut filter = vec![instruction(LOAD, 0, 0, NUMBER)];
    for call in calls {
        match call.argument {
            None => filter.extend([instruction(IF_EQUAL, 0, 1, call.number as u32), denied]),
            Some((index, value)) => filter.extend([
                instruction(IF_EQUAL, 0, 4, call.number as u32),
                instruction(LOAD, 0, 0, ARGUMENTS + 8 * index),
                instruction(IF_EQUAL, 0, 1, value),
                denied,
                instruction(LOAD, 0, 0, NUMBER),
            ]),
        }
    }
    filter.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid and copied by the kernel.
    let answer = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    assert_eq!(answer, 0, "seccomp: {}", io::Error::last_os_error());
}

/// Looks at `gauge` until it says `true`; for what becomes true soon, but not at once. Gives up after
/// a minute, which is long on a busy machine, and says whether it became true.
pub fn becomes(mut gauge: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60) {
        if gauge() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Ends a process that hangs, so that a lost wake-up is a failure and not a wait for ever.
#[derive(Debug)]
pub struct Watchdog {
    done: Arc<AtomicBool>,
    thread: std::thread::Thread,
}

/// Until a watchdog bites: far longer than any test takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Long forms of tests, by `GVT_STRESS_SECONDS`, are waited for.
fn patience() -> Duration {
    let seconds = std::env::var("GVT_STRESS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    PATIENCE + Duration::from_secs(seconds.unwrap_or(0))
}

impl Watchdog {
    /// Watches until it is dropped.
    #[track_caller]
    #[allow(clippy::new_without_default, reason = "a default that starts an OS thread would surprise")]
    pub fn new() -> Self {
        Self::noting("")
    }

    /// Watches until it is dropped; says `note` if it bites, the seed of what hangs, say.
    #[track_caller]
    pub fn noting(note: impl Into<String>) -> Self {
        let (patience, note) = (patience(), note.into());
        let place = std::panic::Location::caller();
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        // It has started before anything else happens: under a limit on address space it might not start at
        // all.
        let started = Arc::new(Barrier::new(2));
        let starts = started.clone();
        let watch = move || {
            starts.wait();
            let begin = Instant::now();
            while !seen.load(Acquire) {
                let Some(left) = patience.checked_sub(begin.elapsed()) else {
                    eprintln!("watchdog: still not done after {patience:?}: {place} {note}");
                    std::process::abort();
                };
                std::thread::park_timeout(left);
            }
        };
        let handle = std::thread::Builder::new().name("watchdog".into()).spawn(watch);
        let thread = handle.expect("an OS thread for the watchdog").thread().clone();
        started.wait();
        Watchdog { done, thread }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Release pairs with the Acquire of the watchdog.
        self.done.store(true, Release);
        self.thread.unpark();
    }
}

/// A small generator of random numbers (splitmix64) whose seed is printed and can be given again.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded by the environment variable `GVT_SEED`, or by the clock. Prints the seed for `what`;
    /// the test harness shows that if the test fails.
    pub fn from_environment(what: &str) -> Self {
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let given = std::env::var("GVT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| Random(clock()).next());
        println!("{what}: GVT_SEED={seed}");
        Random(seed)
    }

    /// Seeded by `seed`.
    pub fn with_seed(seed: u64) -> Self {
        Random(seed)
    }

    /// What [`with_seed`](Self::with_seed) needs to make this generator again.
    pub fn seed(&self) -> u64 {
        self.0
    }

    /// The generator of part `index`, independent of the others.
    pub fn part(&self, index: u64) -> Self {
        Random(Random(self.0 ^ index.wrapping_mul(0xD6E8_FEB8_6659_FD93)).next())
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number below `below`.
    pub fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }
}
