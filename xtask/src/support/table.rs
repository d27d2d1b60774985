//! The table, and below it the reason for each hole.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::results::{How, Outcome, Place};

/// In the order in which the catalogue has them.
pub const CLASSES: [&str; 7] = [
    "clean",
    "truncated",
    "orphaned",
    "waiting",
    "adversarial",
    "recording",
    "daemon",
];

/// The columns of a row before its classes.
pub const PLACE: [&str; 3] = ["kernel", "processor", "backend"];

/// Both tables in Markdown.
pub fn of(outcomes: &[Outcome]) -> String {
    let mut places: BTreeMap<Place, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        places.entry(outcome.place()).or_default().push(outcome);
    }
    let mut text = String::new();
    row(&mut text, PLACE.iter().chain(&CLASSES));
    row(&mut text, [&"---"; PLACE.len() + CLASSES.len()]);
    for (place, outcomes) in &places {
        let [kernel, arch, backend] = place_cells(place);
        let classes = CLASSES.map(|class| cell(class, outcomes));
        row(&mut text, [kernel, arch, backend].iter().chain(&classes));
    }
    let holes = holes(&places);
    if holes.is_empty() {
        return text;
    }
    text.push_str("\nWhere not all of a case is seen:\n\n");
    row(&mut text, PLACE.iter().chain(&["cases", "why"]));
    row(&mut text, [&"---"; PLACE.len() + 2]);
    for (hole, kernels) in &holes {
        let kernels = kernels
            .iter()
            .map(|(major, minor)| format!("{major}.{minor}"));
        let kernels: Vec<_> = kernels.collect();
        let cells = [
            kernels.join(", "),
            hole.arch.to_owned(),
            hole.backend.to_owned(),
            hole.cases.join(", "),
            hole.why.replace('|', "\\|"),
        ];
        row(&mut text, &cells);
    }
    text
}

fn row<'a, S: AsRef<str> + 'a>(text: &mut String, cells: impl IntoIterator<Item = &'a S>) {
    text.push('|');
    for cell in cells {
        // Writing to a String cannot fail.
        let _ = write!(text, " {} |", cell.as_ref());
    }
    text.push('\n');
}

fn place_cells(place: &Place) -> [String; PLACE.len()] {
    let (major, minor) = place.series;
    [
        format!("{major}.{minor}"),
        place.arch.clone(),
        place.backend.clone(),
    ]
}

/// `11 of 12` of the class's cases; a dash where none was tried.
fn cell(class: &str, outcomes: &[&Outcome]) -> String {
    let of_class = outcomes.iter().filter(|outcome| outcome.class == class);
    let all = of_class.clone().count();
    match of_class.filter(|outcome| outcome.whole()).count() {
        _ if all == 0 => "–".to_owned(),
        whole => format!("{whole} of {all}"),
    }
}

/// Cases with the same reason at the same kind of place.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Hole<'a> {
    arch: &'a str,
    backend: &'a str,
    cases: Vec<&'a str>,
    why: String,
}

/// All holes with the kernels that have them.
fn holes<'a>(
    places: &BTreeMap<Place, Vec<&'a Outcome>>,
) -> BTreeMap<Hole<'a>, BTreeSet<(u32, u32)>> {
    let mut holes: BTreeMap<Hole<'_>, BTreeSet<_>> = BTreeMap::new();
    for (place, outcomes) in places {
        let mut by_reason: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
        for outcome in outcomes.iter().filter(|outcome| !outcome.whole()) {
            by_reason.entry(why(outcome)).or_default().push(outcome);
        }
        for (why, outcomes) in by_reason {
            let [first, ..] = outcomes[..] else { continue };
            let hole = Hole {
                arch: &first.arch,
                backend: &first.backend,
                cases: outcomes
                    .iter()
                    .map(|outcome| outcome.case.as_str())
                    .collect(),
                why,
            };
            holes.entry(hole).or_default().insert(place.series);
        }
    }
    holes
}

fn why(outcome: &Outcome) -> String {
    let reason = outcome.reason.as_deref().unwrap_or("no reason given");
    match outcome.outcome {
        How::Passed => reason.to_owned(),
        How::Failed => format!("fails: {reason}"),
        How::Skipped => format!("not tried: {reason}"),
    }
}
