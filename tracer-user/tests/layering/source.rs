//! The modules of a crate, and every path that they name.

use std::collections::{BTreeMap, BTreeSet};

use syn::{Attribute, Item, ItemMod, Meta};

use crate::paths;

/// Names from the outermost to the innermost.
pub type Path = Vec<String>;

/// A path that some code names, as it is written there.
pub struct Reference {
    /// Begins with `crate`, `self`, `super`, a name in scope, or `::` and the name of a crate.
    pub path: Path,
    pub how: How,
    pub line: usize,
}

#[derive(Clone, Copy, PartialEq)]
pub enum How {
    /// Imported by its name.
    Import,
    /// Everything of it is imported: it ended in `::*`.
    Glob,
    /// Used where it stands.
    Used,
}

/// One module: of a file, or within another module.
#[derive(Default)]
pub struct Module {
    pub file: String,
    pub children: BTreeSet<String>,
    /// What `use` brings into scope: a name, and the path that it stands for.
    pub imports: BTreeMap<String, Path>,
    /// What `use` brings in whole.
    pub globs: Vec<Path>,
    pub references: Vec<Reference>,
    /// Lines with `unsafe`.
    pub unsafe_lines: Vec<usize>,
    /// What makes this test blind: line and reason.
    pub problems: Vec<(usize, String)>,
}

/// A module, and a name that a `use` brings into its scope.
type Import<'a> = (&'a [String], &'a str);

/// A crate, by the paths of its modules; that of the root is empty.
pub struct Crate {
    pub modules: BTreeMap<Path, Module>,
    /// Files of tests, which are not looked into.
    tests: Vec<String>,
}

/// What a path means.
#[derive(Debug, PartialEq)]
pub enum Target {
    /// Something of this crate.
    Internal(Path),
    /// Something of another crate, or a name that no `use` explains: of the prelude, a generic.
    External(Path),
}

impl Crate {
    /// Reads the modules that `root` declares; `files` are the texts, by their paths below `src`.
    pub fn read(root: &str, files: &BTreeMap<String, String>) -> Self {
        let mut this = Self {
            modules: BTreeMap::new(),
            tests: Vec::new(),
        };
        this.read_file(Vec::new(), root, "", files);
        this
    }

    /// Files that belong to a module.
    pub fn files(&self) -> BTreeSet<&str> {
        let modules = self.modules.values().map(|module| &module.file);
        modules.chain(&self.tests).map(String::as_str).collect()
    }

    fn read_file(
        &mut self,
        path: Path,
        file: &str,
        folder: &str,
        files: &BTreeMap<String, String>,
    ) {
        let text = &files[file];
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        self.read_items(path, file, folder, &syntax.items, files);
    }

    /// Reads a module of which the items are known. Those that it declares are in `folder`.
    fn read_items(
        &mut self,
        path: Path,
        file: &str,
        folder: &str,
        items: &[Item],
        files: &BTreeMap<String, String>,
    ) {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        for item in items {
            let inner = match item {
                Item::Mod(inner) => inner,
                _ if is_test(item) => continue,
                _ => {
                    paths::of_item(item, &mut module);
                    continue;
                }
            };
            let name = paths::name(&inner.ident);
            paths::of_attributes(&inner.attrs, &mut module);
            let below = [path.clone(), vec![name.clone()]].concat();
            let folder = format!("{folder}{name}/");
            if is_test(item) {
                self.tests.extend(file_of(inner, &folder, files));
                continue;
            }
            module.children.insert(name);
            match &inner.content {
                Some((_, items)) => self.read_items(below, file, &folder, items, files),
                None => match file_of(inner, &folder, files) {
                    Ok(file) => self.read_file(below, &file, &folder, files),
                    Err(problem) => module.problems.push((paths::line(&inner.ident), problem)),
                },
            }
        }
        self.modules.insert(path, module);
    }

    /// What `path` means in the module `from`.
    pub fn resolve(&self, from: &[String], path: &[String]) -> Target {
        self.resolve_without(from, path, None, 0)
    }

    /// The same without one import: `use tokio;` does not explain its own `tokio`.
    fn resolve_without(
        &self,
        from: &[String],
        path: &[String],
        without: Option<Import<'_>>,
        depth: usize,
    ) -> Target {
        let external = || Target::External(path.to_vec());
        if depth > 16 {
            return external();
        }
        let (mut at, mut rest) = match path[0].as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.to_vec(), &path[1..]),
            "super" => (from[..from.len().saturating_sub(1)].to_vec(), &path[1..]),
            "::" => return Target::External(path[1..].to_vec()),
            name if self.knows(from, name, without, depth) => (from.to_vec(), path),
            _ => return external(),
        };
        while let Some(name) = rest.first() {
            let Some(module) = self.modules.get(&at) else {
                break;
            };
            if name == "super" {
                at.pop();
            } else if module.children.contains(name) {
                at.push(name.clone());
            } else if let Some(means) = module
                .imports
                .get(name)
                .filter(|_| without != Some((&at, name)))
            {
                let whole = [means, &rest[1..]].concat();
                return self.resolve_without(&at, &whole, Some((&at, name)), depth + 1);
            } else if let Some(means) = self.of_glob(&at, name, depth) {
                let whole = [&means, rest].concat();
                return self.resolve_without(
                    &[],
                    &[&["crate".to_owned()], &whole[..]].concat(),
                    None,
                    depth + 1,
                );
            } else {
                break;
            }
            rest = &rest[1..];
        }
        Target::Internal([&at, rest].concat())
    }

    /// Whether a module declares or imports this name.
    fn knows(&self, at: &[String], name: &str, without: Option<Import<'_>>, depth: usize) -> bool {
        let Some(module) = self.modules.get(at) else {
            return false;
        };
        module.children.contains(name)
            || module.imports.contains_key(name) && without != Some((at, name))
            || self.of_glob(at, name, depth).is_some()
    }

    /// A module of this crate from which a glob import brings in a name.
    fn of_glob(&self, at: &[String], name: &str, depth: usize) -> Option<Path> {
        let globs = &self.modules.get(at)?.globs;
        globs.iter().find_map(
            |glob| match self.resolve_without(at, glob, None, depth + 1) {
                Target::Internal(from)
                    if from != at && self.knows(&from, name, None, depth + 1) =>
                {
                    Some(from)
                }
                _ => None,
            },
        )
    }
}

/// Whether an item is there for tests only, which may use what they like.
fn is_test(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        let condition = attribute
            .path()
            .is_ident("cfg")
            .then(|| attribute.parse_args::<syn::Path>());
        matches!(condition, Some(Ok(path)) if path.is_ident("test"))
    })
}

/// The file of a module that is declared without a body.
fn file_of(
    module: &ItemMod,
    folder: &str,
    files: &BTreeMap<String, String>,
) -> Result<String, String> {
    let elsewhere = |attribute: &Attribute| matches!(&attribute.meta, Meta::NameValue(it) if it.path.is_ident("path"));
    if module.attrs.iter().any(elsewhere) {
        return Err("a module is where its name says".to_owned());
    }
    let plain = folder.trim_end_matches('/');
    [format!("{plain}.rs"), format!("{plain}/mod.rs")]
        .into_iter()
        .find(|file| files.contains_key(file))
        .ok_or_else(|| format!("there is no file for the module {plain}"))
}
