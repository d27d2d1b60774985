//! `cargo xtask fuzz`: the fuzz targets of tracer-user/fuzz, with libFuzzer.
//!
//! What a run finds stays under target/fuzz; `--keep` adds to the corpus in git what reaches code
//! that nothing there reaches.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{paths, setup, sh};

/// Each is a file in tracer-user/fuzz/fuzz_targets.
const TARGETS: [&str; 3] = ["model", "decode", "btf"];
/// Longest input, bytes: a story of a few hundred records.
const MAX_LEN: u32 = 4096;
/// What takes longer, even on a busy machine, is a finding; seconds.
const TIMEOUT: u32 = 30;

#[derive(clap::Args)]
pub struct Args {
    /// Targets to run, one after the other; all unless given
    #[arg(value_parser = TARGETS)]
    targets: Vec<String>,
    /// How long to run each
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Add what was found to the corpus in git
    #[arg(long)]
    keep: bool,
}

pub fn main(args: &Args) -> Result<()> {
    setup::for_fuzz()?;
    let all = TARGETS.map(str::to_owned);
    let targets = match args.targets.as_slice() {
        [] => &all,
        some => some,
    };
    for target in targets {
        let target = Target(target);
        target.run(args.seconds)?;
        if args.keep {
            target.keep()?;
        }
    }
    Ok(())
}

struct Target<'a>(&'a str);

impl Target<'_> {
    /// The corpus in git.
    fn kept(&self) -> PathBuf {
        project().join("corpus").join(self.0)
    }

    /// What was found on this machine.
    fn found(&self) -> PathBuf {
        target_dir().join("corpus").join(self.0)
    }

    fn run(&self, seconds: u32) -> Result<()> {
        let artifacts = target_dir().join("artifacts").join(self.0);
        for folder in [&self.found(), &artifacts] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        println!("fuzz: {} for {seconds} s", self.0);
        // New inputs go to the first folder.
        let mut run = self.libfuzzer(&[&self.found(), &self.kept()]);
        run.arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={TIMEOUT}"))
            .arg("-print_final_stats=1")
            // The slash makes it a folder.
            .arg(format!("-artifact_prefix={}/", artifacts.display()));
        if sh::run(&mut run).is_err() {
            bail!(
                "{} does not hold: see above; mend it, name a test after it, and keep the input \
                 from {} in {}",
                self.0,
                artifacts.display(),
                self.kept().display()
            );
        }
        Ok(())
    }

    fn keep(&self) -> Result<()> {
        let mut merge = self.libfuzzer(&[&self.kept(), &self.found()]);
        // Without counters, how often code is reached makes no difference: the corpus stays small.
        sh::run(merge.args(["-merge=1", "-use_counters=0"]))
            .with_context(|| format!("cannot merge into {}", self.kept().display()))
    }

    /// libFuzzer on these folders; its own options are to follow.
    fn libfuzzer(&self, folders: &[&Path]) -> Command {
        let mut run = cargo_fuzz("run");
        run.arg(self.0)
            .args(folders)
            .arg("--")
            .arg(format!("-max_len={MAX_LEN}"));
        run
    }
}

/// The fuzz crate, a workspace of its own.
pub fn project() -> PathBuf {
    paths::workspace().join("tracer-user/fuzz")
}

fn target_dir() -> PathBuf {
    paths::cargo_target().join("fuzz")
}

/// Instrumentation is unstable, so stable rustc must be told that it is bootstrapping.
fn cargo_fuzz(task: &str) -> Command {
    let mut command = sh::cmd(paths::tool("cargo-fuzz"));
    command
        .arg(task)
        .arg("--fuzz-dir")
        .arg(project())
        .arg("--target-dir")
        .arg(target_dir())
        .env("RUSTC_BOOTSTRAP", "1");
    command
}
