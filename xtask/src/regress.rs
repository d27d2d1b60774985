//! `cargo xtask regress`: OpenSSH's regression scripts under the tracer, which may report nothing.

use anyhow::Result;

use crate::{build, cases, setup, sh};

#[derive(clap::Args)]
pub struct Args {}

pub fn main(_: &Args) -> Result<()> {
    let source = setup::for_regress()?;
    // sshd insists on this directory for privilege separation.
    sh::run(sh::root_cmd("mkdir")?.args(["-p", "/run/sshd"]))?;
    cases::native(
        &build::with_testkit()?,
        &["--regress".into(), source.into_os_string()],
    )
}
