//! What each layer may use, and what breaks that.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Crate, How, Reference, Target};

/// A module and everything below it.
#[derive(Clone, Copy)]
pub struct Layer {
    /// `tui::state`
    pub module: &'static str,
    /// Modules of the crate that it may use, all that is below them included, besides its own.
    pub uses: &'static [&'static str],
    /// Lists of paths that it must not use, nor anything below them: of `std` and other crates.
    pub bans: &'static [&'static [&'static str]],
    /// The other crates that it may use, besides `std`; without a list any.
    pub crates: Option<&'static [&'static str]>,
    pub may_be_unsafe: bool,
    /// Each module directly below it must have a layer of its own.
    pub is_divided: bool,
}

impl Layer {
    /// May use nothing but itself and any other crate.
    pub const fn new(module: &'static str) -> Self {
        Self {
            module,
            uses: &[],
            bans: &[],
            crates: None,
            may_be_unsafe: false,
            is_divided: false,
        }
    }

    pub const fn uses(mut self, modules: &'static [&'static str]) -> Self {
        self.uses = modules;
        self
    }

    pub const fn never(mut self, lists: &'static [&'static [&'static str]]) -> Self {
        self.bans = lists;
        self
    }

    pub const fn crates(mut self, crates: &'static [&'static str]) -> Self {
        self.crates = Some(crates);
        self
    }

    pub const fn may_be_unsafe(mut self) -> Self {
        self.may_be_unsafe = true;
        self
    }

    pub const fn is_divided(mut self) -> Self {
        self.is_divided = true;
        self
    }

    fn covers(&self, module: &[String]) -> bool {
        is_below(module, &names(self.module))
    }
}

/// The rules of a crate, and the names of the crates that it depends on.
pub struct Rules<'a> {
    pub layers: &'a [Layer],
    pub dependencies: &'a [String],
}

/// Layers, and what they use of what they may.
type Used = BTreeSet<(&'static str, &'static str)>;

impl Rules<'_> {
    /// What in the crate breaks the rules, and which rules are stale.
    pub fn problems(&self, krate: &Crate) -> Vec<String> {
        let mut problems = self.cycles();
        let mut used = Used::new();
        for (path, module) in &krate.modules {
            let at = |line: usize| format!("{}:{line}", module.file);
            for (line, problem) in &module.problems {
                problems.push(format!("{}: {problem}", at(*line)));
            }
            if let Some(problem) = self.has_no_layer(path) {
                problems.push(format!("{}: {problem}", module.file));
            }
            for layer in self.layers.iter().filter(|layer| layer.covers(path)) {
                let unsafe_lines: &[usize] = match layer.may_be_unsafe {
                    true => &[],
                    false => &module.unsafe_lines,
                };
                for line in unsafe_lines {
                    problems.push(format!(
                        "{}: {} must not have unsafe code",
                        at(*line),
                        layer.module
                    ));
                }
                for reference in &module.references {
                    if let Some(problem) = self.breaks(layer, krate, path, reference, &mut used) {
                        let line = at(reference.line);
                        problems.push(format!("{line}: {} must not use {problem}", layer.module));
                    }
                }
            }
        }
        problems.extend(self.stale(krate, &used));
        problems.dedup();
        problems
    }

    /// What a reference uses that the layer must not.
    fn breaks(
        &self,
        layer: &Layer,
        krate: &Crate,
        from: &[String],
        reference: &Reference,
        used: &mut Used,
    ) -> Option<String> {
        match krate.resolve(from, &reference.path) {
            Target::Internal(target) if layer.covers(&target) => None,
            Target::Internal(target) => {
                let allowed = layer.uses.iter().find(|it| is_below(&target, &names(it)));
                let Some(allowed) = allowed else {
                    return Some(format!("crate::{}", target.join("::")));
                };
                used.insert((layer.module, allowed));
                None
            }
            // A variable, a field, something of the prelude.
            Target::External(target) if target.len() == 1 && reference.how == How::Used => None,
            Target::External(target) => {
                let banned = layer.bans.iter().copied().flatten().any(|ban| {
                    let ban = names(ban);
                    is_below(&target, &ban) || reference.how == How::Glob && is_below(&ban, &target)
                });
                let first = target.first()?;
                let foreign = layer.crates.is_some_and(|crates| {
                    self.dependencies.contains(first) && !crates.contains(&first.as_str())
                });
                let known = layer.crates.unwrap_or_default();
                used.extend(
                    known
                        .iter()
                        .filter(|it| *it == first)
                        .map(|it| (layer.module, *it)),
                );
                (banned || foreign).then(|| target.join("::"))
            }
        }
    }

    /// Reports a module that no rule was written for.
    fn has_no_layer(&self, path: &[String]) -> Option<String> {
        let (name, parent) = path.split_last()?;
        let divided = parent.is_empty()
            || self
                .layers
                .iter()
                .any(|it| it.is_divided && names(it.module) == parent);
        let known = self.layers.iter().any(|layer| names(layer.module) == path);
        (divided && !known)
            .then(|| format!("the module {name} has no layer: add one that says what it may use"))
    }

    /// Rules for modules that do not exist, and permissions that nobody uses.
    fn stale(&self, krate: &Crate, used: &Used) -> Vec<String> {
        let mut stale = Vec::new();
        for layer in self.layers {
            if !krate.modules.contains_key(&names(layer.module)) {
                stale.push(format!("the layer {} has no module", layer.module));
            }
            for module in layer.uses.iter().chain(layer.crates.unwrap_or_default()) {
                if !used.contains(&(layer.module, module)) {
                    stale.push(format!(
                        "{} does not use {module}: remove the permission",
                        layer.module
                    ));
                }
            }
        }
        stale
    }

    /// Layers that may use each other, directly or through others.
    fn cycles(&self) -> Vec<String> {
        let apart = |a: &[String], b: &[String]| !is_below(a, b) && !is_below(b, a);
        let mut below: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for layer in self.layers {
            let of = names(layer.module);
            let reaches = self.layers.iter().filter(|other| {
                let other = names(other.module);
                apart(&of, &other)
                    && layer.uses.iter().any(|used| {
                        is_below(&names(used), &other) || is_below(&other, &names(used))
                    })
            });
            below.insert(layer.module, reaches.map(|other| other.module).collect());
        }
        // Remove layers that use nothing, again and again: what remains is a cycle, or above one.
        while let Some(lowest) = below
            .iter()
            .find(|(_, uses)| uses.is_empty())
            .map(|(name, _)| *name)
        {
            below.remove(lowest);
            below.values_mut().for_each(|uses| {
                uses.remove(lowest);
            });
        }
        let left: Vec<&str> = below.into_keys().collect();
        match left.is_empty() {
            true => Vec::new(),
            false => vec![format!(
                "layers in a cycle, or above one: {}",
                left.join(", ")
            )],
        }
    }
}

fn names(path: &str) -> Vec<String> {
    path.split("::").map(str::to_owned).collect()
}

fn is_below(path: &[String], above: &[String]) -> bool {
    path.starts_with(above)
}
