//! `cargo xtask test`: all checks, stage by stage. After a failed stage the others run all the same,
//! unless they need what it should have built.

mod stages;

use std::{
    panic::resume_unwind,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::vm;

#[derive(clap::Args)]
pub struct Args {
    /// Only format, lints, docs and unit tests
    #[arg(long)]
    quick: bool,
    /// Everything but the cases in VMs
    #[arg(long)]
    no_vm: bool,
}

pub fn main(args: &Args) -> ExitCode {
    let mut report = Report::default();
    if !report.stage("setup", || stages::setup(args.quick)) {
        return report.finish();
    }
    let dependencies = (!args.quick).then(|| thread::spawn(stages::dependencies));
    report.stage("format", stages::format);
    report.stage("clippy", stages::clippy);
    report.stage("clippy of the eBPF side", stages::clippy_ebpf);
    report.stage("docs", stages::docs);
    report.stage("unit tests", stages::unit_tests);
    let Some(dependencies) = dependencies else {
        return report.finish();
    };

    report.stage("dependencies", || {
        dependencies
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    });
    let mut binaries = None;
    report.stage("release build", || {
        binaries = Some(stages::build()?);
        Ok(())
    });
    match &binaries {
        Some(binaries) => {
            report.stage("cases on this kernel", || stages::native_cases(binaries));
            report.stage("random sessions on this kernel", || {
                stages::random_sessions(binaries)
            });
            report.stage("daemon under load", || stages::soak(binaries));
            report.stage("systemd's unit", || stages::service(binaries));
        }
        None => {
            report.skip("cases on this kernel", "the build failed");
            report.skip("random sessions on this kernel", "the build failed");
            report.skip("daemon under load", "the build failed");
            report.skip("systemd's unit", "the build failed");
        }
    }
    if args.no_vm {
        report.skip("cases in VMs", "--no-vm");
    } else if !vm::SUPPORTED {
        report.skip("cases in VMs", "the VMs are x86_64 only");
    } else if binaries.is_none() {
        report.skip("cases in VMs", "the build failed");
    } else {
        report.stage("cases in VMs", stages::vm_cases);
    }
    if binaries.is_some() {
        report.stage("table of support", stages::support);
    } else {
        report.skip("table of support", "the build failed");
    }
    report.finish()
}

/// The outcome of each stage.
#[derive(Default)]
struct Report {
    stages: Vec<Stage>,
}

struct Stage {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(&'static str),
}

impl Report {
    /// Runs a stage; false when it failed.
    fn stage(&mut self, name: &'static str, body: impl FnOnce() -> Result<()>) -> bool {
        println!("\n== {name}");
        let begun = Instant::now();
        let result = body();
        let took = begun.elapsed();
        let outcome = match result {
            Ok(()) => {
                println!("== {name}: passed in {:.1} s", took.as_secs_f64());
                Outcome::Passed
            }
            Err(error) => {
                println!("{error:#}");
                println!("== {name}: FAILED after {:.1} s", took.as_secs_f64());
                Outcome::Failed(format!("{error:#}"))
            }
        };
        let passed = matches!(outcome, Outcome::Passed);
        self.stages.push(Stage {
            name,
            outcome,
            took,
        });
        passed
    }

    fn skip(&mut self, name: &'static str, reason: &'static str) {
        println!("\n== {name}: skipped, {reason}");
        self.stages.push(Stage {
            name,
            outcome: Outcome::Skipped(reason),
            took: Duration::ZERO,
        });
    }

    /// Prints the summary.
    fn finish(&self) -> ExitCode {
        let (mut passed, mut failed) = (0, 0);
        println!("\n== summary");
        for stage in &self.stages {
            let (word, why) = match &stage.outcome {
                Outcome::Passed => {
                    passed += 1;
                    ("passed", "")
                }
                Outcome::Failed(why) => {
                    failed += 1;
                    ("FAILED", first_line(why))
                }
                Outcome::Skipped(why) => ("skipped", *why),
            };
            let line = format!(
                "{word:8} {:26} {:7.1} s  {why}",
                stage.name,
                stage.took.as_secs_f64()
            );
            println!("{}", line.trim_end());
        }
        for stage in &self.stages {
            if let Outcome::Failed(why) = &stage.outcome {
                println!("\n== why {} failed\n{why}", stage.name);
            }
        }
        println!("{passed} passed, {failed} failed");
        if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
