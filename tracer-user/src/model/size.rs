//! How much the model keeps, and the most that it ever will.

use super::{facts, records, ticks};

/// How much is kept of each sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Sessions that are not over.
    pub sessions: usize,
    /// Their processes, dead ones that link a living one to its leader included.
    pub processes: usize,
    /// Processes that speak for servers.
    pub servers: usize,
    /// Connections that carry sessions.
    pub connections: usize,
    /// Names of users.
    pub users: usize,
    /// Processes of the start-up snapshot whose session has not followed yet.
    pub early: usize,
    /// Sessions remembered as over.
    pub over: usize,
    /// Sessions that went through something.
    pub histories: usize,
}

impl Size {
    /// The most of each that is kept, whatever comes.
    pub const LIMITS: Self = Self {
        sessions: facts::MAX_SESSIONS,
        processes: records::MAX_PROCESSES + facts::MAX_SESSIONS,
        servers: facts::MAX_SERVERS,
        connections: facts::MAX_SESSIONS,
        users: records::MAX_USERS,
        early: records::MAX_EARLY,
        over: ticks::MAX_OVER,
        histories: facts::MAX_SESSIONS,
    };

    /// Whether nothing is more than in `limits`.
    #[must_use]
    pub const fn is_within(&self, limits: &Self) -> bool {
        self.sessions <= limits.sessions
            && self.processes <= limits.processes
            && self.servers <= limits.servers
            && self.connections <= limits.connections
            && self.users <= limits.users
            && self.early <= limits.early
            && self.over <= limits.over
            && self.histories <= limits.histories
    }
}
