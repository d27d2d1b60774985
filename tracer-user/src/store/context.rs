//! What the records of every session begin with: what was told before it.

use std::collections::HashMap;

use tracer_ebpf::{Proc, Record, SessionStart};
use zerocopy::IntoBytes as _;

use super::{log::fork_of_server, records};
use crate::model::{Model, SessionId};

/// Most users whose names are kept.
const MAX_USERS: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Context {
    start: Vec<u8>,
    ready: Vec<u8>,
    /// When records were lost last, and when no tracer ran, with the record that tells so.
    losses: [(u64, Vec<u8>); 2],
    users: HashMap<u32, Box<[u8]>>,
}

impl Context {
    /// Takes in what may be told before a session.
    pub fn note(&mut self, record: &Record<'_>) {
        match record {
            Record::Start(_) => {
                self.start = record.bytes().to_vec();
                self.ready.clear();
            }
            Record::Ready(_) => self.ready = record.bytes().to_vec(),
            Record::Loss(it) => self.losses[0] = (it.header.time, record.bytes().to_vec()),
            Record::Resume(it) => self.losses[1] = (it.header.time, record.bytes().to_vec()),
            Record::User(it)
                if self.users.len() < MAX_USERS || self.users.contains_key(&it.uid) =>
            {
                self.users.insert(it.uid, record.bytes().into());
            }
            _ => {}
        }
    }

    /// What the records of a session begin with.
    pub fn of(&self, id: SessionId) -> impl Iterator<Item = &[u8]> {
        // What was lost before its leader was there cannot have been about it.
        let leader_ms = id.0 >> 22;
        let losses = self.losses.iter();
        let losses = losses.filter(move |(time, _)| time / 1_000_000 >= leader_ms);
        [&self.start, &self.ready]
            .into_iter()
            .chain(losses.map(|(_, loss)| loss))
            .flat_map(|records| records::split(records))
    }

    /// What comes before the record that a session starts with.
    pub fn of_start(&self, start: &SessionStart, model: &Model) -> Vec<Vec<u8>> {
        let name = |leader: Proc| model.server_name(leader);
        let fork = name(start.leader).filter(|_| start.leader.pid != 0);
        let fork = fork.map(|comm| {
            fork_of_server(start.leader, comm, start.header.time)
                .as_bytes()
                .to_vec()
        });
        let user = self.users.get(&start.uid).map(|user| user.to_vec());
        fork.into_iter().chain(user).collect()
    }
}
