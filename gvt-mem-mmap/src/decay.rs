//! Giving memory back in the background.
//!
//! **Hazard.** After a burst, the slots that came back hold their pages for ever, unless `trim` is called.
//! If they are given back at once, the next burst pays page faults again. And giving back must neither hold
//! up threads nor wake an OS thread for nothing.
//!
//! **Protocol.** The runtime's monitor calls [`decay`](Shared::decay). Once a period (`keep_warm`, a second
//! by default) half of the slots that nobody has needed since the last time move from `warm` to `cooling`:
//! the lowest level that `warm` has had says how many. From there [`HANDS`] at a time lose their pages, and
//! become `bare`. Slots in `cooling` can still be taken. Once both lists are empty there is nothing to do
//! until some slot comes back.
//!
//! While a burst ends, more comes back in a period than would be given back after it: then it is left for the
//! next period, so that the workers do not compete with the monitor for the memory map and the
//! processors. What is unneeded grows by half each time, so a million slots delay it by half a minute at
//! most.
//!
//! **Locks.** The monitor must go on whatever a preempted thread holds, and the central lock is held over an
//! allocation when address space grows. So the monitor only tries to take it; slots that it could not
//! put away it keeps, and puts away next time.
//!
//! **Limits.** What lies in workers' caches, 64 slots a worker and class, stays. After a burst of a million,
//! giving back takes half a minute.

use std::sync::atomic::Ordering::Relaxed;

use crate::central::{Central, Decay, Shared, take_last};

/// A call that has done something asks to be called again so soon.
const STEP_NS: u64 = 1_000_000;
/// So few are given back all at once.
const FEW: usize = 64;

/// So many are put into order at once, some 50 µs.
const CHUNK: usize = 2048;

impl Shared {
    /// Puts away what `decay` has at hand.
    pub(crate) fn put_away(&self, decay: &mut Decay, central: &mut Central) {
        central.bare.extend_from_slice(&decay.slots[..decay.count]);
        decay.count = 0;
        self.decaying.store(0, Relaxed);
    }

    /// See [`SlotAllocator::decay`](gvt_traits::SlotAllocator::decay).
    pub(crate) fn decay(&self, now_ns: u64) -> Option<u64> {
        let period = self.keep_warm_ns?;
        let again = Some(now_ns.saturating_add(STEP_NS));
        let Ok(mut decay) = self.decay.try_lock() else { return again };
        let decay = &mut *decay;
        let Ok(mut central) = self.try_lock() else { return again };
        self.put_away(decay, &mut central);
        if decay.due_ns != 0 && now_ns >= decay.due_ns {
            decay.due_ns = 0;
            let unneeded = central.least_warm.min(central.warm.len());
            let came_back = central.warm.len().saturating_sub(decay.level);
            let share = match unneeded {
                0..=FEW => unneeded,
                _ if came_back > unneeded / 2 => 0,
                _ => unneeded / 2,
            };
            let central = &mut *central;
            // Those that came back first. Room for them is reserved.
            central.cooling.extend_from_slice(&central.warm[..share]);
            central.warm.drain(..share);
        }
        if decay.due_ns == 0 && !central.warm.is_empty() {
            decay.due_ns = now_ns.saturating_add(period);
            decay.level = central.warm.len();
            central.least_warm = decay.level;
        }
        let level = central.cooling.len();
        if decay.sorted == 0 || decay.sorted > level {
            // Highest first: a slot's top shares its page-table page with the guard of the slot above, and
            // that page goes with whichever comes last, if that is the one below.
            decay.sorted = level.min(CHUNK);
            central.cooling[level - decay.sorted..].sort_unstable();
        }
        let count = take_last(&mut central.cooling, &mut decay.slots).map_or(0, |taken| taken.len());
        self.decaying.store(count as u32, Relaxed);
        let more = !central.cooling.is_empty();
        drop(central);
        decay.count = count;
        decay.sorted -= count.min(decay.sorted);
        if count > 0 {
            self.strip(&mut decay.slots[..count]);
        }
        if count > 0 || more { again } else { (decay.due_ns != 0).then_some(decay.due_ns) }
    }
}
