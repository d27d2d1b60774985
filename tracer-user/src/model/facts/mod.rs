//! Facts: what records say of sessions, their streams, processes and connections, and what scans find.
//!
//! Facts are kept as they arrive and nothing is concluded from them here. This is the lowest layer above
//! the public types of [`view`](super::view): it knows nothing of judgement, schedule, findings or text.

mod argv;
mod connection;
mod env;
mod handover;
mod hangup;
mod lineage;
mod peers;
mod scan;
mod server;
mod session;
mod shell;
mod stream;

pub(in crate::model) use self::{
    argv::Argv,
    env::Env,
    handover::Sight,
    hangup::Hangup,
    lineage::Tree,
    peers::{Conns, MAX_SERVERS, Servers},
    scan::{Copy, Look, MAX_COPIES, Scan, Seen},
    session::{MAX_SESSIONS, Session},
    shell::shell_command,
    stream::{Close, ServerEnd, Stream, observed, transport_name},
};
