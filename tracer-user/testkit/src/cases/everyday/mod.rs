//! Everyday endings: what clients and operators do all day. Nothing may be reported about it.

mod accuse;
mod connections;
mod jobs;
mod leave;
mod masters;
mod transfer;

use libc::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM};

use self::connections::{forwards, jump, scans};
use self::jobs::{all_killed, background, detached, killed, pipes, slow, terminal};
use self::leave::{
    Doing::{self, Editor, Follows, Pipeline, Reads, Script, Shell, Sleeps, Top, Types, Writes},
    Ending::{Keys, Signal, TimeLimit, WindowClosed},
    leave,
};
use self::masters::{Last, master};
use self::transfer::{
    Tool::{GitClone, GitFetch, GitPush, Rsync, Scp, ScpOld, Sftp},
    Way::{Get, Put},
    transfer,
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

/// The catalogue's entries, one a line.
macro_rules! entries {
    ($($id:literal $title:literal: $scenario:expr;)*) => {
        &[$(Case {
            id: $id,
            title: $title,
            class: Class::Clean,
            tier: Tier::Full,
            scenario: $scenario,
        }),*]
    };
}

/// What nothing may be reported about.
pub(super) const CASES: &[Case] = entries! {
    "Q1" "the client gets SIGINT": |stage| leave(stage, OpenSsh, ALL, Signal(SIGINT));
    "Q2" "the client gets SIGTERM": |stage| leave(stage, OpenSsh, ALL, Signal(SIGTERM));
    "Q3" "the client gets SIGHUP": |stage| leave(stage, OpenSsh, ALL, Signal(SIGHUP));
    "Q4" "the client gets SIGQUIT": |stage| leave(stage, OpenSsh, ALL, Signal(SIGQUIT));
    "Q5" "the client gets SIGKILL": |stage| leave(stage, OpenSsh, ALL, Signal(SIGKILL));
    "Q6" "timeout N ssh": |stage| leave(stage, OpenSsh, PLAIN, TimeLimit);
    "Q7" "the user types ~.": |stage| leave(stage, OpenSsh, IN_WINDOW, Keys("\r~."));
    "Q8" "the terminal window is closed": |stage| leave(stage, OpenSsh, IN_WINDOW, WindowClosed);
    "Q9" "dropbear: the client gets SIGINT": |stage| leave(stage, Dropbear, FEW, Signal(SIGINT));
    "Q10" "dropbear: the client gets SIGTERM": |stage| leave(stage, Dropbear, FEW, Signal(SIGTERM));
    "Q11" "dropbear: the client gets SIGKILL": |stage| leave(stage, Dropbear, FEW, Signal(SIGKILL));
    "Q12" "dropbear: the window is closed": |stage| leave(stage, Dropbear, &[Shell, Types], WindowClosed);
    "Q13" "Ctrl-C typed while a program writes": |stage| leave(stage, OpenSsh, &[Types], Keys("\x03"));
    "Q14" "Ctrl-D typed at the prompt": |stage| leave(stage, OpenSsh, &[Shell], Keys("\x04"));
    "Q15" "exit typed at the prompt": |stage| leave(stage, OpenSsh, &[Shell], Keys("seq 1 999; exit\r"));
    "Q16" "q typed in top, :q in an editor": |stage| leave(stage, OpenSsh, &[Top, Editor], Keys("q\x1b:q\r"));
    "Q17" "scp from the server interrupted": |stage| transfer(stage, Scp, Get);
    "Q18" "scp to the server interrupted": |stage| transfer(stage, Scp, Put);
    "Q19" "scp -O from the server interrupted": |stage| transfer(stage, ScpOld, Get);
    "Q20" "scp -O to the server interrupted": |stage| transfer(stage, ScpOld, Put);
    "Q21" "sftp get interrupted": |stage| transfer(stage, Sftp, Get);
    "Q22" "sftp put interrupted": |stage| transfer(stage, Sftp, Put);
    "Q23" "rsync from the server interrupted": |stage| transfer(stage, Rsync, Get);
    "Q24" "rsync to the server interrupted": |stage| transfer(stage, Rsync, Put);
    "Q25" "git clone interrupted": |stage| transfer(stage, GitClone, Get);
    "Q26" "git fetch interrupted": |stage| transfer(stage, GitFetch, Get);
    "Q27" "git push interrupted": |stage| transfer(stage, GitPush, Put);
    "Q28" "a master with sessions is told to exit": |stage| master(stage, Last::Exit);
    "Q29" "a master with sessions is told to stop": |stage| master(stage, Last::Stop);
    "Q30" "one session of a master is interrupted": |stage| master(stage, Last::Interrupted);
    "Q31" "a master with sessions gets SIGTERM": |stage| master(stage, Last::Terminated);
    "Q32" "a master with sessions gets SIGKILL": |stage| master(stage, Last::Killed);
    "Q33" "an operator kills the command": killed;
    "Q34" "all of the user's processes are killed": all_killed;
    "Q35" "ssh -f": background;
    "Q36" "nohup, setsid, a double fork, with redirects": detached;
    "Q37" "output closed early, SIGPIPE, half-closed stdin": pipes;
    "Q38" "a terminal where none is needed, and none": terminal;
    "Q39" "a slow reader reads on, or is interrupted": slow;
    "Q40" "forwards asked for and unused": forwards;
    "Q41" "a jump over the same host, ended and interrupted": jump;
    "Q42" "port scans, ssh-keyscan, failed logins": scans;
};

pub(super) use self::accuse::CASES as ACCUSATIONS;
