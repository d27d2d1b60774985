//! What the rules must see, and what they must not take for a violation. Each text is the module
//! `low` of a small crate, in which only `high` may use other modules. Lines that break a rule end
//! in `// <-`.

use std::collections::BTreeMap;

use crate::{
    rules::{Layer, Rules},
    source::Crate,
};

const LIB: &str = "mod high; mod low; mod middle;";
const HIGH: &str =
    "pub use crate::low::Thing; pub use crate::middle::other; pub fn f() {} pub mod inner {}";
const MIDDLE: &str = "pub use crate::high::f; pub use tokio; pub fn other() {}";

const LOW: Layer = Layer::new("low")
    .never(&[&["std::fs", "std::println"]])
    .crates(&["serde"]);

/// How a module may try to use what it must not.
const ESCAPES: &[(&str, &str)] = &[
    ("plain", "use crate::high::f; // <-"),
    (
        "grouped",
        "use crate::{
            low::Thing,
            high::{self, f}, // <-
        };",
    ),
    ("renamed", "use crate::high as other; // <-"),
    ("renamed in a group", "use crate::{high as _}; // <-"),
    ("the crate renamed", "use crate as c; // <-"),
    ("super", "use super::high; // <-"),
    ("super twice", "mod deep { use super::super::high; } // <-"),
    (
        "super after self",
        "mod deep { use self::super::super::high; } // <-",
    ),
    ("everything", "use crate::*; // <-"),
    ("everything of the parent", "use super::*; // <-"),
    (
        "a name that everything brought in",
        "use super::*; // <-
         fn g() { high::f() } // <-",
    ),
    ("an expression", "fn g() { crate::high::f() } // <-"),
    (
        "an expression behind super",
        "fn g() { super::high::f() } // <-",
    ),
    (
        "an import in a body",
        "fn g() { use crate::high::f; } // <-",
    ),
    (
        "a type",
        "struct S { s: Vec<Option<crate::high::T>> } // <-",
    ),
    ("a bound", "fn g<T: super::high::T>() {} // <-"),
    (
        "a qualified path",
        "fn g() { <u8 as crate::high::T>::t() } // <-",
    ),
    (
        "a pattern",
        "fn g(x: u8) { match x { crate::high::X => {} _ => {} } } // <-",
    ),
    ("an implementation", "impl crate::high::T for u8 {} // <-"),
    (
        "what a macro is given",
        "fn g() { format!(\"{}\", crate::high::f()) } // <-",
    ),
    (
        "a range in a macro",
        "fn g() { vec![0..crate::high::N] } // <-",
    ),
    (
        "a macro's imports",
        "m! { use super::{low::Thing, high::{f as g}}; } // <-",
    ),
    (
        "what a macro is made of",
        "macro_rules! m { () => { $crate::high::f() } } // <-",
    ),
    ("a macro of another layer", "crate::high::m!(); // <-"),
    ("an attribute", "#[derive(crate::high::D)] struct S; // <-"),
    (
        "text in an attribute",
        "#[derive(Default)]
         struct S {
             #[serde(with = \"crate::high::inner\")] // <-
             s: u8,
         }",
    ),
    ("re-exported by a third", "use crate::middle::f; // <-"),
    (
        "std in a group",
        "use std::{collections::BTreeMap, fs, io}; // <-",
    ),
    (
        "std renamed",
        "use std as s; fn g() { s::fs::read(\"x\"); } // <-",
    ),
    (
        "a module of std renamed",
        "use std::fs as f; // <-
         fn g() { f::read(\"x\"); } // <-",
    ),
    (
        "std as a crate",
        "extern crate std as s; fn g() { s::fs::read(\"x\"); } // <-",
    ),
    (
        "std from the root",
        "fn g() { ::std::fs::read(\"x\"); } // <-",
    ),
    (
        "std from the root in a macro",
        "fn g() { vec![::std::fs::read(\"x\")]; } // <-",
    ),
    ("all of std", "use std::*; // <-"),
    ("a macro of std", "fn g() { println!(); } // <-"),
    (
        "a macro of std in a macro",
        "fn g() { m! { println!() } } // <-",
    ),
    ("another crate", "use tokio::time; // <-"),
    ("another crate by itself", "use tokio; // <-"),
    (
        "another crate in a body",
        "async fn g() { tokio::spawn(async {}); } // <-",
    ),
    (
        "another crate's attribute",
        "#[tokio::main] async fn g() {} // <-",
    ),
    ("unsafe block", "fn g() { unsafe { h() } } // <-"),
    ("unsafe function", "unsafe fn g() {} // <-"),
    ("unsafe implementation", "unsafe impl Send for S {} // <-"),
    (
        "unsafe in a macro",
        "fn g() { assert!(unsafe { h() }) } // <-",
    ),
    (
        "a file of another name",
        "#[path = \"high.rs\"] mod deep; // <-",
    ),
    ("an included file", "include!(\"high.rs\"); // <-"),
    (
        "a module in a function",
        "fn g() { mod deep { use super::super::high; } } // <-",
    ),
];

/// What no rule forbids.
const ALLOWED: &[(&str, &str)] = &[
    (
        "its own",
        "use crate::low::Thing; use self::deep::A; mod deep { pub use super::Thing; }",
    ),
    (
        "behind super, its own",
        "pub struct Thing; mod deep { use super::*; fn g() -> Thing { super::Thing } }",
    ),
    (
        "words",
        "/// See [`crate::high`].\nconst A: &str = \"crate::high::f\"; // crate::high",
    ),
    (
        "names that look alike",
        "fn g(high: u8) -> u8 { let f = high; m!(high, x.high::<u8>(), high: 1); f }",
    ),
    (
        "who may see it",
        "pub(in crate::low) fn g() {} pub(crate) struct S;",
    ),
    (
        "the rest of std",
        "use std::{collections::BTreeMap, fmt}; use serde::Serialize;",
    ),
];

#[test]
fn every_escape_is_seen() {
    for (name, text) in ESCAPES {
        let marked: Vec<usize> = (1..)
            .zip(text.lines())
            .filter(|(_, line)| line.ends_with("// <-"))
            .map(|(number, _)| number)
            .collect();
        assert!(!marked.is_empty(), "{name}: no line is marked");
        let problems = problems(text, LOW);
        let mut lines: Vec<usize> = problems.iter().map(|problem| line_of(problem)).collect();
        lines.dedup();
        assert_eq!(lines, marked, "{name}: {text}\n{problems:#?}");
    }
}

#[test]
fn what_is_allowed_is_no_problem() {
    for (name, text) in ALLOWED {
        assert_eq!(problems(text, LOW), [""; 0], "{name}: {text}");
    }
}

#[test]
fn a_module_without_a_layer_is_a_problem() {
    let low = LOW.is_divided();
    let found = problems("mod deep { pub mod deeper {} }", low);
    assert_eq!(
        found,
        ["low.rs: the module deep has no layer: add one that says what it may use"]
    );
}

#[test]
fn a_permission_that_nobody_uses_is_a_problem() {
    let found = problems("", LOW.uses(&["middle"]));
    assert!(
        found.contains(&"low does not use middle: remove the permission".to_owned()),
        "{found:?}"
    );
}

#[test]
fn layers_in_a_cycle_are_a_problem() {
    let found = problems("use crate::high::f;", LOW.uses(&["high"]));
    assert_eq!(found, ["layers in a cycle, or above one: high, low"]);
}

/// What the rules say of the crate with this text for its module `low`.
fn problems(text: &str, low: Layer) -> Vec<String> {
    let files = [
        ("lib.rs", LIB),
        ("high.rs", HIGH),
        ("middle.rs", MIDDLE),
        ("low.rs", text),
    ];
    let files: BTreeMap<String, String> = files
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
    let rules = Rules {
        layers: &[
            low,
            Layer::new("high").uses(&["low", "middle"]),
            // Re-exports `high`, so that `low` can try to reach it through `middle`.
            Layer::new("middle"),
        ],
        dependencies: &["serde".to_owned(), "tokio".to_owned()],
    };
    let problems = rules.problems(&Crate::read("lib.rs", &files));
    let expected = |problem: &String| {
        problem.starts_with("middle.rs")
            || problem == "low does not use serde: remove the permission"
    };
    problems.into_iter().filter(|it| !expected(it)).collect()
}

fn line_of(problem: &str) -> usize {
    let line = problem.split(':').nth(1).and_then(|line| line.parse().ok());
    line.unwrap_or_else(|| panic!("no line in {problem:?}"))
}
