//! What to do about a finding.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What to do about a finding. A command is a whole shell command that can be pasted as it is; what
/// is no command stands apart from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Fix {
    /// A command that frees this session.
    pub now: Option<String>,
    /// What else `now` does.
    pub warning: Option<String>,
    /// A command that starts the same job so that it does not keep its session open.
    pub next: Option<String>,
    /// What to do where no command can be given.
    pub advice: Option<String>,
    /// What to know of `next`.
    pub note: Option<String>,
}

impl Fix {
    /// Advice alone.
    pub(in crate::model) fn advice(text: impl Into<String>) -> Self {
        Self {
            advice: Some(text.into()),
            ..Self::default()
        }
    }

    /// What helps the next session: the command, else the advice.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.next.as_deref().or(self.advice.as_deref())
    }

    /// The fix of a finding that is resolved: there is nothing left to free.
    #[must_use]
    pub fn once_resolved(self) -> Self {
        Self {
            now: None,
            warning: None,
            ..self
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts().next().is_none()
    }

    /// Its parts with their labels, in the order in which they are read.
    pub fn parts(&self) -> impl Iterator<Item = (Cow<'static, str>, &str)> {
        // In the label the warning is seen before the command, and not pasted with it.
        let now = match &self.warning {
            Some(warning) => format!("now ({warning})").into(),
            None => Cow::Borrowed("now"),
        };
        [
            (now, &self.now),
            ("next time".into(), &self.next),
            ("advice".into(), &self.advice),
            ("note".into(), &self.note),
        ]
        .into_iter()
        .filter_map(|(label, part)| Some((label, part.as_deref()?)))
    }
}

/// How a fix was written before it had parts, and how it is now.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Text(Option<String>),
    Parts {
        now: Option<String>,
        warning: Option<String>,
        next: Option<String>,
        advice: Option<String>,
        note: Option<String>,
    },
}

impl From<Stored> for Fix {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Text(advice) => Self {
                advice,
                ..Self::default()
            },
            Stored::Parts {
                now,
                warning,
                next,
                advice,
                note,
            } => Self {
                now,
                warning,
                next,
                advice,
                note,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_version_stored_reads_as_advice() {
        let read = |text| serde_json::from_str::<Fix>(text).unwrap();
        assert_eq!(read(r#""do better""#), Fix::advice("do better"));
        assert_eq!(read("null"), Fix::default());
        let fix = Fix {
            now: Some("kill 7".to_owned()),
            ..Fix::advice("do better")
        };
        assert_eq!(read(&serde_json::to_string(&fix).unwrap()), fix);
    }
}
