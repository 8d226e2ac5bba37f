//! Replaying a log (`recorded`): the same calls, in the same order, to any backend of the same kind, its
//! answers compared with those on record.
//!
//! A replay makes all calls from one OS thread. It tells whether another backend would have decided
//! otherwise, or whether this one still decides the same after a change; it repeats no race.

use std::collections::HashMap;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::str::FromStr;
use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{
    Factory, GvtId, Metadata, Plan, Priority, PushKind, ReadyQueue, Runnable, SchedError, TimerBackend,
    TimerEntry, TimerHandle, TimerType, WakeTicket, WorkerId,
};

/// Where a replay went another way than the log, or could not follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The line, counted from 1.
    pub line: usize,
    /// What it says.
    pub recorded: String,
    /// What happened.
    pub replayed: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: recorded `{}`, replayed `{}`", self.line, self.recorded, self.replayed)
    }
}

impl std::error::Error for Divergence {}

/// What a line asks; `None` for one that cannot be read.
type Step<T> = Option<T>;

fn number<N: FromStr>(word: &str, prefix: &str) -> Step<N> {
    word.strip_prefix(prefix)?.parse().ok()
}

fn plan(words: &[&str]) -> Step<Plan> {
    let [workers, low, threads] = words else { return None };
    Some(Plan::new(workers.parse().ok()?, threads.parse().ok()?).with_low_priority_workers(low.parse().ok()?))
}

fn worker(word: &str) -> Step<WorkerId> {
    match word {
        "w-" => Some(WorkerId::NONE),
        _ => number(word, "w").filter(|&index: &usize| index < gvt_traits::MAX_WORKERS).map(WorkerId::new),
    }
}

fn ticket(word: &str) -> Step<WakeTicket> {
    let (place, sequence) = word.split_once('#')?;
    Some(WakeTicket { sequence: sequence.parse().ok()?, id: GvtId::new(number(place, "t")?) })
}

/// Takes each line of a `part` to `step`, which says what it should have been.
fn follow(log: &str, part: &str, mut step: impl FnMut(&[&str]) -> Step<String>) -> Result<usize, Divergence> {
    let mut followed = 0;
    for (index, recorded) in log.lines().enumerate() {
        let Some(rest) = recorded.strip_prefix(part) else { continue };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let replayed =
            step(&words).map_or_else(|| "not understood".to_owned(), |line| format!("{part} {line}"));
        if replayed != recorded.trim_end() {
            return Err(Divergence { line: index + 1, recorded: recorded.to_owned(), replayed });
        }
        followed += 1;
    }
    Ok(followed)
}

/// Plays the queue's part of a log to a queue that `factory` builds; returns how many lines that were.
///
/// # Errors
///
/// The first line at which the queue answers otherwise, or that cannot be read.
pub fn replay_queue<F: Factory<Output: ReadyQueue>>(log: &str, factory: &F) -> Result<usize, Divergence> {
    let mut stage: Option<QueueStage<F::Output>> = None;
    follow(log, "queue", |words| {
        if let ["plan", rest @ ..] = words {
            match QueueStage::new(factory, plan(rest)?) {
                Ok(built) => stage = Some(built),
                Err(error) => return Some(format!("plan refused: {error}")),
            }
            return Some(words.join(" "));
        }
        stage.as_mut()?.step(words)
    })
}

/// A queue on stage, with records for the threads that the log names.
struct QueueStage<Q: ReadyQueue> {
    // Leaked with what is in it if a replay breaks off: tokens must not be dropped (R2).
    queue: ManuallyDrop<Q>,
    locals: Vec<ManuallyDrop<Q::Local>>,
    records: HashMap<u32, NonNull<Metadata>>,
    queued: HashMap<u32, bool>,
}

/// The record of thread `index`, which is never freed.
fn record(records: &mut HashMap<u32, NonNull<Metadata>>, index: u32) -> NonNull<Metadata> {
    let new = || NonNull::from(Box::leak(Box::new(Metadata::new(GvtId::new(index)))));
    *records.entry(index).or_insert_with(new)
}

impl<Q: ReadyQueue> QueueStage<Q> {
    fn new<F: Factory<Output = Q>>(factory: &F, plan: Plan) -> Result<Self, SchedError> {
        let queue = ManuallyDrop::new(factory.build(&plan)?);
        let locals =
            (0..plan.workers).map(|index| ManuallyDrop::new(queue.local(WorkerId::new(index)))).collect();
        Ok(QueueStage { queue, locals, records: HashMap::new(), queued: HashMap::new() })
    }

    /// The token of a thread, which must not be queued.
    fn token(&mut self, thread: &str, level: &str) -> Step<Runnable> {
        let index = number(thread, "t")?;
        let level = match level {
            "critical" => Priority::Critical,
            "high" => Priority::High,
            "normal" => Priority::Normal,
            "low" => Priority::Low,
            _ => return None,
        };
        if self.queued.insert(index, true) == Some(true) {
            return None;
        }
        let record = record(&mut self.records, index);
        // SAFETY: records are never freed.
        unsafe { record.as_ref().head() }.priority.store(level as u8, Relaxed); // Relaxed: one OS thread.
        // SAFETY: C1: records are never freed. C2: it was not queued, and tokens that come out are taken
        // apart.
        Some(unsafe { Runnable::from_raw(record) })
    }

    fn step(&mut self, words: &[&str]) -> Step<String> {
        match *words {
            ["inject", thread, level] => {
                let task = self.token(thread, level)?;
                self.queue.inject(task);
                Some(words.join(" "))
            }
            ["push", at, kind, thread, level] => {
                let kind_of = match kind {
                    "spawn" => PushKind::Spawn,
                    "wake" => PushKind::Wake,
                    "yield" => PushKind::Yield,
                    "timer" => PushKind::Timer,
                    "timer-busy" => PushKind::TimerBusy,
                    "joined" => PushKind::Joined,
                    _ => return None,
                };
                let index = worker(at)?.index().filter(|&index| index < self.locals.len())?;
                let task = self.token(thread, level)?;
                self.queue.push(&mut self.locals[index], task, kind_of);
                Some(words.join(" "))
            }
            ["pop", at, "->", _] => {
                let local = self.locals.get_mut(worker(at)?.index()?)?;
                let popped = self.queue.pop(local).map(release);
                if let Some(index) = popped {
                    self.queued.insert(index, false);
                }
                Some(format!("pop {at} -> {}", popped.map_or("-".to_owned(), |index| format!("t{index}"))))
            }
            ["expedite", at, thread] => {
                let local = self.locals.get_mut(worker(at)?.index()?)?;
                let record = record(&mut self.records, number(thread, "t")?);
                // SAFETY: records are never freed.
                self.queue.expedite(local, unsafe { record.as_ref() });
                Some(words.join(" "))
            }
            ["has_work", at, "->", _] => {
                let local = self.locals.get(worker(at)?.index()?)?;
                Some(format!("has_work {at} -> {}", self.queue.has_work(local)))
            }
            _ => None,
        }
    }
}

/// Takes a token apart; its thread's number.
fn release(task: Runnable) -> u32 {
    let id = task.id();
    let _ = task.into_raw();
    id.index()
}

/// Plays the timer's part of a log to a timer that `factory` builds; returns how many lines that were.
/// Entries that come out of one `expire` are compared as a set: their order is the backend's affair.
///
/// # Errors
///
/// The first line at which the timer answers otherwise, or that cannot be read.
pub fn replay_timer<F: Factory<Output: TimerBackend>>(log: &str, factory: &F) -> Result<usize, Divergence> {
    let mut timers = None;
    // From the handles on record to those of this replay.
    let mut handles: HashMap<(u64, u64), TimerHandle> = HashMap::new();
    let recorded_handle = |word: &str| -> Step<(u64, u64)> {
        let (place, generation) = word.split_once(':')?;
        Some((number(place, "h")?, generation.parse().ok()?))
    };
    let name = |ticket: WakeTicket| format!("t{}#{}", ticket.id.index(), ticket.sequence);
    follow(log, "timer", |words| {
        if let ["plan", rest @ ..] = words {
            match factory.build(&plan(rest)?) {
                Ok(built) => timers = Some(built),
                Err(error) => return Some(format!("plan refused: {error}")),
            }
            return Some(words.join(" "));
        }
        let timers = timers.as_ref()?;
        match *words {
            ["insert", at, kind, entry, "at", deadline, "->", handle] => {
                let kind = match kind {
                    "sleep" => TimerType::Sleep,
                    "deadline" => TimerType::Deadline,
                    "interval" => TimerType::Interval,
                    _ => return None,
                };
                let deadline_ns = deadline.parse().ok()?;
                let entry = TimerEntry { deadline_ns, ticket: ticket(entry)?, affinity: worker(at)?, kind };
                handles.insert(recorded_handle(handle)?, timers.insert(entry));
                Some(words.join(" "))
            }
            ["cancel", handle, "->", _] => {
                let out = handles.get(&recorded_handle(handle)?).and_then(|&handle| timers.cancel(handle));
                Some(format!("cancel {handle} -> {}", out.map_or("-".to_owned(), |out| name(out.ticket))))
            }
            ["expire", at, "at", now, "->", ref recorded @ ..] => {
                let mut out = Vec::new();
                timers.expire(worker(at)?, now.parse().ok()?, &mut |entry| out.push(name(entry.ticket)));
                let mut expected: Vec<&str> = recorded.to_vec();
                expected.sort_unstable();
                let mut sorted: Vec<&str> = out.iter().map(String::as_str).collect();
                sorted.sort_unstable();
                let shown = if sorted == expected { recorded.join(" ") } else { out.join(" ") };
                Some(format!("expire {at} at {now} -> {shown}").trim_end().to_owned())
            }
            _ => None,
        }
    })
}
