//! What the README says, read back from its tables.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::table::{CLASSES, PLACE};
use crate::results::{How, Outcome, Place};

#[derive(Default)]
pub struct Claims {
    /// Cases of each class that a row speaks of.
    rows: BTreeMap<Place, BTreeMap<&'static str, usize>>,
    /// Cases that it excepts.
    holes: BTreeMap<Place, BTreeSet<String>>,
}

impl Claims {
    /// Reads the section between the markers.
    pub fn read(section: &str) -> Result<Self> {
        let mut claims = Self::default();
        for line in section.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [kernels, arch, backend, rest @ ..] = &cells[..] else {
                continue;
            };
            if [*kernels, *arch, *backend] == PLACE || *kernels == "---" {
                continue;
            }
            for kernel in kernels.split(", ") {
                let place = Place {
                    series: series(kernel).with_context(|| format!("no kernel: {line}"))?,
                    arch: (*arch).to_owned(),
                    backend: (*backend).to_owned(),
                };
                claims.add(place, rest).with_context(|| line.to_owned())?;
            }
        }
        Ok(claims)
    }

    fn add(&mut self, place: Place, cells: &[&str]) -> Result<()> {
        if cells.len() == CLASSES.len() {
            let mut row = BTreeMap::new();
            for (class, cell) in CLASSES.into_iter().zip(cells) {
                let all = match cell.split_once(" of ") {
                    Some((_, all)) => all.parse().context("no number of cases")?,
                    None => 0,
                };
                row.insert(class, all);
            }
            self.rows.insert(place, row);
        } else {
            let cases = cells.first().context("no cases")?.split(", ");
            let holes = self.holes.entry(place).or_default();
            holes.extend(cases.map(str::to_owned));
        }
        Ok(())
    }

    /// Whether nothing is claimed at all.
    pub fn none(&self) -> bool {
        self.rows.is_empty()
    }

    /// What results and the catalogue (cases and their classes) say against it.
    pub fn disagreements(
        &self,
        outcomes: &[Outcome],
        catalogue: &BTreeMap<String, String>,
    ) -> Vec<String> {
        let claimed = |outcome: &&Outcome| {
            let place = outcome.place();
            let holes = self.holes.get(&place);
            self.rows.contains_key(&place)
                && !holes.is_some_and(|cases| cases.contains(&outcome.case))
        };
        let broken = outcomes.iter().filter(claimed).filter(|one| !one.whole());
        let mut problems: Vec<String> = broken.map(now).collect();
        for class in CLASSES {
            let exist = catalogue.values().filter(|of| *of == class).count();
            let known = self.rows.values().filter_map(|row| row.get(class)).max();
            let known = known.copied().unwrap_or(0);
            if known != exist {
                problems.push(format!(
                    "there are {exist} cases of class {class}, no row has more than {known}"
                ));
            }
        }
        problems
    }
}

fn now(outcome: &Outcome) -> String {
    let became = match outcome.outcome {
        How::Passed => "is not seen whole",
        How::Failed => "has failed",
        How::Skipped => "was skipped",
    };
    format!(
        "{} {became} on {} with {}: {}",
        outcome.case,
        outcome.kernel,
        outcome.backend,
        outcome.reason.as_deref().unwrap_or("no reason given")
    )
}

fn series(kernel: &str) -> Option<(u32, u32)> {
    let (major, minor) = kernel.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Claims;
    use crate::{
        results::{How, Outcome},
        support::table,
    };

    fn outcome(case: &str, outcome: How, reason: Option<&str>) -> Outcome {
        Outcome {
            case: case.to_owned(),
            class: "clean".to_owned(),
            backend: "fentry".to_owned(),
            kernel: "6.12.117+deb13-cloud-amd64".to_owned(),
            arch: "x86_64".to_owned(),
            outcome,
            reason: reason.map(str::to_owned),
        }
    }

    fn catalogue(cases: &[&str]) -> BTreeMap<String, String> {
        let clean = |case: &&str| ((*case).to_owned(), "clean".to_owned());
        cases.iter().map(clean).collect()
    }

    #[test]
    fn a_table_agrees_with_what_it_was_made_from() {
        let tried = [
            outcome("C1", How::Passed, None),
            outcome("C2", How::Passed, Some("seen | in part")),
            outcome("C3", How::Skipped, Some("no tmux")),
        ];
        let claims = Claims::read(&table::of(&tried)).unwrap();
        let problems = claims.disagreements(&tried, &catalogue(&["C1", "C2", "C3"]));
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn a_case_that_fails_now_contradicts_it() {
        let tried = [outcome("C1", How::Passed, None)];
        let claims = Claims::read(&table::of(&tried)).unwrap();
        let now = [outcome("C1", How::Failed, Some("lost a byte"))];
        let problems = claims.disagreements(&now, &catalogue(&["C1"]));
        assert_eq!(
            problems,
            ["C1 has failed on 6.12.117+deb13-cloud-amd64 with fentry: lost a byte"]
        );
    }

    #[test]
    fn a_case_that_no_row_has_tried_contradicts_it() {
        let tried = [outcome("C1", How::Passed, None)];
        let claims = Claims::read(&table::of(&tried)).unwrap();
        let problems = claims.disagreements(&tried, &catalogue(&["C1", "C2"]));
        assert_eq!(
            problems,
            ["there are 2 cases of class clean, no row has more than 1"]
        );
    }
}
