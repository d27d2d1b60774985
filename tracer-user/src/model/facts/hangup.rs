//! A member of a session that died when its terminal was hung up, and what it was reading and writing.

use tracer_ebpf::StreamEnds;

use crate::model::view::Visible;

/// A process that the hangup of its terminal killed.
#[derive(Debug)]
pub(in crate::model) struct Hangup {
    /// When, ns.
    pub time: u64,
    pub pid: u32,
    pub comm: Visible,
    /// Inode number of the pipe that was its stdin; 0 for anything else.
    pub stdin: u64,
    /// Bytes left in it.
    pub unread: u64,
    /// The pipe or terminal that was its stdout.
    pub stdout: StreamEnds,
    /// Its stdout was a terminal that is not the session's, such as a pane of tmux or screen.
    pub on_another_terminal: bool,
    /// Pids from the leader to it.
    pub ancestors: Vec<u32>,
}
