//! `select!`: what its arms may borrow, and everything that can be one.

use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::time::Duration;

use gvt::channel::{Receiver, Sender, after, bounded, broadcast, never, oneshot, select, unbounded, watch};
use gvt::sync::{Arc, Semaphore};
use gvt::{CancellationToken, Runtime, SchedulerConfig, TaskSet};
use rstest::rstest;

/// Who runs a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Green,
    Os,
}

/// Runs `f` as a green thread beside a runtime's others, or as an OS thread beside them.
fn run(who: Who, f: impl FnOnce(&gvt::Handle) + Send) {
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(2));
    let handle = runtime.handle();
    match who {
        Who::Green => runtime.block_on(|| f(&handle)),
        Who::Os => f(&handle),
    }
}

const LONG: Duration = Duration::from_secs(60);

struct Owner {
    receiver: Receiver<i32>,
    sender: Sender<i32>,
    semaphore: Semaphore,
    sum: i32,
}

impl Owner {
    fn add(&mut self, n: i32) {
        self.sum += n;
    }

    fn step(&mut self) {
        select! {
            recv(self.receiver) -> n => self.add(n.unwrap()),
            acquire(self.semaphore) -> permit => {
                permit.forget();
                self.add(100);
            }
            default => self.add(1000),
        }
        select! {
            send(self.sender, 1) -> _ => self.add(10),
            default(Duration::from_millis(1)) => self.sender = bounded(1).0,
        }
    }
}

/// An arm may use what its own end, or another arm's, is borrowed from.
#[test]
fn arms_borrow_nothing() {
    let (sender, receiver) = bounded(1);
    let mut owner = Owner { receiver, sender, semaphore: Semaphore::new(0), sum: 0 };
    owner.step();
    owner.step();
    assert_eq!(owner.sum, 1000 + 10 + 1 + 10);
    let mut ends = vec![owner.receiver.clone(), owner.receiver.clone()];
    select! {
        recv(ends[0]) -> _ => { ends.swap(0, 1); }
        recv(ends[1]) -> _ => ends.clear(),
        default => { ends.pop(); }
    }
    let mut timer = after(Duration::from_millis(1));
    let mut other = never::<()>();
    select! {
        recv(timer) -> _ => timer = never(),
        recv(other) -> _ => other = never(),
    }
    drop((timer, other));
    // Through references and smart pointers.
    let shared = Arc::new(bounded(1));
    select! { send(&shared.0, 1) -> result => result.unwrap() }
    let by_mut = &mut Box::new(shared.1.clone());
    select! { recv(by_mut) -> n => assert_eq!(n, Ok(1)) }
    by_mut.len();
}

/// A message that is not made after all lets go of what was reserved.
#[test]
fn a_send_that_is_left_sends_nothing() {
    let (sender, receiver) = bounded(1);
    let leave = |leave: bool| -> Option<()> {
        select! {
            send(sender, if leave { None? } else { 5 }) -> result => result.ok(),
        }
    };
    assert_eq!(leave(true), None);
    assert_eq!(leave(false), Some(()));
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [5]);
}

/// Each kind, ready before and while it is waited for; beside an arm that never is.
#[rstest]
fn each_kind_wakes(#[values(Who::Green, Who::Os)] who: Who, #[values(true, false)] late: bool) {
    run(who, |runtime| {
        let nothing = never::<()>();
        let wait = move || {
            if late {
                gvt::sleep_ms(2);
            }
        };
        let (sender, receiver) = oneshot::channel();
        let thread = runtime.spawn(move |_| {
            wait();
            sender.send(1).unwrap();
        });
        select! {
            recv(nothing) -> _ => unreachable!(),
            recv(receiver) -> n => assert_eq!(n, Ok(1)),
        }
        thread.join().unwrap();

        let (sender, receiver) = oneshot::channel::<()>();
        let thread = runtime.spawn(move |_| {
            wait();
            drop(receiver);
        });
        select! {
            recv(nothing) -> _ => unreachable!(),
            closed(sender) -> () => {}
        }
        thread.join().unwrap();

        let (sender, receiver) = watch::channel(0);
        let thread = runtime.spawn(move |_| {
            wait();
            sender.send(2).unwrap();
            sender
        });
        select! {
            recv(nothing) -> _ => unreachable!(),
            changed(receiver) -> result => assert_eq!((result, *receiver.borrow()), (Ok(()), 2)),
        }
        let sender = thread.join().unwrap();
        let thread = runtime.spawn(move |_| {
            wait();
            drop(receiver);
        });
        select! {
            recv(nothing) -> _ => unreachable!(),
            closed(sender) -> () => {}
        }
        thread.join().unwrap();

        let (sender, receiver) = broadcast::channel(4);
        let thread = runtime.spawn(move |_| {
            wait();
            sender.send(3).unwrap();
        });
        for expected in [Ok(3), Err(broadcast::RecvError::Closed)] {
            select! {
                recv(nothing) -> _ => unreachable!(),
                recv(receiver) -> n => assert_eq!(n, expected),
            }
        }
        thread.join().unwrap();

        let semaphore = Arc::new(Semaphore::new(1));
        let other = semaphore.clone();
        let thread = runtime.spawn(move |_| {
            wait();
            other.add_permits(2);
        });
        select! {
            recv(nothing) -> _ => unreachable!(),
            acquire_many(semaphore, 3) -> permit => assert_eq!(permit.permits(), 3),
        }
        thread.join().unwrap();
        assert_eq!(semaphore.available_permits(), 3);

        let thread = runtime.spawn(move |_| {
            wait();
            "result"
        });
        select! {
            recv(nothing) -> _ => unreachable!(),
            ended(thread) -> () => {}
        }
        select! {
            recv(nothing) -> _ => unreachable!(),
            join(thread) -> result => assert_eq!(result.unwrap(), "result"),
        }

        let token = CancellationToken::new();
        let other = token.clone();
        let thread = runtime.spawn(move |_| {
            wait();
            other.cancel();
        });
        select! {
            recv(nothing) -> _ => unreachable!(),
            cancelled(token) -> () => {}
        }
        thread.join().unwrap();
    });
}

/// All kinds at once, and none is ready: the default arm, and nothing is left behind that would take
/// something.
#[rstest]
fn what_is_not_chosen_takes_nothing(#[values(Who::Green, Who::Os)] who: Who) {
    run(who, |runtime| {
        let (one, once) = oneshot::channel();
        let (level, watched) = watch::channel(0);
        let (all, each) = broadcast::channel(4);
        let semaphore = Semaphore::new(0);
        let token = CancellationToken::new();
        let (go, wait) = bounded::<()>(0);
        let thread = runtime.spawn(move |_| wait.recv().is_err());
        for _ in 0..3 {
            select! {
                recv(once) -> _ => unreachable!(),
                changed(watched) -> _ => unreachable!(),
                recv(each) -> _ => unreachable!(),
                acquire(semaphore) -> _ => unreachable!(),
                ended(thread) -> _ => unreachable!(),
                cancelled(token) -> _ => unreachable!(),
                closed(one) -> _ => unreachable!(),
                closed(level) -> _ => unreachable!(),
                default(Duration::from_millis(1)) => {}
            }
        }
        one.send(1).unwrap();
        level.send(2).unwrap();
        all.send(3).unwrap();
        semaphore.add_permits(1);
        token.cancel();
        drop(go);
        let (mut once, mut watched, mut each) = (once, watched, each);
        assert_eq!(once.try_recv(), Ok(1));
        assert_eq!(watched.changed_timeout(LONG), Ok(true));
        assert_eq!(each.try_recv(), Ok(3));
        assert!(semaphore.try_acquire().is_some());
        assert!(thread.join().unwrap());
    });
}

/// Two things become ready at about the same time: one is chosen, the other is still there.
#[rstest]
fn exactly_one(#[values(Who::Green, Who::Os)] who: Who) {
    run(who, |runtime| {
        let (level, watched) = watch::channel(0);
        let (all, each) = broadcast::channel(4);
        let semaphore = Arc::new(Semaphore::new(0));
        let (work, kick) = unbounded::<oneshot::Sender<i32>>();
        let other = semaphore.clone();
        let thread = runtime.spawn(move |_| {
            for sender in kick.iter() {
                sender.send(1).unwrap();
                other.add_permits(1);
                level.send(1).unwrap();
                all.send(1).unwrap();
            }
        });
        let rounds = 2_000;
        for _ in 0..rounds {
            let (sender, once) = oneshot::channel();
            work.send(sender).unwrap();
            let (mut message, mut permit, mut change, mut broadcast) = (0, 0, 0, 0);
            while (message, permit, change, broadcast) != (1, 1, 1, 1) {
                select! {
                    // Once it has come, an error.
                    recv(once) -> n => message += n.unwrap_or(0),
                    acquire(semaphore) -> p => {
                        p.forget();
                        permit += 1;
                    }
                    changed(watched) -> result => {
                        result.unwrap();
                        change += 1;
                    }
                    recv(each) -> n => broadcast += n.unwrap(),
                    default(LONG) => panic!("lost: {message} {permit} {change} {broadcast}"),
                }
            }
        }
        drop(work);
        thread.join().unwrap();
        assert_eq!(semaphore.available_permits(), 0);
    });
}

/// Permits under contention: selects that choose something else, that run out of time, that are unwound; and
/// plain waits between them. None is lost, and none is there twice.
#[rstest]
fn no_permit_is_lost(#[values(Who::Green, Who::Os)] who: Who) {
    run(who, |runtime| {
        let semaphore = Arc::new(Semaphore::new(3));
        let (sender, receiver) = unbounded();
        let held = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..12)
            .map(|i| {
                let (semaphore, receiver, held) = (semaphore.clone(), receiver.clone(), held.clone());
                runtime.spawn(move |_| {
                    let mut messages = 0;
                    for round in 0..500 {
                        let needed = (i + round) % 3 + 1;
                        let permit = match i % 3 {
                            0 => Some(semaphore.acquire_many(needed)),
                            1 => select! {
                                acquire_many(semaphore, needed) -> permit => Some(permit),
                                recv(receiver) -> message => { messages += usize::from(message.is_ok()); None }
                            },
                            _ => select! {
                                acquire_many(semaphore, needed) -> permit => Some(permit),
                                default(Duration::from_micros(20)) => None,
                            },
                        };
                        if let Some(permit) = permit {
                            assert!(held.fetch_add(permit.permits(), SeqCst) < 3);
                            gvt::yield_now();
                            held.fetch_sub(permit.permits(), SeqCst);
                        }
                    }
                    messages
                })
            })
            .collect();
        for _ in 0..500 {
            sender.send(()).unwrap();
            gvt::yield_now();
        }
        drop(sender);
        let got: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(got + receiver.len(), 500);
        assert_eq!(semaphore.available_permits(), 3);
    });
}

/// A select that waits in front with a large need goes, and those behind it with a small one are let in.
#[rstest]
fn who_leaves_lets_others_in(#[values(Who::Green, Who::Os)] who: Who) {
    run(who, |runtime| {
        let semaphore = Arc::new(Semaphore::new(1));
        let other = semaphore.clone();
        let (begun, beginning) = bounded(1);
        let thread = runtime.spawn(move |_| {
            beginning.recv().unwrap();
            while other.try_acquire().is_some() {
                gvt::yield_now();
            }
            drop(other.acquire());
        });
        begun.send(()).unwrap();
        while !thread.is_finished() {
            select! {
                acquire_many(semaphore, 2) -> _ => unreachable!(),
                default(Duration::from_millis(2)) => {}
            }
        }
        thread.join().unwrap();
    });
}

/// Threads that wait in selects of all kinds are unwound by a shutdown, and leave what they waited for as it
/// was.
#[test]
fn a_shutdown_unwinds() {
    let semaphore = Arc::new(Semaphore::new(0));
    let (level, watched) = watch::channel(0);
    let (all, each) = broadcast::channel(4);
    let (go, wait) = bounded::<()>(0);
    let runtime = Runtime::new(SchedulerConfig::default().num_workers(2));
    let token = CancellationToken::new();
    let (here, arrived) = unbounded();
    for _ in 0..20 {
        let (semaphore, watched, each, wait, token) =
            (semaphore.clone(), watched.clone(), each.clone(), wait.clone(), token.clone());
        let here = here.clone();
        runtime.handle().spawn(move |_| {
            let other = gvt::spawn(move |_| wait.recv());
            let (_one, once) = oneshot::channel::<()>();
            here.send(()).unwrap();
            select! {
                recv(once) -> _ => {}
                changed(watched) -> _ => {}
                recv(each) -> _ => {}
                acquire(semaphore) -> permit => permit.forget(),
                join(other) -> _ => {}
                cancelled(token) -> _ => {}
            }
            unreachable!("nothing of it came");
        });
    }
    drop(here);
    assert_eq!(arrived.iter().take(20).count(), 20);
    std::thread::sleep(Duration::from_millis(5));
    runtime.shutdown();
    semaphore.add_permits(1);
    assert!(semaphore.try_acquire().is_some());
    level.send(1).unwrap();
    all.send(1).unwrap();
    drop(go);
}

/// `ended` of a set, and of a scoped thread.
#[test]
fn sets_and_scopes() {
    run(Who::Green, |_| {
        let mut set = TaskSet::<u32, ()>::new();
        for i in 0..10 {
            set.spawn(move |_| {
                gvt::sleep_us(u64::from(i) * 100);
                Ok(i)
            });
        }
        let mut sum = 0;
        loop {
            select! {
                ended(set) -> () => match set.join_next() {
                    Some((_, result)) => sum += result.unwrap(),
                    None => break,
                },
                default(LONG) => panic!("nobody ended"),
            }
        }
        assert_eq!(sum, 45);
        let mut numbers = [1, 2, 3];
        gvt::scope(|scope| {
            let thread = scope.spawn(|_| {
                gvt::yield_now();
                numbers.iter_mut().for_each(|n| *n *= 2);
                numbers.len()
            });
            select! {
                join(thread) -> result => assert_eq!(result.unwrap(), 3),
                default(LONG) => panic!("it has not ended"),
            }
        });
        assert_eq!(numbers, [2, 4, 6]);
    });
}

/// All ready: each is chosen as often.
#[test]
fn the_choice_is_fair_among_kinds() {
    run(Who::Green, |_| {
        let semaphore = Semaphore::new(1);
        let token = CancellationToken::new();
        token.cancel();
        let (sender, receiver) = bounded(1);
        let mut hits = [0; 3];
        for _ in 0..9_000 {
            sender.try_send(()).ok();
            select! {
                acquire(semaphore) -> _permit => hits[0] += 1,
                cancelled(token) -> () => hits[1] += 1,
                recv(receiver) -> _ => hits[2] += 1,
            }
        }
        // Six standard deviations.
        assert!(hits.iter().all(|hit| (2_730..3_270).contains(hit)), "{hits:?}");
    });
}
