//! `lastbyte config`.

use std::process::ExitCode;

use super::{Config, ConfigTask};
use crate::daemon::config;

impl Config {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.task {
            ConfigTask::Check { file } => {
                let config = config::Config::load(file.as_deref())?;
                let file = file.unwrap_or_else(|| config::FILE.into());
                let problems = config.programs_missing();
                anyhow::ensure!(
                    problems.is_empty(),
                    "{}",
                    problems
                        .iter()
                        .map(|problem| format!("{}: {problem}", file.display()))
                        .collect::<Vec<_>>()
                        .join("\n")
                );
                let found = match file.exists() {
                    true => "good",
                    false => "absent, so everything is as by default",
                };
                println!("{}: {found}", file.display());
            }
            ConfigTask::Show { file } => {
                print!("{}", config::Config::load(file.as_deref())?.text());
            }
            ConfigTask::Default => print!("{}", config::Config::default_text()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
