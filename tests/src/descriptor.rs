//! File descriptors and the clock, for laws about waiting.

/// Whether `descriptor` polls readable within `patience_ms`; 0 looks once, -1 waits for ever.
///
/// # Panics
///
/// If the descriptor cannot be polled, a closed one among others.
pub fn readable(descriptor: i32, patience_ms: i32) -> bool {
    let mut slot = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: `slot` is one valid `pollfd`.
        let answer = unsafe { libc::poll(&mut slot, 1, patience_ms) };
        if answer >= 0 {
            assert!(slot.revents & libc::POLLNVAL == 0, "descriptor {descriptor} is not open");
            return answer > 0;
        }
        let error = std::io::Error::last_os_error();
        assert!(error.kind() == std::io::ErrorKind::Interrupted, "cannot poll: {error}");
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds, the clock of runtimes and of descriptors.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid `timespec`.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    assert!(answer == 0, "the monotonic clock exists");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
