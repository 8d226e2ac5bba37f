//! A thousand contexts that switch straight to each other.

use std::hint::black_box;

use gvt_traits::{ContextSwitch, Registers};

use crate::stacks::Stack;
use crate::{Verdict, Violation};

const MEMBERS: usize = 1000;
const LAPS: usize = 20;

struct Ring {
    blocks: *mut Registers,
    main: Registers,
    /// Who runs; written before a switch, read after it.
    at: usize,
    laps: usize,
    wrong: Option<String>,
}

unsafe extern "C" fn member<X: ContextSwitch>(ring: *mut ()) -> ! {
    let ring = ring.cast::<Ring>();
    // SAFETY: the ring outlives its members. One OS thread. C1, C2: each member saves itself before
    // the next is loaded. No reference into the ring is held across a switch.
    unsafe {
        let me = (*ring).at;
        let mut lap = 0;
        loop {
            if (*ring).at != me || (*ring).laps != lap {
                let (at, laps) = ((*ring).at, (*ring).laps);
                (*ring).wrong = Some(format!("member {me} in lap {lap} ran as member {at} in lap {laps}"));
                X::leave(&raw const (*ring).main);
            }
            lap = black_box(lap + 1);
            let next = (me + 1) % MEMBERS;
            (*ring).at = next;
            if next == 0 {
                (*ring).laps += 1;
                if (*ring).laps == LAPS {
                    X::leave(&raw const (*ring).main);
                }
            }
            let blocks = (*ring).blocks;
            X::switch(blocks.add(me), blocks.add(next));
        }
    }
}

/// X1: a thousand contexts in a ring, each switching straight to the next; each keeps its own place
/// and lap. Prefetches on the way change nothing.
pub fn x1_ring<X: ContextSwitch>(_: X) -> Verdict {
    let stacks: Vec<Stack> = (0..MEMBERS).map(|_| Stack::new(16 << 10)).collect();
    let mut blocks = vec![Registers::default(); MEMBERS];
    let blocks = blocks.as_mut_ptr();
    let mut ring = Ring { blocks, main: Registers::default(), at: 0, laps: 0, wrong: None };
    let ring = &raw mut ring;
    // SAFETY: `prepare` C1, C2: unused blocks and stacks. `prefetch` C1: initialised blocks, and a
    // blank one. `switch` C2: member 0 is prepared; the ring leaves for `main` once.
    unsafe {
        let blank = Registers::default();
        X::prefetch(&raw const blank);
        for (index, stack) in stacks.iter().enumerate() {
            X::prepare(blocks.add(index), stack.bounds(), member::<X>, ring.cast());
            X::prefetch(blocks.add(index));
        }
        X::switch(&raw mut (*ring).main, blocks);
        if let Some(wrong) = (*ring).wrong.take() {
            return Err(Violation::new("X1", wrong));
        }
        if (*ring).laps != LAPS {
            return Err(Violation::new("X1", format!("the ring came back after {} laps", (*ring).laps)));
        }
    }
    Ok(())
}
