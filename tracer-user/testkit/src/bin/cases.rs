//! Runs the case catalogue against a `lastbyte` binary; needs root.

use std::env;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use clap::Parser;
use lastbyte_testkit::case::{Case, Dumps, Outcome, Tier};
use lastbyte_testkit::cases;
use lastbyte_testkit::random::{self, Draw};
use lastbyte_testkit::regress;
use lastbyte_testkit::results::Results;
use lastbyte_testkit::soak::{self, Load};
use lastbyte_testkit::stage::{PATIENCE, Setting, Stage};
use lastbyte_testkit::tracer::Tracer;
use lastbyte_testkit::world::World;

#[derive(Debug, Parser)]
#[command(about = "Real SSH sessions with known outcomes, held against what lastbyte says")]
struct Options {
    /// The tracer under test
    #[arg(long)]
    lastbyte: Option<PathBuf>,
    /// The test server
    #[arg(long)]
    eager: Option<PathBuf>,
    /// Backend for every tracer that is started
    #[arg(long)]
    backend: Option<String>,
    /// Print the cases and end
    #[arg(long)]
    list: bool,
    /// Run these cases only, whatever their tier
    #[arg(long, num_args = 1..)]
    only: Vec<String>,
    /// Which cases to run
    #[arg(long, value_enum, default_value_t = Tier::Full)]
    tier: Tier,
    /// Of these, only every Mth from the Nth on: M runs at the same time share them
    #[arg(long, value_name = "N/M", value_parser = part)]
    part: Option<(usize, usize)>,
    /// Run everything this many times
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// Write each case's result to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Print every problem instead of the first few
    #[arg(long)]
    verbose: bool,
    /// Run this many sessions drawn at random instead of the cases
    #[arg(long)]
    random: Option<u64>,
    /// Determines the random sessions; printed, and made from the clock without this
    #[arg(long)]
    seed: Option<u64>,
    /// Keep a daemon under load for so many seconds instead of the cases
    #[arg(long, value_name = "SECONDS", conflicts_with = "random")]
    soak: Option<u64>,
    /// Run the regression scripts of the OpenSSH that was built in this folder instead of the cases
    #[arg(long, value_name = "FOLDER", conflicts_with = "random")]
    regress: Option<PathBuf>,
    /// Sessions a second of that load
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Clients of the daemon meanwhile, bad ones included
    #[arg(long, default_value_t = 20)]
    clients: usize,
    /// How much the daemon's memory may grow after a sixth of the time, per cent
    #[arg(long, default_value_t = 5.0)]
    growth: f64,
    /// Random sessions under way at the same time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Seconds to wait for anything; also stretches the scenarios' own times
    #[arg(long, default_value_t = PATIENCE.as_secs())]
    patience: u64,
}

/// Set where the signals that a shell or nohup(1) lets a background job ignore are as usual.
const SIGNALS_ARE_USUAL: &str = "LBCASES_SIGNALS";

/// Starts itself again with SIGHUP, SIGINT and SIGQUIT as usual: clients inherit them, and ssh(1) leaves a signal
/// ignored that it finds so.
fn with_usual_signals() -> anyhow::Result<()> {
    if env::var_os(SIGNALS_ARE_USUAL).is_some() {
        return Ok(());
    }
    let error = Command::new("env")
        .arg("--default-signal=HUP,INT,QUIT")
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(SIGNALS_ARE_USUAL, "1")
        .exec();
    Err(error).context("cannot run env(1)")
}

fn main() -> anyhow::Result<ExitCode> {
    with_usual_signals()?;
    let options = Options::parse();
    let chosen = choose(&options)?;
    if options.list {
        for case in chosen {
            println!("{:5} {:10} {}", case.id, case.class, case.title);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let lastbyte = options
        .lastbyte
        .as_deref()
        .context("--lastbyte PATH is missing")?;
    let eager = options
        .eager
        .as_deref()
        .context("--eager PATH is missing")?;
    let patience = Duration::from_secs(options.patience);
    let _alone = wait_for_others()?;
    if let Some(source) = &options.regress {
        // No case is run: the file of the results stays empty.
        drop(Results::create(options.results.as_deref(), "")?);
        let backend = options.backend.as_deref();
        let outcome = regress::run(lastbyte, backend, source, patience)?;
        println!("{outcome}");
        print_problems(&outcome.problems, options.verbose);
        return Ok(match outcome.problems.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        });
    }
    let world = World::new(eager)?;
    if let Some(seconds) = options.soak {
        return Ok(match run_soak(&options, seconds, lastbyte, &world)? {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        });
    }
    let tracer = Tracer::start(lastbyte, options.backend.as_deref(), &["watch"], patience)?;
    let setting = Setting {
        world: &world,
        tracer: &tracer,
        lastbyte,
        backend: options.backend.as_deref(),
        patience,
    };
    let dumps =
        Dumps::new(env::temp_dir().join(format!("lbcases-failures-{}", std::process::id())));
    let mut results = Results::create(options.results.as_deref(), &tracer.backend())?;
    let passed = match options.random {
        Some(sessions) => run_random(&options, sessions, setting, dumps)?,
        None => run_cases(&options, &chosen, setting, dumps, &mut results)?,
    };
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Sessions of another run would be seen by this one's tracer; held until the process ends.
fn wait_for_others() -> anyhow::Result<File> {
    let path = env::temp_dir().join("lbcases.lock");
    let lock = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    if lock.try_lock().is_err() {
        eprintln!("another run is under way; waiting for its end");
        lock.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(lock)
}

fn run_cases(
    options: &Options,
    chosen: &[Case],
    setting: Setting<'_>,
    mut dumps: Dumps,
    results: &mut Results,
) -> anyhow::Result<bool> {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    'run: for _ in 0..options.repeat {
        for case in chosen {
            if let Err(error) = setting.tracer.check_alive() {
                println!("{error:#}");
                failed += 1;
                break 'run;
            }
            let report = case.run(setting, &mut dumps);
            results.add(case, &report.outcome)?;
            let took = report.took.as_secs_f64();
            match report.outcome {
                Outcome::Passed(notes) => {
                    passed += 1;
                    let notes = match notes[..] {
                        [] => String::new(),
                        _ => format!(": {}", notes.join("; ")),
                    };
                    println!("ok   {:5} {} ({took:.2} s){notes}", case.id, case.title);
                }
                Outcome::Failed(problems) => {
                    failed += 1;
                    println!("FAIL {:5} {} ({took:.2} s)", case.id, case.title);
                    print_problems(&problems, options.verbose);
                }
                Outcome::Skipped(why) => {
                    skipped += 1;
                    println!("skip {:5} {}: {why}", case.id, case.title);
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if let Some(dir) = dumps.dir() {
        println!("events of the failures: {}", dir.display());
    }
    Ok(failed == 0)
}

fn run_random(
    options: &Options,
    sessions: u64,
    setting: Setting<'_>,
    mut dumps: Dumps,
) -> anyhow::Result<bool> {
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_secs(),
    };
    println!("{sessions} random sessions, seed {seed}");
    let stage = Stage::new(setting);
    let result = random::run(
        Draw {
            sessions,
            seed,
            jobs: options.jobs,
        },
        setting,
    )?;
    println!("{result}");
    if !result.problems.is_empty() {
        dumps.keep("random", &result.problems, &stage);
        print_problems(&result.problems, options.verbose);
        println!(
            "run them again with --random {sessions} --seed {seed} --jobs {}",
            options.jobs
        );
    }
    if let Some(dir) = dumps.dir() {
        println!("events: {}", dir.display());
    }
    Ok(result.problems.is_empty())
}

fn run_soak(
    options: &Options,
    seconds: u64,
    lastbyte: &Path,
    world: &World,
) -> anyhow::Result<bool> {
    let load = Load {
        time: Duration::from_secs(seconds),
        rate: options.rate,
        clients: options.clients,
        seed: options.seed.unwrap_or(1),
        growth: options.growth,
    };
    // No case is run: the file of the results stays empty.
    drop(Results::create(options.results.as_deref(), "")?);
    let patience = Duration::from_secs(options.patience);
    let backend = options.backend.as_deref();
    let outcome = soak::run(lastbyte, world, backend, load, patience)?;
    println!("{outcome}");
    print_problems(&outcome.problems, options.verbose);
    Ok(outcome.problems.is_empty())
}

/// Problems shown without `--verbose`.
const FEW: usize = 3;

fn print_problems(problems: &[String], all: bool) {
    let shown = if all {
        problems.len()
    } else {
        problems.len().min(FEW)
    };
    for problem in &problems[..shown] {
        println!("       {problem}");
    }
    if shown < problems.len() {
        println!("       and {} more", problems.len() - shown);
    }
}

fn choose(options: &Options) -> anyhow::Result<Vec<Case>> {
    let all = cases::all();
    for id in &options.only {
        ensure!(
            all.iter().any(|case| case.id == id),
            "there is no case {id}; --list shows all"
        );
    }
    let wanted = |case: &Case| match options.only[..] {
        [] => case.tier <= options.tier,
        _ => options.only.iter().any(|id| id == case.id),
    };
    let (nth, of) = options.part.unwrap_or((1, 1));
    let chosen = all.into_iter().filter(wanted);
    Ok(chosen.skip(nth - 1).step_by(of).collect())
}

/// Reads `N/M`, from `1/M` to `M/M`.
fn part(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(nth, of)| {
        let numbers: (usize, usize) = (nth.parse().ok()?, of.parse().ok()?);
        (1..=numbers.1).contains(&numbers.0).then_some(numbers)
    });
    numbers.ok_or_else(|| "expected N/M with N from 1 to M, as 1/2".to_owned())
}
