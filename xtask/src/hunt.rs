//! `cargo xtask hunt`: runs test programs again and again on a machine that is kept busy, and says which
//! tests failed.
//!
//! A test that holds on an idle machine may take time for a promise. Busy loops beside it take the processors
//! away for whole slices of the kernel's, between any two instructions, which is how such a test is found.
//! All logs of failures are kept in `target/hunt`.
//!
//! **What it cannot see.** What needs more processors than there are; what shows in one run of a thousand.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hint::spin_loop;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const USAGE: &str = "\
cargo xtask hunt [--rounds N] [--beside N] [--one-core] [--release] [PROGRAM[:FILTER]]...

Builds test programs (all of them, or those named: the names that `cargo test --test` takes), and runs each N times (20)
beside N busy loops (3). FILTER is what the program itself takes. Ends with status 1 if a test failed.

  --rounds N    how often each program runs
  --beside N    busy loops; 0 leaves the machine alone
  --one-core    programs and loops share processor 0
  --release     with optimisation";

/// A program that takes longer hangs. Twice the watchdogs of all tests together would be hours.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

#[derive(Debug)]
struct Options {
    rounds: u32,
    beside: u32,
    one_core: bool,
    release: bool,
    /// Names and filters.
    wanted: Vec<(String, String)>,
}

struct Program {
    name: String,
    filter: String,
    executable: PathBuf,
    /// Where `cargo test` would run it.
    folder: PathBuf,
}

#[derive(Default)]
struct Tally {
    rounds: u32,
    failures: u32,
    longest: Duration,
    /// How often each test failed.
    tests: BTreeMap<String, u32>,
}

/// Whether nothing failed.
pub fn hunt(arguments: &[String], root: &Path) -> Result<bool, String> {
    let options = parse(arguments)?;
    if options.one_core && std::env::var_os("GVT_HUNT_PINNED").is_none() {
        return pinned(arguments);
    }
    let programs = build(&options, root)?;
    let logs = root.join("target/hunt");
    fs::create_dir_all(&logs).map_err(|error| format!("{} cannot be made: {error}", logs.display()))?;
    let libraries = output_of(Command::new("rustc").args(["--print", "target-libdir"]))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..options.beside {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    spin_loop();
                }
            });
        }
        let tallies = rounds(&options, &programs, &logs, libraries.trim());
        done.store(true, Relaxed);
        report(&options, &tallies?, &logs)
    })
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { rounds: 20, beside: 3, one_core: false, release: false, wanted: Vec::new() };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u32, String> {
            let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
            value.parse().map_err(|_| format!("{argument} needs a number, not '{value}'"))
        };
        match &**argument {
            "--rounds" => options.rounds = number()?,
            "--beside" => options.beside = number()?,
            "--one-core" => options.one_core = true,
            "--release" => options.release = true,
            option if option.starts_with('-') => {
                return Err(format!("there is no option {option}\n\n{USAGE}"));
            }
            program => {
                let (name, filter) = program.split_once(':').unwrap_or((program, ""));
                options.wanted.push((name.to_owned(), filter.to_owned()));
            }
        }
    }
    Ok(options)
}

/// The same on processor 0, which the loops and the programs inherit.
fn pinned(arguments: &[String]) -> Result<bool, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("xtask does not know its path: {error}"))?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program).arg("hunt").args(arguments).env("GVT_HUNT_PINNED", "1");
    let status =
        command.status().map_err(|error| format!("--one-core needs taskset (util-linux): {error}"))?;
    match status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(format!("the pinned hunt ended with {status}")),
    }
}

/// Builds what is wanted, as `cargo test` does.
fn build(options: &Options, root: &Path) -> Result<Vec<Program>, String> {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"])
        .current_dir(root);
    command.args(options.release.then_some("--release"));
    for (name, _) in &options.wanted {
        command.args(["--test", name]);
    }
    let text = output_of(&mut command)?;
    let built = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs = Vec::new();
    for message in built.filter(|message| message["profile"]["test"] == true) {
        let (Some(name), Some(executable), Some(manifest)) = (
            message["target"]["name"].as_str(),
            message["executable"].as_str(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        let filters = options.wanted.iter().filter(|(wanted, _)| wanted == name).map(|(_, filter)| &**filter);
        let filters: Vec<&str> = if options.wanted.is_empty() { vec![""] } else { filters.collect() };
        programs.extend(filters.into_iter().map(|filter| Program {
            name: name.to_owned(),
            filter: filter.to_owned(),
            executable: executable.into(),
            folder: Path::new(manifest).parent().unwrap_or(root).to_owned(),
        }));
    }
    Ok(programs)
}

fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn rounds(
    options: &Options,
    programs: &[Program],
    logs: &Path,
    libraries: &str,
) -> Result<BTreeMap<String, Tally>, String> {
    let mut tallies = BTreeMap::<String, Tally>::new();
    for round in 1..=options.rounds {
        for program in programs {
            let name = format!("{} {}", program.name, program.filter).trim_end().replace(' ', ":");
            let log = logs.join(format!("{}.{round}.log", name.replace([':', '/'], "_")));
            let begin = Instant::now();
            let outcome = run(program, &log, libraries)?;
            let took = begin.elapsed();
            let tally = tallies.entry(name.clone()).or_default();
            tally.rounds += 1;
            tally.longest = tally.longest.max(took);
            if outcome.is_some_and(|status| status.success()) {
                let _ = fs::remove_file(&log);
                continue;
            }
            tally.failures += 1;
            let text = fs::read(&log).map(|text| String::from_utf8_lossy(&text).into_owned());
            let failed = failed_tests(&text.unwrap_or_default());
            let how = outcome.map_or("no end".to_owned(), |status| status.to_string());
            println!("round {round}: {name}: {how} after {took:.0?}: {}", failed.join(", "));
            for test in failed {
                *tally.tests.entry(test).or_default() += 1;
            }
        }
        println!("round {round} of {} is over", options.rounds);
    }
    Ok(tallies)
}

/// How it ended; nothing if it had to be ended.
fn run(program: &Program, log: &Path, libraries: &str) -> Result<Option<ExitStatus>, String> {
    let create = || -> std::io::Result<(File, File)> {
        let file = File::create(log)?;
        let other = file.try_clone()?;
        Ok((file, other))
    };
    let (stdout, stderr) = create().map_err(|error| format!("{} cannot be made: {error}", log.display()))?;
    let mut command = Command::new(&program.executable);
    command.args((!program.filter.is_empty()).then_some(&program.filter)).current_dir(&program.folder);
    // A procedural macro's tests need the compiler's libraries.
    command.env("LD_LIBRARY_PATH", libraries).env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = command
        .spawn()
        .map_err(|error| format!("{} cannot be run: {error}", program.executable.display()))?;
    wait(&mut child).map_err(|error| format!("{} cannot be waited for: {error}", program.name))
}

fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begin.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// From the harness's lines, and what a watchdog said.
fn failed_tests(log: &str) -> Vec<String> {
    let failed = log.lines().filter_map(|line| {
        let test = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        test.or(line.contains("watchdog: still not done").then_some(line))
    });
    failed.map(str::to_owned).collect()
}

fn report(options: &Options, tallies: &BTreeMap<String, Tally>, logs: &Path) -> Result<bool, String> {
    println!("\nbeside {} busy loops:", options.beside);
    for (name, tally) in tallies {
        let Tally { rounds, failures, longest, tests } = tally;
        println!(
            "  {name}: {failures} of {rounds} runs failed, the longest took {:.1} s",
            longest.as_secs_f64()
        );
        for (test, times) in tests {
            println!("      {times}x {test}");
        }
    }
    let held = tallies.values().all(|tally| tally.failures == 0);
    if !held {
        println!("logs of failures: {}", logs.display());
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_read() {
        let options = parse(&words("--rounds 3 threads --one-core waiting:sync --beside 0")).unwrap();
        assert_eq!((options.rounds, options.beside, options.one_core, options.release), (3, 0, true, false));
        let wanted =
            [("threads", ""), ("waiting", "sync")].map(|(name, filter)| (name.into(), filter.into()));
        assert_eq!(options.wanted, wanted);
        assert!(parse(&words("--rounds many")).unwrap_err().contains("not 'many'"));
        assert!(parse(&words("--rounds")).unwrap_err().contains("needs a number"));
        assert!(parse(&words("--fast")).unwrap_err().contains("no option --fast"));
    }

    #[test]
    fn failures_are_named() {
        let log = "test a::b ... ok\ntest a::c ... FAILED\nwatchdog: still not done after 120s: here\n";
        assert_eq!(failed_tests(log), ["a::c", "watchdog: still not done after 120s: here"]);
    }
}
