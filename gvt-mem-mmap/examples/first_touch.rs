//! What the first touch of a fresh slot is made of, and what batching saves: the table in `pool`.
//!
//!     cargo run --release -p gvt-mem-mmap --example first_touch
//!
//! Ways are interleaved, each on slots of its own; medians of the thread's CPU time. All memory is used once
//! before it is measured: on a virtual machine the very first use of a physical page can cost several times
//! as much, spent by the host.

const PAGE: usize = 4096;
const SPAN: usize = 2 << 20;
const CHUNK: usize = 512;
const ROUNDS: usize = 15;

const POPULATE: i32 = 23;
const GUARD: i32 = 102;

/// One way to make slots ready: how many at once, and with which advice on guards and tops.
struct Way {
    name: &'static str,
    batch: usize,
    guard: bool,
    populate: bool,
}

const WAYS: [Way; 6] = [
    Way { name: "page faults only", batch: 1, guard: false, populate: false },
    Way { name: "guard, fault", batch: 1, guard: true, populate: false },
    Way { name: "8 guards, faults", batch: 8, guard: true, populate: false },
    Way { name: "32 guards, faults", batch: 32, guard: true, populate: false },
    Way { name: "32 guards, 32 tops", batch: 32, guard: true, populate: true },
    Way { name: "64 guards, 64 tops", batch: 64, guard: true, populate: true },
];

fn main() {
    println!("ns a slot           {}", WAYS.map(|way| format!("{:>20}", way.name)).join(""));
    let sizes = [(16 << 20, "16 MiB"), (1 << 20, "1 MiB"), (64 << 10, "64 KiB")];
    measure(16 << 20);
    for (size, name) in sizes {
        let medians = measure(size).map(|mut times| {
            times.sort_by(f64::total_cmp);
            format!("{:>20.0}", times[times.len() / 2])
        });
        println!("{name:20}{}", medians.join(""));
    }
}

fn measure(size: usize) -> [Vec<f64>; WAYS.len()] {
    let slots = CHUNK * ROUNDS * WAYS.len();
    let bytes = size * slots + 2 * SPAN;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let mapping =
        unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(mapping, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    // SAFETY: the mapping made above.
    unsafe { libc::madvise(mapping, bytes, libc::MADV_NOHUGEPAGE) };
    let phase = if size > SPAN { SPAN - PAGE } else { 0 };
    let first = mapping.cast::<u8>().map_addr(|start| start.next_multiple_of(SPAN) + phase);

    let mut times: [Vec<f64>; WAYS.len()] = Default::default();
    let mut next = first;
    for _ in 0..ROUNDS {
        for (way, times) in WAYS.iter().zip(&mut times) {
            let start = cpu_ns();
            for _ in 0..CHUNK / way.batch {
                make_ready(way, next, size);
                for n in 0..way.batch {
                    // SAFETY: the top byte of a slot in the mapping.
                    unsafe { next.add(size * (n + 1) - 64).write_volatile(1) };
                }
                next = next.wrapping_add(size * way.batch);
            }
            times.push((cpu_ns() - start) / CHUNK as f64);
        }
    }
    // SAFETY: nothing refers to the mapping any more.
    unsafe { libc::munmap(mapping, bytes) };
    times
}

fn make_ready(way: &Way, first: *mut u8, size: usize) {
    if way.guard {
        advise((0..way.batch).map(|n| first.wrapping_add(size * n)), GUARD);
    }
    if way.populate {
        advise((0..way.batch).map(|n| first.wrapping_add(size * (n + 1) - PAGE)), POPULATE);
    }
}

fn advise(pages: impl Iterator<Item = *mut u8>, advice: i32) {
    let mut ranges = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: PAGE }; 64];
    let mut count = 0;
    for (range, page) in ranges.iter_mut().zip(pages) {
        range.iov_base = page.cast();
        count += 1;
    }
    if count == 1 {
        // SAFETY: a page of the mapping, and nothing is stored there yet.
        let failed = unsafe { libc::madvise(ranges[0].iov_base, PAGE, advice) };
        assert_eq!(failed, 0, "needs Linux 6.13: {}", std::io::Error::last_os_error());
        return;
    }
    // SAFETY: each is a page of the mapping, and nothing is stored there yet.
    let advised =
        unsafe { libc::syscall(libc::SYS_process_madvise, -10000, ranges.as_ptr(), count, advice, 0) };
    assert_eq!(advised as usize, count * PAGE, "needs Linux 6.14: {}", std::io::Error::last_os_error());
}

fn cpu_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
