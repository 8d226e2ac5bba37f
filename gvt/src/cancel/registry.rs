//! Who waits for the cancellation of which node: K1, K5 and K6 of `cancelled`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*, fence};

use crate::wait::lock::Lock;

/// A wait.
pub(super) trait Watching: Send + Sync {
    /// Looks whether what it waits for has come.
    fn look(&self);
}

/// Waits in the process.
static WATCHES: AtomicUsize = AtomicUsize::new(0);
/// Their numbers.
static NEXT: AtomicU64 = AtomicU64::new(0);

const SHARDS: usize = 32;

/// By the address of a node, and a number for each wait there, so that to come and to go is a look-up however many wait.
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
    // Without the lock: they wake others, and the last to go lets go of its token.
    for watch in watches {
        watch.look();
    }
}

/// K1: enters a wait under the addresses of nodes; its number.
pub(super) fn enter(addresses: &[usize], watch: &Arc<impl Watching + 'static>) -> u64 {
    WATCHES.fetch_add(1, Relaxed);
    let number = NEXT.fetch_add(1, Relaxed);
    for &address in addresses {
        table(address).lock().insert((address, number), watch.clone());
    }
    number
}

/// Takes it out again.
pub(super) fn leave(addresses: &[usize], number: u64) {
    for &address in addresses {
        let removed = table(address).lock().remove(&(address, number));
        drop(removed);
    }
    WATCHES.fetch_sub(1, Relaxed);
}
