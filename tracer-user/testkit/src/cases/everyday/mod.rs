//! Everyday endings: what clients and operators do all day. Nothing may be reported about it.

mod leave;

use libc::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM};

use self::leave::{
    Doing::{self, Editor, Follows, Pipeline, Reads, Script, Shell, Sleeps, Top, Types, Writes},
    Ending::{Keys, Signal, TimeLimit, WindowClosed},
    leave,
};
use crate::case::{Case, Class, Tier};
use crate::world::Server::{Dropbear, OpenSsh};

/// Commands without a terminal.
const PLAIN: &[Doing] = &[Writes, Script, Pipeline, Reads, Sleeps, Follows];

/// Commands on a terminal.
const IN_WINDOW: &[Doing] = &[Shell, Types, Top, Editor];

const ALL: &[Doing] = &[
    Writes, Script, Pipeline, Reads, Sleeps, Follows, Shell, Types, Top, Editor,
];

/// What dropbear is tried with.
const FEW: &[Doing] = &[Writes, Reads, Sleeps, Shell, Types];

/// Cases in which every session ends in the same way, one a line.
macro_rules! endings {
    ($($id:literal $title:literal: $server:expr, $doings:expr, $ending:expr;)*) => {
        &[$(Case {
            id: $id,
            title: $title,
            class: Class::Clean,
            tier: Tier::Full,
            scenario: |stage| leave(stage, $server, $doings, $ending),
        }),*]
    };
}

pub(super) const CASES: &[Case] = endings! {
    "Q1" "the client gets SIGINT": OpenSsh, ALL, Signal(SIGINT);
    "Q2" "the client gets SIGTERM": OpenSsh, ALL, Signal(SIGTERM);
    "Q3" "the client gets SIGHUP": OpenSsh, ALL, Signal(SIGHUP);
    "Q4" "the client gets SIGQUIT": OpenSsh, ALL, Signal(SIGQUIT);
    "Q5" "the client gets SIGKILL": OpenSsh, ALL, Signal(SIGKILL);
    "Q6" "timeout N ssh": OpenSsh, PLAIN, TimeLimit;
    "Q7" "the user types ~.": OpenSsh, IN_WINDOW, Keys("\r~.");
    "Q8" "the terminal window is closed": OpenSsh, IN_WINDOW, WindowClosed;
    "Q9" "dropbear: the client gets SIGINT": Dropbear, FEW, Signal(SIGINT);
    "Q10" "dropbear: the client gets SIGTERM": Dropbear, FEW, Signal(SIGTERM);
    "Q11" "dropbear: the client gets SIGKILL": Dropbear, FEW, Signal(SIGKILL);
    "Q12" "dropbear: the terminal window is closed": Dropbear, &[Shell, Types], WindowClosed;
};
