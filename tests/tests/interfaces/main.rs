//! The interfaces that gvt takes over: one file a type, compiled twice, against std (or crossbeam-channel)
//! and against gvt.
//!
//! Compiling shows that every stable method is there, with its bounds and its variance. What is printed, what
//! a panic says, which auto traits hold and what comes back is *observed* on both sides, on gvt's on OS
//! threads and on green threads, and compared.
//!
//! What cannot be the same: closures take a token (those of `gvt::thread::spawn` do not); `gvt::current` is
//! `None` outside a runtime; spawning may return gvt's own errors. gvt may have more auto traits than std
//! where no soundness hangs on them (`UnwindSafe`, `RefUnwindSafe`, `Unpin`).

#[macro_use]
mod observing;

use observing::{Observed, compare};

/// A closure of std's threads.
macro_rules! std_closure {
    ($($body:tt)*) => { move || { $($body)* } };
}

/// A closure of gvt's threads, for what takes a token.
macro_rules! gvt_closure {
    ($($body:tt)*) => { move |_: &gvt::CancellationToken| { $($body)* } };
}

use {gvt_closure, std_closure};

macro_rules! interfaces {
    ($($name:ident $file:literal ($($std:tt)*) ($($gvt:tt)*);)+) => {
        #[allow(unused_imports, dead_code, clippy::all, reason = "one text for two libraries")]
        mod std_side {
            $(pub mod $name {
                use $($std)*;
                use crate::std_closure as closure;
                include!($file);
            })+
        }
        #[allow(unused_imports, dead_code, clippy::all, reason = "one text for two libraries")]
        mod gvt_side {
            $(pub mod $name {
                use $($gvt)*;
                use crate::gvt_closure as closure;
                include!($file);
            })+
        }
        $(
            #[test]
            fn $name() {
                let expected = std_side::$name::observe();
                compare("on an OS thread", &expected, &gvt_side::$name::observe());
                let runtime = gvt::Runtime::new(gvt::SchedulerConfig::default().num_workers(2));
                let observed: Vec<Observed> =
                    runtime.handle().spawn(|_| gvt_side::$name::observe()).join().unwrap();
                compare("on a green thread", &expected, &observed);
            }
        )+
    };
}

interfaces! {
    mutex "mutex.rs" (std::sync as api) (gvt::sync as api);
    rwlock "rwlock.rs" (std::sync as api) (gvt::sync as api);
    condvar "condvar.rs" (std::sync as api) (gvt::sync as api);
    once "once.rs" (std::sync as api) (gvt::sync as api);
    once_lock "once_lock.rs" (std::sync as api) (gvt::sync as api);
    lazy_lock "lazy_lock.rs" (std::sync as api) (gvt::sync as api);
    barrier "barrier.rs" (std::sync as api) (gvt::sync as api);
    mpsc "mpsc.rs" (std::sync::mpsc as api) (gvt::sync::mpsc as api);
    channel "channel.rs" (crossbeam_channel as api) (gvt::channel as api);
    local_key "local_key.rs" ({std::thread as api, std::thread_local as declare})
        ({gvt::thread as api, gvt::gvt_local as declare});
}

/// Scopes and spawning need a green thread on gvt's side.
mod threads {
    #[allow(unused_imports, dead_code, clippy::all, reason = "one text for two libraries")]
    mod std_side {
        use crate::std_closure as closure;
        use std::thread as api;
        fn current() -> api::Thread {
            api::current()
        }
        include!("thread.rs");
    }
    #[allow(unused_imports, dead_code, clippy::all, reason = "one text for two libraries")]
    mod gvt_side {
        use crate::gvt_closure as closure;
        use gvt::thread as api;
        fn current() -> api::Thread {
            api::current().unwrap()
        }
        include!("thread.rs");
    }

    #[test]
    fn thread() {
        let expected = std_side::observe();
        let runtime = gvt::Runtime::new(gvt::SchedulerConfig::default().num_workers(2));
        let observed = runtime.handle().spawn(|_| gvt_side::observe()).join().unwrap();
        crate::compare("on a green thread", &expected, &observed);
    }
}
