//! Findings as they are stored and sent: flat, as they were before they had bodies.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Cause, Finding, FindingBody, Fix, HolderView, Kind, SessionView, Slot, State};

#[derive(Serialize)]
struct Flat<'a> {
    time: u64,
    known: u64,
    kind: Kind,
    state: State,
    since: Option<u64>,
    session: &'a SessionView,
    stream: Option<Slot>,
    bytes: u64,
    exact: bool,
    cause: Option<Cause>,
    holders: &'a [HolderView],
    margin_ns: Option<i64>,
    message: &'a str,
    fix: &'a Fix,
    quiet: bool,
}

#[derive(Deserialize)]
struct Stored {
    time: u64,
    #[serde(default)]
    known: u64,
    kind: Kind,
    state: State,
    #[serde(default)]
    since: Option<u64>,
    session: Arc<SessionView>,
    stream: Option<Slot>,
    bytes: u64,
    exact: bool,
    cause: Option<Cause>,
    holders: Vec<HolderView>,
    margin_ns: Option<i64>,
    message: String,
    fix: Fix,
    #[serde(default)]
    quiet: bool,
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let flat = Flat {
            time: self.time,
            known: self.known,
            kind: self.kind(),
            state: self.state,
            since: self.since(),
            session: &self.session,
            stream: self.stream(),
            bytes: self.bytes(),
            exact: self.exact,
            cause: self.cause(),
            holders: self.holders(),
            margin_ns: self.margin_ns(),
            message: &self.message,
            fix: &self.fix,
            quiet: self.quiet,
        };
        flat.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Finding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut stored = Stored::deserialize(deserializer)?;
        let Some(body) = stored.body() else {
            let kind = stored.kind.name();
            let problem = format!("a finding of kind {kind} without its stream or its cause");
            return Err(de::Error::custom(problem));
        };
        Ok(Self {
            time: stored.time,
            known: stored.known,
            state: stored.state,
            session: stored.session,
            body,
            exact: stored.exact,
            message: stored.message,
            fix: stored.fix,
            quiet: stored.quiet,
        })
    }
}

impl Stored {
    /// `None` where something is missing.
    fn body(&mut self) -> Option<FindingBody> {
        let holders = std::mem::take(&mut self.holders);
        Some(match self.kind {
            Kind::Truncated => FindingBody::Truncated {
                stream: self.stream?,
                lost: self.bytes,
                cause: match self.cause? {
                    Cause::Loss(cause) => cause,
                    Cause::Stall(_) | Cause::Wait(_) => return None,
                },
                margin_ns: self.margin_ns,
            },
            Kind::Orphaned => FindingBody::Orphaned {
                stream: self.stream,
                written: self.bytes,
                holders,
            },
            Kind::Stalled => FindingBody::Stalled {
                stream: self.stream?,
                unread: self.bytes,
                since: self.since,
            },
            Kind::Waiting => FindingBody::Waiting {
                cause: match self.cause? {
                    Cause::Wait(cause) => cause,
                    Cause::Loss(_) | Cause::Stall(_) => return None,
                },
                programs: holders,
            },
            Kind::NearMiss => FindingBody::NearMiss {
                stream: self.stream?,
                unread: self.bytes,
                margin_ns: self.margin_ns,
            },
        })
    }
}
