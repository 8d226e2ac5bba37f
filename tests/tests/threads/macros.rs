//! `#[gvt::main]`, `#[gvt::test]`, `go!`, as a user has them.

use std::process::Command;
use std::time::Duration;

use gvt_conformance::process::{Child, becomes};

mod renamed {
    pub use gvt as inner;
}

#[gvt::test]
fn a_test_runs_on_a_green_thread() {
    assert!(gvt::is_in_gvthread());
}

#[gvt::test(workers = 3, time_slice = "2ms", forced_preempt = true, timeout = "1min", crate = crate::macros::renamed::inner)]
fn settings_are_taken() -> Result<(), Box<dyn std::error::Error>> {
    let names = gvt::go! {
        gvt::yield_now();
        gvt::current_name()
    };
    assert_eq!(names.join().unwrap(), None);
    assert_eq!(gvt::current_name().as_deref(), Some("settings_are_taken"));
    "1".parse::<u8>()?;
    Ok(())
}

#[gvt::test(timeout = "1min")]
#[should_panic(expected = "meant")]
fn panics_are_the_tests() {
    let text = String::from("meant");
    gvt::go!(|_token| assert!(text.is_empty(), "{text}")).join().unwrap_or_else(|payload| {
        std::panic::resume_unwind(payload);
    });
}

#[gvt::test]
#[ignore = "to see that the attribute stays"]
fn attributes_stay() {
    panic!("not run");
}

/// Run by the tests below only.
#[gvt::test(workers = 1, timeout = "1s")]
#[ignore = "fails, as it should"]
fn hangs() {
    let (_sender, receiver) = gvt::channel::<()>(0);
    let _ = receiver.recv();
}

#[gvt::test(workers = 1, timeout = "1s")]
#[ignore = "fails, as it should"]
fn leaves_a_thread() {
    gvt::go!(gvt::channel::never::<()>().recv());
}

#[gvt::test]
#[ignore = "fails, as it should"]
fn fails() -> Result<(), String> {
    Err("meant".into())
}

/// Runs an ignored test until it says all of `words`. On a busy machine a limit may be over before the test
/// has begun.
fn says(name: &str, words: &[&str]) {
    let mut said = String::new();
    let test = format!("macros::{name}");
    let does = becomes(|| {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).args([&*test, "--exact", "--ignored"]).output().unwrap();
        assert!(!output.status.success());
        said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        words.iter().all(|words| said.contains(words))
    });
    assert!(does, "{said}");
}

#[test]
fn a_timeout_lists_the_threads() {
    says("hangs", &["hangs has taken longer than 1s", "'hangs': blocked on channel receive for about"]);
    says("leaves_a_thread", &["after 1s green threads are left"]);
    says("fails", &["Error: \"meant\""]);
}

mod program {
    #[gvt::main(workers = 2, low_priority_workers = 1)]
    pub fn main() -> Result<(), Box<dyn std::error::Error>> {
        assert!(gvt::is_in_gvthread());
        if std::env::var_os("GVT_TEST_FAILS").is_some() {
            return Err("it could not be done".into());
        }
        Ok(())
    }
}

#[test]
fn a_main_runs_and_reports() {
    assert_eq!(format!("{:?}", program::main()), format!("{:?}", std::process::ExitCode::SUCCESS));
    let child = Child::of("a_main_runs_and_reports").env("GVT_TEST_FAILS", "1");
    child
        .run(|| {
            assert_eq!(format!("{:?}", program::main()), format!("{:?}", std::process::ExitCode::FAILURE));
            std::process::exit(3);
        })
        .complained("it could not be done");
}

#[test]
fn go_is_spawn() {
    gvt::Runtime::new(Default::default()).block_on(|| {
        let list = [1, 2, 3];
        let sum = gvt::go!(list.iter().sum::<i32>());
        assert_eq!(sum.join().unwrap(), 6);
        let told = gvt::go!(|token| token.cancelled().wait_timeout(Duration::from_secs(60)));
        told.token().cancel();
        assert!(told.join().unwrap());
    });
}

#[gvt::test(max_gvthreads = 3, stack_size = "64KiB", deadlock_report = "1min", timeout = "60s")]
fn settings_reach_the_builder() {
    let (keep, wait) = gvt::channel::bounded::<()>(0);
    let others: Vec<_> = (0..2)
        .map(|_| {
            let wait = wait.clone();
            gvt::spawn(move |_| wait.recv().is_err())
        })
        .collect();
    assert!(matches!(gvt::try_spawn(|_| ()), Err(gvt::SchedError::TooManyThreads { .. })));
    drop(keep);
    assert!(others.into_iter().all(|other| other.join().unwrap()));
}
