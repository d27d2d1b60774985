//! Every key outside of hooks: what it means, how it is read, how it is written.

use std::path::Path;

use toml::de::DeValue;

use super::{
    Config, check_patterns, units,
    values::{
        SIZE, TIME, backend, clients, found, from_size, from_text, name, path, quote, quote_all,
        servers, set, size, texts, time, word,
    },
};
use crate::model::redact::Capture;

/// One key of a configuration, or of a part of it.
pub(super) struct Key<T> {
    /// `section.name`, or the name alone.
    pub full: &'static str,
    /// The explanation in the default file; lines of at most 96 characters.
    pub about: &'static str,
    /// What its value must be, after "expected".
    pub expected: &'static str,
    /// A change takes effect only after a restart.
    pub restart: bool,
    /// Sets the value, or says what is wrong with it.
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

/// In the order of the default file; keys outside of sections come first.
pub(super) const SETTINGS: &[Key<Config>] = &[
    Key {
        full: "user",
        about: "The system user that the daemon switches to once it traces; \"root\" keeps it root.",
        expected: "the name of a user",
        restart: true,
        read: |to, value| set(&mut to.user, name(value)),
        show: |of| quote(&of.user),
    },
    Key {
        full: "log",
        about: "The log level: \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\".",
        expected: "\"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\"",
        restart: false,
        read: |to, value| set(&mut to.log, from_text(value, |text| text.parse().ok())),
        show: |of| quote(&of.log.as_str().to_lowercase()),
    },
    Key {
        full: "tracing.servers",
        about: "Executables of SSH servers, names or paths, in addition to the built-in list.",
        expected: "a list of names or paths, each of which ends in a name of at most 31 bytes",
        restart: true,
        read: |to, value| set(&mut to.tracing.servers, servers(value)),
        show: |of| quote_all(&of.tracing.servers),
    },
    Key {
        full: "tracing.backend",
        about: "How stream operations are observed: \"fentry\", \"kprobe\", \"syscall\", or \"auto\" for the best\n\
                one that the kernel supports.",
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
        about: "How long after a command exits before processes that keep its session open are reported.",
        expected: TIME,
        restart: true,
        read: |to, value| set(&mut to.tracing.grace, from_text(value, units::time)),
        show: |of| time(of.tracing.grace),
    },
    Key {
        full: "tracing.stall_after",
        about: "How long a command must wait for its server to read before a finding is reported. A client\n\
                that reads slowly (`| less`) does no harm; `top` and `ls` show the stall at once.",
        expected: TIME,
        restart: true,
        read: |to, value| set(&mut to.tracing.stall_after, from_text(value, units::time)),
        show: |of| time(of.tracing.stall_after),
    },
    Key {
        full: "tracing.ring_bytes",
        about: "Size of the kernel's ring buffer: a power of two from 4 KiB. When it is full, records are\n\
                lost, and the sessions concerned say so.",
        expected: "a power of two from 4 KiB, such as \"8 MiB\"",
        restart: true,
        read: |to, value| set(&mut to.tracing.ring_bytes, from_size(value, units::ring)),
        show: |of| size(u64::from(of.tracing.ring_bytes)),
    },
    Key {
        full: "tracing.pins",
        about: "Where programs and maps are pinned, on a BPF file system, so that a restarted daemon misses\n\
                nothing. \"\" pins nothing.",
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
        about: "Whether other users may see their own sessions.",
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
        about: "The maximum number of connected clients.",
        expected: "a number from 1 to 10000",
        restart: false,
        read: |to, value| set(&mut to.socket.max_clients, clients(value)),
        show: |of| of.socket.max_clients.to_string(),
    },
    Key {
        full: "store.dir",
        about: "The directory of the database of sessions and findings.",
        expected: "an absolute path",
        restart: true,
        read: |to, value| set(&mut to.store.dir, path(value)),
        show: |of| quote(&of.store.dir.to_string_lossy()),
    },
    Key {
        full: "store.max_age",
        about: "How long sessions without findings are kept, and all records.",
        expected: TIME,
        restart: false,
        read: |to, value| set(&mut to.store.max_age, from_text(value, units::time)),
        show: |of| time(of.store.max_age),
    },
    Key {
        full: "store.findings_max_age",
        about: "How long findings and their sessions are kept.",
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
        about: "The maximum size of the database; the oldest sessions are deleted first.",
        expected: SIZE,
        restart: false,
        read: |to, value| set(&mut to.store.max_bytes, from_size(value, units::size)),
        show: |of| size(of.store.max_bytes),
    },
    Key {
        full: "privacy.capture_argv",
        about: "How much of each command line is kept: \"full\", \"redacted\" (what looks like a secret is\n\
                replaced by ***) or \"comm\" (only the program's name).",
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
        about: "Regular expressions of further secrets in command lines. What matches is masked, or only\n\
                the first group if there is one.",
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
