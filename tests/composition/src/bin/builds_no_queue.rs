//! A factory whose product lacks the trait.

use gvt_traits::{Factory, Plan, SchedError};

struct Mine;

impl Factory for Mine {
    type Output = Mine;
    fn build(&self, _: &Plan) -> Result<Mine, SchedError> {
        Ok(Mine)
    }
}

fn main() {
    let _ = gvt::Runtime::builder().queue(Mine).build();
}

//~ error: `Mine` is not a ready queue
//~ label: this backend does not implement `ReadyQueue`
//~ note: pass a queue such as `GoQueue` or `PriorityQueue` to `.queue(…)`
