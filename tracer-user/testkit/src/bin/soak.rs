//! Runs a daemon under load and says what was wrong; needs root.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lastbyte_testkit::soak::{self, Load};
use lastbyte_testkit::world::World;

#[derive(Debug, Parser)]
#[command(about = "A daemon under load: many sessions a second, many clients, some of them bad")]
struct Options {
    /// The daemon under test
    #[arg(long)]
    lastbyte: PathBuf,
    /// The test server
    #[arg(long)]
    eager: PathBuf,
    /// How long sessions are begun, in seconds
    #[arg(long, default_value_t = 1800)]
    seconds: u64,
    /// Sessions a second
    #[arg(long, default_value_t = 50)]
    rate: u32,
    /// Clients of the daemon, bad ones included
    #[arg(long, default_value_t = 20)]
    clients: usize,
    /// Determines the sessions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How much the daemon's memory may grow after a sixth of the time, per cent
    #[arg(long, default_value_t = 5.0)]
    growth: f64,
    /// Seconds to wait for anything
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let world = World::new(&options.eager)?;
    let load = Load {
        time: Duration::from_secs(options.seconds),
        rate: options.rate,
        clients: options.clients,
        seed: options.seed,
        growth: options.growth,
    };
    let patience = Duration::from_secs(options.patience);
    let outcome = soak::run(&options.lastbyte, &world, load, patience)?;
    let (early, late) = outcome.memory;
    println!(
        "{} sessions in {} s: {} truncated, {} orphaned; the daemon took {:.1} % of a processor and {:.1} MiB, {:.1} MiB later",
        outcome.sessions,
        options.seconds,
        outcome.truncated,
        outcome.orphaned,
        100.0 * outcome.load,
        early as f64 / 1048576.0,
        late as f64 / 1048576.0,
    );
    for problem in outcome.problems.iter().take(20) {
        println!("PROBLEM {problem}");
    }
    println!("{} problems", outcome.problems.len());
    Ok(match outcome.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
