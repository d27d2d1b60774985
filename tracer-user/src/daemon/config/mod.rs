//! The daemon's configuration: one TOML file. Every key, its meaning and its default are in `settings` and
//! `hook`, once, for the parser and for the text that documents them.

mod hook;
mod read;
mod settings;
pub(crate) mod units;
mod values;

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use log::LevelFilter;
use regex::Regex;

use self::{
    hook::{Draft, HOOK},
    settings::{Key, SETTINGS},
};
use crate::{
    model::{Kind, State, redact::Capture},
    probe::{Backend, Options},
};

/// Where the configuration is unless another file is named.
pub const FILE: &str = "/etc/lastbyte/lastbyte.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The system user that the daemon switches to; `root` keeps it root.
    pub user: String,
    /// The log level.
    pub log: LevelFilter,
    /// How to trace.
    pub tracing: Tracing,
    /// The clients' socket, and who may connect.
    pub socket: Socket,
    /// How much is kept.
    pub store: Store,
    /// How secrets are masked.
    pub privacy: Privacy,
    /// Where findings are sent.
    pub hooks: Vec<Hook>,
}

/// `[tracing]`
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Executables of SSH servers, in addition to the built-in list.
    pub servers: Vec<String>,
    /// `None` for the best one that the kernel supports.
    pub backend: Option<Backend>,
    /// How long after a command exits before holders are reported.
    pub grace: Duration,
    /// How long a stream must be stalled before a finding is reported.
    pub stall_after: Duration,
    /// Size of the ring buffer in bytes.
    pub ring_bytes: u32,
    /// Where programs and maps are pinned; `None` for nowhere.
    pub pins: Option<PathBuf>,
}

/// `[socket]`
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// Its members see all sessions.
    pub group: String,
    /// Other users see their own sessions.
    pub allow_own: bool,
    /// The maximum number of connected clients.
    pub max_clients: usize,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// The state directory.
    pub dir: PathBuf,
    /// How long sessions without findings are kept, and all records.
    pub max_age: Duration,
    /// How long findings and their sessions are kept.
    pub findings_max_age: Duration,
    /// Maximum size of the database, bytes.
    pub max_bytes: u64,
}

/// `[privacy]`
#[derive(Clone, Debug, PartialEq)]
pub struct Privacy {
    /// How much of each command line is kept.
    pub capture_argv: Capture,
    /// Regular expressions of further secrets.
    pub mask: Vec<String>,
}

/// `[[hook]]`: which findings are sent where.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// The kinds of findings to send.
    pub kinds: Vec<Kind>,
    /// The states to send.
    pub states: Vec<State>,
    /// Truncated streams must have lost at least this many bytes.
    pub min_bytes: u64,
    /// Hangs must have lasted this long.
    pub min_age: Duration,
    /// The command or URL.
    pub action: Action,
    /// The maximum rate.
    pub rate: Rate,
    /// How long sending one finding may take.
    pub timeout: Duration,
}

/// How a hook sends a finding.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Starts a program with these arguments; the finding is on its stdin.
    Command(Vec<String>),
    /// Posts to a URL.
    Post(String),
}

/// A maximum number within a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The number.
    pub count: u32,
    /// The time.
    pub per: Duration,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has mistakes: one line each.
    #[error("{}", .0.join("\n"))]
    Wrong(Vec<String>),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            user: "lastbyte".to_owned(),
            log: LevelFilter::Info,
            tracing: Tracing {
                servers: Vec::new(),
                backend: None,
                grace: Duration::from_secs(1),
                stall_after: Duration::from_secs(60),
                ring_bytes: tracer_ebpf::RING_BYTES,
                pins: Some("/sys/fs/bpf/lastbyte".into()),
            },
            socket: Socket {
                path: "/run/lastbyte/lastbyte.sock".into(),
                group: "lastbyte".to_owned(),
                allow_own: false,
                max_clients: 100,
            },
            store: Store {
                dir: "/var/lib/lastbyte".into(),
                max_age: Duration::from_hours(30 * 24),
                findings_max_age: Duration::from_hours(365 * 24),
                max_bytes: 1 << 30,
            },
            privacy: Privacy {
                capture_argv: Capture::default(),
                mask: Vec::new(),
            },
            hooks: Vec::new(),
        }
    }
}

impl Config {
    /// Reads `file`, or [`FILE`], which need not exist.
    ///
    /// # Errors
    /// When the file cannot be read, and every mistake in it with its line.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(FILE));
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Unreadable {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Parses `text`, the contents of the file `name`.
    ///
    /// # Errors
    /// Every mistake in it with its line.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        read::config(text, name).map_err(ConfigError::Wrong)
    }

    /// The tracer's options.
    #[must_use]
    pub fn options(&self, verbose: bool) -> Options {
        Options {
            backend: self.tracing.backend,
            servers: self.tracing.servers.clone(),
            ring_bytes: self.tracing.ring_bytes,
            grace: u64::try_from(self.tracing.grace.as_nanos()).unwrap_or(u64::MAX),
            stall_after: u64::try_from(self.tracing.stall_after.as_nanos()).unwrap_or(u64::MAX),
            verbose,
            pins: self.tracing.pins.clone(),
        }
    }

    /// The settings that differ in `new` but take effect only after a restart, as `section.key`.
    #[must_use]
    pub fn changed_only_by_restart(&self, new: &Self) -> Vec<&'static str> {
        let differ = |key: &&Key<Self>| key.restart && (key.show)(self) != (key.show)(new);
        SETTINGS.iter().filter(differ).map(|key| key.full).collect()
    }

    /// Problems of the programs that hooks start, one line each, as they are on this machine now.
    #[must_use]
    pub fn programs_missing(&self) -> Vec<String> {
        let problem = |hook: &Hook| {
            let Action::Command(words) = &hook.action else {
                return None;
            };
            let program = words.first()?;
            let problem = match fs::metadata(program) {
                Err(error) => error.to_string(),
                Ok(meta) if !meta.is_file() => "is not a file".to_owned(),
                Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
                    "is not executable: chmod +x".to_owned()
                }
                Ok(_) => return None,
            };
            Some(format!("hook.command: {program}: {problem}"))
        };
        self.hooks.iter().filter_map(problem).collect()
    }

    /// The whole configuration as a file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for key in SETTINGS {
            begin_section(&mut out, &mut section, key.section());
            let _ = writeln!(out, "{} = {}", key.name(), (key.show)(self));
        }
        for hook in &self.hooks {
            out.push_str("\n[[hook]]\n");
            for key in HOOK {
                let value = (key.show)(&hook.clone().into());
                if !value.is_empty() {
                    let _ = writeln!(out, "{} = {value}", key.name());
                }
            }
        }
        out
    }

    /// A file with every setting explained and commented out.
    #[must_use]
    pub fn default_text() -> String {
        let default = Self::default();
        let mut out = PREFACE.to_owned();
        let mut section = "";
        for key in SETTINGS {
            begin_section(&mut out, &mut section, key.section());
            let _ = write!(out, "\n{}", comment(key.about));
            if key.restart {
                out.push_str("# Takes effect after a restart.\n");
            }
            let _ = writeln!(out, "#{} = {}", key.name(), (key.show)(&default));
        }
        out.push_str(HOOK_PREFACE);
        for key in HOOK {
            let example = (key.show)(&Draft::example());
            let value = match example.as_str() {
                "" => "\"https://alerts.example/lastbyte\"",
                value => value,
            };
            let _ = write!(out, "\n{}#{} = {value}\n", comment(key.about), key.name());
        }
        out
    }
}

const PREFACE: &str = "\
# Configuration of lastbyte's daemon. Every setting is optional; commented values are defaults.
# `lastbyte config check` finds mistakes, `systemctl reload lastbyte` applies changes.
";
const HOOK_PREFACE: &str = "
# A hook sends findings to a command or a URL, as one line of JSON each, as `lastbyte watch --json`
# prints them. There may be several hooks.
#[[hook]]
";

fn begin_section(out: &mut String, current: &mut &'static str, section: &'static str) {
    if *current != section {
        let _ = write!(out, "\n[{section}]\n");
        *current = section;
    }
}

fn comment(about: &str) -> String {
    about.lines().map(|line| format!("# {line}\n")).collect()
}

/// Checks that each is a regular expression.
fn check_patterns(patterns: &[String]) -> Result<(), String> {
    for pattern in patterns {
        if let Err(error) = Regex::new(pattern) {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            return Err(format!("invalid regular expression `{pattern}`: {reason}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
