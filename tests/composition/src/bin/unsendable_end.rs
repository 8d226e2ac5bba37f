//! A queue whose end cannot move between OS threads.

use std::rc::Rc;

use gvt_traits::{Order, PushKind, ReadyQueue, Runnable, WorkerId};

struct Mine;

impl ReadyQueue for Mine {
    type Local = Rc<()>;
    const ORDER: Order = Order::Fair;
    fn local(&self, _: WorkerId) -> Rc<()> {
        Rc::new(())
    }
    fn inject(&self, task: Runnable) {
        let _ = task.into_raw();
    }
    fn push(&self, _: &mut Rc<()>, task: Runnable, _: PushKind) {
        let _ = task.into_raw();
    }
    fn pop(&self, _: &mut Rc<()>) -> Option<Runnable> {
        None
    }
    fn has_work(&self, _: &Rc<()>) -> bool {
        false
    }
    fn len_hint(&self) -> usize {
        0
    }
}

fn main() {}

//~ says: `Rc<()>` cannot be sent between threads safely
//~ says: required by this bound in `ReadyQueue::Local`
