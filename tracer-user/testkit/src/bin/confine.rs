//! `confine UNIT -- COMMAND …`: becomes the command under the restrictions of a systemd unit, where
//! no systemd is to apply them.

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::Context as _;
use clap::Parser;
use lastbyte_testkit::confine;

#[derive(Parser)]
struct Cli {
    /// The unit's file
    unit: PathBuf,
    /// What to run under its restrictions
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let shown = cli.unit.display().to_string();
    let text = std::fs::read_to_string(&cli.unit).with_context(|| shown.clone())?;
    let unit = confine::Unit::parse(&text).with_context(|| shown)?;
    let [program, arguments @ ..] = &cli.command[..] else {
        unreachable!("clap asks for it");
    };
    let mut command = Command::new(program);
    command.args(arguments);
    unit.apply()?;
    // Only returns when it fails.
    Err(command.exec()).with_context(|| format!("starting {program}"))
}
