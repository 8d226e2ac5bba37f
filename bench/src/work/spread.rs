//! Sleep times that look random and are the same for every peer.

/// The sleep of thread `i`, spread evenly between `min_us` and `max_us`.
pub fn sleep_us(i: u64, min_us: u64, max_us: u64) -> u64 {
    let mixed = i.wrapping_mul(2_654_435_769) & 0xFFFF_FFFF;
    min_us + ((mixed * (max_us - min_us)) >> 32)
}
