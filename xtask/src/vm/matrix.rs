//! Kernels × backends.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Backend,
    boot::{self, Ended, Machine},
    image::{self, GUEST_BIN},
    kernel::Kernel,
    log::{FILE, Log},
    slot::{self, Slot},
};
use crate::{
    build::{self, Binaries},
    paths,
};

/// Runs a shell command on each kernel; an error when it fails on one.
pub fn shell(kernels: &[&Kernel], command: &str, timeout: Duration) -> Result<()> {
    let binaries = newest_binaries();
    for kernel in kernels {
        let ended = run(
            kernel,
            "shell",
            binaries.as_ref(),
            command,
            timeout,
            &mut |_| (),
        )?;
        if ended.status != 0 {
            bail!("the command exited {} on {}", ended.status, ended.release);
        }
    }
    Ok(())
}

/// Runs the cases on each kernel with each backend, then prints a table.
pub fn cases(
    kernels: &[&Kernel],
    backends: &[Backend],
    only: &[String],
    timeout: Duration,
) -> Result<()> {
    let binaries = build::static_with_testkit()?;
    let mut rows = Vec::new();
    for kernel in kernels {
        for &backend in backends {
            let mut tally = Tally::default();
            let begun = Instant::now();
            let script = script(backend, only);
            let result = run(
                kernel,
                backend.name(),
                Some(&binaries),
                &script,
                timeout,
                &mut |line| tally.count(line),
            );
            rows.push(Row {
                kernel: kernel.version,
                backend,
                tally,
                took: begun.elapsed(),
                result,
            });
        }
    }

    print!("\n{}", table(&rows));
    let failed = rows.iter().filter(|row| !row.passed()).count();
    if failed > 0 {
        bail!("{failed} of {} VMs failed", rows.len());
    }
    Ok(())
}

/// Static binaries of an earlier build, for the shell to use.
fn newest_binaries() -> Option<Binaries> {
    let binaries = build::static_binaries();
    let all_there =
        binaries.lastbyte.is_file() && binaries.eager.is_file() && binaries.cases.is_file();
    all_there.then_some(binaries)
}

fn run(
    kernel: &Kernel,
    label: &str,
    binaries: Option<&Binaries>,
    script: &str,
    timeout: Duration,
    on_line: &mut dyn FnMut(&str),
) -> Result<Ended> {
    let slot = Slot::take(&format!("{}-{label}", kernel.version))?;
    let name = &slot.name;
    let preparing = slot::preparing()?;
    let image = kernel.image()?;
    let root = image::root()?;
    drop(preparing);
    let initramfs = image::initramfs(&root, &slot.folder, binaries, script)?;

    let logs = paths::vm().join("logs");
    fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let mut log = Log::create(&logs, name)?;

    println!("vm: booting {name}");
    let machine = Machine {
        name,
        kernel: &image,
        initramfs: &initramfs,
        console: &logs.join(format!("{name}.console.log")),
        timeout,
    };
    let ended = boot::run(&machine, |line| {
        if log.take(line) {
            println!("{line}");
            on_line(line);
        }
    });
    // 170 MB that the next run makes anew.
    let _ = fs::remove_file(&initramfs);
    ended
}

/// Runs the cases, then sends what they kept of their failures as files to the host.
fn script(backend: Backend, only: &[String]) -> String {
    let mut chosen = String::new();
    for case in only {
        let quoted = case.replace('\'', r"'\''");
        // Writing to a String cannot fail.
        let _ = write!(chosen, " --only '{quoted}'");
    }
    format!(
        r#"{GUEST_BIN}/cases --lastbyte {GUEST_BIN}/lastbyte --eager {GUEST_BIN}/eager \
    --tier core --patience 60 --backend {backend}{chosen}
status=$?
for file in /tmp/lbcases-failures-*/*; do
    [ -f "$file" ] || continue
    echo "{FILE}${{file##*/}}"
    cat "$file"
    echo
    echo "{FILE}-"
done
exit $status
"#,
        backend = backend.name(),
    )
}

/// The cases of one VM, counted from the lines that the runner prints.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
}

impl Tally {
    fn count(&mut self, line: &str) {
        match line.split_whitespace().next() {
            Some("ok") => self.passed += 1,
            Some("FAIL") => self.failed += 1,
            _ => (),
        }
    }
}

struct Row {
    kernel: &'static str,
    backend: Backend,
    tally: Tally,
    took: Duration,
    result: Result<Ended>,
}

impl Row {
    fn passed(&self) -> bool {
        self.result.as_ref().is_ok_and(|ended| ended.status == 0)
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<8}{:<9}{:>7}{:>7}{:>8}\n",
        "kernel", "backend", "passed", "failed", "time"
    );
    for row in rows {
        let note = match &row.result {
            Ok(ended) if ended.status == 0 => format!("ok, {}", ended.release),
            Ok(ended) => format!("FAILED, exit status {}", ended.status),
            Err(error) => format!("FAILED, {error:#}"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<8}{:<9}{:>7}{:>7}{:>6.0} s  {note}",
            row.kernel,
            row.backend.name(),
            row.tally.passed,
            row.tally.failed,
            row.took.as_secs_f64(),
        );
    }
    text
}
