//! What a daemon does, by its configuration: one TOML file. Every key, its meaning and its default
//! are in `settings`, once, for the parser and for the text that documents them.

mod read;
mod settings;
pub(crate) mod units;

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use log::LevelFilter;
use regex::Regex;

use self::settings::{HOOK, Key, SETTINGS};
use crate::{
    model::{Kind, State, redact::Capture},
    probe::{Backend, Options},
};

/// Where the configuration is unless another file is named.
pub const FILE: &str = "/etc/lastbyte/lastbyte.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The system user that the daemon becomes; `root` stays root.
    pub user: String,
    /// What is logged.
    pub log: LevelFilter,
    /// How to trace.
    pub tracing: Tracing,
    /// Where clients are heard, and which.
    pub socket: Socket,
    /// What is kept.
    pub store: Store,
    /// What is not seen.
    pub privacy: Privacy,
    /// Who is told of findings.
    pub hooks: Vec<Hook>,
}

/// `[tracing]`
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// Executables of servers beside the known ones.
    pub servers: Vec<String>,
    /// The best that the kernel allows unless given.
    pub backend: Option<Backend>,
    /// How long a command must be gone before holders are told.
    pub grace: Duration,
    /// How long a stream must stand still before that is a finding.
    pub stall_after: Duration,
    /// Size of the ring buffer in bytes.
    pub ring_bytes: u32,
    /// Where programs and tables are pinned.
    pub pins: Option<PathBuf>,
}

/// `[socket]`
#[derive(Clone, Debug, PartialEq)]
pub struct Socket {
    /// Where it is.
    pub path: PathBuf,
    /// Members see everything.
    pub group: String,
    /// Others see their own sessions.
    pub allow_own: bool,
    /// How many at once.
    pub max_clients: usize,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// Where it is.
    pub dir: PathBuf,
    /// How long sessions are kept.
    pub max_age: Duration,
    /// How long findings are kept.
    pub findings_max_age: Duration,
    /// How much is kept, bytes.
    pub max_bytes: u64,
}

/// `[privacy]`
#[derive(Clone, Debug, PartialEq)]
pub struct Privacy {
    /// How much of a command's arguments is kept.
    pub capture_argv: Capture,
    /// Regular expressions of what is masked beside what is known.
    pub mask: Vec<String>,
}

/// `[[hook]]`: who is told of which findings, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Hook {
    /// Of these kinds.
    pub kinds: Vec<Kind>,
    /// As they come into these states.
    pub states: Vec<State>,
    /// With at least so many bytes.
    pub min_bytes: u64,
    /// Hangs that have lasted so long.
    pub min_age: Duration,
    /// What is done.
    pub action: Action,
    /// How often at most.
    pub rate: Rate,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a hook does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Starts a program, with these arguments.
    Command(Vec<String>),
    /// Posts to a URL.
    Post(String),
}

/// So many within a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// Within this.
    pub per: Duration,
}

/// What is wrong with a configuration.
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
    /// It can be read but not be understood: one line each.
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

    /// Understands `text`, which came from `name`.
    ///
    /// # Errors
    /// Every mistake in it with its line.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        read::config(text, name).map_err(ConfigError::Wrong)
    }

    /// How to trace.
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

    /// Which settings differ in `new` that a running daemon cannot take over, as `section.key`.
    #[must_use]
    pub fn changed_only_by_restart(&self, new: &Self) -> Vec<&'static str> {
        let differ = |key: &&Key<Self>| key.restart && (key.show)(self) != (key.show)(new);
        SETTINGS.iter().filter(differ).map(|key| key.full).collect()
    }

    /// What is wrong with the programs that hooks start, one line each: they are looked for on this machine,
    /// now.
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

    /// All of it as a file that would be read back as the same.
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

    /// A file that says what can be configured and changes nothing.
    #[must_use]
    pub fn default_text() -> String {
        let default = Self::default();
        let mut out = PREFACE.to_owned();
        let mut section = "";
        for key in SETTINGS {
            begin_section(&mut out, &mut section, key.section());
            let _ = write!(out, "\n{}", comment(key.about));
            if key.restart {
                out.push_str("# Changes by a restart only.\n");
            }
            let _ = writeln!(out, "#{} = {}", key.name(), (key.show)(&default));
        }
        out.push_str(HOOK_PREFACE);
        for key in HOOK {
            let example = (key.show)(&settings::Draft::example());
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
# What lastbyte's daemon does. All of this is optional; what is commented out is the default.
# `lastbyte config check` finds mistakes, `systemctl reload lastbyte` applies changes.
";
const HOOK_PREFACE: &str = "
# Who is told of findings: a command that is started, or a URL that is posted to. Either gets the
# finding as one line of JSON, as `lastbyte watch --json` prints it. There may be several.
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

/// Whether each is a regular expression.
fn check_patterns(patterns: &[String]) -> Result<(), String> {
    for pattern in patterns {
        if let Err(error) = Regex::new(pattern) {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            return Err(format!("`{pattern}` is none: {reason}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
