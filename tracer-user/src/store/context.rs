//! What the kept records of every session begin with: the start of the tracing, losses before the session,
//! and who its user is.

use std::collections::HashMap;

use tracer_ebpf::{COMM_LEN, Record, SessionStart};
use zerocopy::IntoBytes as _;

use super::{journal::fork_of_server, record_list};
use crate::model::SessionId;

/// Most users whose names are kept.
const MAX_USERS: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Context {
    start: Vec<u8>,
    ready: Vec<u8>,
    /// The last loss of records and the last time without a tracer: when, and the record that says so.
    losses: [(u64, Vec<u8>); 2],
    users: HashMap<u32, Box<[u8]>>,
}

impl Context {
    /// Notes a record that is about sessions to come as well.
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

    /// The records that those of a session begin with.
    pub fn of(&self, id: SessionId) -> impl Iterator<Item = &[u8]> {
        // What was lost before its leader started was not about it.
        let leader_ms = id.start_ms();
        let losses = self.losses.iter();
        let losses = losses.filter(move |(time, _)| time / 1_000_000 >= leader_ms);
        [&self.start, &self.ready]
            .into_iter()
            .chain(losses.map(|(_, loss)| loss))
            .flat_map(|records| record_list::split(records))
    }

    /// The records that come right before a session's start. `forked_as` is the leader's name, if a server
    /// was seen to fork it.
    pub fn of_start(
        &self,
        start: &SessionStart,
        forked_as: Option<[u8; COMM_LEN]>,
    ) -> Vec<Vec<u8>> {
        let fork = forked_as.filter(|_| start.leader.pid != 0);
        let fork = fork.map(|comm| {
            fork_of_server(start.leader, comm, start.header.time)
                .as_bytes()
                .to_vec()
        });
        let user = self.users.get(&start.uid).map(|user| user.to_vec());
        fork.into_iter().chain(user).collect()
    }
}
