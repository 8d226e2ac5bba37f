//! What is measured: each case is a work with its sizes, its check and its goal.

use crate::params::Params;
use crate::peers::Peer;
use crate::work::forkjoin;

/// One row group of the table.
pub struct Case {
    /// Its name; `--only` matches a part of it.
    pub name: &'static str,
    /// What it measures, for people.
    pub what: &'static str,
    /// The work.
    pub work: &'static str,
    /// Sizes with `--quick`.
    pub quick: &'static str,
    /// Sizes without.
    pub full: &'static str,
    /// The size that only repeats a single operation: a slow peer gets fewer of them.
    pub repeats: Option<&'static str>,
    /// The size that is the number of threads alive at once, and whether the figures are such that a
    /// peer that cannot hold so many is still comparable with fewer.
    pub alive: Alive,
    /// Takes long by nature: one round if quick, at the most three if not.
    pub long: bool,
    /// The figures to show.
    pub show: &'static [Figure],
    /// What the work must compute.
    pub check: fn(&Params) -> u64,
}

/// How many threads are alive at once.
pub enum Alive {
    /// A handful.
    Few,
    /// As many as this size says.
    Many(&'static str),
    /// As many; a peer that cannot hold so many gets fewer, and the table says so.
    Shrinkable(&'static str),
    /// A tree of unknown breadth.
    Tree,
}

/// One row of the table.
pub struct Figure {
    /// Its name in the outcome.
    pub key: &'static str,
    /// What it is.
    pub label: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// How many times better than a peer gvt should be in the same run.
    pub ahead: Option<(&'static str, f64)>,
    /// What gvt should take at the most, on the machine that the goals were set on.
    pub at_most: Option<f64>,
}

const fn figure(key: &'static str, label: &'static str, unit: &'static str) -> Figure {
    Figure { key, label, unit, ahead: None, at_most: None }
}

impl Figure {
    /// The bound that holds for the sizes measured: totals grow with them.
    pub fn bound(&self, quick: bool) -> Option<f64> {
        self.at_most.filter(|_| !(quick && self.unit == "s"))
    }

    const fn ahead(mut self, peer: &'static str, times: f64) -> Self {
        self.ahead = Some((peer, times));
        self
    }

    const fn at_most(mut self, value: f64) -> Self {
        self.at_most = Some(value);
        self
    }
}

const CASE: Case = Case {
    name: "",
    what: "",
    work: "",
    quick: "",
    full: "",
    repeats: None,
    alive: Alive::Few,
    long: false,
    show: &[],
    check: |_| 0,
};

/// 0 + 1 + … + (n - 1).
fn sum_below(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}

fn yields_done(p: &Params) -> u64 {
    p.get("threads") * p.get("each")
}

fn sum_and_n(p: &Params) -> u64 {
    sum_below(p.get("n")) + p.get("n")
}

fn messages_sum(p: &Params) -> u64 {
    sum_below(p.get("n"))
}

fn all_threads(p: &Params) -> u64 {
    p.get("threads")
}

/// Every case, in the order of the table. The goals are those of the project's issue on speed, as ratios.
pub const ALL: &[Case] = &[
    Case {
        name: "yield-1",
        what: "yield, 1 thread, 1 worker",
        work: "yield",
        quick: "workers=1 threads=1 each=500000",
        full: "workers=1 threads=1 each=5000000",
        repeats: Some("each"),
        show: &[figure("ns", "a yield", "ns")],
        check: yields_done,
        ..CASE
    },
    Case {
        name: "yield-2",
        what: "yield, 2 threads, 1 worker",
        work: "yield",
        quick: "workers=1 threads=2 each=250000",
        full: "workers=1 threads=2 each=2500000",
        repeats: Some("each"),
        show: &[figure("ns", "a yield", "ns").at_most(15.0).ahead("go", 13.0)],
        check: yields_done,
        ..CASE
    },
    Case {
        name: "yield-1k",
        what: "yield, 1,000 threads, 1 worker",
        work: "yield",
        quick: "workers=1 threads=1000 each=500",
        full: "workers=1 threads=1000 each=5000",
        repeats: Some("each"),
        alive: Alive::Many("threads"),
        show: &[figure("ns", "a yield", "ns").at_most(35.0).ahead("go", 7.0)],
        check: yields_done,
        ..CASE
    },
    Case {
        name: "yield-100k",
        what: "yield, 100,000 threads, 1 worker",
        work: "yield",
        quick: "workers=1 threads=100000 each=10",
        full: "workers=1 threads=100000 each=50",
        alive: Alive::Many("threads"),
        show: &[figure("ns", "a yield", "ns").at_most(150.0).ahead("go", 3.5)],
        check: yields_done,
        ..CASE
    },
    Case {
        name: "spawn-join",
        what: "spawn and join one at a time, 1 worker",
        work: "spawn-join",
        quick: "workers=1 n=100000",
        full: "workers=1 n=1000000",
        repeats: Some("n"),
        show: &[figure("ns", "a thread", "ns").at_most(120.0).ahead("go", 7.0)],
        check: messages_sum,
        ..CASE
    },
    Case {
        name: "spawn-many-1w",
        what: "spawn many, wait for all, 1 worker",
        work: "spawn-many",
        quick: "workers=1 n=100000",
        full: "workers=1 n=1000000",
        alive: Alive::Many("n"),
        show: &[
            figure("ns", "a thread", "ns").at_most(150.0).ahead("go", 12.0),
            figure("peak_gb", "memory at the peak", "GB"),
        ],
        check: |p| p.get("n"),
        ..CASE
    },
    Case {
        name: "spawn-many-2w",
        what: "spawn many, wait for all, 2 workers",
        work: "spawn-many",
        quick: "workers=2 n=100000",
        full: "workers=2 n=1000000",
        alive: Alive::Many("n"),
        show: &[
            figure("ns", "a thread", "ns").at_most(120.0).ahead("go", 5.0),
            figure("peak_gb", "memory at the peak", "GB"),
        ],
        check: |p| p.get("n"),
        ..CASE
    },
    Case {
        name: "ping-pong",
        what: "there and back over channels of capacity 1, 1 worker",
        work: "ping-pong",
        quick: "workers=1 n=200000",
        full: "workers=1 n=2000000",
        repeats: Some("n"),
        show: &[figure("ns", "a round trip", "ns").at_most(100.0).ahead("go", 7.0)],
        check: sum_and_n,
        ..CASE
    },
    Case {
        name: "rendezvous",
        what: "the same over channels of capacity 0",
        work: "rendezvous",
        quick: "workers=1 n=200000",
        full: "workers=1 n=2000000",
        repeats: Some("n"),
        show: &[figure("ns", "a round trip", "ns").ahead("go", 5.0)],
        check: sum_and_n,
        ..CASE
    },
    Case {
        name: "timeout",
        what: "as ping-pong, each answer with a limit of 10 s that is cancelled",
        work: "timeout",
        quick: "workers=1 n=100000",
        full: "workers=1 n=1000000",
        repeats: Some("n"),
        show: &[figure("ns", "a round trip", "ns")],
        check: sum_and_n,
        ..CASE
    },
    Case {
        name: "channel-1-1",
        what: "1 sender, 1 receiver, capacity 1,024, 2 workers",
        work: "channel",
        quick: "workers=2 pairs=1 capacity=1024 n=1000000",
        full: "workers=2 pairs=1 capacity=1024 n=10000000",
        show: &[figure("ns", "a message", "ns").at_most(45.0).ahead("go", 2.8)],
        check: messages_sum,
        ..CASE
    },
    Case {
        name: "channel-4-4",
        what: "4 senders, 4 receivers, capacity 1,024, 2 workers",
        work: "channel",
        quick: "workers=2 pairs=4 capacity=1024 n=1000000",
        full: "workers=2 pairs=4 capacity=1024 n=10000000",
        show: &[figure("ns", "a message", "ns").at_most(80.0).ahead("go", 2.9)],
        check: messages_sum,
        ..CASE
    },
    Case {
        name: "mutex",
        what: "mutex, nobody else wants it, 1 worker",
        work: "mutex",
        quick: "workers=1 threads=1 n=5000000",
        full: "workers=1 threads=1 n=50000000",
        show: &[figure("ns", "lock and unlock", "ns").at_most(17.0).ahead("go", 1.5)],
        check: |p| p.get("n"),
        ..CASE
    },
    Case {
        name: "mutex-8",
        what: "mutex, 8 threads want it, 2 workers",
        work: "mutex",
        quick: "workers=2 threads=8 n=1000000",
        full: "workers=2 threads=8 n=10000000",
        show: &[figure("ns", "lock and unlock", "ns").at_most(55.0).ahead("go", 2.1)],
        check: |p| p.get("n"),
        ..CASE
    },
    Case {
        name: "fib",
        what: "fork-join Fibonacci, a thread a call, 2 workers",
        work: "fib",
        quick: "workers=2 n=20",
        full: "workers=2 n=27",
        alive: Alive::Tree,
        show: &[figure("ns", "a call", "ns").at_most(150.0).ahead("go", 7.0)],
        check: |p| forkjoin::fib_plain(p.get("n")),
        ..CASE
    },
    Case {
        name: "skynet",
        what: "tree of threads, ten branches a node, sums over channels, 2 workers",
        work: "skynet",
        quick: "workers=2 leaves=10000",
        full: "workers=2 leaves=1000000",
        alive: Alive::Tree,
        show: &[figure("s", "in all", "s").at_most(0.4).ahead("go", 3.4)],
        check: |p| sum_below(p.get("leaves")),
        ..CASE
    },
    Case {
        name: "preempt",
        what: "1 ms sleeper behind a spinner, 1 worker",
        work: "preempt",
        quick: "workers=1 samples=30 spinners=1 alloc=0 limit_us=1500000",
        full: "workers=1 samples=200 spinners=1 alloc=0 limit_us=10000000",
        long: true,
        show: &[
            figure("late_p50_ms", "late, median", "ms").at_most(1.2).ahead("go", 16.0),
            figure("late_p99_ms", "late, 99th percentile", "ms").at_most(3.0).ahead("go", 13.0),
        ],
        check: |p| p.get("samples"),
        ..CASE
    },
    Case {
        name: "preempt-alloc",
        what: "1 ms sleeper behind a spinner that allocates, 1 worker",
        work: "preempt",
        quick: "workers=1 samples=30 spinners=1 alloc=1 limit_us=1500000",
        full: "workers=1 samples=200 spinners=1 alloc=1 limit_us=10000000",
        long: true,
        show: &[
            figure("late_p50_ms", "late, median", "ms").at_most(1.2).ahead("go", 16.0),
            figure("late_p99_ms", "late, 99th percentile", "ms").at_most(3.0).ahead("go", 13.0),
        ],
        check: |p| p.get("samples"),
        ..CASE
    },
    Case {
        name: "preempt-4",
        what: "1 ms sleeper beside 4 spinners, 1 worker",
        work: "preempt",
        quick: "workers=1 samples=30 spinners=4 alloc=0 limit_us=3000000",
        full: "workers=1 samples=200 spinners=4 alloc=0 limit_us=20000000",
        long: true,
        show: &[
            figure("late_p50_ms", "late, median", "ms").at_most(3.0).ahead("go", 1.0),
            figure("late_p99_ms", "late, 99th percentile", "ms").ahead("go", 1.0),
        ],
        check: |p| p.get("samples"),
        ..CASE
    },
    Case {
        name: "preempt-50",
        what: "1 ms sleeper beside 50 spinners, 1 worker",
        work: "preempt",
        quick: "workers=1 samples=30 spinners=50 alloc=0 limit_us=3000000",
        full: "workers=1 samples=200 spinners=50 alloc=0 limit_us=20000000",
        long: true,
        show: &[
            figure("late_p50_ms", "late, median", "ms").at_most(20.0).ahead("go", 1.0),
            figure("late_p99_ms", "late, 99th percentile", "ms").ahead("go", 1.0),
        ],
        check: |p| p.get("samples"),
        ..CASE
    },
    Case {
        name: "sleepers-20k",
        what: "20,000 sleeps of 0.2 to 1.2 s, 2 workers",
        work: "sleepers",
        quick: "workers=2 threads=20000 min_us=200000 max_us=1200000",
        full: "workers=2 threads=20000 min_us=200000 max_us=1200000",
        alive: Alive::Shrinkable("threads"),
        long: true,
        show: &[
            figure("late_p50_ms", "late, median", "ms").at_most(0.06).ahead("go", 9.0),
            figure("late_p99_ms", "late, 99th percentile", "ms").at_most(0.12).ahead("go", 14.0),
            figure("cpu_s", "CPU time", "s"),
        ],
        check: all_threads,
        ..CASE
    },
    Case {
        name: "sleepers-1m",
        what: "1,000,000 sleeps of 1 to 5 s (quick: 100,000 of 0.3 to 1.3 s), 2 workers",
        work: "sleepers",
        quick: "workers=2 threads=100000 min_us=300000 max_us=1300000",
        full: "workers=2 threads=1000000 min_us=1000000 max_us=5000000",
        alive: Alive::Many("threads"),
        long: true,
        show: &[
            figure("cpu_s", "CPU time", "s").ahead("go", 1.0),
            figure("peak_gb", "memory at the peak", "GB"),
            figure("late_p50_ms", "late, median", "ms").ahead("go", 1.0),
            figure("late_p99_ms", "late, 99th percentile", "ms").ahead("go", 1.0),
        ],
        check: all_threads,
        ..CASE
    },
    Case {
        name: "playground",
        what: "20,000 threads x 300 sleeps of 100 ms (quick: 2,000 x 30), 2 workers",
        work: "playground",
        quick: "workers=2 threads=2000 sleeps=30 sleep_us=100000",
        full: "workers=2 threads=20000 sleeps=300 sleep_us=100000",
        alive: Alive::Many("threads"),
        long: true,
        show: &[
            figure("cpu_s", "CPU time", "s").at_most(5.0).ahead("go", 2.4),
            figure("s", "wall clock", "s"),
        ],
        check: |p| p.get("threads") * p.get("sleeps"),
        ..CASE
    },
    Case {
        name: "parked",
        what: "1,000,000 (quick: 100,000) threads wait for a message each, 2 workers",
        work: "parked",
        quick: "workers=2 threads=100000",
        full: "workers=2 threads=1000000",
        alive: Alive::Shrinkable("threads"),
        long: true,
        show: &[
            figure("bytes", "memory a thread", "B").at_most(8_900.0),
            figure("spawn_ns", "to spawn and park", "ns"),
            figure("wake_ns", "to send, wake and end", "ns"),
        ],
        check: |p| sum_below(p.get("threads")),
        ..CASE
    },
];

impl Case {
    /// The sizes for `peer`, or why it is left out.
    pub fn sized_for(&self, peer: &Peer, quick: bool) -> Result<Sized, LeftOut> {
        let words = if quick { self.quick } else { self.full };
        let mut params =
            Params::parse(words.split_whitespace()).expect("the sizes in this file are well-formed");
        if !(peer.can)(self.work) {
            return Err(LeftOut::CannotDoThat);
        }
        if let Some(repeats) = self.repeats {
            params.set(repeats, params.get(repeats) / peer.slow);
        }
        let mut shrunk = None;
        if let Some((most, why)) = peer.most_threads {
            match self.alive {
                Alive::Few => {}
                Alive::Tree if peer.slow > 1 || !quick => return Err(LeftOut::TooMany(why)),
                Alive::Tree => {}
                Alive::Many(size) if params.get(size) > most => return Err(LeftOut::TooMany(why)),
                Alive::Shrinkable(size) if params.get(size) > most => {
                    params.set(size, most.min(20_000));
                    shrunk = Some(params.get(size));
                }
                Alive::Many(_) | Alive::Shrinkable(_) => {}
            }
        }
        Ok(Sized { params, shrunk })
    }

    /// How often it is measured.
    pub fn rounds(&self, asked: Option<u32>, quick: bool) -> u32 {
        let usual = match (quick, self.long) {
            (true, true) => 1,
            (true, false) | (false, true) => 3,
            (false, false) => 7,
        };
        asked.unwrap_or(usual)
    }
}

/// Why a peer is left out of a case.
pub enum LeftOut {
    /// It does not have what the work needs.
    CannotDoThat,
    /// It cannot hold so many threads; what stops it.
    TooMany(&'static str),
}

/// The sizes of one case for one peer.
pub struct Sized {
    /// All of them.
    pub params: Params,
    /// The number of threads, if the peer gets fewer than the others.
    pub shrunk: Option<u64>,
}
