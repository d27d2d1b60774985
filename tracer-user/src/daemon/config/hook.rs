//! The keys of a hook, and their defaults.

use std::time::Duration;

use super::{
    Action, Hook, Rate,
    settings::Key,
    units,
    values::{
        SIZE, TIME, found, from_size, from_text, is_url, quote, quote_all, rate, set, size, texts,
        time, words,
    },
};
use crate::model::{Kind, State};

/// The keys of a `[[hook]]`.
pub(super) const HOOK: &[Key<Draft>] = &[
    Key {
        full: "hook.command",
        about: "The program and its arguments, started without a shell; the finding is on its stdin.",
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
        about: "Instead of a command: the URL that the finding is posted to. The certificate of an https\n\
                server must be trusted by this machine, or be in the file named by SSL_CERT_FILE.",
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
        about: "The kinds of findings to send. Routine ones (near_miss, and truncated by client_gone) are\n\
                sent only if near_miss is in the list.",
        expected: "a list of \"truncated\", \"orphaned\", \"stalled\", \"waiting\", \"near_miss\"",
        restart: false,
        read: |to, value| set(&mut to.kinds, words(value, &Kind::ALL, |it| it.name())),
        show: |of| quote_all(of.kinds.iter().map(|kind| kind.name())),
    },
    Key {
        full: "hook.states",
        about: "The states to send: \"open\", \"updated\", \"resolved\".",
        expected: "a list of \"open\", \"updated\", \"resolved\"",
        restart: false,
        read: |to, value| set(&mut to.states, words(value, &State::ALL, |it| it.name())),
        show: |of| quote_all(of.states.iter().map(|state| state.name())),
    },
    Key {
        full: "hook.min_bytes",
        about: "Truncated streams that lost fewer bytes than this are not sent.",
        expected: SIZE,
        restart: false,
        read: |to, value| set(&mut to.min_bytes, from_size(value, units::size)),
        show: |of| size(of.min_bytes),
    },
    Key {
        full: "hook.min_age",
        about: "Hangs (orphaned, stalled, waiting) that end before they are this old are not sent. Losses\n\
                (truncated) are final and sent at once.",
        expected: TIME,
        restart: false,
        read: |to, value| set(&mut to.min_age, from_text(value, units::time)),
        show: |of| time(of.min_age),
    },
    Key {
        full: "hook.rate",
        about: "The maximum number of findings within a time. The next one says how many were suppressed.",
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
        about: "After this time a command is killed with everything that it started, and a post is aborted.",
        expected: TIME,
        restart: false,
        read: |to, value| set(&mut to.timeout, from_text(value, units::time)),
        show: |of| time(of.timeout),
    },
];

/// A hook that is being parsed.
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
    /// The example in the default file.
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

    /// The hook, if it has a command or a URL.
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
