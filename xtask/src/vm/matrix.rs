//! Kernels × backends.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    num::NonZero,
    panic::resume_unwind,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Backend, Tier,
    boot::{self, Ended, Machine},
    image::{self, GUEST_BIN},
    kernel::Kernel,
    log::{FILE, Log},
    slot::{self, Slot},
    table::{self, Row},
};
use crate::{
    arch::Arch,
    build::{self, Binaries},
    paths, results,
};

/// One VM of the matrix.
#[derive(Clone, Copy)]
pub struct Cell {
    pub arch: Arch,
    pub kernel: &'static Kernel,
    pub backend: Backend,
    pub tier: Tier,
    /// Which part of the tier's cases: the first number, of so many parts.
    pub part: (u32, u32),
}

/// What the runner does in each VM.
#[derive(Clone, Copy)]
pub enum Work<'a> {
    /// The cases of the VM's tier, or only these if there are any, so many times.
    Cases { only: &'a [String], repeat: u32 },
    /// Sessions drawn at random.
    Random {
        sessions: u32,
        seed: Option<u64>,
        jobs: u32,
    },
}

/// Runs a shell command on each kernel; an error when it fails on one.
pub fn shell(arch: Arch, kernels: &[&Kernel], command: &str, timeout: Duration) -> Result<()> {
    let binaries = newest_binaries(arch);
    for kernel in kernels {
        let job = Job {
            arch,
            kernel,
            label: "shell",
            binaries: binaries.as_ref(),
            script: command,
            alone: true,
            timeout,
        };
        let ended = job.run()?.result?;
        if ended.status != 0 {
            bail!("the command exited {} on {}", ended.status, ended.release);
        }
    }
    Ok(())
}

/// Does the work in each VM, so many at the same time, then prints a table.
pub fn run(
    cells: &[Cell],
    work: Work<'_>,
    at_once: NonZero<usize>,
    timeout: Duration,
) -> Result<()> {
    // What all of them share is made before they begin.
    let mut binaries = BTreeMap::new();
    for cell in cells {
        binaries.insert(cell.arch, build::static_with_testkit(cell.arch)?);
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let turn = || -> Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(&cell) = cells.get(at) else {
                return Ok(());
            };
            let row = try_one(cell, work, &binaries[&cell.arch], at_once, timeout)?;
            let mut done = done.lock().expect("nobody panics with it");
            results::merge(&row.outcomes)?;
            done.push((at, row));
        }
    };
    thread::scope(|scope| -> Result<()> {
        let turns: Vec<_> = (0..at_once.get()).map(|_| scope.spawn(turn)).collect();
        for turn in turns {
            turn.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        }
        Ok(())
    })?;

    let mut rows = done.into_inner().expect("nobody panics with it");
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    print!("\n{}", table::of(&rows));
    let failed = rows.iter().filter(|row| !row.passed()).count();
    if failed > 0 {
        bail!("{failed} of {} VMs failed", rows.len());
    }
    Ok(())
}

fn try_one(
    cell: Cell,
    work: Work<'_>,
    binaries: &Binaries,
    at_once: NonZero<usize>,
    timeout: Duration,
) -> Result<Row> {
    let begun = Instant::now();
    let job = Job {
        arch: cell.arch,
        kernel: cell.kernel,
        label: cell.backend.name(),
        binaries: Some(binaries),
        script: &script(cell, work),
        alone: at_once.get() == 1,
        timeout,
    };
    let (outcomes, result) = match job.run() {
        Ok(run) => (results::read(&run.kept.join(RESULTS))?, run.result),
        Err(error) => (Vec::new(), Err(error)),
    };
    Ok(Row {
        cell,
        outcomes,
        took: begun.elapsed(),
        result,
    })
}

/// Static binaries of an earlier build, for the shell to use.
fn newest_binaries(arch: Arch) -> Option<Binaries> {
    let binaries = build::static_binaries(arch);
    let all_there = binaries.all().iter().all(|path| path.is_file());
    all_there.then_some(binaries)
}

/// What a VM is booted for.
struct Job<'a> {
    arch: Arch,
    kernel: &'a Kernel,
    /// What the VM is called beside its kernel.
    label: &'a str,
    binaries: Option<&'a Binaries>,
    script: &'a str,
    /// Whether all that is printed is of this one.
    alone: bool,
    timeout: Duration,
}

/// A VM that was booted.
struct Booted {
    result: Result<Ended>,
    /// Where the files are that it sent.
    kept: PathBuf,
}

impl Job<'_> {
    fn run(&self) -> Result<Booted> {
        let arch = match self.arch {
            Arch::X86_64 => String::new(),
            other => format!("{}-", other.name()),
        };
        let slot = Slot::take(&format!("{arch}{}-{}", self.kernel.version, self.label))?;
        let name = &slot.name;
        let preparing = slot::preparing()?;
        let files = self.kernel.files(self.arch)?;
        let root = image::root(self.arch)?;
        drop(preparing);
        let below = [root.as_path(), &files.modules];
        let initramfs = image::initramfs(&below, &slot.folder, self.binaries, self.script)?;

        let logs = paths::vm().join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let mut log = Log::create(&logs, name)?;

        println!("vm: booting {name}");
        let machine = Machine {
            name,
            arch: self.arch,
            kernel: &files.image,
            initramfs: &initramfs,
            console: &logs.join(format!("{name}.console.log")),
            timeout: self.timeout,
        };
        let result = boot::run(&machine, |line| {
            if log.take(line) {
                match self.alone {
                    true => println!("{line}"),
                    false => println!("{name:12} {line}"),
                }
            }
        });
        // 170 MB that the next run makes anew.
        let _ = fs::remove_file(&initramfs);
        Ok(Booted {
            result,
            kept: log.folder,
        })
    }
}

/// The runner's results, among the files that a VM sends.
const RESULTS: &str = "results.jsonl";

/// Runs the runner, then sends its results, and what was kept of failures, as files to the host.
fn script(cell: Cell, work: Work<'_>) -> String {
    let chosen = arguments(cell, work);
    format!(
        r#"{GUEST_BIN}/cases --lastbyte {GUEST_BIN}/lastbyte --eager {GUEST_BIN}/eager \
    --results /tmp/{RESULTS} --patience 90 --backend {backend} {chosen}
status=$?
for file in /tmp/{RESULTS} /tmp/lbcases-failures-*/*; do
    [ -f "$file" ] || continue
    echo "{FILE}${{file##*/}}"
    cat "$file"
    echo
    echo "{FILE}-"
done
exit $status
"#,
        backend = cell.backend.name(),
    )
}

/// The runner's arguments that choose what it does, for the shell.
fn arguments(cell: Cell, work: Work<'_>) -> String {
    let mut arguments = String::new();
    let (nth, of) = cell.part;
    // Writing to a String cannot fail.
    let _ = match work {
        Work::Cases { only, repeat } => {
            if only.is_empty() {
                let _ = write!(arguments, "--tier {} --part {nth}/{of}", cell.tier.name());
            }
            for case in only {
                let quoted = case.replace('\'', r"'\''");
                let _ = write!(arguments, " --only '{quoted}'");
            }
            write!(arguments, " --repeat {repeat}")
        }
        Work::Random {
            sessions,
            seed,
            jobs,
        } => write!(arguments, "--random {sessions} --jobs {jobs}")
            .and_then(|()| seed.map_or(Ok(()), |seed| write!(arguments, " --seed {seed}"))),
    };
    arguments
}
