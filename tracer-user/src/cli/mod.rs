//! The command line: one file a subcommand.

mod blocked;
mod completions;
mod config;
mod daemon;
mod daemon_source;
mod daemon_target;
mod doctor;
mod findings;
mod follow;
mod live;
mod logging;
mod look;
mod ls;
mod moment;
mod printer;
mod record;
mod recorded;
mod replay;
mod show;
mod top;
mod watch;
mod why;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{
    Args, CommandFactory as _, Parser, Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use self::daemon_target::DaemonTarget;
use crate::{
    daemon::config::units,
    model::redact::{Capture, Redactor},
    probe::{Backend, Options},
};

/// Did the last byte of an SSH session make it to the client, and which process keeps a finished
/// session open?
#[derive(Debug, Parser)]
#[command(
    name = "lastbyte",
    version,
    about,
    max_term_width = 80,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Log more to stderr: messages of the kernel programs, the verifier's log when it refuses one
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show sessions, findings and the machine in a terminal UI; the default command
    Top(Top),
    /// Print findings and the end of each session as they happen
    Watch(Watch),
    /// List sessions
    Ls(Ls),
    /// List findings, of open and closed sessions
    Findings(Findings),
    /// Show the history of a session: processes, streams and signals, each with its time
    Show(Show),
    /// Explain in sentences what happened to a session, with the evidence and the fix
    Explain(Show),
    /// Say what a hanging session is waiting for right now
    Why(Why),
    /// Check whether tracing works on this machine, and what it cannot see
    Doctor(Doctor),
    /// Trace, print as watch does, and record everything to a file
    Record(Record),
    /// Print a recording as watch would have printed it; needs no privileges
    Replay(Replay),
    /// Run the tracing daemon
    Daemon(Daemon),
    /// Check or show the daemon's configuration
    Config(Config),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// `lastbyte top`.
#[derive(Debug, Args)]
struct Top {
    #[command(flatten)]
    trace: Trace,
    #[command(flatten)]
    daemon_target: DaemonTarget,
    /// Play a past session from the daemon's store: its id, or the pid of its command
    #[arg(long, value_name = "ID|PID", conflicts_with = "replay")]
    past: Option<String>,
    /// Play a recording instead of tracing this host; needs no privileges
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// How fast to play a recording or a past session; 1 is real time
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Start paused at the beginning of the recording: `.` steps, `n` goes to the next finding
    #[arg(long)]
    paused: bool,
    /// Allow `K` to send SIGTERM to a holder, after confirmation
    #[arg(long)]
    allow_signals: bool,
    /// Scroll and select with the mouse; hold Shift for the terminal's own selection
    #[arg(long)]
    mouse: bool,
}

/// How to trace.
#[derive(Debug, Default, Args)]
pub struct Trace {
    /// How to observe stream operations [default: the best that the kernel supports]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// How long after the command exits before a hang is reported [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    grace: Option<Duration>,
    /// How long a command must wait for its server to read before a stall is reported [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    stall_after: Option<Duration>,
    /// Executable of an SSH server, in addition to the built-in list; may be repeated
    #[arg(long, value_name = "NAME|PATH")]
    server: Vec<String>,
    /// Size of the ring buffer, a power of two from 4096 [default: 8388608]
    #[arg(long, value_name = "BYTES", value_parser = ring)]
    ring: Option<u32>,
    /// How much of each command's arguments to keep, also in recordings [default: redacted]
    #[arg(long, value_parser = captures(), value_name = "HOW")]
    capture_argv: Option<Capture>,
}

/// The words for how much of a command's arguments is kept.
fn captures() -> impl TypedValueParser<Value = Capture> {
    let words = Capture::ALL.map(|capture| {
        PossibleValue::new(capture.name()).help(match capture {
            Capture::Full => "All of them",
            Capture::Redacted => "All of them, with what looks like a secret masked",
            Capture::Comm => "None: a command is known by the name of its program",
        })
    });
    PossibleValuesParser::new(words).map(|word| {
        let mut all = Capture::ALL.into_iter();
        all.find(|it| it.name() == word).unwrap_or_default()
    })
}

/// What to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Print {
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Print every update, also near misses and the start of each session
    #[arg(long)]
    pub all: bool,
    /// Print sizes in exact bytes instead of KiB and MiB
    #[arg(long)]
    pub bytes: bool,
}

/// `lastbyte watch`.
#[derive(Debug, Args)]
struct Watch {
    #[command(flatten)]
    daemon_target: DaemonTarget,
    #[command(flatten)]
    watching: Watching,
}

/// What is watched, and for how long.
#[derive(Debug, Args)]
struct Watching {
    #[command(flatten)]
    trace: Trace,
    #[command(flatten)]
    print: Print,
    /// Stop after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Stop once a session has closed and none is open
    #[arg(long)]
    until_idle: bool,
}

/// `lastbyte show` and `lastbyte explain`.
#[derive(Debug, Args)]
struct Show {
    /// A session's id, or the pid of its command
    #[arg(value_name = "ID|PID")]
    session: String,
    #[command(flatten)]
    daemon_target: DaemonTarget,
    /// Read this recording instead of the daemon's store
    #[arg(long, value_name = "RECORDING")]
    file: Option<PathBuf>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Print sizes in exact bytes instead of KiB and MiB
    #[arg(long)]
    bytes: bool,
}

/// `lastbyte record`.
#[derive(Debug, Args)]
struct Record {
    /// The recording to write; must not exist yet
    file: PathBuf,
    #[command(flatten)]
    watching: Watching,
}

/// `lastbyte daemon`.
#[derive(Debug, Args)]
struct Daemon {
    /// Configuration file [default: /etc/lastbyte/lastbyte.toml, if it exists]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Detach the kernel programs that an earlier daemon left attached, and exit
    #[arg(long)]
    unpin: bool,
}

/// `lastbyte ls`.
#[derive(Debug, Args)]
struct Ls {
    #[command(flatten)]
    daemon_target: DaemonTarget,
    #[command(flatten)]
    trace: Trace,
    /// Sessions of this user: login name or id
    #[arg(short, long, value_name = "NAME|UID")]
    user: Option<String>,
    /// Sessions from this address
    #[arg(short, long, value_name = "ADDRESS")]
    peer: Option<String>,
    /// Sessions in this state: running, ending, orphaned, stalled, waiting; or with this verdict: clean,
    /// near_miss, truncated, unknown
    #[arg(short, long, value_name = "WORD", value_parser = ls::states(), hide_possible_values = true)]
    state: Option<String>,
    /// Sessions that are or ever were: orphaned, stalled, waiting, truncated, near_miss
    #[arg(long, value_name = "WORD", value_parser = findings::kinds(), hide_possible_values = true)]
    had: Option<String>,
    /// Sessions with this text in their command
    #[arg(short, long, value_name = "TEXT")]
    command: Option<String>,
    #[command(flatten)]
    period: Period,
    /// Read this recording instead of this machine's sessions
    #[arg(long, value_name = "RECORDING")]
    file: Option<PathBuf>,
    /// Only open sessions
    #[arg(long, conflicts_with = "closed")]
    open: bool,
    /// Only closed sessions
    #[arg(long)]
    closed: bool,
    /// Show the newest N; 0 shows all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: u64,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Print sizes in exact bytes instead of KiB and MiB
    #[arg(long)]
    bytes: bool,
}

/// `lastbyte findings`.
#[derive(Debug, Args)]
struct Findings {
    #[command(flatten)]
    daemon_target: DaemonTarget,
    /// Findings of this kind: orphaned, stalled, waiting, truncated, near_miss
    #[arg(short, long, value_name = "WORD", value_parser = findings::kinds(), hide_possible_values = true)]
    kind: Option<String>,
    /// Findings of this user's sessions: login name or id
    #[arg(short, long, value_name = "NAME|UID")]
    user: Option<String>,
    /// Findings of sessions from this address
    #[arg(short, long, value_name = "ADDRESS")]
    peer: Option<String>,
    /// Findings of sessions with this text in their command
    #[arg(short, long, value_name = "TEXT")]
    command: Option<String>,
    #[command(flatten)]
    period: Period,
    /// Include near misses and clients that left
    #[arg(long)]
    all: bool,
    /// Read this recording instead of the daemon's store
    #[arg(long, value_name = "RECORDING")]
    file: Option<PathBuf>,
    /// Show the newest N; 0 shows all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: u64,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Print sizes in exact bytes instead of KiB and MiB
    #[arg(long)]
    bytes: bool,
}

/// When: local times. Each as ns since 1970.
#[derive(Clone, Copy, Debug, Default, Args)]
struct Period {
    /// Opened at this time or later: `14:03`, `yesterday`, `'2026-11-27 14:03'`, `'10m ago'`, `1d`, or RFC 3339
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment::past)]
    since: Option<u64>,
    /// Opened before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment::any)]
    until: Option<u64>,
    /// Open at this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = moment::past)]
    at: Option<u64>,
}

/// `lastbyte replay`.
#[derive(Debug, Args)]
struct Replay {
    /// The recording to read
    file: PathBuf,
    #[command(flatten)]
    print: Print,
    /// Print only the number of records of each kind, as JSON
    #[arg(long)]
    count: bool,
}

/// `lastbyte why`.
#[derive(Debug, Args)]
struct Why {
    /// Pid of any process involved (server, command, holder), or a session's id
    #[arg(value_name = "PID|ID")]
    target: String,
    #[command(flatten)]
    daemon_target: DaemonTarget,
    #[command(flatten)]
    trace: Trace,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Print sizes in exact bytes instead of KiB and MiB
    #[arg(long)]
    bytes: bool,
}

/// `lastbyte doctor`.
#[derive(Debug, Args)]
struct Doctor {
    #[command(flatten)]
    trace: Trace,
    #[command(flatten)]
    daemon_target: DaemonTarget,
    /// Report only the daemon's health
    #[arg(long)]
    daemon: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `lastbyte config`.
#[derive(Debug, Args)]
struct Config {
    #[command(subcommand)]
    task: ConfigTask,
}

#[derive(Debug, Subcommand)]
enum ConfigTask {
    /// Check a configuration file for errors
    Check {
        /// File to read [default: the daemon's]
        file: Option<PathBuf>,
    },
    /// Print every setting and its value
    Show {
        /// File to read [default: the daemon's]
        file: Option<PathBuf>,
    },
    /// Print a commented configuration file with every default
    Default,
}

/// `lastbyte completions`.
#[derive(Debug, Args)]
struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// One sentence of what failed, on what, and what to do.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        logging::begin(self.verbose);
        let command = match self.command {
            Some(command) => command,
            // As clap would make it, with what the environment says.
            None => Self::parse_from(["lastbyte", "top"])
                .command
                .context("top is a command")?,
        };
        match command {
            Command::Top(top) => top.run(),
            Command::Watch(watch) => watch.run(self.verbose),
            Command::Ls(ls) => ls.run(self.verbose),
            Command::Findings(findings) => findings.run(),
            Command::Show(show) => show.show(),
            Command::Explain(show) => show.explain(),
            Command::Daemon(daemon) => daemon.run(self.verbose),
            Command::Why(why) => why.run(self.verbose),
            Command::Doctor(doctor) => doctor.run(self.verbose),
            Command::Record(record) => record.run(self.verbose),
            Command::Replay(replay) => replay.run(),
            Command::Config(config) => config.run(),
            Command::Completions(completions) => {
                completions.print(&mut Self::command())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// See [`Trace::grace`].
const GRACE: Duration = Duration::from_secs(1);
/// See [`Trace::stall_after`].
const STALL_AFTER: Duration = Duration::from_secs(60);

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Trace {
    /// Whether the user chose a setting, which a daemon may not share.
    fn is_chosen(&self) -> bool {
        self.backend.is_some()
            || self.grace.is_some()
            || self.stall_after.is_some()
            || self.ring.is_some()
            || self.capture_argv.is_some()
            || !self.server.is_empty()
    }

    fn options(&self, verbose: bool) -> Options {
        Options {
            backend: self.backend,
            servers: self.server.clone(),
            ring_bytes: self.ring.unwrap_or(tracer_ebpf::RING_BYTES),
            grace: nanos(self.grace.unwrap_or(GRACE)),
            stall_after: nanos(self.stall_after.unwrap_or(STALL_AFTER)),
            verbose,
            pins: None,
        }
    }

    fn redactor(&self) -> anyhow::Result<Redactor> {
        Ok(Redactor::new(self.capture_argv.unwrap_or_default(), [])?)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    units::time(text).ok_or_else(|| "expected a time such as 500ms, 10s or 1m30s".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text
        .parse()
        .map_err(|_| "expected a number such as 0.5 or 10".to_owned())?;
    if speed.is_finite() && speed > 0.0 {
        Ok(speed)
    } else {
        Err("must be more than 0".to_owned())
    }
}

fn ring(text: &str) -> Result<u32, String> {
    units::ring(text).ok_or_else(|| "must be a power of two from 4096".to_owned())
}
