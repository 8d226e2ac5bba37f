//! What threads wait for: channels, locks, futures, tokens, time.
//!
//! Tests of one program run side by side. What counts bytes counts its own thread's.

mod cancellable;
mod cancellation;
mod channel;
mod futures;
mod other_channels;
mod select_arms;
mod select_fair;
mod sync;
mod timers;
mod tokens;
mod unwound;
mod virtual_time;

use gvt_conformance::counting::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
