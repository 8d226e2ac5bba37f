use self::api::{
    IntoIter, Iter, ReadyTimeoutError, Receiver, RecvError, RecvTimeoutError, Select, SelectTimeoutError, SelectedOperation,
    SendError, SendTimeoutError, Sender, TryIter, TryReadyError, TryRecvError, TrySelectError, TrySendError, after, at, bounded, never,
    select, select_biased, tick, unbounded,
};
use crate::observing::{Observed, observed};
use std::time::{Duration, Instant};

struct Owner {
    receiver: Receiver<i32>,
    sender: Sender<i32>,
    sum: i32,
}

impl Owner {
    fn add(&mut self, n: i32) {
        self.sum += n;
    }

    fn step(&mut self) {
        select! {
            recv(self.receiver) -> n => self.add(n.unwrap()),
            send(self.sender, self.sum) -> _ => self.add(10),
            default(Duration::from_millis(1)) => self.add(100),
        }
        select_biased! {
            recv(self.receiver) -> n => { self.receiver = never(); self.add(n.unwrap_or(1)) },
            default => self.sender = bounded(0).0,
        }
    }
}

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: Sender<u8>, Sender<std::cell::Cell<u8>>, Sender<std::rc::Rc<u8>>, Receiver<u8>, Receiver<std::cell::Cell<u8>>,
        Receiver<std::rc::Rc<u8>>, Select<'static>, Iter<'static, u8>, TryIter<'static, u8>, IntoIter<u8>,
        SendError<u8>, TrySendError<u8>, SendTimeoutError<u8>, RecvError, TryRecvError, RecvTimeoutError, TrySelectError,
        SelectTimeoutError, TryReadyError, ReadyTimeoutError);
    let long = Duration::from_secs(60);
    let short = Duration::from_millis(1);
    let (sender, receiver) = bounded::<i32>(2);
    out.push(observed("debug", (&sender, &receiver, receiver.iter(), receiver.try_iter(), Select::new())));
    out.push(observed("send", (sender.send(1), sender.send_timeout(2, long), sender.try_send(3), sender.send_timeout(4, short))));
    out.push(observed("send_deadline", sender.send_deadline(5, Instant::now())));
    out.push(observed("state", (sender.len(), sender.is_full(), sender.is_empty(), sender.capacity(), receiver.len(), receiver.is_full())));
    out.push(observed("more state", (receiver.is_empty(), receiver.capacity(), sender.same_channel(&sender.clone()), receiver.same_channel(&receiver.clone()))));
    out.push(observed("recv", (receiver.recv(), receiver.recv_timeout(long), receiver.try_recv(), receiver.recv_timeout(short), receiver.recv_deadline(Instant::now()))));
    sender.send(6).unwrap();
    out.push(observed("iterators", (receiver.try_iter().collect::<Vec<_>>(), (&receiver).into_iter())));
    let other = receiver.clone();
    drop(sender);
    out.push(observed("closed", (receiver.recv(), receiver.try_recv(), receiver.recv_timeout(long))));
    out.push(observed("into_iter", (receiver.into_iter(), other.into_iter().next())));
    let (sender, receiver) = unbounded::<i32>();
    out.push(observed("unbounded", (sender.capacity(), sender.is_full(), receiver.capacity())));
    drop(receiver);
    out.push(observed("refused", (sender.send(1), sender.try_send(1), sender.send_timeout(1, long))));
    let error = sender.try_send(1).unwrap_err();
    out.push(observed("errors", (error.is_full(), error.is_disconnected(), error.into_inner(), TryRecvError::Empty.is_empty())));
    out.push(observed("conversions", (TrySendError::from(SendError(1)), SendTimeoutError::from(SendError(1)), TryRecvError::from(RecvError), RecvTimeoutError::from(RecvError))));
    out.push(observed("clocks", (after(short).recv().is_ok(), at(Instant::now()).recv().is_ok(), tick(short).recv().is_ok(), never::<()>().try_recv())));

    let (sender, receiver) = bounded::<i32>(1);
    let mut select = Select::new();
    out.push(observed("indices", (select.recv(&receiver), select.send(&sender))));
    out.push(observed("ready", (select.try_ready(), select.ready(), select.ready_timeout(long), select.ready_deadline(Instant::now()))));
    let operation: SelectedOperation<'_> = select.select();
    out.push(observed("selected", (format!("{operation:?}"), operation.index(), operation.send(&sender, 7))));
    let operation = select.select_timeout(long).unwrap();
    out.push(observed("selected then", (operation.index(), operation.recv(&receiver))));
    select.remove(1);
    out.push(observed("nothing", (select.try_select().map(|_| ()), select.select_timeout(short).map(|_| ()), select.select_deadline(Instant::now()).map(|_| ()))));
    out.push(observed("nothing ready", (select.try_ready(), select.ready_timeout(short), select.clone().ready_deadline(Instant::now()))));
    drop((Select::new_biased(), Select::default()));

    let mut owner = Owner { receiver, sender, sum: 0 };
    owner.step();
    owner.step();
    out.push(observed("owner", owner.sum));
    out
}
