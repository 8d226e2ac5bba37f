//! How far apart the machine's processors are at the moment.
//!
//! A virtual machine's processors are moved by its host: now they are two threads of one core, now two cores
//! of different groups. What threads on two of them share then takes five times as long to get across, and
//! every figure with two workers depends on that. So it is measured before each of them.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::record::Run;

const TURNS: u32 = 20_000;
/// The least of times for so many of them counts: the two may begin on one processor.
const LAP: u32 = 1_000;
/// Two threads that share one processor get no further than this.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU32);

/// A cache line there and back between two processors, ns; `None` if there are not two to be had.
pub fn line_ns() -> Option<u32> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return None;
    }
    let line = Line::default();
    let begin = Instant::now();
    // Relaxed: only the line itself matters.
    let turns = |mine: u32| {
        let (mut least, mut lap) = (u128::MAX, Instant::now());
        for turn in 0..TURNS {
            if turn > 0 && turn.is_multiple_of(LAP) {
                least = least.min(lap.elapsed().as_nanos());
                lap = Instant::now();
            }
            while line.0.load(Relaxed) != 2 * turn + mine {
                if begin.elapsed() > PATIENCE {
                    return None;
                }
                spin_loop();
            }
            line.0.store(2 * turn + mine + 1, Relaxed);
        }
        Some((least / u128::from(LAP)) as u32)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| turns(1));
        let took = turns(0);
        other.join().ok().flatten().and(took)
    })
}

/// What was measured of that over a comparison, as a sentence.
pub fn said(runs: &[Run]) -> Option<String> {
    let mut all: Vec<u32> = runs.iter().filter_map(|run| run.line_ns).collect();
    all.sort_unstable();
    let (least, most) = (all.first()?, all.last()?);
    let median = all[all.len() / 2];
    Some(format!(
        "Before each measurement with several workers a cache line took {least} … {most} ns there and back between two \
         processors (median {median}); what they share costs accordingly."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_some_time() {
        assert!(line_ns().is_none_or(|ns| ns > 0));
    }
}
