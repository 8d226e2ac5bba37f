//! `select!` and `select_biased!`.
//!
//! The arms are read one by one (`@arm`), then each end is evaluated and bound (`@bind`; each round of the macro makes an
//! identifier of its own), then a chain of comparisons leads to the arm that was chosen (`@go`), so that `break` and `?`
//! in an arm act on the surrounding code.

/// Waits for the first of several channel operations and runs what belongs to it.
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::{channel::{after, bounded, unbounded}, select};
/// use std::time::Duration;
///
/// let (requests, incoming) = unbounded::<&str>();
/// let (results, outgoing) = bounded::<usize>(1);
/// requests.send("hello").unwrap();
///
/// let what = select! {
///     recv(incoming) -> request => request.unwrap().len(),
///     recv(after(Duration::from_secs(5))) -> _ => panic!("nobody asked"),
/// };
/// let sent = select! {
///     send(results, what) -> result => result.is_ok(),
///     default(Duration::from_secs(5)) => false,
/// };
/// assert!(sent);
/// assert_eq!(outgoing.recv(), Ok(5));
/// # });
/// ```
///
/// - `recv(receiver) -> pattern => expression` binds a `Result<T, RecvError>`;
/// - `send(sender, message) -> pattern => expression` binds a `Result<(), SendError<T>>`; the message is evaluated only if
///   the operation was chosen;
/// - `default => expression` is taken if no operation is ready at once, `default(timeout) => expression` if none becomes ready
///   within a [`Duration`](std::time::Duration). Without `default` the select waits.
///
/// If several operations are ready, one is chosen at random, each as likely as the others. An operation on a disconnected
/// channel is ready.
///
/// Context: a green thread (which parks) or an OS thread (which parks too). At shutdown a wait for ever is unwound.
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => {
        $crate::__select!(@arm (Fair) [] () $($arms)*)
    };
}

/// [`select!`](crate::select) that takes the first of the operations that are ready, in the order in which they are
/// written.
#[macro_export]
macro_rules! select_biased {
    ($($arms:tt)*) => {
        $crate::__select!(@arm (First) [] () $($arms)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // Arms: recv.
    (@arm $how:tt [$($arms:tt)*] $default:tt recv($end:expr $(,)?) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@arm $how [$($arms)* {recv ($end) () ($result) ($body)}] $default $($rest)*)
    };
    (@arm $how:tt [$($arms:tt)*] $default:tt recv($end:expr $(,)?) -> $result:pat => $body:expr) => {
        $crate::__select!(@arm $how [$($arms)* {recv ($end) () ($result) ($body)}] $default)
    };
    (@arm $how:tt [$($arms:tt)*] $default:tt recv($end:expr $(,)?) -> $result:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@arm $how [$($arms)* {recv ($end) () ($result) ($body)}] $default $($rest)*)
    };
    // Arms: send.
    (@arm $how:tt [$($arms:tt)*] $default:tt
        send($end:expr, $message:expr $(,)?) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@arm $how [$($arms)* {send ($end) ($message) ($result) ($body)}] $default $($rest)*)
    };
    (@arm $how:tt [$($arms:tt)*] $default:tt
        send($end:expr, $message:expr $(,)?) -> $result:pat => $body:expr) => {
        $crate::__select!(@arm $how [$($arms)* {send ($end) ($message) ($result) ($body)}] $default)
    };
    (@arm $how:tt [$($arms:tt)*] $default:tt
        send($end:expr, $message:expr $(,)?) -> $result:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@arm $how [$($arms)* {send ($end) ($message) ($result) ($body)}] $default $($rest)*)
    };
    // Arms: default.
    (@arm $how:tt $arms:tt () default $(())? => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@arm $how $arms ((Now) ($body)) $($rest)*)
    };
    (@arm $how:tt $arms:tt () default $(())? => $body:expr) => {
        $crate::__select!(@arm $how $arms ((Now) ($body)))
    };
    (@arm $how:tt $arms:tt () default $(())? => $body:block $($rest:tt)*) => {
        $crate::__select!(@arm $how $arms ((Now) ($body)) $($rest)*)
    };
    (@arm $how:tt $arms:tt () default($timeout:expr $(,)?) => $body:expr, $($rest:tt)*) => {
        $crate::__select!(@arm $how $arms ((after($timeout)) ($body)) $($rest)*)
    };
    (@arm $how:tt $arms:tt () default($timeout:expr $(,)?) => $body:expr) => {
        $crate::__select!(@arm $how $arms ((after($timeout)) ($body)))
    };
    (@arm $how:tt $arms:tt () default($timeout:expr $(,)?) => $body:block $($rest:tt)*) => {
        $crate::__select!(@arm $how $arms ((after($timeout)) ($body)) $($rest)*)
    };
    // What is not an arm.
    (@arm $how:tt $arms:tt ($($default:tt)+) default $($rest:tt)*) => {
        compile_error!("a select has one `default` arm at the most")
    };
    (@arm $how:tt $arms:tt $default:tt $what:ident($($end:tt)*) => $($rest:tt)*) => {
        compile_error!(concat!(
            "`", stringify!($what), "(…)` in a select must be followed by `-> pattern => expression`"
        ))
    };
    (@arm $how:tt $arms:tt $default:tt $first:tt $($rest:tt)*) => {
        compile_error!(concat!(
            "an arm of a select is `recv(receiver) -> pattern => expression,`, ",
            "`send(sender, message) -> pattern => expression,`, `default => expression,` or ",
            "`default(timeout) => expression,`; this is none of them, or the comma before it is missing: ",
            stringify!($first $($rest)*)
        ))
    };
    // All read.
    (@arm $how:tt $arms:tt $default:tt) => {
        $crate::__select!(@bind $how [] $arms $default)
    };

    // Ends are evaluated in the order in which they are written, once.
    (@bind $how:tt [$($bound:tt)*] [{recv ($end:expr) () ($result:pat) ($body:expr)} $($rest:tt)*] $default:tt) => {
        match $end {
            ref end => {
                let end: &$crate::channel::Receiver<_> = end;
                $crate::__select!(@bind $how [$($bound)* {receive end () ($result) ($body)}] [$($rest)*] $default)
            }
        }
    };
    (@bind $how:tt [$($bound:tt)*]
        [{send ($end:expr) ($message:expr) ($result:pat) ($body:expr)} $($rest:tt)*] $default:tt) => {
        match $end {
            ref end => {
                let end: &$crate::channel::Sender<_> = end;
                $crate::__select!(
                    @bind $how [$($bound)* {send end ($message) ($result) ($body)}] [$($rest)*] $default)
            }
        }
    };
    (@bind ($how:ident) [$({$operation:ident $end:ident $message:tt $result:tt $body:tt})*] [] $default:tt) => {{
        let selected = {
            let mut arms = [$($crate::channel::__private::Arm::$operation($end)),*];
            $crate::channel::__private::select(
                &mut arms,
                $crate::__select!(@limit $default),
                $crate::channel::__private::Choice::$how,
            )
        };
        match selected {
            ::core::option::Option::Some(selected) => {
                $crate::__select!(@go selected (0usize) $({$operation $end $message $result $body})*)
            }
            ::core::option::Option::None => $crate::__select!(@default $default),
        }
    }};

    (@limit ()) => { $crate::channel::__private::Limit::Never };
    (@limit ((Now) $body:tt)) => { $crate::channel::__private::Limit::Now };
    (@limit ((after($timeout:expr)) $body:tt)) => { $crate::channel::__private::Limit::after($timeout) };

    (@default ()) => { ::core::unreachable!("a select without `default` waits") };
    (@default ($limit:tt ($body:expr))) => { $body };

    (@go $selected:ident $index:tt {receive $end:ident () ($result:pat) ($body:expr)} $($rest:tt)*) => {
        if $selected.index() == $index {
            let $result = $selected.recv($end);
            $body
        } else {
            $crate::__select!(@go $selected ($index + 1usize) $($rest)*)
        }
    };
    (@go $selected:ident $index:tt {send $end:ident ($message:expr) ($result:pat) ($body:expr)} $($rest:tt)*) => {
        if $selected.index() == $index {
            let $result = $selected.send($end, $message);
            $body
        } else {
            $crate::__select!(@go $selected ($index + 1usize) $($rest)*)
        }
    };
    (@go $selected:ident $index:tt) => {{
        let _ = $selected;
        ::core::unreachable!("one of the arms was chosen")
    }};
}
