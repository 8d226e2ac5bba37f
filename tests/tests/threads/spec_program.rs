//! The program that the specification gives, word for word, must compile and run.

#[allow(unused_mut, reason = "the program is as it is")]
mod program {
    use gvt::{Runtime, SchedulerConfig, channel, spawn, yield_now};

    pub fn main() {
        let mut runtime = Runtime::new(SchedulerConfig::default().num_workers(4));
        runtime.block_on(|| {
            let (tx, rx) = channel(100);
            spawn(move |token| {
                for i in 0..1000 {
                    if token.is_cancelled() {
                        break;
                    }
                    tx.try_send(i).ok();
                    yield_now();
                }
            });
            spawn(move |_| {
                while let Ok(val) = rx.try_recv() {
                    println!("Got: {val}");
                }
            });
        });
    }
}

#[test]
fn the_specified_program_runs() {
    program::main();
}
