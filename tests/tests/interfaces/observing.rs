//! What a side does, as text.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What was looked at, and what it came to.
#[derive(Debug)]
pub struct Observed {
    pub what: String,
    pub result: String,
    /// gvt may have `true` where std has not.
    pub may_be_more: bool,
}

pub fn observed(what: impl Into<String>, result: impl fmt::Debug) -> Observed {
    Observed { what: what.into(), result: format!("{result:?}"), may_be_more: false }
}

/// What a panic says, without its place.
pub fn message<T>(f: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => "no panic".to_owned(),
        Err(payload) => match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "another payload".to_owned(),
        },
    }
}

pub fn compare(where_: &str, expected: &[Observed], observed: &[Observed]) {
    let mut wrong = Vec::new();
    for (expected, observed) in expected.iter().zip(observed) {
        assert_eq!(expected.what, observed.what);
        let more = expected.may_be_more && expected.result == "false";
        if expected.result != observed.result && !more {
            wrong.push(format!(
                "{}: {} with the original, {} with gvt",
                expected.what, expected.result, observed.result
            ));
        }
    }
    assert!(wrong.is_empty(), "{where_}:\n{}", wrong.join("\n"));
    assert_eq!(expected.len(), observed.len());
}

/// Whether a type without parameters of ours has a trait.
macro_rules! has {
    ($type:ty: $trait:path) => {{
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        trait No {
            const HAS: bool = false;
        }
        impl<T: ?Sized> No for Probe<T> {}
        impl<T: ?Sized + $trait> Probe<T> {
            const HAS: bool = true;
        }
        <Probe<$type>>::HAS
    }};
}

/// The auto traits of types.
macro_rules! auto_traits {
    ($out:ident: $($type:ty),+ $(,)?) => {
        $(
            let name = stringify!($type);
            $out.push(crate::observing::observed(format!("{name}: Send"), has!($type: Send)));
            $out.push(crate::observing::observed(format!("{name}: Sync"), has!($type: Sync)));
            for (what, has) in [
                ("Unpin", has!($type: Unpin)),
                ("UnwindSafe", has!($type: std::panic::UnwindSafe)),
                ("RefUnwindSafe", has!($type: std::panic::RefUnwindSafe)),
            ] {
                let seen = crate::observing::observed(format!("{name}: {what}"), has);
                $out.push(crate::observing::Observed { may_be_more: true, ..seen });
            }
        )+
    };
}
