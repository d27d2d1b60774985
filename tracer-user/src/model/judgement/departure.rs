//! Who ended a stream: the client, the network, somebody's signal, or the server by itself.
//!
//! A client that leaves politely sends a last message (SSH_MSG_DISCONNECT or SSH_MSG_CHANNEL_CLOSE, RFC
//! 4253 and 4254), and the server may act on it before the client's FIN is there. So the time of the
//! last data from the client counts as well: a client that has been silent did not ask for anything.

use crate::model::{
    facts::{Close, Session},
    view::ExitStatus,
};

/// From the client's last message to the server's close for it, at most, ns. OpenSSH's shortest limits
/// of its own (ClientAliveInterval, ChannelTimeout; sshd_config(5)) are one second of silence.
const REACTS_WITHIN: u64 = 900_000_000;
/// What the time of the client's last message may be wrong by, ns: two ticks of the slowest kernel.
const TICKS: u64 = 20_000_000;
/// A server that closes early does so at once after the command's end; later than this, what its client
/// said just before is the likelier reason, ns.
const RACES_WITHIN: u64 = 1_000_000_000;

/// From the last close to the leader being ended by it, ns.
pub(in crate::model) const LEADER_FOLLOWS: u64 = 250_000_000;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum Ender {
    /// The client left, closed the channel or wanted no more of this output. Also where that is likely
    /// and nothing proves another.
    Client,
    /// The client stopped answering.
    Network,
    /// A signal ended the server.
    Killed,
    /// The server, by a limit of its own.
    Policy,
    /// The server, when the command had exited.
    AfterCommand,
    /// The server ended in good order while the command ran.
    Server,
}

/// Who is behind a close of the server's end; the order is the point.
pub(in crate::model) fn ender(session: &Session, close: &Close) -> Ender {
    if let Some(left) = session.connection().left_before(close.time) {
        return match left.unreached {
            true => Ender::Network,
            false => Ender::Client,
        };
    }
    if close.exiting && session.server().killed_before(close.time).is_some() {
        return Ender::Killed;
    }
    if client_spoke_last(session, close) {
        return Ender::Client;
    }
    if close.exiting && has_failed(session) {
        // A client that is only slow acknowledges what it gets.
        return match close.unanswered {
            true => Ender::Network,
            false => Ender::Policy,
        };
    }
    match (close.after_leader, close.exiting) {
        (true, _) => Ender::AfterCommand,
        (false, true) => Ender::Server,
        // A server that lives on has no other reason of its own to close the output of a command that
        // runs. Where it is not known when the client spoke, it may well have asked for it.
        (false, false) if close.heard == 0 => Ender::Client,
        (false, false) => Ender::Policy,
    }
}

/// Whether the client ended the connection: its FIN or reset came first, or the server ended itself just
/// after a message from it.
pub(in crate::model) fn client_left(session: &Session) -> bool {
    let connection = session.connection();
    if connection.peer_left().is_some_and(|left| !left.unreached) {
        return true;
    }
    let heard = connection.heard();
    session.server().exit_time().is_some_and(|exit| {
        heard != 0
            && exit.saturating_sub(heard) <= REACTS_WITHIN
            && session.server().killed_before(exit).is_none()
    })
}

/// The client sent something just before the close, and nothing else explains the close as well.
fn client_spoke_last(session: &Session, close: &Close) -> bool {
    let died = session
        .notice()
        .map(|notice| notice.time)
        .or(session.leader_gone());
    let after = match died.filter(|_| close.after_leader) {
        // A client that gets data says so now and then (SSH_MSG_CHANNEL_WINDOW_ADJUST): that alone does
        // not make it the one who closed.
        Some(died) if !close.exiting && close.time.saturating_sub(died) < RACES_WITHIN => {
            return false;
        }
        Some(died) => died.saturating_add(TICKS),
        None => 0,
    };
    close.heard > after && close.time.saturating_sub(close.heard) <= REACTS_WITHIN
}

/// The server ended itself with an error.
fn has_failed(session: &Session) -> bool {
    let status = session.server().exit_status();
    status.is_some_and(|status| status != ExitStatus::Code(0))
}
