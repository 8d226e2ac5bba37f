//! The paths that a source file names in its own crate.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Macro, UseTree};

/// A path from the crate's root: `crate::sched::wait` is `["sched", "wait"]`.
pub type Names = Vec<String>;

/// What a file names.
#[derive(Default, Debug)]
pub struct Imports {
    /// Paths, with the line.
    pub paths: Vec<(Names, usize)>,
    /// What the file re-exports, its inline modules included: the name (`*` for all), and from where.
    pub exports: Vec<(String, Names)>,
}

/// Reads the file that is the module `home`.
pub fn read(text: &str, home: &[String]) -> Result<Imports, syn::Error> {
    let file = syn::parse_file(text)?;
    let mut reader = Reader { inner: home.to_vec(), imports: Imports::default() };
    reader.visit_file(&file);
    Ok(reader.imports)
}

struct Reader {
    /// The module that the code lies in, inline modules included.
    inner: Names,
    imports: Imports,
}

impl Reader {
    /// The path from the root, if it is one of this crate that leaves its inline module.
    fn resolve(&self, names: &[String]) -> Option<Names> {
        let mut base = match names.first()?.as_str() {
            "crate" => return Some(names[1..].to_vec()),
            "self" | "super" => self.inner.clone(),
            _ => return None,
        };
        let mut rest = names;
        while let Some(first) = rest.first().filter(|first| *first == "self" || *first == "super") {
            if first == "super" {
                base.pop();
            }
            rest = &rest[1..];
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn note(&mut self, names: &[String], line: usize) {
        if let Some(path) = self.resolve(names) {
            self.imports.paths.push((path, line));
        }
    }

    fn tree(&mut self, tree: &UseTree, before: &mut Names, line: usize, is_export: bool) {
        let leaf = |reader: &mut Self, before: &Names, name: &str, shown: String| {
            let mut names = before.clone();
            if name != "self" {
                names.push(name.into());
            }
            // A `use` without `crate`, `self` or `super` may name a child module.
            let full = reader.resolve(&names).or_else(|| {
                let child = [&["self".to_owned()], names.as_slice()].concat();
                is_export.then(|| reader.resolve(&child)).flatten()
            });
            let Some(full) = full else { return };
            if is_export {
                reader.imports.exports.push((shown, full));
            } else {
                reader.imports.paths.push((full, line));
            }
        };
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before, line, is_export);
                before.pop();
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                let shown =
                    if name == "self" { before.last().cloned().unwrap_or_default() } else { name.clone() };
                leaf(self, before, &name, shown);
            }
            UseTree::Rename(rename) => {
                leaf(self, before, &rename.ident.to_string(), rename.rename.to_string());
            }
            UseTree::Glob(_) => leaf(self, before, "*", "*".into()),
            UseTree::Group(group) => {
                for item in &group.items {
                    self.tree(item, before, line, is_export);
                }
            }
        }
    }

    /// Paths among the tokens of a macro's call.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    let mut names = vec![ident.to_string()];
                    while let (
                        Some(TokenTree::Punct(one)),
                        Some(TokenTree::Punct(two)),
                        Some(TokenTree::Ident(next)),
                    ) = (tokens.get(at + 1), tokens.get(at + 2), tokens.get(at + 3))
                    {
                        if one.as_char() != ':' || two.as_char() != ':' {
                            break;
                        }
                        names.push(next.to_string());
                        at += 3;
                    }
                    if names.len() > 1 {
                        self.note(&names, line);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if is_test(&module.attrs) || module.content.is_none() {
            return;
        }
        self.inner.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.inner.pop();
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            let is_export = !matches!(item.vis, syn::Visibility::Inherited);
            let line = item.use_token.span.start().line;
            self.tree(&item.tree, &mut Names::new(), line, is_export);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.note(&names, first.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        // A definition names what its callers will import.
        if !call.path.is_ident("macro_rules") {
            self.tokens(call.tokens.clone());
        }
    }
}

/// Whether it is compiled for tests only.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let text = attribute.meta.require_list().map(|list| list.tokens.to_string()).unwrap_or_default();
        let words: Vec<&str> =
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
        words.contains(&"test") && !text.replace(' ', "").contains("not(test")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str, home: &str) -> Vec<String> {
        let home: Names = home.split("::").filter(|name| !name.is_empty()).map(Into::into).collect();
        read(text, &home).unwrap().paths.into_iter().map(|(names, _)| names.join("::")).collect()
    }

    #[test]
    fn uses_and_paths() {
        let text =
            "use super::{core::{After, self}, wait}; use std::ptr; fn f() { crate::os::errno(); self::g() }";
        assert_eq!(
            paths(text, "sched::held"),
            ["sched::core::After", "sched::core", "sched::wait", "os::errno", "sched::held::g"]
        );
    }

    #[test]
    fn inline_modules_count_and_tests_do_not() {
        let text = "mod a { use super::super::b::C; } #[cfg(test)] mod t { use crate::x::Y; } #[cfg(not(loom))] mod n { use crate::z::Q; }";
        assert_eq!(paths(text, "sync::list"), ["sync::b::C", "z::Q"]);
    }

    #[test]
    fn calls_of_macros_are_read_and_definitions_are_not() {
        let text = "macro_rules! m { () => { $crate::a::b() } } fn f() { assert!(crate::c::d() == 1); }";
        assert_eq!(paths(text, ""), ["c::d"]);
    }

    #[test]
    fn exports() {
        let imports = read(
            "pub use self::reason::Reason; pub(crate) use lock::{Lock, Guard as G}; use a::B;",
            &["sync".into()],
        )
        .unwrap();
        let exports: Vec<_> =
            imports.exports.iter().map(|(name, from)| format!("{name}={}", from.join("::"))).collect();
        assert_eq!(exports, ["Reason=sync::reason::Reason", "Lock=sync::lock::Lock", "G=sync::lock::Guard"]);
        assert!(imports.paths.is_empty());
    }
}
