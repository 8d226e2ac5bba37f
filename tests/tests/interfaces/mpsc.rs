use self::api::{
    IntoIter, Iter, Receiver, RecvError, RecvTimeoutError, SendError, Sender, SyncSender, TryIter, TryRecvError, TrySendError, channel,
    sync_channel,
};
use crate::observing::{Observed, observed};
use std::time::Duration;

pub fn observe() -> Vec<Observed> {
    let mut out = Vec::new();
    auto_traits!(out: Sender<u8>, Sender<std::cell::Cell<u8>>, Sender<std::rc::Rc<u8>>, SyncSender<u8>, SyncSender<std::rc::Rc<u8>>,
        Receiver<u8>, Receiver<std::cell::Cell<u8>>, Receiver<std::rc::Rc<u8>>, IntoIter<u8>, Iter<'static, u8>, TryIter<'static, u8>,
        SendError<u8>, TrySendError<u8>, RecvError, TryRecvError, RecvTimeoutError);
    let (sender, receiver): (Sender<i32>, Receiver<i32>) = channel();
    out.push(observed("debug", (&sender, &receiver, receiver.iter(), receiver.try_iter())));
    out.push(observed("empty", (receiver.try_recv(), receiver.recv_timeout(Duration::from_millis(1)))));
    let other = sender.clone();
    sender.send(1).unwrap();
    other.send(2).unwrap();
    out.push(observed("recv", (receiver.recv(), receiver.try_recv())));
    sender.send(3).unwrap();
    out.push(observed("try_iter", receiver.try_iter().collect::<Vec<_>>()));
    drop((sender, other));
    out.push(observed("closed", (receiver.recv(), receiver.try_recv(), receiver.recv_timeout(Duration::from_secs(60)))));
    out.push(observed("iter", ((&receiver).into_iter().next(), receiver.into_iter())));
    let (sender, receiver): (SyncSender<i32>, Receiver<i32>) = sync_channel(1);
    out.push(observed("debug of sync", &sender));
    out.push(observed("send", (sender.send(1), sender.try_send(2), sender.clone().try_send(3))));
    let mut all = receiver.into_iter();
    out.push(observed("into_iter", all.next()));
    drop(all);
    out.push(observed("gone", (sender.send(1), sender.try_send(2))));
    let (sender, receiver) = sync_channel(0);
    out.push(observed("rendezvous", (sender.try_send(2), receiver.try_recv())));
    drop(receiver);
    out.push(observed("refused", sender.send(2).unwrap_err().to_string()));
    out
}
