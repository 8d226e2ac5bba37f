//! A measurement in a process of its own, with a limit on time and memory.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::usage;

/// What a measurement may take before it is ended.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Wall clock.
    pub time: Duration,
    /// Resident memory and page tables, bytes.
    pub memory: u64,
}

/// Runs `command` and reads its outcome. The comparer sleeps meanwhile, but for a look at the child's
/// memory ten times a second.
pub fn measure(command: &mut Command, limits: Limits) -> Result<Outcome, String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("does not start: {e}"))?;
    let process = child.id().to_string();
    // If memory does run out, the kernel shall end this process and no other.
    let _ = std::fs::write(format!("/proc/{process}/oom_score_adj"), "1000");
    let begin = Instant::now();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut ends = [false, false];
    while ends != [true, true] {
        poll_once(&mut child, &mut out, &mut err, &mut ends);
        let excess = if begin.elapsed() > limits.time {
            Some(format!("took longer than {} s", limits.time.as_secs()))
        } else if usage::status_bytes(&process, "VmRSS") + usage::status_bytes(&process, "VmPTE")
            > limits.memory
        {
            Some(format!("took more than {:.1} GB", limits.memory as f64 / 1e9))
        } else {
            None
        };
        if let Some(excess) = excess {
            let _ = child.kill();
            let _ = child.wait();
            return Err(excess);
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    let answer = String::from_utf8_lossy(&out).lines().find_map(|l| serde_json::from_str(l).ok());
    match answer {
        Some(outcome) if status.success() => Ok(outcome),
        _ => Err(format!("{status}: {}", first_cause(&String::from_utf8_lossy(&err)))),
    }
}

/// Waits at the most 100 ms for output and takes what there is.
fn poll_once(child: &mut Child, out: &mut Vec<u8>, err: &mut Vec<u8>, ends: &mut [bool; 2]) {
    let (stdout, stderr) = (child.stdout.as_mut(), child.stderr.as_mut());
    let (Some(stdout), Some(stderr)) = (stdout, stderr) else { return };
    let fd =
        |end: bool, fd: i32| libc::pollfd { fd: if end { -1 } else { fd }, events: libc::POLLIN, revents: 0 };
    let mut fds = [fd(ends[0], stdout.as_raw_fd()), fd(ends[1], stderr.as_raw_fd())];
    // SAFETY: `fds` is an array of two.
    unsafe { libc::poll(fds.as_mut_ptr(), 2, 100) };
    let mut chunk = [0; 4096];
    if fds[0].revents != 0 {
        let taken = stdout.read(&mut chunk).unwrap_or(0);
        out.extend_from_slice(&chunk[..taken]);
        ends[0] = taken == 0;
    }
    if fds[1].revents != 0 {
        let taken = stderr.read(&mut chunk).unwrap_or(0);
        if err.len() < 1 << 16 {
            err.extend_from_slice(&chunk[..taken]);
        }
        ends[1] = taken == 0;
    }
}

/// The line that tells most, of what a dying process printed.
fn first_cause(err: &str) -> String {
    let lines = || err.lines().map(str::trim).filter(|l| !l.is_empty());
    let after_panic = lines().skip_while(|l| !l.contains("panicked at")).nth(1);
    let line = after_panic.or_else(|| lines().next()).unwrap_or("nothing printed");
    line.chars().take(160).collect()
}
