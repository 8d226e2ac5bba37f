//! One class's slots: how one goes out, comes back, and has its memory returned.

use gvt_traits::{GUARD_SIZE, MemoryError};

use crate::central::{CACHE, HANDS, Shared, take_last};
use crate::local::Cache;
use crate::sys::{BATCH, Guarding, PAGE, Range, resident};

impl Shared {
    /// Gives back the memory of everything in a worker's cache.
    pub(crate) fn give_back(&self, cache: &mut Cache) {
        cache.fresh_batch = 1;
        let mut slots = [0; CACHE];
        let count = cache.take_all(&mut slots);
        if count > 0 {
            self.strip(&mut slots[..count]);
            self.lock().bare.extend_from_slice(&slots[..count]);
        }
    }

    /// Takes memory from `slots`, and their guards if they are marks, sorts them, and returns the bytes
    /// found. They are bare then.
    ///
    /// The slots are in this call's hands (P1).
    pub(crate) fn strip(&self, slots: &mut [u32]) -> usize {
        // Highest first: the list is a stack, so the lowest will be used first.
        slots.sort_unstable_by(|a, b| b.cmp(a));
        let none = Range { start: 0, bytes: 0 };
        let (mut guards, mut runs) = ([none; BATCH], [none; BATCH]);
        let (mut count, mut bytes) = (0, 0);
        for (guard, &index) in guards.iter_mut().zip(slots.iter()) {
            let slot = self.range(index);
            *guard = Range { bytes: GUARD_SIZE, ..slot };
            bytes += resident(Range { bytes: self.layout.top_page(index) + PAGE, ..slot });
            match runs[..count].last_mut() {
                Some(run) if slot.start + slot.bytes == run.start => {
                    *run = Range { start: slot.start, bytes: slot.bytes + run.bytes };
                }
                _ => {
                    runs[count] = slot;
                    count += 1;
                }
            }
        }
        if self.layout.phase() > 0 {
            // Up to the 2 MiB boundary: a page-table page goes only if all it maps is named at once. The one
            // page more is the guard of the slot above: it holds nothing, and as a guard outlasts this.
            runs[..count].iter_mut().for_each(|run| run.bytes += GUARD_SIZE);
        }
        // SAFETY: the slots are free, by C1 of `release` and P1, so nobody needs their contents or guards.
        unsafe { self.guarding.strip(&guards[..slots.len()], &runs[..count]) };
        bytes
    }

    /// Takes slots from the shared lists into the cache, and the one that is to be used out of it.
    #[cold]
    pub(crate) fn refill(&self, cache: &mut Cache) -> Result<u32, MemoryError> {
        let mut slots = [0; CACHE];
        let mut central = self.lock();
        cache.update_limit(self, &central);
        let half = cache.half().max(1);
        let back = match take_last(&mut central.warm, &mut slots[..half]) {
            None => take_last(&mut central.cooling, &mut slots[..half]).map(|taken| taken.len()),
            some => some.map(|taken| taken.len()),
        };
        central.note_warm();
        if let Some(count) = back {
            drop(central);
            return Ok(cache.keep_but_last(&slots[..count]));
        }

        // None came back: slots without a guard, once used or never.
        let want = half.min(cache.fresh_batch as usize);
        cache.fresh_batch = (cache.fresh_batch * 2).min(CACHE as u32 / 2);
        let mut taken = 0;
        while taken < want {
            slots[taken] = match central.bare.pop() {
                Some(index) => index,
                None if central.fresh < central.total => {
                    central.fresh += 1;
                    central.fresh - 1
                }
                None => break,
            };
            taken += 1;
        }
        if taken == 0 {
            return Err(MemoryError::SlotsExhausted { slots: central.total as usize });
        }
        drop(central);
        let taken = self.guard(&mut slots[..taken])?;
        taken.reverse();
        Ok(cache.keep_but_last(taken))
    }

    /// Guards slots that have none, puts away those for which that fails, and returns the others.
    fn guard<'a>(&self, slots: &'a mut [u32]) -> Result<&'a mut [u32], MemoryError> {
        if self.guarding == Guarding::Protect {
            // P2: guarded when they were reserved, for good.
            return Ok(slots);
        }
        let mut guards = [Range { start: 0, bytes: 0 }; CACHE];
        for (guard, &index) in guards.iter_mut().zip(slots.iter()) {
            *guard = Range { bytes: GUARD_SIZE, ..self.range(index) };
        }
        // SAFETY: each range is a slot's lowest page, which `bounds` leaves out.
        let (done, error) = unsafe { self.guarding.install(&guards[..slots.len()]) };
        let (guarded, bare) = slots.split_at_mut(done);
        if !bare.is_empty() {
            self.lock().bare.extend(bare.iter().rev());
        }
        if guarded.is_empty() { Err(MemoryError::Guard { errno: error.unwrap_or(0) }) } else { Ok(guarded) }
    }

    /// Makes room in a full cache, and keeps the slot there.
    #[cold]
    pub(crate) fn spill(&self, cache: &mut Cache, index: u32) {
        let mut central = self.lock();
        cache.update_limit(self, &central);
        if cache.push(index) {
            return;
        }
        cache.spill(&mut central, cache.half());
        if !cache.push(index) {
            central.warm.push(index);
        }
    }

    /// See [`SlotAllocator::trim`](gvt_traits::SlotAllocator::trim).
    pub(crate) fn trim(&self) -> usize {
        let mut decay = self.decay.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut bytes = 0;
        let mut slots = [0; HANDS];
        // What comes back meanwhile is for the next call, or this one might never end.
        let mut left = {
            let central = &mut *self.lock();
            self.put_away(&mut decay, central);
            central.warm.append(&mut central.cooling);
            // Neighbours share page tables, which go when all of them do.
            central.warm.sort_unstable();
            central.warm.len()
        };
        while left > 0 {
            let mut central = self.lock();
            let Some(taken) = take_last(&mut central.warm, &mut slots[..left.min(HANDS)]) else { break };
            central.note_warm();
            drop(central);
            left -= taken.len();
            bytes += self.strip(taken);
            self.lock().bare.extend_from_slice(taken);
        }
        bytes
    }
}
