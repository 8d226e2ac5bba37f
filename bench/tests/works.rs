//! Every work computes what it must, small, on the peers that a test run can rely on. Each runs as the
//! comparison runs it: in a process of its own.

use std::process::Command;

const WORKS: &[(&str, &str, u64)] = &[
    ("yield", "workers=1 threads=1 each=100", 100),
    ("yield", "workers=1 threads=50 each=20", 1000),
    ("spawn-join", "workers=1 n=100", 4950),
    ("spawn-many", "workers=2 n=500", 500),
    ("ping-pong", "workers=1 n=100", 5050),
    ("timeout", "workers=1 n=100", 5050),
    ("channel", "workers=2 pairs=1 capacity=16 n=1000", 499_500),
    ("channel", "workers=2 pairs=4 capacity=16 n=1000", 499_500),
    ("mutex", "workers=1 threads=1 n=1000", 1000),
    ("mutex", "workers=2 threads=8 n=8000", 8000),
    ("fib", "workers=2 n=10", 55),
    ("skynet", "workers=2 leaves=100", 4950),
    ("sleepers", "workers=2 threads=100 min_us=1000 max_us=20000", 100),
    ("playground", "workers=2 threads=50 sleeps=3 sleep_us=1000", 150),
    ("parked", "workers=2 threads=100", 4950),
];

fn check(peer: &str) {
    for (work, params, want) in WORKS {
        let ran = Command::new(env!("CARGO_BIN_EXE_gvt-bench"))
            .args(["run", peer, work])
            .args(params.split_whitespace())
            .output()
            .expect("gvt-bench runs");
        let said = String::from_utf8_lossy(&ran.stdout);
        let got = said
            .split_once("\"check\":")
            .and_then(|(_, rest)| rest.trim().trim_end_matches('}').parse().ok());
        let err = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(got, Some(*want), "{peer} {work} {params}: {} {said} {err}", ran.status);
    }
}

#[test]
fn gvt() {
    check("gvt");
}

#[test]
fn gvt_on_small_slots() {
    check("gvt+64k");
}

#[test]
fn gvt_with_other_queue() {
    check("gvt+prio");
}

#[test]
fn gvt_with_other_timers() {
    check("gvt+wheel");
    check("gvt+64k+timerfd");
}

#[cfg(feature = "tokio")]
#[test]
fn tokio() {
    check("tokio");
}

#[test]
fn os_threads() {
    check("os");
}

#[test]
fn an_unknown_work_is_an_error() {
    let ran = Command::new(env!("CARGO_BIN_EXE_gvt-bench")).args(["run", "os", "nothing"]).output();
    let ran = ran.expect("gvt-bench runs");
    assert!(!ran.status.success());
    assert!(String::from_utf8_lossy(&ran.stderr).contains("no work is called `nothing`"));
}
