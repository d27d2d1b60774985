//! The tracer's JSON lines, as the harness looks at them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::Value;

/// One line of output and when it was read.
#[derive(Clone, Debug)]
pub struct Event {
    /// When the harness read the line.
    pub at: Instant,
    /// The line as it came.
    pub raw: String,
    /// The line's object.
    pub value: Value,
}

impl Event {
    /// Parses one line.
    ///
    /// # Errors
    /// When it is no JSON object with a `type`.
    pub fn parse(raw: String) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(&raw).map_err(|error| format!("no JSON: {error}: {raw}"))?;
        if !value["type"].is_string() {
            return Err(format!("no `type`: {raw}"));
        }
        Ok(Self {
            at: Instant::now(),
            raw,
            value,
        })
    }

    fn text(&self, pointer: &str) -> &str {
        self.value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// `type`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("/type")
    }

    /// Whether it is of this `type`.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.kind() == kind
    }

    /// Whether it is a finding of this `kind`.
    #[must_use]
    pub fn finds(&self, kind: &str) -> bool {
        self.is("finding") && self.text("/kind") == kind
    }

    /// `kind` of a finding.
    #[must_use]
    pub fn finding(&self) -> &str {
        self.text("/kind")
    }

    /// `state` of a finding.
    #[must_use]
    pub fn state(&self) -> &str {
        self.text("/state")
    }

    /// `stream` of a finding.
    #[must_use]
    pub fn stream(&self) -> &str {
        self.text("/stream")
    }

    /// `cause` of a finding.
    #[must_use]
    pub fn cause(&self) -> &str {
        self.text("/cause")
    }

    /// `bytes` of a finding.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.value["bytes"].as_u64()
    }

    /// `session.id`, if the line is about a session.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.value.pointer("/session/id")?.as_str()
    }

    /// `session.command`.
    #[must_use]
    pub fn command(&self) -> &str {
        self.text("/session/command")
    }

    /// Port of `session.local`, the server's side of the connection.
    #[must_use]
    pub fn local_port(&self) -> Option<u16> {
        self.text("/session/local").rsplit_once(':')?.1.parse().ok()
    }

    /// `session.server.pid`.
    #[must_use]
    pub fn server(&self) -> Option<u32> {
        let pid = self.value.pointer("/session/server/pid")?.as_u64()?;
        u32::try_from(pid).ok()
    }

    /// A field that is a text, or nothing.
    #[must_use]
    pub fn text_of(&self, field: &str) -> &str {
        self.value[field].as_str().unwrap_or("")
    }

    /// `message` of a finding.
    #[must_use]
    pub fn message(&self) -> &str {
        self.text("/message")
    }

    /// `verdict` of a closed session.
    #[must_use]
    pub fn verdict(&self) -> &str {
        self.text("/verdict")
    }

    /// `holders`: pid to descriptors.
    #[must_use]
    pub fn holders(&self) -> BTreeMap<u32, BTreeSet<i32>> {
        let holders = self.value["holders"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        holders
            .iter()
            .filter_map(|holder| {
                let pid = u32::try_from(holder["pid"].as_u64()?).ok()?;
                let fds = holder["fds"].as_array()?.iter();
                Some((
                    pid,
                    fds.filter_map(|fd| i32::try_from(fd.as_i64()?).ok())
                        .collect(),
                ))
            })
            .collect()
    }

    /// The holder with this pid.
    #[must_use]
    pub fn holder(&self, pid: u32) -> Option<&Value> {
        self.value["holders"]
            .as_array()?
            .iter()
            .find(|one| one["pid"].as_u64() == Some(pid.into()))
    }

    /// Pids of the inheritance path of the holder with this pid.
    #[must_use]
    pub fn path_of(&self, pid: u32) -> Vec<u32> {
        let Some(holder) = self.holder(pid) else {
            return Vec::new();
        };
        let steps = holder["path"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        steps
            .iter()
            .filter_map(|step| step.as_str()?.rsplit_once(' ')?.1.parse().ok())
            .collect()
    }

    /// `streams` of a closed session.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamEnd> {
        let streams = self.value["streams"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let text = |stream: &Value, key: &str| stream[key].as_str().unwrap_or("").to_owned();
        streams
            .iter()
            .map(|stream| StreamEnd {
                stream: text(stream, "stream"),
                verdict: text(stream, "verdict"),
                cause: text(stream, "cause"),
                written: stream["written"].as_u64(),
                read: stream["read"].as_u64(),
                exact: stream["exact"].as_bool().unwrap_or(false),
            })
            .collect()
    }
}

/// The last word on one stream.
#[derive(Clone, Debug)]
pub struct StreamEnd {
    /// `stdin`, `stdout`, `stderr`.
    pub stream: String,
    /// Its verdict.
    pub verdict: String,
    /// The verdict's cause, or nothing.
    pub cause: String,
    /// Bytes written by the session.
    pub written: Option<u64>,
    /// Bytes read by the server.
    pub read: Option<u64>,
    /// Whether the counts have no gap.
    pub exact: bool,
}
