//! `cargo xtask support`: the README's table of what works where, made from what has been tried.

mod claims;
mod table;

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{arch::Arch, build, paths, results, sh};
use claims::Claims;

#[derive(clap::Args)]
pub struct Args {
    /// Only say whether the table agrees with the last results and knows every case
    #[arg(long)]
    pub check: bool,
}

const BEGIN: &str = "<!-- support: made by `cargo xtask support` -->\n";
const END: &str = "<!-- end of support -->\n";

pub fn main(args: &Args) -> Result<()> {
    let catalogue = catalogue()?;
    let mut outcomes = results::all()?;
    outcomes.retain(|outcome| catalogue.contains_key(&outcome.case));
    let readme = readme();
    let text =
        fs::read_to_string(&readme).with_context(|| format!("cannot read {}", readme.display()))?;
    let (before, section, after) = split(&text)?;
    if !args.check {
        let text = format!("{before}{BEGIN}{}{END}{after}", table::of(&outcomes));
        return fs::write(&readme, text)
            .with_context(|| format!("cannot write {}", readme.display()));
    }
    let claims = Claims::read(section)?;
    if claims.none() {
        println!(
            "note: the README's table of support is empty: `cargo xtask support` fills it from \
             what has been tried"
        );
        return Ok(());
    }
    let problems = claims.disagreements(&outcomes, &catalogue);
    if !problems.is_empty() {
        bail!(
            "the README's table of support is wrong; try the whole matrix with `cargo xtask vm \
             --kernel all`, then `cargo xtask support`:\n{}",
            problems.join("\n")
        );
    }
    Ok(())
}

fn readme() -> PathBuf {
    paths::workspace().join("README.md")
}

/// What stands before, between and behind the two marker lines.
fn split(text: &str) -> Result<(&str, &str, &str)> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (section, after) = rest.split_once(END)?;
        Some((before, section, after))
    });
    parts.with_context(|| format!("README.md lacks the lines\n{BEGIN}{END}"))
}

/// Every case there is and its class.
fn catalogue() -> Result<BTreeMap<String, String>> {
    let binaries = build::static_with_testkit(Arch::X86_64)?;
    let list = sh::output(sh::cmd(&binaries.cases).arg("--list"))?;
    let cases = list.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    Ok(cases.collect())
}
