//! `cargo xtask cases`: the cases on this machine's kernel.

use std::ffi::OsString;

use anyhow::Result;

use crate::{
    build::{self, Binaries},
    paths, results, setup, sh,
};

#[derive(clap::Args)]
pub struct Args {
    /// Arguments of the cases runner, such as `--list` or `--only C1`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn main(args: &Args) -> Result<()> {
    setup::for_cases()?;
    native(&build::with_testkit()?, &args.args)
}

/// Runs the cases as root and keeps their results; an error when one fails.
pub fn native(binaries: &Binaries, args: &[OsString]) -> Result<()> {
    let outcomes = paths::cargo_target().join("native-results.jsonl");
    let ran = sh::run_reporting(
        sh::root_cmd(&binaries.cases)?
            .arg("--lastbyte")
            .arg(&binaries.lastbyte)
            .arg("--eager")
            .arg(&binaries.eager)
            .arg("--results")
            .arg(&outcomes)
            .args(args),
        |line| !line.starts_with("ok ") && !line.starts_with("skip "),
    );
    results::merge(&results::read(&outcomes)?)?;
    ran
}
