//! `Builder::tag`: a number that a ready queue may order by.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use gvt::{Builder, Runtime, Sigurg};
use gvt_traits::{Factory, Order, Plan, PushKind, ReadyQueue, Runnable, SchedError, WorkerId};

/// By deadline, then by arrival.
type ByDeadline = BTreeMap<(u64, u64), Runnable>;

/// The earliest deadline first; the tag is the deadline, and who has none comes last.
#[derive(Default)]
struct Deadlines {
    /// With the number of arrivals.
    ready: Mutex<(u64, ByDeadline)>,
    len: AtomicUsize,
}

struct DeadlineQueue;

impl Factory for DeadlineQueue {
    type Output = Deadlines;

    fn build(&self, _: &Plan) -> Result<Deadlines, SchedError> {
        Ok(Deadlines::default())
    }
}

impl ReadyQueue for Deadlines {
    type Local = ();

    const ORDER: Order = Order::StrictPriority;

    fn local(&self, _: WorkerId) {}

    fn inject(&self, task: Runnable) {
        let (arrivals, ready) = &mut *self.ready.lock().unwrap();
        *arrivals += 1;
        ready.insert((task.tag().wrapping_sub(1), *arrivals), task);
        self.len.store(ready.len(), Relaxed);
    }

    fn push(&self, _: &mut (), task: Runnable, _: PushKind) {
        self.inject(task);
    }

    fn pop(&self, _: &mut ()) -> Option<Runnable> {
        let (_, ready) = &mut *self.ready.lock().unwrap();
        let first = ready.pop_first();
        self.len.store(ready.len(), Relaxed);
        first.map(|(_, task)| task)
    }

    fn has_work(&self, _: &()) -> bool {
        self.len_hint() > 0
    }

    fn len_hint(&self) -> usize {
        self.len.load(Relaxed)
    }
}

#[test]
fn the_earliest_deadline_runs_first() {
    let runtime = Runtime::builder().workers(1).queue(DeadlineQueue).preemptor(Sigurg).build().unwrap();
    let order = runtime.block_on(|| {
        let order = std::sync::Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = [30, 0, 10, 40, 20, 10]
            .map(|deadline| {
                let order = order.clone();
                let run = move |_: &gvt::CancellationToken| {
                    assert_eq!(gvt::current_tag(), Some(deadline));
                    order.lock().unwrap().push(deadline);
                };
                Builder::new().tag(deadline).spawn(run).unwrap()
            })
            .into();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let order = order.lock().unwrap();
        order.clone()
    });
    assert_eq!(order, [10, 10, 20, 30, 40, 0]);
}

#[test]
fn a_thread_without_a_tag_has_none() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.block_on(|| {
        assert_eq!(gvt::current_tag(), Some(0));
        // With a name, and so with room for a tag.
        let named = Builder::new().name("named").spawn(|_| gvt::current_tag()).unwrap();
        assert_eq!(named.join().unwrap(), Some(0));
        let tagged = Builder::new().tag(u64::MAX).spawn(|_| gvt::current_tag()).unwrap();
        assert_eq!(tagged.join().unwrap(), Some(u64::MAX));
    });
    assert_eq!(gvt::current_tag(), None);
}
