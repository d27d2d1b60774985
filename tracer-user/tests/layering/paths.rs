//! Finds every path that an item names: in imports, types, bodies, attributes and macros.

use proc_macro2::{Delimiter, Ident, Spacing, Span, TokenStream, TokenTree};
use syn::{
    Attribute, Item, ItemExternCrate, ItemUse, Meta, UseTree, VisRestricted,
    ext::IdentExt as _,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::source::{How, Module, Path, Reference};

/// Macros that are `std`'s without saying so.
const PRELUDE: [&str; 5] = ["dbg", "eprint", "eprintln", "print", "println"];

pub fn of_item(item: &Item, module: &mut Module) {
    Finder { module }.visit_item(item);
}

pub fn of_attributes(attributes: &[Attribute], module: &mut Module) {
    let mut finder = Finder { module };
    attributes.iter().for_each(|it| finder.visit_attribute(it));
}

/// An identifier without `r#`.
pub fn name(ident: &Ident) -> String {
    ident.unraw().to_string()
}

pub fn line(of: &impl Spanned) -> usize {
    of.span().start().line
}

struct Finder<'a> {
    module: &'a mut Module,
}

impl Finder<'_> {
    fn found(&mut self, path: Path, how: How, span: Span) {
        let line = span.start().line;
        self.module.references.push(Reference { path, how, line });
    }

    /// What a `use` imports below `path`.
    fn imports(&mut self, mut path: Path, tree: &UseTree) {
        match tree {
            UseTree::Path(it) => {
                path.push(name(&it.ident));
                self.imports(path, &it.tree);
            }
            UseTree::Group(it) => {
                for tree in &it.items {
                    self.imports(path.clone(), tree);
                }
            }
            UseTree::Glob(it) => {
                self.module.globs.push(path.clone());
                self.found(path, How::Glob, it.span());
            }
            UseTree::Name(it) => self.import(path, &it.ident, &it.ident),
            UseTree::Rename(it) => self.import(path, &it.ident, &it.rename),
        }
    }

    fn import(&mut self, mut path: Path, ident: &Ident, as_name: &Ident) {
        // `use a::{self}` imports `a`.
        if ident != "self" || path.is_empty() {
            path.push(name(ident));
        }
        let shown = match as_name == "self" {
            true => path.last().cloned().unwrap_or_default(),
            false => name(as_name),
        };
        self.module.imports.insert(shown, path.clone());
        self.found(path, How::Import, ident.span());
    }

    /// What the tokens of a macro name, as far as that can be seen without expanding it.
    fn tokens(&mut self, tokens: TokenStream, prefix: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), &[]);
                    at += 1;
                }
                TokenTree::Ident(ident) if ident == "unsafe" => {
                    self.module.unsafe_lines.push(line(ident));
                    at += 1;
                }
                // `as` and the new name of an import.
                TokenTree::Ident(ident) if ident == "as" => at += 2,
                TokenTree::Ident(_) if !is_member(&tokens[..at]) => {
                    at = self.token_path(&tokens, at, prefix);
                }
                TokenTree::Literal(literal) => {
                    // `#[serde(with = "crate::module")]`
                    if let Ok(text) =
                        syn::parse2::<syn::LitStr>(TokenTree::Literal(literal.clone()).into())
                        && text.value().contains("::")
                        && let Ok(path) = text.parse::<syn::Path>()
                    {
                        self.visit_path(&path);
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// A path that begins with the identifier `at`; returns where it has ended.
    fn token_path(&mut self, tokens: &[TokenTree], mut at: usize, prefix: &[String]) -> usize {
        let mut path = prefix.to_vec();
        if prefix.is_empty()
            && at >= 2
            && is_separator(&tokens[at - 2..])
            && (at < 3 || !matches!(tokens[at - 3], TokenTree::Ident(_)))
        {
            path.push("::".to_owned());
        }
        let span = tokens[at].span();
        while let Some(TokenTree::Ident(ident)) = tokens.get(at) {
            if ident != "self" || path.is_empty() {
                path.push(name(ident));
            }
            at += 1;
            if !is_separator(&tokens[at.min(tokens.len())..]) {
                break;
            }
            match tokens.get(at + 2) {
                Some(TokenTree::Ident(_)) => at += 2,
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.tokens(group.stream(), &path);
                    return at + 3;
                }
                after if is_punct(after, '*') => {
                    self.found(path, How::Glob, span);
                    return at + 3;
                }
                _ => break,
            }
        }
        let is_macro = is_punct(tokens.get(at), '!');
        if is_macro || path.len() > 1 {
            self.macro_or_path(path, is_macro, span);
        }
        at
    }

    fn macro_or_path(&mut self, mut path: Path, is_macro: bool, span: Span) {
        if is_macro && path.len() == 1 && PRELUDE.contains(&path[0].as_str()) {
            path.insert(0, "std".to_owned());
        }
        self.found(path, How::Used, span);
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let absolute = item.leading_colon.is_some();
        let path = absolute.then(|| "::".to_owned()).into_iter().collect();
        self.imports(path, &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        let path = vec!["::".to_owned(), name(&item.ident)];
        let shown = item.rename.as_ref().map_or(&item.ident, |(_, name)| name);
        self.module.imports.insert(name(shown), path.clone());
        self.found(path, How::Import, item.span());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let absolute = path.leading_colon.is_some().then(|| "::".to_owned());
        let names = path.segments.iter().map(|segment| name(&segment.ident));
        self.found(
            absolute.into_iter().chain(names).collect(),
            How::Used,
            path.span(),
        );
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, it: &'ast syn::Macro) {
        let names = it.path.segments.iter().map(|segment| name(&segment.ident));
        self.macro_or_path(names.collect(), true, it.path.span());
        if it.path.is_ident("include") {
            let problem = "code is in modules, not in included files";
            self.module
                .problems
                .push((line(&it.path), problem.to_owned()));
        }
        self.tokens(it.tokens.clone(), &[]);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::Path(path) => self.visit_path(path),
            Meta::List(list) => {
                self.visit_path(&list.path);
                self.tokens(list.tokens.clone(), &[]);
            }
            Meta::NameValue(_) => {}
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let problem = "a module inside a function is not looked into";
        self.module
            .problems
            .push((line(&module.ident), problem.to_owned()));
    }

    /// Who may see something is not what it uses.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_expr_unsafe(&mut self, it: &'ast syn::ExprUnsafe) {
        self.module.unsafe_lines.push(line(&it.unsafe_token));
        visit::visit_expr_unsafe(self, it);
    }

    fn visit_signature(&mut self, it: &'ast syn::Signature) {
        self.module
            .unsafe_lines
            .extend(it.unsafety.iter().map(line));
        visit::visit_signature(self, it);
    }

    fn visit_item_impl(&mut self, it: &'ast syn::ItemImpl) {
        self.module
            .unsafe_lines
            .extend(it.unsafety.iter().map(line));
        visit::visit_item_impl(self, it);
    }

    fn visit_item_trait(&mut self, it: &'ast syn::ItemTrait) {
        self.module
            .unsafe_lines
            .extend(it.unsafety.iter().map(line));
        visit::visit_item_trait(self, it);
    }

    fn visit_item_foreign_mod(&mut self, it: &'ast syn::ItemForeignMod) {
        self.module
            .unsafe_lines
            .extend(it.unsafety.iter().map(line));
        visit::visit_item_foreign_mod(self, it);
    }
}

fn is_punct(token: Option<&TokenTree>, is: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == is)
}

/// Whether what follows these tokens is a field or a method: after one dot, not after `..`.
fn is_member(before: &[TokenTree]) -> bool {
    let mut back = before.iter().rev();
    is_punct(back.next(), '.') && !is_punct(back.next(), '.')
}

/// Whether the tokens begin with `::`.
fn is_separator(tokens: &[TokenTree]) -> bool {
    matches!(tokens.first(), Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint)
        && is_punct(tokens.get(1), ':')
}
