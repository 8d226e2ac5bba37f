#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod checked;
mod recorded;
mod replay;
mod virtual_time;

pub use checked::{Checked, CheckedLocal, CheckedPart};
pub use recorded::{Log, Recorded, RecordedLocal, RecordedPart};
pub use replay::{Divergence, replay_queue, replay_timer};
pub use virtual_time::{VirtualTime, VirtualTimePart};
