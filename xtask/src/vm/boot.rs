//! One VM, from power-on to its last line.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{arch::Arch, sh};

/// How often a VM that died before its init is started again: under emulation a stock kernel
/// may panic early, which says nothing about us.
const ATTEMPTS: u32 = 4;

/// How long a boot may take; 5 s is usual, and a minute where the machine has much else to do.
const BOOT: Duration = Duration::from_secs(240);

/// Begins the lines that init says to us, not the script.
const MARK: &str = "LASTBYTE-VM: ";

/// What to boot.
pub struct Machine<'run> {
    /// For messages: the kernel and what it runs.
    pub name: &'run str,
    pub arch: Arch,
    pub kernel: &'run Path,
    pub initramfs: &'run Path,
    /// Gets the kernel's messages.
    pub console: &'run Path,
    pub timeout: Duration,
}

/// How it ended.
pub struct Ended {
    /// The script's exit status.
    pub status: i32,
    /// What `uname -r` said inside.
    pub release: String,
}

/// Boots the machine and calls `line` for each line that the script prints.
///
/// # Errors
/// When the kernel panics, QEMU dies, or the time is up before the script has ended.
pub fn run(machine: &Machine<'_>, mut line: impl FnMut(&str)) -> Result<Ended> {
    for attempt in 1..=ATTEMPTS {
        match attempt_boot(machine, &mut line)? {
            Attempt::Ended(ended) => return Ok(ended),
            Attempt::DiedBeforeInit(how) if attempt < ATTEMPTS => {
                println!("vm: {}: {how} before init; starting it again", machine.name);
                keep_console(machine.console, attempt)?;
            }
            Attempt::DiedBeforeInit(how) => {
                bail!(
                    "{}: {how} before init, {ATTEMPTS} times: see {}",
                    machine.name,
                    machine.console.display()
                )
            }
        }
    }
    bail!("{}: never started", machine.name)
}

enum Attempt {
    Ended(Ended),
    DiedBeforeInit(String),
}

fn attempt_boot(machine: &Machine<'_>, line: &mut impl FnMut(&str)) -> Result<Attempt> {
    let mut qemu = Qemu::start(machine)?;
    let begun = Instant::now();
    let mut release = None;
    loop {
        let limit = match release {
            None => machine.timeout.min(BOOT),
            Some(_) => machine.timeout,
        };
        let left = limit.saturating_sub(begun.elapsed());
        match qemu.lines.recv_timeout(left) {
            Ok(text) => match text.strip_prefix(MARK) {
                Some(said) => match (said.strip_prefix("up "), said.strip_prefix("rc=")) {
                    (Some(version), _) => release = Some(version.to_owned()),
                    (_, Some(status)) => {
                        let status = status
                            .parse()
                            .with_context(|| format!("init said a strange status: {text}"))?;
                        let release = release.unwrap_or_default();
                        return Ok(Attempt::Ended(Ended { status, release }));
                    }
                    _ => line(&text),
                },
                None => line(&text),
            },
            Err(RecvTimeoutError::Timeout) if release.is_none() => {
                let how = format!("the kernel hung for {} s", limit.as_secs());
                return Ok(Attempt::DiedBeforeInit(how));
            }
            Err(RecvTimeoutError::Timeout) => bail!(
                "{}: no end after {} s: see {}",
                machine.name,
                machine.timeout.as_secs(),
                machine.console.display()
            ),
            // QEMU has gone, which it does after a panic too.
            Err(RecvTimeoutError::Disconnected) => {
                let how = how_it_died(machine.console, &mut qemu.child);
                if release.is_none() {
                    return Ok(Attempt::DiedBeforeInit(how));
                }
                bail!("{}: {how}: see {}", machine.name, machine.console.display());
            }
        }
    }
}

/// The machine that QEMU emulates.
struct Hardware {
    qemu: &'static str,
    /// Processor, board, and the second serial line on stdio.
    args: &'static [&'static str],
    /// The first serial line, as Linux calls it.
    console: &'static str,
    /// The second one.
    report: &'static str,
}

impl Hardware {
    fn of(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self {
                qemu: "qemu-system-x86_64",
                // QEMU 7.2 emulates cmpxchg16b so that one boot in four of 6.12 crashes.
                args: &["-cpu", "max,-cx16", "-serial", "stdio"],
                console: "ttyS0",
                report: "ttyS1",
            },
            Arch::Aarch64 => Self {
                qemu: "qemu-system-aarch64",
                args: &[
                    "-M",
                    "virt",
                    // Signing pointers as the architecture proposes takes a third of the time.
                    "-cpu",
                    "max,pauth-impdef=on",
                    // The board has one serial line only.
                    "-chardev",
                    "stdio,id=report",
                    "-device",
                    "pci-serial,chardev=report",
                ],
                console: "ttyAMA0",
                report: "ttyS0",
            },
        }
    }
}

/// A running QEMU; killed when dropped.
struct Qemu {
    child: Child,
    lines: Receiver<String>,
}

impl Qemu {
    fn start(machine: &Machine<'_>) -> Result<Self> {
        // setpriv, so that QEMU does not outlive us when we are killed.
        let mut command = sh::cmd("setpriv");
        let hardware = Hardware::of(machine.arch);
        command
            .args(["--pdeathsig", "KILL", hardware.qemu])
            .args(["-accel", "tcg,thread=multi"])
            .args(["-m", "2048", "-smp", "2"])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .args(["-serial", &format!("file:{}", machine.console.display())])
            .args(hardware.args)
            .arg("-kernel")
            .arg(machine.kernel)
            .arg("-initrd")
            .arg(machine.initramfs)
            .arg("-append")
            // What the kernel does not know reaches init as an environment variable.
            .arg(format!(
                "console={} LASTBYTE_REPORT={} panic=-1 quiet rdinit=/init",
                hardware.console, hardware.report
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .context("cannot start setpriv, of util-linux")?;
        let stdout = child.stdout.take().context("QEMU has no stdout")?;
        Ok(Self {
            child,
            lines: lines_of(stdout),
        })
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The serial line's lines, without its carriage returns; disconnected at its end.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(line) = line else { break };
            let text = String::from_utf8_lossy(&line);
            if sender.send(text.trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Moves the console of a failed attempt out of the next one's way.
fn keep_console(console: &Path, attempt: u32) -> Result<()> {
    let kept = console.with_extension(format!("attempt-{attempt}.log"));
    fs::rename(console, &kept).with_context(|| format!("cannot create {}", kept.display()))
}

fn how_it_died(console: &Path, qemu: &mut Child) -> String {
    let log = fs::read(console).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    match log.lines().find(|line| line.contains("Kernel panic")) {
        Some(panic) => format!("the kernel panicked ({})", panic.trim()),
        None => match qemu.wait() {
            Ok(status) => format!("QEMU ended ({status})"),
            Err(error) => format!("QEMU was lost ({error})"),
        },
    }
}
