//! A panic in a backend ends the process (B3).

/// Aborts if it is dropped by unwinding: guards calls of backends (B3).
pub(crate) struct NoUnwind;

impl Drop for NoUnwind {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("gvt: a backend panicked while threads were being scheduled (clause B3); aborting");
            std::process::abort();
        }
    }
}
