//! stub
use gvt_traits::*;
macro_rules! quiet {
    ($n:ident, $s:expr) => {
        /// x
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $n;
        impl Factory for $n {
            type Output = $n;
            fn build(&self, _: &Plan) -> Result<$n, SchedError> {
                Ok($n)
            }
        }
        unsafe impl Preemptor for $n {
            fn strength(&self) -> Strength {
                $s
            }
            unsafe fn attach(&self, _: InterruptHook) -> Result<(), WorkerError> {
                Ok(())
            }
            fn detach(&self) {}
            fn interrupt(&self, _: OsThreadId) -> bool {
                false
            }
        }
    };
}
quiet!(NoPreempt, Strength::Never);
quiet!(Cooperative, Strength::AtSafepoints);
