//! T7: descriptors, in real time. Nothing here measures a duration; a patience is how long a
//! law waits for what must come before it calls it lost.

use std::thread;
use std::time::Duration;

use gvt_traits::{Factory, IdleWait, TimerBackend, WorkerId};

use super::{WORKERS, build, entry};
use crate::descriptor::{monotonic_ns, readable};
use crate::{Verdict, Violation};

const MS: u64 = 1_000_000;
const HOUR: u64 = 3_600_000 * MS;
/// Long against any delay of a loaded machine: the kernel looks at the descriptor once more
/// before a poll gives up, so only a descriptor that is not readable by then is called lost.
const PATIENCE_MS: i32 = 1_000;

/// **T7**: the descriptor that `idle_wait` names becomes readable when the next deadline passes,
/// also if that deadline comes later than the answer, and stays so until `expire`. Backends
/// that name no descriptor keep this law.
pub fn t7_descriptor<F: Factory<Output: TimerBackend>>(factory: &F) -> Verdict {
    let backend = build(factory, WORKERS);
    let IdleWait::Readable(descriptor) = backend.idle_wait() else { return Ok(()) };
    let lost = |what: &str| Err(Violation::new("T7", format!("the descriptor is not readable {what}")));
    let idle = || match backend.idle_wait() {
        IdleWait::Readable(_) => Ok(()),
        other => Err(Violation::new("T7", format!("it waits by descriptor, and then answers {other:?}"))),
    };
    // Waits as a worker does until everything due is out.
    let settle = |count: usize| -> Verdict {
        let mut out = 0;
        while out < count {
            idle()?;
            if !readable(descriptor, PATIENCE_MS) {
                return Err(Violation::new("T7", format!("{} entries are due and wake nobody", count - out)));
            }
            out += backend.expire(WorkerId::NONE, monotonic_ns(), &mut |_| ());
        }
        Ok(())
    };

    // A deadline filed before the wait, and one after.
    backend.insert(entry(0, monotonic_ns() + 5 * MS));
    idle()?;
    if !readable(descriptor, PATIENCE_MS) {
        return lost("when a deadline passes");
    }
    settle(1)?;
    backend.insert(entry(1, monotonic_ns() + HOUR));
    idle()?;
    backend.insert(entry(2, monotonic_ns() + 5 * MS));
    if !readable(descriptor, PATIENCE_MS) {
        return lost("when a deadline passes that was inserted after `idle_wait`");
    }
    if !readable(descriptor, 0) {
        return lost("a second time, before `expire`");
    }
    settle(1)?;
    idle()?;
    if readable(descriptor, 0) {
        return Err(Violation::new("T7", "the descriptor stays readable after `expire`, with nothing due"));
    }

    // Deadlines that a timer might mistake for others.
    for deadline in [0, 1, monotonic_ns() - 1] {
        backend.insert(entry(3, deadline));
        if !readable(descriptor, PATIENCE_MS) {
            return lost("for a deadline that has passed when it is inserted");
        }
        settle(1)?;
        backend.insert(entry(3, deadline));
        settle(1)?;
        idle()?;
    }
    let handle = backend.insert(entry(4, u64::MAX));
    idle()?;
    if readable(descriptor, 0) {
        return Err(Violation::new("T7", "the descriptor is readable for `u64::MAX`"));
    }

    // An `expire` that comes too early takes nothing away.
    backend.insert(entry(5, monotonic_ns() + 20 * MS));
    idle()?;
    backend.expire(WorkerId::NONE, monotonic_ns(), &mut |_| ());
    if !readable(descriptor, PATIENCE_MS) {
        return lost("when a deadline passes after an `expire` that came before it");
    }
    settle(1)?;

    // A cancelled deadline hides no later one.
    let first = backend.insert(entry(6, monotonic_ns() + 2 * MS));
    backend.insert(entry(7, monotonic_ns() + 6 * MS));
    idle()?;
    backend.cancel(first);
    settle(1)?;
    backend.cancel(handle);

    // A worker that is in its wait while another OS thread inserts.
    for round in 0..20 {
        idle()?;
        let woken = thread::scope(|scope| {
            let waiter = scope.spawn(|| readable(descriptor, PATIENCE_MS));
            thread::sleep(Duration::from_micros(round * 50));
            backend.insert(entry(8, monotonic_ns() + round % 3 * MS / 2));
            waiter.join().expect("polling does not panic")
        });
        if !woken {
            return lost("for a worker that waits while another thread inserts");
        }
        settle(1)?;
    }
    Ok(())
}
