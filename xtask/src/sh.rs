//! Running commands: every failure says which command failed, where and how.

use std::{
    collections::VecDeque,
    env,
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::paths;

/// A command that runs at the root of the repository.
pub fn cmd(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(paths::workspace());
    // `cargo run` describes this package in the environment and points LD_LIBRARY_PATH at the
    // toolchain. Nothing we start should depend on either, and the build script of ring compiles
    // all its C again when the former changes.
    let of_cargo_run = ["CARGO_PKG_", "CARGO_MANIFEST_", "LD_LIBRARY_PATH"];
    for (name, _) in env::vars_os() {
        let shown = name.to_string_lossy();
        if of_cargo_run.iter().any(|prefix| shown.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// The cargo that runs this xtask.
pub fn cargo() -> Command {
    cmd(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A command that runs as root: directly when we are root, else through sudo.
pub fn root_cmd(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root()? {
        return Ok(cmd(program));
    }
    let Some(sudo) = which("sudo") else {
        bail!(
            "`{}` must run as root and sudo is not installed: run this as root",
            Path::new(program.as_ref()).display()
        );
    };
    let mut command = cmd(sudo);
    command.arg("-E").arg(program);
    Ok(command)
}

/// Whether this process is root.
pub fn is_root() -> Result<bool> {
    // A process's directory in /proc belongs to its effective user.
    let own =
        std::fs::metadata("/proc/self").context("cannot read /proc/self: is /proc mounted?")?;
    Ok(own.uid() == 0)
}

/// Runs `command` with its output on ours; an error unless it exits 0.
pub fn run(command: &mut Command) -> Result<()> {
    command.stdin(Stdio::null());
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs `command` with its output on ours; returns the lines of its stderr that begin with `prefix`.
pub fn run_collecting(command: &mut Command, prefix: &str) -> Result<Vec<String>> {
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let mut collected = Vec::new();
    for line in BufReader::new(child.stderr.take().expect("it is piped")).split(b'\n') {
        let line = line.with_context(|| format!("cannot read the output of {}", shown(command)))?;
        let line = String::from_utf8_lossy(&line).into_owned();
        eprintln!("{line}");
        if line.starts_with(prefix) {
            collected.push(line);
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(collected)
}

/// Runs `command` with its output on ours. When it fails, the error ends with the last lines of its
/// stdout that `matters` accepts.
pub fn run_reporting(command: &mut Command, matters: impl Fn(&str) -> bool) -> Result<()> {
    const LINES: usize = 20;
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let mut last = VecDeque::with_capacity(LINES);
    for line in BufReader::new(child.stdout.take().expect("it is piped")).split(b'\n') {
        let line = line.with_context(|| format!("cannot read the output of {}", shown(command)))?;
        let line = String::from_utf8_lossy(&line).into_owned();
        println!("{line}");
        if matters(&line) {
            if last.len() == LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {}", shown(command)))?;
    if !status.success() {
        let last = Vec::from(last).join("\n");
        bail!("{} failed: {status}\n{last}", shown(command));
    }
    Ok(())
}

/// Runs `command` and returns its stdout; when it fails, its stderr is in the error.
pub fn output(command: &mut Command) -> Result<String> {
    let out = finished(command)?;
    if !out.status.success() {
        return Err(failed(command, &out, &[&out.stderr]));
    }
    String::from_utf8(out.stdout)
        .with_context(|| format!("{} printed something that is not UTF-8", shown(command)))
}

/// Runs `command` and shows its output only when it fails.
pub fn quietly(command: &mut Command) -> Result<()> {
    let out = finished(command)?;
    if !out.status.success() {
        return Err(failed(command, &out, &[&out.stdout, &out.stderr]));
    }
    Ok(())
}

fn finished(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))
}

fn failed(command: &Command, out: &Output, said: &[&[u8]]) -> anyhow::Error {
    let said = said.concat();
    let said = String::from_utf8_lossy(&said);
    anyhow!(
        "{} failed: {}\n{}",
        shown(command),
        out.status,
        said.trim_end()
    )
}

/// The first executable called `program` on PATH.
pub fn which(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        // Debian keeps administrators' programs out of ordinary users' PATH.
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// `command` as one would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    let line: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    format!("`{}`", line.join(" "))
}
