//! Why a goal is missed: what the time goes into, and what was tried. Shown under the goals for cases that
//! miss one.

/// By case.
const WHY: &[(&[&str], &str)] = &[
    (
        &["yield-1", "yield-2", "yield-1k"],
        "A yield is some 155 instructions: into the runtime, pop, install, switch, push, out of it. The bare switch is 40 % of the \
         time; reading MXCSR, which the ABI wants kept, takes 2 to 3.5 ns of that (`X86_64Lean` leaves it out, and takes 1.4 times \
         corosensei's switch). The leads were set against a Go whose `Gosched` took 202 ns; that of Go 1.27 takes 58 to 95 here, \
         and twice corosensei's bare resume and suspend is all that an eighth of it leaves. Tried: the switch inline instead \
         of called (7 to 15 ns as a function), the queue's single-worker form without atomics, inlined (263 → 179 instructions \
         in the count of `guards`), whatever is rare out of line.",
    ),
    (
        &["yield-100k", "playground"],
        "Slots of 16 MiB have a page table each, so each switch walks to a page table that no cache holds. Tried: walks \
         that begin together, eight threads ahead (playground 0.87 → 0.60 s for a tenth of the work); records in huge pages.",
    ),
    (
        &["spawn-many-1w", "spawn-many-2w", "fib", "skynet", "parked"],
        "The first touch of memory: a page of stack and, with slots of 16 MiB, one of page table. What the host has taken back from \
         this virtual machine costs it 4 to 10 µs a page to give again, and the kernel does not always hand out what was warmed \
         before: the ranges are wide, and the least of them is what the work takes itself.",
    ),
    (
        &["ping-pong", "rendezvous", "timeout"],
        "A round trip is four channel operations and two switches, some 1,100 instructions. The lead was set against a Go that took \
         694 to 785 ns; Go 1.27 takes 250 here. Tried: passing the message and the turn straight to the waiting receiver (it is \
         what is measured), one lock a channel, waiters on the stack.",
    ),
    (
        &["mutex", "mutex-8"],
        "An uncontended lock and unlock are two atomic operations and what guards against poisoning, as in std, whose time it is; the \
         lead was set against a Go that took 26 ns, and that of Go 1.27 takes as long as std. Contended: tried, and kept, growing \
         pauses between looks at a held mutex (11.8 → 8.9 ns), and leaving a waiter that was woken in vain with its waker's worker \
         (→ 6 ns).",
    ),
    (
        &["channel-1-1", "channel-4-4"],
        "A message is two operations under one lock, 15 ns when nobody else wants it. The leads were set against a Go that took 127 \
         and 211 ns; that of Go 1.27 takes 33 to 59. Tried, and kept: pauses between looks at a held lock that grow from 16 to 1,024 \
         spins, so that one worker gets a batch done before the cache line moves (four senders and four receivers: 19.5 → 16.5 ns \
         between two threads of one core, 38 → 23 between two cores); tried before: a ring of stamped slots (no faster here).",
    ),
    (
        &["sleepers-1m"],
        "Half of the CPU time is the first touch of memory: a page of stack each and, with slots of 16 MiB, a page of page table, which \
         the kernel takes from blocks that the host has to find first (`pte_alloc_one`: up to 6 µs each, a tenth of that when \
         it is warm). A task of tokio's has no page of its own. The 99th percentile is below a millisecond while the host lets the \
         machine run, and else as long as it does not. Tried, and kept: sleepers overtake threads that have not begun (99th percentile \
         770 → 0.5 to 2 ms), a second worker is woken for timers only if that is worth it (6.5 → 5.8 s of CPU), records fetched ahead \
         (5 %), longer pauses between wake-ups while timers are dense (a tenth), timers that are far off in buckets instead of a heap \
         of a million (5 %), stacks given back only once a burst has ended (5 to 10 %). Tried before: guards by the batch \
         (`process_madvise`: 730 → 440 ns a slot of 64 KiB, 2,140 → 1,290 of 16 MiB), populating by the batch (no gain beside a \
         touch), sleeps of equal length in lists instead of a heap.",
    ),
    (
        &["sleepers-20k"],
        "A timer that wakes a sleeping OS thread costs some 5 µs. An idle worker that has just fired one waits 75 µs for \
         others, where Go and tokio wait for up to a millisecond: that is the CPU time, and the lead in lateness.",
    ),
];

/// Why `case` misses its goals.
pub fn why(case: &str) -> Option<&'static str> {
    WHY.iter().find(|(cases, _)| cases.contains(&case)).map(|(_, text)| *text)
}
