//! Errors of channel operations. A refused message comes back in the error.

use std::error::Error;
use std::fmt;

/// The message of a [`send`](super::Sender::send) that found no receiver left.
#[derive(PartialEq, Eq, Clone, Copy)]
pub struct SendError<T>(pub T);

/// The reason why a [`try_send`](super::Sender::try_send) did not send; holds the message.
#[derive(PartialEq, Eq, Clone, Copy)]
pub enum TrySendError<T> {
    /// There is no room; in a channel of capacity 0: no receiver waits.
    Full(T),
    /// No receiver is left.
    Disconnected(T),
}

/// The reason why a [`send_timeout`](super::Sender::send_timeout) did not send; holds the message.
#[derive(PartialEq, Eq, Clone, Copy)]
pub enum SendTimeoutError<T> {
    /// There was no room in time; in a channel of capacity 0: no receiver came.
    Timeout(T),
    /// No receiver is left.
    Disconnected(T),
}

/// A [`recv`](super::Receiver::recv) found the channel empty and no sender left.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct RecvError;

/// The reason why a [`try_recv`](super::Receiver::try_recv) received nothing.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum TryRecvError {
    /// There is no message; in a channel of capacity 0: no sender waits.
    Empty,
    /// There is no message, and no sender is left.
    Disconnected,
}

/// The reason why a [`recv_timeout`](super::Receiver::recv_timeout) received nothing.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum RecvTimeoutError {
    /// No message came in time.
    Timeout,
    /// There is no message, and no sender is left.
    Disconnected,
}

/// A [`try_select`](super::Select::try_select) found no operation ready.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct TrySelectError;

/// In a [`select_timeout`](super::Select::select_timeout) no operation became ready in time.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct SelectTimeoutError;

/// A [`try_ready`](super::Select::try_ready) found no operation ready.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct TryReadyError;

/// In a [`ready_timeout`](super::Select::ready_timeout) no operation became ready in time.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct ReadyTimeoutError;

/// Methods and traits of the errors with a message.
macro_rules! with_message {
    ($name:ident { $($variant:ident / $debug:literal / $ask:ident: $display:literal, $doc:literal);+ $(;)? }) => {
        impl<T> $name<T> {
            /// The message.
            pub fn into_inner(self) -> T {
                match self {
                    $($name::$variant(message) => message,)+
                }
            }

            $(
                #[doc = $doc]
                pub fn $ask(&self) -> bool {
                    matches!(self, $name::$variant(_))
                }
            )+
        }

        // In quotes, like crossbeam's.
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = match self {
                    $($name::$variant(_) => $debug,)+
                };
                fmt::Debug::fmt(name, f)
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $($name::$variant(_) => $display,)+
                })
            }
        }

        impl<T: Send> Error for $name<T> {}

        impl<T> From<SendError<T>> for $name<T> {
            fn from(SendError(message): SendError<T>) -> Self {
                $name::Disconnected(message)
            }
        }
    };
}

with_message!(TrySendError {
    Full / "Full(..)" / is_full: "the channel has no room for another message",
        "Whether there was no room.";
    Disconnected / "Disconnected(..)" / is_disconnected: "the channel has no receiver left",
        "Whether no receiver was left.";
});

with_message!(SendTimeoutError {
    Timeout / "SendTimeoutError(..)" / is_timeout: "the channel had no room for another message in time",
        "Whether time ran out.";
    Disconnected / "SendTimeoutError(..)" / is_disconnected: "the channel has no receiver left",
        "Whether no receiver was left.";
});

impl<T> SendError<T> {
    /// The message.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In quotes, like crossbeam's.
        fmt::Debug::fmt("SendError(..)", f)
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("the channel has no receiver left")
    }
}

impl<T: Send> Error for SendError<T> {}

/// Traits of the errors without a message.
macro_rules! without_message {
    ($name:ident { $($variant:ident / $ask:ident: $display:literal, $doc:literal);+ $(;)? }) => {
        impl $name {
            $(
                #[doc = $doc]
                pub fn $ask(&self) -> bool {
                    matches!(self, $name::$variant)
                }
            )+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $($name::$variant => $display,)+
                })
            }
        }

        impl Error for $name {}

        impl From<RecvError> for $name {
            fn from(RecvError: RecvError) -> Self {
                $name::Disconnected
            }
        }
    };
}

without_message!(TryRecvError {
    Empty / is_empty: "the channel holds no message", "Whether there was no message.";
    Disconnected / is_disconnected: "the channel holds no message and has no sender left",
        "Whether no sender was left either.";
});

without_message!(RecvTimeoutError {
    Timeout / is_timeout: "no message came in time", "Whether time ran out.";
    Disconnected / is_disconnected: "the channel holds no message and has no sender left",
        "Whether no sender was left either.";
});

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("the channel holds no message and has no sender left")
    }
}

impl Error for RecvError {}

macro_rules! unit {
    ($($name:ident: $display:literal;)+) => {
        $(
            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad($display)
                }
            }

            impl Error for $name {}
        )+
    };
}

unit! {
    TrySelectError: "no operation is ready";
    SelectTimeoutError: "no operation became ready in time";
    TryReadyError: "no operation is ready";
    ReadyTimeoutError: "no operation became ready in time";
}
