//! A panic of a part, which ends the process (B3).

/// Aborts when dropped by unwinding: around calls of backends (B3).
pub(crate) struct NoUnwind;

impl Drop for NoUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("gvt: a backend panicked while threads were being scheduled (clause B3); aborting");
            std::process::abort();
        }
    }
}
