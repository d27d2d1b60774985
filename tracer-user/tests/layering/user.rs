//! The layers of the library.

use crate::rules::Layer;

/// What code without input and output must not use.
const IO: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::os",
    "std::process",
    "std::thread",
    "std::time",
    "std::dbg",
    "std::eprint",
    "std::eprintln",
    "std::print",
    "std::println",
];

pub const LAYERS: &[Layer] = &[
    Layer::new("model").never(&[IO]).crates(&[
        "tracer_ebpf",
        "regex",
        "serde",
        "shlex",
        "zerocopy",
    ]),
    Layer::new("model::view").crates(&["tracer_ebpf", "serde"]),
    Layer::new("model::facts").uses(&["model::view"]),
    Layer::new("model::judgement").uses(&["model::facts", "model::view"]),
    Layer::new("model::schedule").uses(&["model::judgement", "model::facts", "model::view"]),
    Layer::new("model::findings").uses(&[
        "model::schedule",
        "model::judgement",
        "model::facts",
        "model::view",
    ]),
    Layer::new("model::text").uses(&[
        "model::findings",
        "model::judgement",
        "model::facts",
        "model::redact",
        "model::view",
    ]),
    Layer::new("model::redact"),
    Layer::new("model::timeline").uses(&["model::facts", "model::view"]),
    Layer::new("probe")
        .never(&[&["jiff", "serde_json"]])
        .may_be_unsafe(),
    Layer::new("pipeline").uses(&["model", "probe"]),
    Layer::new("store")
        .uses(&["model"])
        .never(&[&["aya", "tokio"]]),
    Layer::new("export").uses(&["model"]).never(&[&[
        "std::fs",
        "std::process",
        "std::time",
        "aya",
        "libc",
        "tokio",
    ]]),
    Layer::new("tui")
        .uses(&["model", "export", "store"])
        .never(&[&["aya", "jiff", "libc"]]),
    Layer::new("tui::feed")
        .uses(&["model"])
        .never(&[IO])
        .crates(&[]),
    Layer::new("tui::state")
        .uses(&["model", "export", "tui::feed", "tui::keys"])
        .never(&[IO])
        .crates(&[]),
    Layer::new("tui::view")
        .uses(&["model", "export", "tui::feed", "tui::keys", "tui::state"])
        .never(&[IO, &["ratatui::crossterm"]])
        .crates(&["ratatui", "unicode_width"]),
    Layer::new("daemon").uses(&["model", "probe", "export", "store", "pipeline"]),
    Layer::new("cli").uses(&[
        "model", "probe", "export", "store", "pipeline", "daemon", "tui",
    ]),
];
