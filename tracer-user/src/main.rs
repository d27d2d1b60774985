//! The `lastbyte` command.

use std::process::ExitCode;

use clap::Parser as _;
use lastbyte::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::new()
        .filter_level(if cli.verbose {
            log::LevelFilter::Debug
        } else {
            log::LevelFilter::Warn
        })
        // What the loader tells of every instruction that it relocates.
        .filter_module("aya_obj", log::LevelFilter::Warn)
        .filter_module("aya", log::LevelFilter::Warn)
        .init();
    match cli.run() {
        Ok(status) => status,
        // Whoever reads us has had enough: no reason to complain.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lastbyte: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
