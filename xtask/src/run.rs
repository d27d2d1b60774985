//! `cargo xtask run`: becomes lastbyte.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Result, anyhow};

use crate::{build, setup, sh};

#[derive(clap::Args)]
pub struct Args {
    /// Arguments of lastbyte
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub fn main(args: &Args) -> Result<()> {
    setup::for_build()?;
    let lastbyte = build::release()?;
    let mut command = sh::root_cmd(&lastbyte)?;
    command.args(&args.args);
    // Only returns when it fails.
    let error = command.exec();
    Err(anyhow!(error).context(format!("cannot start {}", sh::shown(&command))))
}
