//! What has become of each case, on each kernel with each backend: the last outcome of each,
//! under `target/results`, from which the README's table of support is made.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::paths;

/// One case's outcome: a line that the runner's `--results` writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub case: String,
    pub class: String,
    pub backend: String,
    /// As `uname -r` and `uname -m` say.
    pub kernel: String,
    pub arch: String,
    pub outcome: How,
    /// Why it was skipped or failed, or what the backend cannot see of it though it passed.
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    Passed,
    Failed,
    Skipped,
}

impl Outcome {
    /// Whether all that the case asks for was seen.
    pub fn whole(&self) -> bool {
        self.outcome == How::Passed && self.reason.is_none()
    }

    /// Where it ran.
    pub fn place(&self) -> Place {
        Place {
            series: series(&self.kernel),
            arch: self.arch.clone(),
            backend: self.backend.clone(),
        }
    }
}

/// A kernel series, a processor and a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Major and minor version.
    pub series: (u32, u32),
    pub arch: String,
    pub backend: String,
}

impl Place {
    fn file(&self) -> PathBuf {
        let (major, minor) = self.series;
        paths::results().join(format!(
            "{}-{major}.{minor}-{}.jsonl",
            self.arch, self.backend
        ))
    }
}

/// `6.12.94+deb13-cloud-amd64` -> (6, 12)
fn series(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|character: char| !character.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Reads the outcomes that one run wrote; none when it came to none.
pub fn read(path: &Path) -> Result<Vec<Outcome>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the results in {}", path.display()))?;
    text.lines()
        .filter(|line| !line.is_empty())
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} holds no results", path.display()))
}

/// Puts new outcomes in the place of earlier ones of the same case at the same place.
pub fn merge(new: &[Outcome]) -> Result<()> {
    let mut places: BTreeMap<Place, Vec<&Outcome>> = BTreeMap::new();
    for outcome in new {
        places.entry(outcome.place()).or_default().push(outcome);
    }
    for (place, outcomes) in places {
        let path = place.file();
        let mut cases: BTreeMap<String, Outcome> = read(&path)?
            .into_iter()
            .chain(outcomes.into_iter().cloned())
            .map(|outcome| (outcome.case.clone(), outcome))
            .collect();
        write(&path, cases.values_mut())?;
    }
    Ok(())
}

fn write<'a>(path: &Path, outcomes: impl Iterator<Item = &'a mut Outcome>) -> Result<()> {
    let mut text = String::new();
    for outcome in outcomes {
        text.push_str(&serde_json::to_string(outcome)?);
        text.push('\n');
    }
    fs::create_dir_all(paths::results())
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot keep the results in {}", path.display()))
}

/// The last outcome of every case at every place.
pub fn all() -> Result<Vec<Outcome>> {
    let Ok(entries) = fs::read_dir(paths::results()) else {
        return Ok(Vec::new());
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        })
        .collect();
    files.sort();
    let outcomes: Vec<Vec<Outcome>> = files.iter().map(|file| read(file)).collect::<Result<_>>()?;
    Ok(outcomes.concat())
}
