//! Hangs that are open. One that ends by itself within a hook's `min_age` is none of the hook's business,
//! so what there is to say of a hang is kept until it is that old.

use std::collections::BTreeMap;

use crate::model::{Finding, FindingKey, SessionId, State};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hangs(BTreeMap<FindingKey, Hang>);

#[derive(Debug)]
pub(super) struct Hang {
    /// When it was found, ns of the clock that findings have.
    pub since: u64,
    /// The finding in state `open`.
    open: Option<Finding>,
    /// The latest in state `updated`.
    updated: Option<Finding>,
}

impl Hang {
    /// What there is to say of it, in order.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.open.iter().chain(&self.updated)
    }
}

/// The hang that a finding is about; `None` for a loss, which is final.
pub(super) fn key(finding: &Finding) -> Option<FindingKey> {
    finding.kind().is_hang().then(|| finding.key())
}

impl Hangs {
    /// Takes in what became known of a hang.
    pub fn note(&mut self, key: FindingKey, finding: &Finding) {
        if finding.state == State::Resolved {
            self.0.remove(&key);
            return;
        }
        let hang = self.0.entry(key).or_insert_with(|| Hang {
            since: finding.time,
            open: None,
            updated: None,
        });
        let latest = match finding.state {
            State::Open => &mut hang.open,
            _ => &mut hang.updated,
        };
        *latest = Some(finding.clone());
    }

    /// The session is closed: nothing of it hangs any more.
    pub fn forget(&mut self, session: SessionId) {
        self.0.retain(|key, _| key.session != session);
    }

    pub fn contains(&self, key: &FindingKey) -> bool {
        self.0.contains_key(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&FindingKey, &Hang)> {
        self.0.iter()
    }
}
