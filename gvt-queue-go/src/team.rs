//! The local end of one worker among several that run Normal threads: where pushes go, and the order of pops.
//!
//! ```text
//!      Timer      Wake, Spawn, Joined             Yield, TimerBusy           inject
//!        │                 │                              │                      │
//!        ▼                 ▼          displaced           ▼        older half    ▼
//!   ┌────────┐        ┌─────────┐  ───────────────►  ┌─────────┐ ────────────► ┌────────┐
//!   │ rested │        │ next-up │                    │  ring   │  when full    │ global │
//!   └────┬───┘        └────┬────┘                    └────┬────┘               └───┬────┘
//!        │                 │        ┌─────────┐           │        a batch         │
//!        │                 │        │  inbox  │ ◄─────────│────────────────────────┤
//!        │                 │        └────┬────┘           │                        │
//!        ▼ 1.              ▼ 2.          ▼ 3.             ▼ 4.                     ▼ 5.
//!       ─────────────────────────────── pop ───────────────────────────────────────  6. other workers
//! ```
//!
//! Thieves take half of the rested threads, else half of the inbox, else half of the ring, else the
//! next-up thread, and put them into their own inbox. Rested threads that do not fit into their
//! lane go to the ring.
//!
//! All this is for Normal threads. Urgent ones come first and Low ones last, from lists that all workers
//! share (`levels`).
//!
//! **Hazard: starvation (Q4).** Six ways in which a thread could wait for ever, and what bounds each:
//!
//! 1. *Two threads wake each other.* After [`STREAK`](crate::STREAK) pops in a row from the next-up slot
//!    woken threads go to the ring until it has been served, and after [`FAMILY_STREAK`] (F) so do all
//!    others. So of F + 1 pops at least one is not from next-up, roughly; call those turns.
//! 2. *The local ends are never empty, the global list waits.* When [`TURN`] pops have gone by without
//!    the inbox, a batch of up to [`BATCH`] comes from the global list into the inbox, which is served
//!    before the ring. Only when the inbox is empty does the count start again, so that the ring gets
//!    turns between two batches; if next-up left it none, it has its turn before the next batch comes.
//! 3. *The ring overflows again and again.* What overflows is the older half; if it could come back to a
//!    ring and overflow again, a thread might go round for ever. It cannot: from the global list and
//!    from other workers threads come into an inbox, and an inbox never overflows. A thread in an inbox
//!    only moves forward, since a thief takes the oldest and keeps their order.
//! 4. *Its worker is stuck with a thread that does not yield, and all others are busy.* When about
//!    [`STALL_CHECK`] pops have gone by, a worker looks at another before it looks at the global list, in
//!    rotation; if that one has had no turn since it was last visited, half of what it has is stolen.
//!
//! 5. *Sleepers come back again and again.* Of seven pops in a row, while others wait, one is not theirs
//!    (`turns`).
//! 6. *Urgent threads do.* Of sixteen pops in a row, while others wait, one is not theirs (`turns`,
//!    `levels`).
//!
//! Threads that overflow and have not begun yet let those that have go first, three batches of four
//! (`global`).
//!
//! A thread with p before it in a ring or inbox is thus passed over by O(p + 1) pops of its worker, one
//! with g before it in the global list by O(g + 1) pops of all workers, one with a stuck worker by
//! O(`STALL_CHECK` * workers) pops of each other one.
//!
//! **Rejected.** *One ring for both* (as Go has): refilling a full ring makes it overflow, see 3; with
//! 100,000 threads yielding, half of what a batch brought went back unserved. *Yielding threads
//! straight to the global list while that is not empty*: order as good, but a lock a yield.
//! *Private batches*: nobody could steal them (Q3).

use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;

use gvt_traits::{Metadata, PushKind, Runnable};

use crate::global::Global;
use crate::levels::{Bell, Shared, Shares};
use crate::next_up;
use crate::ring::{self, Publish, Stolen};
use crate::sync::{Arc, AtomicUsize, Mutant, Padded, mutant};
use crate::transit::{self, Moves};
use crate::turns::Turns;
use crate::{FAMILY_STREAK, TURN, goes_next_up};

/// Threads in a ring.
const RING: usize = if cfg!(loom) { 4 } else { 256 };
/// Threads in an inbox: half of a ring, which is what a thief takes.
const INBOX: usize = RING / 2;
/// Threads that have rested.
const RESTED: usize = if cfg!(loom) { 2 } else { 64 };
/// Threads taken from the global list when it has its turn.
const BATCH: usize = if cfg!(loom) { 2 } else { 64 };
/// Pops until another worker is looked at.
const STALL_CHECK: usize = 16 * TURN as usize;
/// Races for one ring that a thief loses before it goes on to the next.
const RACES: usize = 4;

/// What everybody sees of a worker.
pub(crate) struct Peer {
    rested: ring::Stealer<RESTED>,
    next_up: next_up::Stealer,
    inbox: ring::Stealer<INBOX>,
    ring: ring::Stealer<RING>,
    moves: transit::Watch,
    signs: Arc<Padded<Signs>>,
}

/// What a worker and others tell each other.
#[derive(Default)]
struct Signs {
    /// Turns of the global list that this worker has seen: tells one that stands still.
    turns_had: AtomicUsize,
    bell: Bell,
}

impl Peer {
    /// Tells the worker of urgent threads from outside.
    pub(crate) fn ring(&self) {
        self.signs.0.bell.ring();
    }

    pub(crate) fn len_hint(&self) -> usize {
        self.rested.len() + self.inbox.len() + self.ring.len() + usize::from(!self.next_up.look().is_null())
    }

    /// Whether one of its rings seems to hold a thread.
    fn has_rings(&self) -> bool {
        self.ring.has_work() || self.inbox.has_work() || self.rested.has_work()
    }

    fn has_work(&self) -> bool {
        self.has_rings() || !self.next_up.look().is_null()
    }
}

/// A worker's local end.
pub(crate) struct TeamMember {
    /// Threads whose timers expired, and that have computed little: they go ahead.
    rested: ring::Owner<RESTED>,
    next_up: next_up::Owner,
    ring: ring::Owner<RING>,
    inbox: ring::Owner<INBOX>,
    moves: Moves,
    /// Pops in a row that the next-up slot has served.
    streak: u32,
    turns: Turns,
    shares: Shares,
    /// Whether the inbox was filled and not yet found empty.
    inbox_filled: bool,
    /// The ring's turns when this worker's last turn of another kind was: `ring::Owner::turns`.
    ring_turns: usize,
    /// Pops since the last check for a stalled worker, roughly: counted in turns and batches.
    since_stall_check: usize,
    me: usize,
    signs: Arc<Padded<Signs>>,
    /// The worker that was checked last.
    visited: usize,
    /// How many turns each other worker had seen when it was last visited.
    turns_seen: Box<[usize]>,
    /// State of a xorshift generator, for the first worker to steal from.
    random: u32,
}

/// The two sides of worker `me` of `workers`.
pub(crate) fn member(me: usize, workers: usize) -> (TeamMember, Peer) {
    let (next_up, next_up_peer) = next_up::next_up();
    let (ring, ring_peer) = ring::ring();
    let (inbox, inbox_peer) = ring::ring();
    let (rested, rested_peer) = ring::ring();
    let (moves, watch) = transit::moves();
    let signs = Arc::new(Padded(Signs::default()));
    let member = TeamMember {
        rested,
        next_up,
        ring,
        inbox,
        moves,
        streak: 0,
        turns: Turns::new(),
        shares: Shares::default(),
        inbox_filled: false,
        ring_turns: 0,
        since_stall_check: 0,
        me,
        visited: me,
        signs: signs.clone(),
        turns_seen: vec![0; workers].into(),
        random: 0x9E37_79B9 ^ (me as u32 + 1),
    };
    let peer = Peer {
        rested: rested_peer,
        next_up: next_up_peer,
        inbox: inbox_peer,
        ring: ring_peer,
        moves: watch,
        signs,
    };
    (member, peer)
}

impl TeamMember {
    #[inline]
    pub(crate) fn push(&mut self, task: Runnable, kind: PushKind, global: &Global) {
        if kind == PushKind::Yield {
            // The number of queued threads does not grow, so nobody looks for sleepers (Q6).
            self.append(task, Publish::Plainly, global);
        } else if goes_next_up(kind, self.streak) {
            if self.next_up.is_occupied() {
                self.displace(task, global);
            } else {
                // Only we fill it.
                let displaced = self.next_up.put(task);
                debug_assert!(displaced.is_none());
            }
        } else if kind == PushKind::Timer {
            self.push_rested(task, global);
        } else {
            self.append(task, Publish::BeforeSleepers, global);
        }
    }

    #[inline(never)]
    fn push_rested(&mut self, task: Runnable, global: &Global) {
        match self.rested.push(task, Publish::BeforeSleepers) {
            Ok(()) => self.turns.look_next(),
            Err(task) => self.append(task, Publish::BeforeSleepers, global),
        }
    }

    fn displace(&mut self, task: Runnable, global: &Global) {
        self.moves.begin();
        if let Some(displaced) = self.next_up.put(task) {
            // Its own push has looked for sleepers already.
            if let Err(displaced) = self.ring.push(displaced, Publish::Plainly) {
                self.overflow(displaced, Publish::Plainly, global);
            }
        }
        self.moves.end();
    }

    /// Moves the newest thread of the ring to the next-up slot, if that is `thread`.
    pub(crate) fn expedite(&mut self, thread: NonNull<Metadata>, global: &Global) {
        if self.streak < FAMILY_STREAK && self.ring.newest() == Some(thread) {
            self.moves.begin();
            if let Some(task) = self.ring.take_newest()
                && let Some(displaced) = self.next_up.put(task)
                && let Err(displaced) = self.ring.push(displaced, Publish::Plainly)
            {
                self.overflow(displaced, Publish::Plainly, global);
            }
            self.moves.end();
        }
    }

    #[inline]
    fn append(&mut self, task: Runnable, how: Publish, global: &Global) {
        if let Err(task) = self.ring.push(task, how) {
            self.moves.begin();
            self.overflow(task, how, global);
            self.moves.end();
        }
    }

    /// Moves the older half of the full ring to the global list, then appends `task`. The caller has
    /// announced the move.
    #[cold]
    #[inline(never)]
    fn overflow(&mut self, mut task: Runnable, how: Publish, global: &Global) {
        loop {
            if let Some(half) = self.ring.detach_half() {
                global.push_all(half);
            }
            // If nothing was detached, a thief has made room (Q2: the second round succeeds, since
            // only we fill it).
            match self.ring.push(task, how) {
                Ok(()) => return,
                Err(back) => task = back,
            }
        }
    }

    #[inline]
    pub(crate) fn pop(&mut self, peers: &[Peer], shared: &Shared) -> Option<Runnable> {
        if (self.turns.count() || self.signs.0.bell.rings())
            && let Some(task) = self.look_beside(peers, shared)
        {
            return Some(task);
        }
        if let Some(task) = self.next_up.take() {
            self.streak += 1;
            return Some(task);
        }
        self.streak = 0;
        if self.inbox_filled {
            if let Some(task) = self.inbox.pop() {
                return Some(task);
            }
            self.inbox_filled = false;
            self.turns.begin();
        }
        if let Some(task) = self.ring.pop() {
            return Some(task);
        }
        self.look_elsewhere(peers, shared)
    }

    /// Takes an urgent thread, or one that has rested, or gives others their turn.
    #[cold]
    #[inline(never)]
    fn look_beside(&mut self, peers: &[Peer], shared: &Shared) -> Option<Runnable> {
        if !mutant(Mutant::BellClearedLate) {
            self.signs.0.bell.answer();
        }
        // At a turn a worker that stands still may have others.
        let others = self.next_up.is_occupied()
            || !self.inbox.is_empty()
            || !self.ring.is_empty()
            || !shared.global.is_empty()
            || !shared.low.is_empty()
            || self.turns.is_due();
        let mut task = None;
        if shared.has_urgent() && self.turns.serves_urgent(others || !self.rested.is_empty()) {
            task = self.shares.pop_urgent(shared);
            task.iter().for_each(|_| self.turns.urgent_popped());
        }
        if task.is_none() && !self.rested.is_empty() && self.turns.serves_rested(others) {
            task = self.rested.pop();
        }
        if task.is_none() && self.turns.is_due() {
            task = self
                .shares
                .pop_low_at_turn(shared, self.turns.plain_pops())
                .or_else(|| self.take_turn(peers, &shared.global));
        }
        self.turns.look_again(self.rested.is_empty() && !shared.has_urgent());
        if mutant(Mutant::BellClearedLate) {
            self.signs.0.bell.answer();
        }
        task
    }

    /// Urgent threads are in their lists: the next pop looks.
    pub(crate) fn look_next(&mut self) {
        self.turns.look_next();
    }

    /// Gives the global list, or now and then another worker, its turn.
    fn take_turn(&mut self, peers: &[Peer], global: &Global) -> Option<Runnable> {
        self.turns.begin();
        // Relaxed, here and in `steal_from_stalled`: compared with an earlier value, no more.
        let turns = &self.signs.0.turns_had;
        turns.store(turns.load(Relaxed).wrapping_add(1), Relaxed);
        if self.inbox_filled {
            return None;
        }
        self.since_stall_check += TURN as usize;
        let ring_waits = self.ring.turns() == self.ring_turns && !self.ring.is_empty();
        let task = match ring_waits && !global.is_empty() {
            true => self.ring.pop(),
            false => self.steal_from_stalled(peers).or_else(|| self.fetch(peers.len(), BATCH, global)),
        }?;
        self.ring_turns = self.ring.turns();
        self.streak = 0;
        Some(task)
    }

    /// If it is time, checks the next worker in rotation, and steals from it if it has had no turn since the
    /// last check.
    fn steal_from_stalled(&mut self, peers: &[Peer]) -> Option<Runnable> {
        if self.since_stall_check < STALL_CHECK {
            return None;
        }
        self.since_stall_check = 0;
        self.visited = (self.visited + 1) % peers.len();
        if self.visited == self.me {
            self.visited = (self.visited + 1) % peers.len();
        }
        let peer = &peers[self.visited];
        let turns = peer.signs.0.turns_had.load(Relaxed);
        let before = std::mem::replace(&mut self.turns_seen[self.visited], turns);
        if before != turns {
            return None;
        }
        self.steal_from(peer).or_else(|| peer.next_up.steal())
    }

    /// Nothing is here.
    #[cold]
    #[inline(never)]
    fn look_elsewhere(&mut self, peers: &[Peer], shared: &Shared) -> Option<Runnable> {
        if let Some(task) = self.shares.pop_urgent(shared) {
            if shared.has_urgent() {
                self.look_next();
            }
            return Some(task);
        }
        if let Some(task) =
            self.steal_from_stalled(peers).or_else(|| self.fetch(peers.len(), INBOX, &shared.global))
        {
            return Some(task);
        }
        let first = self.draw(peers.len());
        let (front, back) = peers.split_at(first);
        let others = || back.iter().chain(front);
        // Rested threads whose turn was others', if thieves have left any. Our own ring and
        // inbox are empty, so stealing from ourselves finds nothing else.
        self.rested
            .pop()
            .or_else(|| others().find_map(|peer| self.steal_from(peer)))
            .or_else(|| self.shares.pop_low(shared))
            .or_else(|| others().find_map(|peer| peer.next_up.steal()))
    }

    /// Takes a fair share of the global list, at most `most`, into the empty inbox.
    fn fetch(&mut self, workers: usize, most: usize, global: &Global) -> Option<Runnable> {
        let waiting = global.len_hint();
        if waiting == 0 {
            return None;
        }
        let share = (waiting / workers + 1).min(most);
        self.since_stall_check += share;
        self.moves.begin();
        global.take(share, |next| {
            self.inbox.extend(next);
        });
        self.moves.end();
        self.inbox_filled = true;
        self.inbox.pop()
    }

    /// Steals half of `peer`'s rested threads, or else of its inbox, or of its ring, into the empty inbox.
    fn steal_from(&mut self, peer: &Peer) -> Option<Runnable> {
        if !peer.has_rings() {
            return None;
        }
        self.moves.begin();
        let mut found = None;
        for _ in 0..RACES {
            let mut stolen = peer.rested.steal_into(&mut self.inbox);
            if let Stolen::Nothing = stolen {
                stolen = peer.inbox.steal_into(&mut self.inbox);
            }
            if let Stolen::Nothing = stolen {
                stolen = peer.ring.steal_into(&mut self.inbox);
            }
            match stolen {
                Stolen::Raced => continue,
                Stolen::Got(task) => found = Some(task),
                Stolen::Nothing => {}
            }
            break;
        }
        self.moves.end();
        self.inbox_filled |= found.is_some();
        found
    }

    fn draw(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random as usize % below
    }

    pub(crate) fn has_work(&self, peers: &[Peer], shared: &Shared) -> bool {
        if self.next_up.is_occupied()
            || !self.ring.is_empty()
            || !self.inbox.is_empty()
            || !self.rested.is_empty()
        {
            return true;
        }
        let before = transit::census(peers.iter().map(|peer| &peer.moves));
        before.is_none()
            || shared.has_work()
            || peers.iter().any(Peer::has_work)
            || transit::census(peers.iter().map(|peer| &peer.moves)) != before
    }

    #[inline]
    pub(crate) fn upcoming(&self, distance: usize) -> Option<NonNull<Metadata>> {
        let next_up = self.next_up.peek();
        let distance = match next_up {
            Some(_) if distance == 0 => return next_up,
            Some(_) => distance - 1,
            None => distance,
        };
        // Those that have rested come sooner; but either these are many, or the others are.
        self.inbox
            .peek(distance)
            .or_else(|behind| self.ring.peek(behind))
            .or_else(|behind| self.rested.peek(behind))
            .ok()
    }
}
