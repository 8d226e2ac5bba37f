//! loom models of channels and of select, on their own code.

use std::time::{Duration, Instant};

use loom::thread;

use super::*;
use crate::protocol::atomics::{Mutant, check, check_mutant};

/// Explores with a limited number of involuntary switches a run.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A deadline that, in models, has passed as soon as a thread waits for it.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

/// A rendezvous: the message arrives, whichever side comes first.
fn rendezvous() {
    explore(|| {
        let (sender, receiver) = bounded(0);
        let thread = thread::spawn(move || sender.send(Box::new(7)));
        assert_eq!(receiver.recv(), Ok(Box::new(7)));
        assert_eq!(thread.join().unwrap(), Ok(()));
    });
}

/// Two senders and room for one: the second gets in.
fn senders_are_let_in() {
    explore(|| {
        let (sender, receiver) = bounded(1);
        let thread = thread::spawn(move || {
            sender.send(1).unwrap();
            sender.send(2).unwrap();
        });
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Ok(2));
        assert_eq!(receiver.recv(), Err(RecvError));
        thread.join().unwrap();
    });
}

/// Both sides give up at once: exactly one of them has the message.
fn deadlines_agree() {
    explore(|| {
        let (sender, receiver) = bounded(0);
        let thread = thread::spawn(move || sender.send_deadline(Box::new(7), soon()).is_ok());
        let received = receiver.recv_deadline(soon()).is_ok();
        assert_eq!(thread.join().unwrap(), received);
    });
}

/// The last sender goes while a receiver is about to wait.
fn disconnection_is_noticed() {
    explore(|| {
        let (sender, receiver) = bounded::<()>(0);
        let other = sender.clone();
        let thread = thread::spawn(move || drop(sender));
        drop(other);
        assert_eq!(receiver.recv(), Err(RecvError));
        thread.join().unwrap();
    });
}

/// Two senders meet one select: it takes one message, and the other stays.
fn one_claim() {
    explore(|| {
        let (sender_1, receiver_1) = bounded(1);
        let (sender_2, receiver_2) = bounded(1);
        let threads =
            [(sender_1, 1), (sender_2, 2)].map(|(sender, n)| thread::spawn(move || sender.send(n).unwrap()));
        let first = crate::select_biased! {
            recv(receiver_1) -> message => message.unwrap(),
            recv(receiver_2) -> message => message.unwrap(),
        };
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let other = if first == 1 { receiver_2 } else { receiver_1 };
        assert_eq!(other.try_recv(), Ok(3 - first));
    });
}

/// A select that waits, and one sender: the select is woken.
fn select_is_woken() {
    explore(|| {
        let (sender, receiver) = bounded(0);
        let thread = thread::spawn(move || sender.send(7).unwrap());
        let got = crate::select_biased! { recv(receiver) -> message => message };
        assert_eq!(got, Ok(7));
        thread.join().unwrap();
    });
}

/// A select that sends meets one that receives.
fn selects_meet() {
    explore(|| {
        let (sender, receiver) = bounded(0);
        let thread = thread::spawn(move || crate::select_biased! { send(sender, 7) -> result => result });
        let got = crate::select_biased! { recv(receiver) -> message => message };
        assert_eq!(got, Ok(7));
        assert_eq!(thread.join().unwrap(), Ok(()));
    });
}

/// A select that sends meets a plain receiver, which was promised a message.
fn promise_is_kept() {
    explore(|| {
        let (sender, receiver) = bounded(0);
        let thread = thread::spawn(move || crate::select_biased! { send(sender, 7) -> result => result });
        assert_eq!(receiver.recv(), Ok(7));
        assert_eq!(thread.join().unwrap(), Ok(()));
    });
}

/// Another receiver does not take what a select has picked.
fn picked_is_kept() {
    explore(|| {
        let (sender, receiver) = bounded(1);
        let (other, keep) = (receiver.clone(), sender.clone());
        let thread = thread::spawn(move || {
            sender.send(1).unwrap();
            other.try_recv().is_ok()
        });
        let mut select = Select::new_biased();
        select.recv(&receiver);
        let got = select.select_deadline(soon()).map(|operation| operation.recv(&receiver).unwrap());
        let taken = thread.join().unwrap();
        assert!(got.is_err() || !taken);
        drop(keep);
    });
}

/// The one message arrives, or the receiver notices the end of the sender.
fn oneshot_meets() {
    explore(|| {
        let (sender, receiver) = oneshot::channel();
        let thread = thread::spawn(move || sender.send(7));
        assert_eq!(receiver.recv(), Ok(7));
        assert_eq!(thread.join().unwrap(), Ok(()));
        let (sender, receiver) = oneshot::channel::<()>();
        let thread = thread::spawn(move || drop(sender));
        assert_eq!(receiver.recv(), Err(RecvError));
        thread.join().unwrap();
    });
}

/// The receiver gives up while the sender sends: exactly one of them has the message.
fn oneshot_gives_up() {
    explore(|| {
        let (sender, mut receiver) = oneshot::channel();
        let thread = thread::spawn(move || sender.send(Box::new(7)).is_ok());
        let received = receiver.recv_timeout(Duration::from_secs(1)).is_ok();
        let left = receiver.try_recv().is_ok();
        drop(receiver);
        let sent = thread.join().unwrap();
        assert!(!(received && left));
        assert!(sent || !(received || left));
    });
}

macro_rules! models {
    ($($model:ident $(/ $name:ident: $mutant:ident)*;)+) => {
        $(
            mod $model {
                use super::*;

                #[test]
                fn holds() {
                    check(super::$model);
                }

                $(
                    #[test]
                    fn $name() {
                        check_mutant(Mutant::$mutant, super::$model);
                    }
                )*
            }
        )+
    };
}

models! {
    rendezvous / mutant_no_outcome: NoOutcome;
    senders_are_let_in / mutant_let_nobody_in: LetNobodyIn;
    deadlines_agree / mutant_leave_unfired: LeaveUnfired;
    disconnection_is_noticed / mutant_count_blind: CountBlind;
    one_claim / mutant_claim_blind: ClaimBlind;
    select_is_woken / mutant_enlist_blind: EnlistBlind;
    selects_meet;
    promise_is_kept;
    oneshot_meets / mutant_close_silently: CloseSilently;
    oneshot_gives_up;
    picked_is_kept / mutant_pick_uncounted: PickUncounted;
}
