//! Every key: what it means, how it is read, how it is written.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use toml::de::DeValue;

use super::{Action, Config, Hook, Rate, check_patterns, units};
use crate::{
    model::{Kind, State, redact::Capture},
    probe::Backend,
};

/// One key of a configuration, or of a part of it.
pub(super) struct Key<T> {
    /// `section.name`, or the name alone.
    pub full: &'static str,
    /// For whom writes the file; lines of at most 96 characters.
    pub about: &'static str,
    /// What its value must be, after "expected".
    pub expected: &'static str,
    /// A running daemon cannot take over another value.
    pub restart: bool,
    /// Takes the value over, or says what is wrong about it.
    pub read: fn(&mut T, &DeValue<'_>) -> Result<(), String>,
    /// The value as it is written in TOML; empty when there is none.
    pub show: fn(&T) -> String,
}

impl<T> Key<T> {
    pub fn section(&self) -> &'static str {
        self.full.split_once('.').map_or("", |(section, _)| section)
    }

    pub fn name(&self) -> &'static str {
        self.full
            .split_once('.')
            .map_or(self.full, |(_, name)| name)
    }
}

/// In the order of the default file: those of no section come first.
pub(super) const SETTINGS: &[Key<Config>] = &[
    Key {
        full: "user",
        about: "The system user that the daemon becomes once it traces; \"root\" stays root.",
        expected: "the name of a user",
        restart: true,
        read: |to, value| set(&mut to.user, name(value)),
        show: |of| quote(&of.user),
    },
    Key {
        full: "log",
        about: "What is logged: \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\".",
        expected: "\"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\"",
        restart: false,
        read: |to, value| set(&mut to.log, from_text(value, |text| text.parse().ok())),
        show: |of| quote(&of.log.as_str().to_lowercase()),
    },
    Key {
        full: "tracing.servers",
        about: "Executables of SSH servers, names or paths, beside those that Debian packages.",
        expected: "a list of names or paths, each of which ends in a name of at most 31 bytes",
        restart: true,
        read: |to, value| set(&mut to.tracing.servers, servers(value)),
        show: |of| quote_all(&of.tracing.servers),
    },
    Key {
        full: "tracing.backend",
        about: "How stream operations are observed: \"fentry\", \"kprobe\", \"syscall\", or \"auto\" for the best\n\
                that the kernel allows.",
        expected: "\"auto\", \"fentry\", \"kprobe\" or \"syscall\"",
        restart: true,
        read: |to, value| set(&mut to.tracing.backend, backend(value)),
        show: |of| {
            quote(
                &of.tracing
                    .backend
                    .map_or("auto".to_owned(), |it| it.to_string()),
            )
        },
    },
    Key {
        full: "tracing.grace",
        about: "How long a command must be gone before those who keep its session open are told.",
        expected: TIME,
        restart: true,
        read: |to, value| set(&mut to.tracing.grace, from_text(value, units::time)),
        show: |of| time(of.tracing.grace),
    },
    Key {
        full: "tracing.stall_after",
        about: "How long a command must wait for its server to read before that is a finding. A client that\n\
                reads slowly (`| less`) does no harm; `top` and `ls` show it at once.",
        expected: TIME,
        restart: true,
        read: |to, value| set(&mut to.tracing.stall_after, from_text(value, units::time)),
        show: |of| time(of.tracing.stall_after),
    },
    Key {
        full: "tracing.ring_bytes",
        about: "Size of the ring buffer that the kernel side writes to: a power of two from 4 KiB. When\n\
                it is full, records are lost and sessions say so.",
        expected: "a power of two from 4 KiB, such as \"8 MiB\"",
        restart: true,
        read: |to, value| set(&mut to.tracing.ring_bytes, from_size(value, units::ring)),
        show: |of| size(u64::from(of.tracing.ring_bytes)),
    },
    Key {
        full: "tracing.pins",
        about: "Where programs and tables are pinned, on a BPF file system: a daemon that is restarted goes\n\
                on with them and misses nothing. \"\" pins nothing.",
        expected: "an absolute path, or \"\"",
        restart: true,
        read: |to, value| match value.as_str() {
            Some("") => set(&mut to.tracing.pins, Ok(None)),
            _ => set(&mut to.tracing.pins, path(value).map(Some)),
        },
        show: |of| {
            let pins = of.tracing.pins.as_deref().unwrap_or(Path::new(""));
            quote(&pins.to_string_lossy())
        },
    },
    Key {
        full: "socket.path",
        about: "Where clients (`lastbyte watch`, `lastbyte top`, …) find the daemon.",
        expected: "an absolute path",
        restart: true,
        read: |to, value| set(&mut to.socket.path, path(value)),
        show: |of| quote(&of.socket.path.to_string_lossy()),
    },
    Key {
        full: "socket.group",
        about: "Members of this group see all sessions, as root does.",
        expected: "the name of a group",
        restart: true,
        read: |to, value| set(&mut to.socket.group, name(value)),
        show: |of| quote(&of.socket.group),
    },
    Key {
        full: "socket.allow_own",
        about: "Whether all others may see their own sessions.",
        expected: "true or false",
        restart: true,
        read: |to, value| {
            set(
                &mut to.socket.allow_own,
                value.as_bool().ok_or_else(|| found(value)),
            )
        },
        show: |of| of.socket.allow_own.to_string(),
    },
    Key {
        full: "socket.max_clients",
        about: "How many clients there may be at once.",
        expected: "a number from 1 to 10000",
        restart: false,
        read: |to, value| set(&mut to.socket.max_clients, clients(value)),
        show: |of| of.socket.max_clients.to_string(),
    },
    Key {
        full: "store.dir",
        about: "Where sessions and findings are kept.",
        expected: "an absolute path",
        restart: true,
        read: |to, value| set(&mut to.store.dir, path(value)),
        show: |of| quote(&of.store.dir.to_string_lossy()),
    },
    Key {
        full: "store.max_age",
        about: "How long sessions are kept.",
        expected: TIME,
        restart: false,
        read: |to, value| set(&mut to.store.max_age, from_text(value, units::time)),
        show: |of| time(of.store.max_age),
    },
    Key {
        full: "store.findings_max_age",
        about: "How long findings are kept, and the sessions that they are about.",
        expected: TIME,
        restart: false,
        read: |to, value| {
            set(
                &mut to.store.findings_max_age,
                from_text(value, units::time),
            )
        },
        show: |of| time(of.store.findings_max_age),
    },
    Key {
        full: "store.max_bytes",
        about: "How much is kept; the oldest goes first.",
        expected: SIZE,
        restart: false,
        read: |to, value| set(&mut to.store.max_bytes, from_size(value, units::size)),
        show: |of| size(of.store.max_bytes),
    },
    Key {
        full: "privacy.capture_argv",
        about: "How much of each command's arguments is kept: \"full\", \"redacted\" (what looks like a\n\
                secret is ***) or \"comm\" (nothing, a command is known by its program).",
        expected: "\"full\", \"redacted\" or \"comm\"",
        restart: false,
        read: |to, value| {
            set(
                &mut to.privacy.capture_argv,
                word(value, &Capture::ALL, |it| it.name()),
            )
        },
        show: |of| quote(of.privacy.capture_argv.name()),
    },
    Key {
        full: "privacy.mask",
        about: "Regular expressions of what is masked beside what is known to be secret: all that they\n\
                match in a command's arguments, or their first group if they have one.",
        expected: "a list of regular expressions",
        restart: false,
        read: |to, value| {
            let patterns = texts(value)?;
            check_patterns(&patterns)?;
            to.privacy.mask = patterns;
            Ok(())
        },
        show: |of| quote_all(&of.privacy.mask),
    },
];

/// Those of each `[[hook]]`.
pub(super) const HOOK: &[Key<Draft>] = &[
    Key {
        full: "hook.command",
        about: "The program and its arguments. There is no shell; the finding is on its stdin.",
        expected: "a list of strings, the first of which is an absolute path",
        restart: false,
        read: |to, value| {
            let command = texts(value)?;
            if !command
                .first()
                .is_some_and(|program| program.starts_with('/'))
            {
                return Err(found(value));
            }
            to.act(Action::Command(command))
        },
        show: |of| match &of.action {
            Some(Action::Command(words)) => quote_all(words),
            _ => String::new(),
        },
    },
    Key {
        full: "hook.url",
        about: "Instead of a command: where the finding is posted to. An https server needs a certificate that\n\
                this machine trusts, or one from the file that SSL_CERT_FILE names.",
        expected: "a URL that begins with http:// or https://",
        restart: false,
        read: |to, value| {
            let url = from_text(value, |text| is_url(text).then(|| text.to_owned()))?;
            to.act(Action::Post(url))
        },
        show: |of| match &of.action {
            Some(Action::Post(url)) => quote(url),
            _ => String::new(),
        },
    },
    Key {
        full: "hook.kinds",
        about: "Findings of which kinds; what is ordinary (near_miss, and truncated by client_gone) is\n\
                told only if near_miss is among them.",
        expected: "a list of \"truncated\", \"orphaned\", \"stalled\", \"waiting\", \"near_miss\"",
        restart: false,
        read: |to, value| set(&mut to.kinds, words(value, &Kind::ALL, |it| it.name())),
        show: |of| quote_all(of.kinds.iter().map(|kind| kind.name())),
    },
    Key {
        full: "hook.states",
        about: "As they come into which states: \"open\", \"updated\", \"resolved\".",
        expected: "a list of \"open\", \"updated\", \"resolved\"",
        restart: false,
        read: |to, value| set(&mut to.states, words(value, &State::ALL, |it| it.name())),
        show: |of| quote_all(of.states.iter().map(|state| state.name())),
    },
    Key {
        full: "hook.min_bytes",
        about: "Not of truncated streams that lack less than this.",
        expected: SIZE,
        restart: false,
        read: |to, value| set(&mut to.min_bytes, from_size(value, units::size)),
        show: |of| size(of.min_bytes),
    },
    Key {
        full: "hook.min_age",
        about: "Not of a hang (orphaned, stalled, waiting) that ends by itself before it is this old. What was\n\
                lost (truncated) is final and told at once.",
        expected: TIME,
        restart: false,
        read: |to, value| set(&mut to.min_age, from_text(value, units::time)),
        show: |of| time(of.min_age),
    },
    Key {
        full: "hook.rate",
        about: "How many within which time; the next one tells how many were left out.",
        expected: "a number and a time such as \"10/1m\"",
        restart: false,
        read: |to, value| set(&mut to.rate, from_text(value, rate)),
        show: |of| {
            quote(&format!(
                "{}/{}",
                of.rate.count,
                units::time_text(of.rate.per)
            ))
        },
    },
    Key {
        full: "hook.timeout",
        about: "After this a command is killed, with all that it has started, and a post given up.",
        expected: TIME,
        restart: false,
        read: |to, value| set(&mut to.timeout, from_text(value, units::time)),
        show: |of| time(of.timeout),
    },
];

/// A hook that is being read.
pub(super) struct Draft {
    kinds: Vec<Kind>,
    states: Vec<State>,
    min_bytes: u64,
    min_age: Duration,
    action: Option<Action>,
    rate: Rate,
    timeout: Duration,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            kinds: vec![
                Kind::Truncated,
                Kind::Orphaned,
                Kind::Stalled,
                Kind::Waiting,
            ],
            states: vec![State::Open],
            min_bytes: 0,
            min_age: Duration::from_secs(10),
            action: None,
            rate: Rate {
                count: 10,
                per: Duration::from_secs(60),
            },
            timeout: Duration::from_secs(10),
        }
    }
}

impl Draft {
    /// One that the default file shows.
    pub fn example() -> Self {
        Self {
            action: Some(Action::Command(vec![
                "/usr/local/bin/page".to_owned(),
                "ssh-team".to_owned(),
            ])),
            ..Self::default()
        }
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        if self.action.is_some() {
            return Err("a hook has a command or a url, not both".to_owned());
        }
        self.action = Some(action);
        Ok(())
    }

    /// The hook, if it does anything.
    pub fn finish(self) -> Option<Hook> {
        Some(Hook {
            kinds: self.kinds,
            states: self.states,
            min_bytes: self.min_bytes,
            min_age: self.min_age,
            action: self.action?,
            rate: self.rate,
            timeout: self.timeout,
        })
    }
}

impl From<Hook> for Draft {
    fn from(hook: Hook) -> Self {
        Self {
            kinds: hook.kinds,
            states: hook.states,
            min_bytes: hook.min_bytes,
            min_age: hook.min_age,
            action: Some(hook.action),
            rate: hook.rate,
            timeout: hook.timeout,
        }
    }
}

const TIME: &str = "a time such as \"500ms\", \"1m30s\" or \"30d\"";
const SIZE: &str = "a size such as \"1 GiB\" or a number of bytes";
/// The kernel side compares so many bytes of an executable's name, and a NUL.
const SERVER_LEN: usize = tracer_ebpf::EXE_LEN - 1;

fn set<T>(to: &mut T, value: Result<T, String>) -> Result<(), String> {
    *to = value?;
    Ok(())
}

/// What is there instead of what was expected.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("found {text:?}"),
        DeValue::Integer(number) => format!("found {number}"),
        DeValue::Float(number) => format!("found {number}"),
        DeValue::Boolean(value) => format!("found {value}"),
        DeValue::Array(_) => "found another list".to_owned(),
        other => format!("found a {}", other.type_str()),
    }
}

fn from_text<T>(value: &DeValue<'_>, read: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    let text = value.as_str().filter(|text| !text.contains('\0'));
    text.and_then(read).ok_or_else(|| found(value))
}

/// Sizes may be numbers too.
fn from_size<T>(value: &DeValue<'_>, read: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    match value {
        DeValue::Integer(number) if number.radix() == 10 => {
            read(number.as_str()).ok_or_else(|| found(value))
        }
        _ => from_text(value, read),
    }
}

fn texts(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let list = value.as_array().ok_or_else(|| found(value))?;
    let text = |value: &DeValue<'_>| from_text(value, |text| Some(text.to_owned()));
    list.iter().map(|value| text(value.get_ref())).collect()
}

fn word<T: Copy>(
    value: &DeValue<'_>,
    all: &[T],
    name: impl Fn(&T) -> &'static str,
) -> Result<T, String> {
    from_text(value, |text| {
        all.iter().copied().find(|it| name(it) == text)
    })
}

fn words<T: Copy>(
    value: &DeValue<'_>,
    all: &[T],
    name: impl Fn(&T) -> &'static str,
) -> Result<Vec<T>, String> {
    let list = value.as_array().ok_or_else(|| found(value))?;
    list.iter()
        .map(|value| word(value.get_ref(), all, &name))
        .collect()
}

fn name(value: &DeValue<'_>) -> Result<String, String> {
    from_text(value, |text| (!text.is_empty()).then(|| text.to_owned()))
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    from_text(value, |text| text.starts_with('/').then(|| text.into()))
}

fn servers(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let servers = texts(value)?;
    let fits = |server: &&String| {
        let name = server.rsplit('/').next().unwrap_or_default();
        !name.is_empty() && name.len() <= SERVER_LEN
    };
    match servers.iter().find(|server| !fits(server)) {
        Some(wrong) => Err(format!("found {wrong:?}")),
        None => Ok(servers),
    }
}

fn backend(value: &DeValue<'_>) -> Result<Option<Backend>, String> {
    from_text(value, |text| match text {
        "auto" => Some(None),
        _ => Backend::ALL
            .into_iter()
            .find(|it| it.to_string() == text)
            .map(Some),
    })
}

fn clients(value: &DeValue<'_>) -> Result<usize, String> {
    let number = value
        .as_integer()
        .and_then(|number| number.as_str().parse().ok());
    number
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| found(value))
}

fn rate(text: &str) -> Option<Rate> {
    let (count, per) = text.split_once('/')?;
    let rate = Rate {
        count: count.trim().parse().ok()?,
        per: units::time(per.trim())?,
    };
    (rate.count > 0 && !rate.per.is_zero()).then_some(rate)
}

fn is_url(text: &str) -> bool {
    let url: Option<ureq::http::Uri> = text.parse().ok();
    url.is_some_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some()
    })
}

fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn quote_all<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

fn time(time: Duration) -> String {
    quote(&units::time_text(time))
}

fn size(bytes: u64) -> String {
    quote(&units::size_text(bytes))
}
