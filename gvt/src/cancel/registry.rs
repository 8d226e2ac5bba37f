//! The waits for the cancellation of each node: K1, K5 and K6 of `cancelled`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*, fence};

use crate::wait::lock::Lock;

/// A wait.
pub(super) trait Watching: Send + Sync {
    /// Checks whether its token is cancelled.
    fn look(&self);
}

/// Waits in the process.
static WATCHES: AtomicUsize = AtomicUsize::new(0);
/// Their numbers.
static NEXT: AtomicU64 = AtomicU64::new(0);

const SHARDS: usize = 32;

/// Keyed by the address of a node and the number of a wait there, so that entering and leaving are one
/// look-up each.
type Table = BTreeMap<(usize, u64), Arc<dyn Watching>>;

static TABLES: [Lock<Table>; SHARDS] = [const { Lock::new(BTreeMap::new()) }; SHARDS];

fn table(address: usize) -> &'static Lock<Table> {
    &TABLES[(address >> 6) % SHARDS]
}

/// K5 and K6: the node at `address` has been cancelled.
pub(super) fn tell(address: usize) {
    // ORDERING O1: the fence pairs with the one in `Cancelled::new`.
    fence(SeqCst);
    if WATCHES.load(Relaxed) != 0 {
        tell_slow(address);
    }
}

#[cold]
fn tell_slow(address: usize) {
    let table = table(address).lock();
    let watches: Vec<_> =
        table.range((address, 0)..=(address, u64::MAX)).map(|(_, watch)| watch.clone()).collect();
    drop(table);
    // Without the lock: a watch wakes threads, and dropping the last one drops its token.
    for watch in watches {
        watch.look();
    }
}

/// K1: enters a wait under the addresses of nodes; returns its number.
pub(super) fn enter(addresses: &[usize], watch: &Arc<impl Watching + 'static>) -> u64 {
    WATCHES.fetch_add(1, Relaxed);
    let number = NEXT.fetch_add(1, Relaxed);
    for &address in addresses {
        table(address).lock().insert((address, number), watch.clone());
    }
    number
}

/// Removes a wait.
pub(super) fn leave(addresses: &[usize], number: u64) {
    for &address in addresses {
        let removed = table(address).lock().remove(&(address, number));
        drop(removed);
    }
    WATCHES.fetch_sub(1, Relaxed);
}
