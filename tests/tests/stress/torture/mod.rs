//! Torture: threads that do all that a forced preemption could corrupt, at a slice of 200 µs.
//!
//! Each thread repeats one deed and checks what came of it; most deeds hold something (a lock, a borrow, the
//! allocator's state, a register) for longer than a slice now and then. The body runs in a process of its
//! own, whose standard output is a pipe. What is counted at the end: turns of each deed, forced preemptions,
//! bytes that were not freed.
//!
//! `GVT_STRESS_SECONDS` makes it longer than the second or so that it takes otherwise.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::fmt::Write;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gvt::{GoQueue, Runtime, SchedMutex, Sigurg, spawn};
use gvt_conformance::laws::preemptor::Width;
use gvt_conformance::process::Child;
use gvt_queue_priority::PriorityQueue;
use gvt_traits::{Factory, ReadyQueue};

/// An allocator with a count of the bytes that it has out.
pub struct Counted<A> {
    pub inner: A,
}

static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: each method does what `inner`'s does.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counted<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: as above.
        unsafe { self.inner.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size as i64 - layout.size() as i64, Relaxed);
        // SAFETY: as above.
        unsafe { self.inner.realloc(ptr, layout, size) }
    }
}

/// What all threads share.
struct World {
    end: Instant,
    stop: AtomicBool,
    std_mutex: Mutex<(u64, u64)>,
    parking_lot: parking_lot::Mutex<(u64, u64)>,
    green: SchedMutex<(u64, u64)>,
    /// Ends the spins of the register checkers, every 10 ms.
    release: AtomicU32,
    turns: [AtomicU64; DEEDS.len()],
    dropped: AtomicU64,
}

type Deed = fn(&Arc<World>, u64);

const DEEDS: [(&str, Deed); 17] = [
    ("allocate", allocate),
    ("format", format),
    ("hash map", hash_map),
    ("thread-local", thread_local),
    ("print", print),
    ("std mutex", std_mutex),
    ("parking_lot", parking_lot),
    ("panic", panic_and_catch),
    ("unwind", unwind_through_destructors),
    ("getaddrinfo", look_up),
    ("qsort_r", sort),
    ("registers", registers),
    ("spawn and join", spawn_and_join),
    ("sleep", sleep),
    ("registers, reentrant", reentrant_registers),
    ("load a library", load),
    ("start an OS thread", start_os_thread),
];

thread_local! {
    static LOCAL: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Computes for a time that is now and then longer than a slice.
fn linger(turn: u64) {
    let rounds = if turn.is_multiple_of(16) { 200_000 } else { 500 };
    black_box((0..rounds).fold(black_box(turn), |sum, i| sum.wrapping_mul(31).wrapping_add(i)));
}

fn allocate(_: &Arc<World>, turn: u64) {
    let mut blocks: Vec<Box<[u64]>> = Vec::new();
    for i in 0..64 {
        blocks.push(vec![turn ^ i; 1 + (i as usize * 37 + turn as usize) % 900].into_boxed_slice());
        if i % 3 == 0 {
            blocks.swap_remove(turn as usize % blocks.len());
        }
    }
    for block in &blocks {
        assert!(block.iter().all(|word| *word == block[0]), "a block was overwritten");
    }
}

fn format(_: &Arc<World>, turn: u64) {
    let mut text = String::new();
    for i in 0..50u64 {
        write!(text, "{}:{:.3};", turn + i, (turn + i) as f64 / 7.0).unwrap();
    }
    for (i, part) in text.split_terminator(';').enumerate() {
        let (number, quotient) = part.split_once(':').expect("a colon");
        let number: u64 = number.parse().expect("a number");
        assert_eq!(number, turn + i as u64);
        let quotient: f64 = quotient.parse().expect("a number");
        assert!((quotient - number as f64 / 7.0).abs() < 0.001);
    }
}

fn hash_map(_: &Arc<World>, turn: u64) {
    let map: HashMap<u64, String> = (0..100).map(|i| (turn ^ (i << 8), i.to_string())).collect();
    assert_eq!(map.len(), 100);
    for i in 0..100 {
        assert_eq!(map[&(turn ^ (i << 8))], i.to_string());
    }
}

/// A borrow that lasts: nobody else may borrow meanwhile.
fn thread_local(_: &Arc<World>, turn: u64) {
    LOCAL.with(|local| {
        let mut local = local.borrow_mut();
        local.clear();
        local.extend(turn..turn + 50);
        linger(turn);
        assert!(local.iter().copied().eq(turn..turn + 50), "another thread was in the borrow");
    });
}

/// Few enough that the reader at the other end keeps up.
fn print(_: &Arc<World>, turn: u64) {
    if turn.is_multiple_of(64) {
        println!("line {turn} {} end", turn.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    } else {
        linger(turn);
    }
}

/// Two numbers that are equal whenever nobody is in the lock.
fn bump(pair: &mut (u64, u64), turn: u64) {
    assert_eq!(pair.0, pair.1, "two threads were in the lock");
    pair.0 += 1;
    linger(turn);
    pair.1 += 1;
}

fn std_mutex(world: &Arc<World>, turn: u64) {
    bump(&mut world.std_mutex.lock().unwrap(), turn);
}

fn parking_lot(world: &Arc<World>, turn: u64) {
    bump(&mut world.parking_lot.lock(), turn);
}

fn panic_and_catch(_: &Arc<World>, turn: u64) {
    let caught = catch_unwind(|| {
        let text = format!("turn {turn}");
        linger(turn);
        panic!("{text}");
    });
    let payload = caught.expect_err("it panics");
    assert_eq!(payload.downcast_ref::<String>(), Some(&format!("turn {turn}")));
    assert!(!std::thread::panicking());
}

struct Counts<'a>(&'a AtomicU64, u64);

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        linger(self.1);
        drop(black_box(vec![self.1; 20]));
        self.0.fetch_add(1, Relaxed);
    }
}

fn nest(dropped: &AtomicU64, turn: u64, depth: u32) {
    let _counts = Counts(dropped, turn);
    if depth == 0 {
        resume_unwind(Box::new(turn));
    }
    nest(dropped, turn, depth - 1);
    black_box(());
}

fn unwind_through_destructors(world: &Arc<World>, turn: u64) {
    let caught = catch_unwind(AssertUnwindSafe(|| nest(&world.dropped, turn, 10)));
    assert_eq!(caught.expect_err("it unwinds").downcast_ref::<u64>(), Some(&turn));
}

fn look_up(_: &Arc<World>, turn: u64) {
    let names: [&CStr; 2] = [c"127.0.0.1", c"localhost"];
    let name = names[usize::from(turn.is_multiple_of(8))];
    // SAFETY: valid strings and places; the list is freed by its own function.
    unsafe {
        let mut hints: libc::addrinfo = std::mem::zeroed();
        hints.ai_family = libc::AF_INET;
        hints.ai_socktype = libc::SOCK_STREAM;
        let mut list = std::ptr::null_mut();
        if libc::getaddrinfo(name.as_ptr(), c"80".as_ptr(), &hints, &mut list) == 0 {
            let address = (*list).ai_addr.cast::<libc::sockaddr_in>().read();
            assert_eq!(address.sin_addr.s_addr.to_ne_bytes()[0], 127, "another's answer");
            libc::freeaddrinfo(list);
        }
    }
}

unsafe extern "C" fn by_value(left: *const c_void, right: *const c_void, count: *mut c_void) -> c_int {
    // SAFETY: `sort` passes numbers and a counter.
    unsafe {
        *count.cast::<u64>() += 1;
        (*left.cast::<u64>()).cmp(&*right.cast::<u64>()) as c_int
    }
}

unsafe extern "C" {
    fn qsort_r(
        base: *mut c_void,
        count: usize,
        size: usize,
        compare: unsafe extern "C" fn(*const c_void, *const c_void, *mut c_void) -> c_int,
        argument: *mut c_void,
    );
}

/// Takes the loader's lock, which the start of an OS thread needs.
fn load(_: &Arc<World>, _: u64) {
    // SAFETY: a library without initialisers of its own, and a symbol that is not called.
    unsafe {
        let library = libc::dlopen(c"libm.so.6".as_ptr(), libc::RTLD_NOW);
        if !library.is_null() {
            assert!(!libc::dlsym(library, c"cos".as_ptr()).is_null(), "a library without its symbols");
            libc::dlclose(library);
        }
    }
}

/// Sometimes with the worker, and sometimes without.
fn start_os_thread(_: &Arc<World>, turn: u64) {
    let run = || {
        let thread = std::thread::spawn(move || {
            LOCAL.with(|local| local.borrow_mut().push(turn));
            turn
        });
        assert_eq!(thread.join().unwrap(), turn);
    };
    if turn.is_multiple_of(2) { gvt::blocking(run) } else { run() }
}

fn sort(_: &Arc<World>, turn: u64) {
    let mut numbers: Vec<u64> = (0..2000).map(|i| (i ^ turn).wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    let sum = numbers.iter().fold(0u64, |sum, number| sum.wrapping_add(*number));
    let mut compared = 0u64;
    // SAFETY: as many numbers as are said; the comparison takes such.
    unsafe {
        qsort_r(numbers.as_mut_ptr().cast(), numbers.len(), 8, by_value, (&raw mut compared).cast());
    }
    assert!(numbers.is_sorted() && compared > 2000);
    assert_eq!(sum, numbers.iter().fold(0u64, |sum, number| sum.wrapping_add(*number)));
}

fn registers(world: &Arc<World>, _: u64) {
    let changed = Width::here().spin(&world.release);
    assert!(changed.is_empty(), "a register was changed: {changed:?}");
}

/// The same on a thread that is taken off by a stack switch, beside all the others.
fn reentrant_registers(world: &Arc<World>, _: u64) {
    let (width, theirs) = (Width::here(), world.clone());
    // SAFETY: `hold` uses its stack and registers only; what was captured is returned.
    let builder = unsafe { gvt::Builder::new().reentrant() };
    let handle = builder.spawn(move |_| (width.hold(&theirs.release), theirs)).unwrap();
    let changed = width.changed(&handle.join().unwrap().0);
    assert!(changed.is_empty(), "a register was changed: {changed:?}");
}

fn spawn_and_join(_: &Arc<World>, turn: u64) {
    let handle = spawn(move |_| {
        let block = vec![turn; 100];
        linger(turn);
        block.iter().sum::<u64>()
    });
    assert_eq!(handle.join().unwrap(), turn * 100);
}

fn sleep(world: &Arc<World>, turn: u64) {
    bump(&mut world.green.lock(), turn);
    gvt::sleep_us(500);
    if turn.is_multiple_of(8) {
        std::thread::sleep(Duration::from_micros(300));
    }
}

fn seconds() -> Option<u64> {
    std::env::var("GVT_STRESS_SECONDS").ok()?.parse().ok()
}

/// The queue of the runtime.
#[derive(Clone, Copy)]
enum Queue {
    Go,
    Priority,
}

#[test]
fn one_worker() {
    torture("one_worker", 1, Queue::Go);
}

#[test]
fn two_workers() {
    torture("two_workers", 2, Queue::Go);
}

#[test]
fn eight_workers() {
    torture("eight_workers", 8, Queue::Go);
}

#[test]
fn one_worker_with_priorities() {
    torture("one_worker_with_priorities", 1, Queue::Priority);
}

#[test]
fn two_workers_with_priorities() {
    torture("two_workers_with_priorities", 2, Queue::Priority);
}

#[test]
fn eight_workers_with_priorities() {
    torture("eight_workers_with_priorities", 8, Queue::Priority);
}

/// The body of the test function `test`.
fn torture(test: &'static str, workers: usize, queue: Queue) {
    let long = seconds();
    let span = Duration::from_millis(long.map_or(600, |seconds| seconds * 1000));
    let ended = Child::of(test).run(|| match queue {
        Queue::Go => child(GoQueue, workers, span),
        Queue::Priority => child(PriorityQueue::default(), workers, span),
    });
    let ended = ended.succeeded();
    let lines = ended.stdout.lines().filter(|line| line.starts_with("line "));
    let mut count = 0;
    for line in lines {
        let mut words = line.split(' ').skip(1);
        let turn: u64 = words.next().unwrap().parse().expect(line);
        assert_eq!(words.next(), Some(&*turn.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_string()), "{line}");
        assert_eq!((words.next(), words.next()), (Some("end"), None), "{line}");
        count += 1;
    }
    assert!(count > 0, "nothing was printed");
    let summary: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("torture")).collect();
    println!("{test}: {count} lines, {}", summary.join("\n  "));
}

fn child(queue: impl Factory<Output: ReadyQueue>, workers: usize, span: Duration) {
    // Panics are expected by the thousand; a failed assertion ends the process.
    std::panic::set_hook(Box::new(|info| {
        if !info.payload().downcast_ref::<String>().is_some_and(|text| text.starts_with("turn ")) {
            eprintln!("{info}");
            std::process::abort();
        }
    }));
    // What the process allocates once: the hook, the standard output's buffer, the resolver's state.
    println!("begin");
    let before = LIVE.load(Relaxed);
    let begin = Instant::now();
    let world = Arc::new(World {
        end: begin + span,
        stop: AtomicBool::new(false),
        std_mutex: Mutex::default(),
        parking_lot: parking_lot::Mutex::default(),
        green: SchedMutex::new((0, 0)),
        release: AtomicU32::new(0),
        turns: std::array::from_fn(|_| AtomicU64::new(0)),
        dropped: AtomicU64::new(0),
    });
    let runtime = Runtime::builder()
        .workers(workers)
        .queue(queue)
        .time_slice(Duration::from_micros(200))
        .grace_period(Duration::from_micros(50))
        .timer_interval(Duration::from_micros(200))
        .preemptor(Sigurg)
        .build()
        .unwrap();
    // The span is the least: everybody has had a turn, and many were preempted, before it ends.
    let is_enough = || {
        Instant::now() >= world.end
            && world.turns.iter().all(|turns| turns.load(Relaxed) > 0)
            && runtime.counters().forced_preemptions > 50
    };
    let release = || {
        while !is_enough() {
            std::thread::sleep(Duration::from_millis(10));
            // A thread that does not run just then spins on.
            world.release.store(1, SeqCst);
            std::thread::sleep(Duration::from_micros(100));
            world.release.store(0, SeqCst);
        }
        world.stop.store(true, SeqCst);
        world.release.store(1, SeqCst);
    };
    std::thread::scope(|scope| {
        scope.spawn(release);
        runtime.block_on(|| {
            let each = |number: usize| {
                let world = world.clone();
                spawn(move |_| {
                    let (_, deed) = DEEDS[number % DEEDS.len()];
                    let turns = &world.turns[number % DEEDS.len()];
                    let mut turn = 0;
                    while !world.stop.load(Relaxed) {
                        deed(&world, turn);
                        turn += 1;
                        turns.fetch_add(1, Relaxed);
                    }
                })
            };
            let handles: Vec<_> = (0..2 * DEEDS.len()).map(each).collect();
            for handle in handles {
                handle.join().unwrap();
            }
        });
    });
    let counters = runtime.counters();
    drop(runtime);

    for (pair, number) in
        [(*world.std_mutex.lock().unwrap(), 5), (*world.parking_lot.lock(), 6), (*world.green.lock(), 13)]
    {
        let turns = world.turns[number].load(SeqCst);
        assert_eq!(pair, (turns, turns), "{} lost an update", DEEDS[number].0);
    }
    assert_eq!(world.dropped.load(SeqCst), world.turns[8].load(SeqCst) * 11, "destructors run once");
    let turns: Vec<String> =
        DEEDS.iter().zip(&world.turns).map(|((name, _), n)| format!("{name} {}", n.load(Relaxed))).collect();
    for ((name, _), turns) in DEEDS.iter().zip(&world.turns) {
        assert!(turns.load(Relaxed) > 0, "nobody got to '{name}': {counters}");
    }
    drop(world);
    let left = LIVE.load(Relaxed) - before;
    eprintln!("torture: {workers} workers, {:.1?}: {}", begin.elapsed(), turns.join(", "));
    eprintln!("torture: {counters}; {left} bytes not freed");
    assert!(counters.forced_preemptions > 50, "{counters}");
    assert!(left < 256 << 10, "{left} bytes were not freed");
}
