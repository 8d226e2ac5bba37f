//! `select!` and `select_biased!`.
//!
//! The macro reads the arms one by one (`@arm`), then evaluates each end and binds its operation (`@bind`;
//! each round makes an identifier of its own; `arms` has the operations). Then a `match` leads to the chosen
//! arm (`@go`), so that `break` and `?` in an arm act on the surrounding code.

/// Waits for the first of several channel operations and runs its arm.
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
/// - `send(sender, message) -> pattern => expression` binds a `Result<(), SendError<T>>`; the message is
///   evaluated only if the operation was chosen;
/// - the other arms are below;
/// - `default => expression` is taken if no operation is ready at once, `default(timeout) => expression` if
///   none becomes ready within a [`Duration`](std::time::Duration). Without `default` the select waits.
///
/// | arm | waits as | binds |
/// |---|---|---|
/// | `recv(receiver)` | `recv` of a [`oneshot`](crate::channel::oneshot) or [`broadcast`](crate::channel::broadcast) receiver | what that returns |
/// | `changed(receiver)` | [`changed`](crate::channel::watch::Receiver::changed) of a [`watch`](crate::channel::watch) receiver | what that returns |
/// | `closed(sender)` | `closed` of a `oneshot` or `watch` sender | `()` |
/// | `acquire(semaphore)`, `acquire_many(semaphore, permits)` | [`Semaphore`](crate::sync::Semaphore) | the permit |
/// | `join(handle)` | [`JoinHandle::join`](crate::JoinHandle::join), or that of a scoped thread | the thread's result; the arm uses the handle up |
/// | `ended(handle)` | the same, but leaves the result; `ended(set)`: until [`TaskSet::join_next`](crate::TaskSet::join_next) need not wait | `()` |
/// | `cancelled(token)` | [`CancellationToken::cancelled`](crate::CancellationToken::cancelled) | `()` |
///
/// ```
/// # gvt::Runtime::new(Default::default()).block_on(|| {
/// use gvt::{channel::watch, select, sync::Semaphore};
/// use std::time::Duration;
///
/// let (level, watched) = watch::channel(0);
/// let permits = Semaphore::new(0);
/// let worker = gvt::spawn(move |_| level.send(7).unwrap());
/// select! {
///     changed(watched) -> result => result.unwrap(),
///     acquire(permits) -> _permit => unreachable!("there is none"),
///     default(Duration::from_secs(30)) => unreachable!("the worker is quicker"),
/// }
/// let result = select! {
///     join(worker) -> result => result,
///     cancelled(gvt::current_token().unwrap()) -> () => return,
/// };
/// assert!(result.is_ok());
/// assert_eq!(*watched.borrow(), 7);
/// # });
/// ```
///
/// An arm that is not chosen takes nothing: no message, no permit; a change stays unseen. The expression in
/// the parentheses is borrowed until an arm is chosen; the arm's expression may use, change or drop all of
/// it again.
///
/// Of several ready operations one is chosen at random, with equal chances. An operation on a disconnected
/// channel is ready.
///
/// Context: a green thread (which parks) or an OS thread (which parks too). Shutdown unwinds an endless wait.
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => {
        $crate::__select!(@arm (Fair) [] () $($arms)*)
    };
}

/// [`select!`](crate::select) that takes the first ready operation, in the order of the arms.
#[macro_export]
macro_rules! select_biased {
    ($($arms:tt)*) => {
        $crate::__select!(@arm (First) [] () $($arms)*)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select {
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
    // Not an arm.
    (@arm $how:tt $arms:tt ($($default:tt)+) default $($rest:tt)*) => {
        compile_error!("a select has one `default` arm at the most")
    };
    (@arm $how:tt $arms:tt $default:tt $what:ident($($end:tt)*) => $($rest:tt)*) => {
        compile_error!(concat!(
            "`", stringify!($what), "(…)` in a select must be followed by `-> pattern => expression`"
        ))
    };
    // Arms: all others.
    (@arm $how:tt [$($arms:tt)*] $default:tt
        $keyword:ident($end:expr $(, $more:expr)? $(,)?) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::__select!(
            @arm $how [$($arms)* {$keyword $keyword ($end) ($($more)?) ($result) ($body)}] $default $($rest)*)
    };
    (@arm $how:tt [$($arms:tt)*] $default:tt
        $keyword:ident($end:expr $(, $more:expr)? $(,)?) -> $result:pat => $body:expr) => {
        $crate::__select!(
            @arm $how [$($arms)* {$keyword $keyword ($end) ($($more)?) ($result) ($body)}] $default)
    };
    (@arm $how:tt [$($arms:tt)*] $default:tt
        $keyword:ident($end:expr $(, $more:expr)? $(,)?) -> $result:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(
            @arm $how [$($arms)* {$keyword $keyword ($end) ($($more)?) ($result) ($body)}] $default $($rest)*)
    };
    (@arm $how:tt $arms:tt $default:tt $first:tt $($rest:tt)*) => {
        compile_error!(concat!(
            "an arm of a select is `keyword(what) -> pattern => expression,` (`recv`, `send` and others), ",
            "`default => expression,` or `default(timeout) => expression,`; ",
            "this is none of them, or the comma before it is missing: ",
            stringify!($first $($rest)*)
        ))
    };
    // All arms are read.
    (@arm $how:tt $arms:tt $default:tt) => {
        $crate::__select!(@bind $how [] $arms $default)
    };

    // Each end is evaluated once, in the order of the arms. The first keyword is matched here; the second,
    // with the span of the caller's code, is the name of the method.
    (@bind $how:tt [$($bound:tt)*]
        [{send $keyword:ident ($end:expr) ($message:expr) $result:tt $body:tt} $($rest:tt)*] $default:tt) => {
        match $end {
            ref end => {
                let operation = $crate::channel::__private::On::new(end).$keyword();
                $crate::__select!(
                    @bind $how [$($bound)* {operation (send ($message)) $result $body}] [$($rest)*] $default)
            }
        }
    };
    (@bind $how:tt [$($bound:tt)*]
        [{join $keyword:ident ($end:expr) () $result:tt $body:tt} $($rest:tt)*] $default:tt) => {{
        // The arm uses the handle up, so it must be a place expression.
        if false {
            let _ = &raw const $end;
        }
        match $end {
            ref end => {
                let operation = $crate::channel::__private::On::new(end).$keyword();
                $crate::__select!(
                    @bind $how [$($bound)* {operation (join ($end)) $result $body}] [$($rest)*] $default)
            }
        }
    }};
    (@bind $how:tt [$($bound:tt)*]
        [{$_:ident $keyword:ident ($end:expr) ($($more:expr)?) $result:tt $body:tt} $($rest:tt)*] $default:tt) => {
        match $end {
            ref end => {
                let operation = $crate::channel::__private::On::new(end).$keyword($($more)?);
                $crate::__select!(
                    @bind $how [$($bound)* {operation (complete) $result $body}] [$($rest)*] $default)
            }
        }
    };
    (@bind ($how:ident) [$({$operation:ident $end:tt $result:tt $body:tt})*] [] $default:tt) => {{
        let selected = $crate::channel::__private::select(
            &mut [$($crate::channel::__private::arm(&$operation)),*],
            $crate::__select!(@limit $default),
            $crate::channel::__private::Choice::$how,
        );
        $crate::__select!(
            @go selected ($($operation,)*) (0usize) [] $default $({$operation $end $result $body})*)
    }};

    (@limit ()) => { $crate::channel::__private::Limit::Never };
    (@limit ((Now) $body:tt)) => { $crate::channel::__private::Limit::Now };
    (@limit ((after($timeout:expr)) $body:tt)) => { $crate::channel::__private::Limit::after($timeout) };

    // All operations end before the arm's body begins.
    (@go $selected:ident $operations:tt $index:tt [$($arms:tt)*] $default:tt
        {$operation:ident $end:tt ($result:pat) ($body:expr)} $($rest:tt)*) => {
        $crate::__select!(@go $selected $operations ($index + 1usize) [$($arms)*
            ::core::option::Option::Some(selected) if selected.index == $index => {
                let $result = $crate::__select!(@end selected $operation $operations $end);
                $body
            }
        ] $default $($rest)*)
    };
    (@go $selected:ident $operations:tt $index:tt [$($arms:tt)*] $default:tt) => {
        match $selected {
            $($arms)*
            ::core::option::Option::Some(_) => ::core::unreachable!("one of the arms was chosen"),
            ::core::option::Option::None => {
                $crate::channel::__private::end($operations);
                $crate::__select!(@default $default)
            }
        }
    };

    (@end $selected:ident $operation:ident $operations:tt (complete)) => {{
        let result = $crate::channel::__private::complete(&$operation, $selected);
        $crate::channel::__private::end($operations);
        result
    }};
    (@end $selected:ident $operation:ident $operations:tt (send ($message:expr))) => {{
        let result = $crate::channel::__private::send(
            $crate::channel::__private::Reserved::new(&$operation, $selected), $message);
        $crate::channel::__private::end($operations);
        result
    }};
    (@end $selected:ident $operation:ident $operations:tt (join ($end:expr))) => {{
        $crate::channel::__private::complete(&$operation, $selected);
        $crate::channel::__private::end($operations);
        $end.join()
    }};

    (@default ()) => { ::core::unreachable!("a select without `default` waits") };
    (@default ($limit:tt ($body:expr))) => { $body };
}
