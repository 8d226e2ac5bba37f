//! What the attributes expand to.
//!
//! The function keeps its name, attributes and visibility. Its body becomes an inner function, so that
//! `return` and `?` in it mean what they say; its result, if it has one, is turned into an `ExitCode` on the
//! green thread (`gvt::__private`), which is that of the outer function.
//!
//! On an error the function is emitted all the same, with its body and without the attribute: then the
//! compiler's other messages are about what the user wrote.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, ItemFn, LitBool, LitInt, LitStr, Path, Token};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Main,
    Test,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Main => "#[gvt::main]",
            Role::Test => "#[gvt::test]",
        }
    }

    fn settings(self) -> &'static str {
        match self {
            Role::Main => {
                "`workers`, `low_priority_workers`, `max_gvthreads`, `stack_size`, `time_slice`, `forced_preempt`, \
                 `deadlock_report`, `crate`"
            }
            Role::Test => {
                "`workers`, `low_priority_workers`, `max_gvthreads`, `stack_size`, `time_slice`, `forced_preempt`, \
                 `deadlock_report`, `timeout`, `crate`"
            }
        }
    }
}

/// `name = value`.
struct Setting {
    name: syn::Ident,
    value: Value,
}

enum Value {
    Number(LitInt),
    Text(LitStr),
    Truth(LitBool),
    Path(Path),
}

impl Value {
    fn span(&self) -> Span {
        match self {
            Value::Number(value) => value.span(),
            Value::Text(value) => value.span(),
            Value::Truth(value) => value.span(),
            Value::Path(value) => value.span(),
        }
    }
}

impl Parse for Setting {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        use syn::ext::IdentExt;
        let name = syn::Ident::parse_any(input)?;
        if !input.peek(Token![=]) {
            return Err(Error::new(name.span(), format!("`{name}` needs a value: `{name} = …`")));
        }
        input.parse::<Token![=]>()?;
        let value = if input.peek(LitInt) {
            Value::Number(input.parse()?)
        } else if input.peek(LitStr) {
            Value::Text(input.parse()?)
        } else if input.peek(LitBool) {
            Value::Truth(input.parse()?)
        } else {
            Value::Path(input.call(Path::parse_mod_style).map_err(|error| {
                Error::new(error.span(), "the value is a number, a text in quotes, `true`, `false` or a path")
            })?)
        };
        Ok(Setting { name, value })
    }
}

#[derive(Default)]
struct Settings {
    /// Calls on the builder.
    calls: TokenStream,
    timeout: Option<Duration>,
    gvt: Option<Path>,
}

fn read(role: Role, settings: TokenStream) -> syn::Result<Settings> {
    let parsed = Punctuated::<Setting, Token![,]>::parse_terminated.parse2(settings)?;
    let mut settings = Settings::default();
    let mut seen = Vec::new();
    for Setting { name, value } in parsed {
        let text = name.to_string();
        if seen.contains(&text) {
            return Err(Error::new(name.span(), format!("`{text}` is set twice")));
        }
        let wrong = |what: &str| Err(Error::new(value.span(), format!("`{text}` is {what}")));
        match (text.as_str(), &value) {
            ("workers", Value::Number(count)) => {
                if !count.base10_parse::<usize>().is_ok_and(|count| count > 0) {
                    return wrong("a number, one at least: `workers = 4`");
                }
                settings.calls.extend(quote!(.workers(#count)));
            }
            ("workers", _) => return wrong("a number: `workers = 4`"),
            ("low_priority_workers", Value::Number(count)) => {
                settings.calls.extend(quote!(.num_low_priority_workers(#count)));
            }
            ("low_priority_workers", _) => return wrong("a number: `low_priority_workers = 1`"),
            ("max_gvthreads", Value::Number(count)) => {
                if !count.base10_parse::<usize>().is_ok_and(|count| count > 0) {
                    return wrong("a number, one at least: `max_gvthreads = 10_000`");
                }
                settings.calls.extend(quote!(.max_gvthreads(#count)));
            }
            ("max_gvthreads", _) => return wrong("a number: `max_gvthreads = 10_000`"),
            ("stack_size", Value::Number(bytes)) => {
                if bytes.base10_parse::<usize>().is_err() {
                    return wrong("a number of bytes: `stack_size = 65_536`");
                }
                settings.calls.extend(quote!(.stack_size(#bytes)));
            }
            ("stack_size", Value::Text(text)) => {
                let bytes = size(text)?;
                settings.calls.extend(quote!(.stack_size(#bytes)));
            }
            ("stack_size", _) => return wrong("a size: `stack_size = \"64KiB\"`, or a number of bytes"),
            ("deadlock_report", Value::Text(text)) => {
                let nanoseconds = duration(text)?.as_nanos() as u64;
                settings
                    .calls
                    .extend(quote!(.deadlock_report(::core::time::Duration::from_nanos(#nanoseconds))));
            }
            ("deadlock_report", _) => return wrong("a time in quotes: `deadlock_report = \"1s\"`"),
            ("forced_preempt", Value::Truth(truth)) => {
                settings.calls.extend(quote!(.enable_forced_preempt(#truth)));
            }
            ("forced_preempt", _) => return wrong("`true` or `false`"),
            ("time_slice", Value::Text(text)) => {
                let nanoseconds = duration(text)?.as_nanos() as u64;
                settings.calls.extend(quote!(.time_slice(::core::time::Duration::from_nanos(#nanoseconds))));
            }
            ("time_slice", _) => return wrong("a time in quotes: `time_slice = \"1ms\"`"),
            ("timeout", Value::Text(text)) if role == Role::Test => settings.timeout = Some(duration(text)?),
            ("timeout", _) if role == Role::Test => return wrong("a time in quotes: `timeout = \"5s\"`"),
            ("crate", Value::Path(path)) => settings.gvt = Some(path.clone()),
            ("crate", _) => return wrong("a path: `crate = my::gvt`"),
            _ => {
                let what = format!("{} has no setting `{text}`; it has {}", role.name(), role.settings());
                return Err(Error::new(name.span(), what));
            }
        }
        seen.push(text);
    }
    Ok(settings)
}

/// `64KiB`, `1MiB`.
fn size(text: &LitStr) -> syn::Result<usize> {
    let value = text.value();
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let unit = match unit.trim() {
        "KiB" => Some(1_usize << 10),
        "MiB" => Some(1 << 20),
        _ => None,
    };
    number.parse::<usize>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit)).ok_or_else(
        || Error::new(text.span(), "a size has a whole number and a unit: KiB or MiB; as \"64KiB\""),
    )
}

/// `5s`, `200ms`, `1.5s`, `2min`.
fn duration(text: &LitStr) -> syn::Result<Duration> {
    let value = text.value();
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let unit = match unit.trim() {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        _ => {
            return Err(Error::new(
                text.span(),
                "a time has a number and a unit: us, ms, s or min; as \"5s\"",
            ));
        }
    };
    let seconds = number.parse::<f64>().unwrap_or(0.0) * unit;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && seconds < 1e9 => Ok(duration),
        _ => Err(Error::new(
            text.span(),
            "the time must be longer than nothing, and shorter than thirty years",
        )),
    }
}

fn check(role: Role, function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    let refuse = |span: Span, what: &str| Err(Error::new(span, format!("{}: {what}", role.name())));
    if let Some(keyword) = &signature.asyncness {
        return refuse(
            keyword.span(),
            "the function runs on a green thread, where waiting needs no `async`; remove it, and run futures with \
             `gvt::future::block_on`",
        );
    }
    if let Some(keyword) = &signature.constness {
        return refuse(keyword.span(), "the function cannot be `const`");
    }
    if let Some(keyword) = &signature.unsafety {
        return refuse(
            keyword.span(),
            "the function cannot be `unsafe`: nobody would be there to keep its promises",
        );
    }
    if !signature.generics.params.is_empty() {
        return refuse(signature.generics.span(), "the function cannot be generic");
    }
    if !signature.inputs.is_empty() {
        return refuse(signature.inputs.span(), "the function has no parameters");
    }
    let is_test = |attribute: &&syn::Attribute| attribute.path().is_ident("test");
    if let Some(attribute) = function.attrs.iter().find(is_test).filter(|_| role == Role::Test) {
        return refuse(attribute.span(), "it makes the function a test already; remove `#[test]`");
    }
    Ok(())
}

pub(crate) fn expand(role: Role, settings: TokenStream, item: TokenStream) -> TokenStream {
    let function = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let what = format!("{} goes on a function: {error}", role.name());
            let error = Error::new(error.span(), what).into_compile_error();
            return quote!(#item #error);
        }
    };
    let settings = read(role, settings).and_then(|settings| check(role, &function).map(|()| settings));
    match settings {
        Ok(settings) => emit(role, settings, function),
        Err(error) => {
            let error = error.into_compile_error();
            let mut function = function;
            function.sig.asyncness = None;
            quote! {
                #error
                #[allow(dead_code)]
                #function
            }
        }
    }
}

fn emit(role: Role, settings: Settings, function: ItemFn) -> TokenStream {
    let ItemFn { attrs, vis, sig, block } = function;
    let (name, output) = (&sig.ident, &sig.output);
    let gvt = settings.gvt.map_or_else(|| quote!(::gvt), |path| quote!(#path));
    let calls = settings.calls;
    let test = (role == Role::Test).then(|| quote!(#[::core::prelude::v1::test]));
    let run = match (role, settings.timeout) {
        (Role::Main, _) | (Role::Test, None) => quote!(#gvt::__private::run(builder, __gvt_body)),
        (Role::Test, Some(timeout)) => {
            let nanoseconds = timeout.as_nanos() as u64;
            quote!(#gvt::__private::run_with_limit(
                builder,
                ::core::time::Duration::from_nanos(#nanoseconds),
                ::core::stringify!(#name),
                __gvt_body,
            ))
        }
    };
    // What is wrong with the result's type is shown at that type.
    let span = match output {
        syn::ReturnType::Default => name.span(),
        syn::ReturnType::Type(_, of) => of.span(),
    };
    // `#[should_panic]` goes with functions that return nothing only.
    let (end, outer) = match output {
        syn::ReturnType::Default => (quote!(;), quote!()),
        syn::ReturnType::Type(..) => (quote!(), quote!(-> ::std::process::ExitCode)),
    };
    let run = quote_spanned!(span=> #run);
    quote! {
        #test
        #(#attrs)*
        #vis fn #name() #outer {
            fn __gvt_body() #output #block
            let builder = #gvt::Runtime::builder() #calls;
            #run #end
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: Role, settings: TokenStream, item: TokenStream) -> String {
        let expanded = expand(role, settings, item).to_string();
        let begin = expanded.find("compile_error ! {").or_else(|| expanded.find("compile_error !"));
        let begin = begin.unwrap_or_else(|| panic!("no error in {expanded}"));
        expanded[begin..].split('"').nth(1).expect("an error says something").to_owned()
    }

    #[test]
    fn mistakes_are_named() {
        let plain = quote!(
            fn f() {}
        );
        let cases = [
            (
                Role::Main,
                quote!(),
                quote!(
                    async fn main() {}
                ),
                "where waiting needs no `async`",
            ),
            (
                Role::Main,
                quote!(),
                quote!(
                    fn main(x: u8) {}
                ),
                "the function has no parameters",
            ),
            (
                Role::Main,
                quote!(),
                quote!(
                    fn main<T>() {}
                ),
                "cannot be generic",
            ),
            (
                Role::Main,
                quote!(),
                quote!(
                    const fn main() {}
                ),
                "cannot be `const`",
            ),
            (
                Role::Main,
                quote!(),
                quote!(
                    unsafe fn main() {}
                ),
                "cannot be `unsafe`",
            ),
            (
                Role::Main,
                quote!(),
                quote!(
                    struct S;
                ),
                "#[gvt::main] goes on a function",
            ),
            (Role::Main, quote!(wrokers = 4), plain.clone(), "has no setting `wrokers`; it has `workers`"),
            (Role::Main, quote!(timeout = "5s"), plain.clone(), "#[gvt::main] has no setting `timeout`"),
            (Role::Main, quote!(workers), plain.clone(), "`workers` needs a value"),
            (Role::Main, quote!(workers = "4"), plain.clone(), "`workers` is a number"),
            (Role::Main, quote!(workers = 0), plain.clone(), "`workers` is a number, one at least"),
            (Role::Main, quote!(workers = 1, workers = 2), plain.clone(), "`workers` is set twice"),
            (Role::Main, quote!(workers = -1), plain.clone(), "`workers` is a number, one at least"),
            (Role::Main, quote!(workers = [4]), plain.clone(), "the value is a number, a text in quotes"),
            (Role::Main, quote!(forced_preempt = 1), plain.clone(), "`true` or `false`"),
            (Role::Main, quote!(crate = "x"), plain.clone(), "`crate` is a path"),
            (Role::Test, quote!(timeout = 5), plain.clone(), "a time in quotes"),
            (Role::Test, quote!(timeout = "5"), plain.clone(), "a number and a unit"),
            (Role::Test, quote!(timeout = "0s"), plain.clone(), "longer than nothing"),
            (Role::Test, quote!(timeout = "1.2.3s"), plain.clone(), "longer than nothing"),
            (Role::Test, quote!(time_slice = 1), plain.clone(), "a time in quotes"),
            (
                Role::Test,
                quote!(),
                quote!(
                    #[test]
                    fn f() {}
                ),
                "remove `#[test]`",
            ),
        ];
        for (role, settings, item, words) in cases {
            let said = message(role, settings, item);
            assert!(said.contains(words), "{said:?} does not say {words:?}");
        }
    }

    #[test]
    fn settings_become_calls() {
        let settings =
            quote!(workers = 2, low_priority_workers = 1, forced_preempt = false, time_slice = "1.5ms");
        let expanded = expand(
            Role::Main,
            settings,
            quote!(
                pub fn main() -> Result<(), E> {
                    Ok(())
                }
            ),
        );
        let expected = quote! {
            ::gvt::Runtime::builder()
                .workers(2).num_low_priority_workers(1).enable_forced_preempt(false)
                .time_slice(::core::time::Duration::from_nanos(1500000u64))
        };
        assert!(expanded.to_string().contains(&expected.to_string()), "{expanded}");
        let elsewhere = expand(
            Role::Test,
            quote!(crate = crate::inner),
            quote!(
                fn f() {}
            ),
        );
        assert!(elsewhere.to_string().contains("crate :: inner :: Runtime"), "{elsewhere}");
    }

    #[test]
    fn times_are_read() {
        for (text, ms) in [("5s", 5000), (" 200 ms ", 200), ("0.5min", 30000), ("1500us", 1), ("2000µs", 2)]
        {
            let read = duration(&LitStr::new(text, Span::call_site())).unwrap();
            assert_eq!(read.as_millis(), ms, "{text}");
        }
    }
}
