//! The choice among operations that are ready.

use gvt::channel::{Receiver, Select, Sender, bounded, select};
use gvt::{Runtime, SchedulerConfig};
use rstest::rstest;

fn full(count: usize) -> Vec<(Sender<()>, Receiver<()>)> {
    (0..count)
        .map(|_| {
            let (sender, receiver) = bounded(1);
            sender.send(()).unwrap();
            (sender, receiver)
        })
        .collect()
}

/// Each of `hits` is within six standard deviations of an even share.
fn check_even(hits: &[usize]) {
    let share = 1.0 / hits.len() as f64;
    let total = hits.iter().sum::<usize>() as f64;
    let deviation = (total * share * (1.0 - share)).sqrt();
    for &hit in hits {
        assert!((hit as f64 - total * share).abs() < 6.0 * deviation, "{hits:?}");
    }
}

/// All are ready: each is chosen as often, and each order of two choices.
#[rstest]
fn the_choice_is_even(#[values(2, 3, 5, 16)] count: usize, #[values(true, false)] green: bool) {
    let run = move || {
        let channels = full(count);
        let mut hits = vec![0; count];
        let mut pairs = vec![0; count * count];
        let mut last = 0;
        for _ in 0..20_000 {
            let mut select = Select::new();
            for (_, receiver) in &channels {
                select.recv(receiver);
            }
            let operation = select.select();
            let index = operation.index();
            operation.recv(&channels[index].1).unwrap();
            channels[index].0.send(()).unwrap();
            hits[index] += 1;
            pairs[last * count + index] += 1;
            last = index;
        }
        check_even(&hits);
        check_even(&pairs);
    };
    match green {
        true => Runtime::new(SchedulerConfig::default().num_workers(2)).block_on(run),
        false => run(),
    }
}

/// The first choice of an OS thread is not always the same, though each has the addresses of the one before.
#[test]
fn the_first_choice_is_even() {
    let channels = full(2);
    let mut hits = [0; 2];
    for _ in 0..800 {
        let [(_, one), (_, two)] = &channels[..] else { unreachable!() };
        let index = std::thread::scope(|s| {
            let choose = || {
                select! {
                    recv(one) -> _ => 0,
                    recv(two) -> _ => 1,
                }
            };
            s.spawn(choose).join().unwrap()
        });
        channels[index].0.send(()).unwrap();
        hits[index] += 1;
    }
    check_even(&hits);
}
