//! Iterators over the messages of a channel.

use std::fmt;

use super::Receiver;

/// The iterators of a receiver; `$meta` goes to each type.
macro_rules! iterators {
    ($receiver:ident $(, #[$meta:meta])?) => {
        /// Receives until no sender and no message is left; see [`Receiver::iter`].
        $(#[$meta])?
        pub struct Iter<'a, T> {
            rx: &'a $receiver<T>,
        }

        /// Receives the messages that are there; see [`Receiver::try_iter`].
        $(#[$meta])?
        pub struct TryIter<'a, T> {
            rx: &'a $receiver<T>,
        }

        /// Owns a receiver and receives until no sender and no message is left.
        $(#[$meta])?
        pub struct IntoIter<T> {
            rx: $receiver<T>,
        }

        impl<T> $receiver<T> {
            /// Receives message after message, waiting for each; ends when no sender and no message is left.
            pub fn iter(&self) -> Iter<'_, T> {
                Iter { rx: self }
            }

            /// Receives message after message; ends when there is none at the moment.
            pub fn try_iter(&self) -> TryIter<'_, T> {
                TryIter { rx: self }
            }
        }

        impl<T> Iterator for Iter<'_, T> {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                self.rx.recv().ok()
            }
        }

        impl<T> Iterator for TryIter<'_, T> {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                self.rx.try_recv().ok()
            }
        }

        impl<T> Iterator for IntoIter<T> {
            type Item = T;

            fn next(&mut self) -> Option<T> {
                self.rx.recv().ok()
            }
        }

        impl<T> std::iter::FusedIterator for Iter<'_, T> {}
        impl<T> std::iter::FusedIterator for IntoIter<T> {}

        impl<'a, T> IntoIterator for &'a $receiver<T> {
            type Item = T;
            type IntoIter = Iter<'a, T>;

            fn into_iter(self) -> Iter<'a, T> {
                self.iter()
            }
        }

        impl<T> IntoIterator for $receiver<T> {
            type Item = T;
            type IntoIter = IntoIter<T>;

            fn into_iter(self) -> IntoIter<T> {
                IntoIter { rx: self }
            }
        }
    };
}

pub(super) use iterators;

iterators!(Receiver);

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Iter { .. }")
    }
}

impl<T> fmt::Debug for TryIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("TryIter { .. }")
    }
}

impl<T> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("IntoIter { .. }")
    }
}
