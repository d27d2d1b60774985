//! Draws sessions.

use std::fmt;

use super::rng::Rng;
use crate::world::Server::{
    self, Drain, DrainNoStdin, Dropbear, Eager, EagerNoStdin, EagerOnePipe, EagerSocket, OpenSsh,
};

/// How the leader ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Code(u8),
    Killed,
}

/// Which outputs a job keeps.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keeps {
    Stdout,
    Stderr,
    Both,
}

/// What a command does until its client leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    Writes,
    Script,
    Reads,
    Sleeps,
    /// On a terminal.
    Types,
    /// A shell on a terminal.
    Shell,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaving {
    /// By this signal.
    Signal(i32),
    /// By having its output closed, or its window if it has one.
    Closed,
}

/// What happens in a session.
#[derive(Debug)]
pub(super) enum Shape {
    /// Bytes on both outputs, in this order, with pauses in milliseconds before each.
    Output {
        stdout: u64,
        stderr: u64,
        pauses: [u64; 2],
        end: End,
    },
    /// Bytes on a terminal.
    Terminal { bytes: u64 },
    /// Output, and a job that writes some more a little later, well within the grace time.
    Late { stdout: u64, later: u64 },
    /// Output, and jobs that hold on until they have been looked at, and write nothing.
    Held { stdout: u64, jobs: Vec<Keeps> },
    /// The server is killed with bytes unread.
    ServerKilled { unread: u64 },
    /// The client is killed with everything on the way full.
    ClientKilled,
    /// The client leaves at any moment, whatever the command does.
    Leaves {
        doing: Doing,
        leaving: Leaving,
        after: u64,
    },
    /// Another process reads some of the output.
    Taken { written: u64, taken: usize },
}

/// One session to be.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) server: Server,
    pub(super) shape: Shape,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "session {} on {:?}: {:?}",
            self.number, self.server, self.shape
        )
    }
}

const DOINGS: &[Doing] = &[
    Doing::Writes,
    Doing::Script,
    Doing::Reads,
    Doing::Sleeps,
    Doing::Types,
    Doing::Shell,
];

const LEAVINGS: &[Leaving] = &[
    Leaving::Signal(libc::SIGINT),
    Leaving::Signal(libc::SIGTERM),
    Leaving::Signal(libc::SIGHUP),
    Leaving::Signal(libc::SIGQUIT),
    Leaving::Signal(libc::SIGKILL),
    Leaving::Closed,
];

impl Plan {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut rng = Rng::new(seed, number);
        let server = rng.pick(&[
            OpenSsh,
            OpenSsh,
            OpenSsh,
            Eager,
            Eager,
            EagerSocket,
            EagerNoStdin,
            EagerOnePipe,
            Drain,
            DrainNoStdin,
            Dropbear,
        ]);
        let shape = match (rng.below(100), server) {
            (0..5, OpenSsh) => Shape::ClientKilled,
            (5..12, OpenSsh) => Shape::ServerKilled {
                unread: 1 + rng.below(65536),
            },
            (37..57, OpenSsh | Dropbear) => Shape::Leaves {
                doing: rng.pick(DOINGS),
                leaving: rng.pick(LEAVINGS),
                after: rng.below(400),
            },
            (57..60, OpenSsh) => {
                let written = 1 + rng.below(65536);
                let taken = usize::try_from(1 + rng.below(written)).unwrap_or(1);
                Shape::Taken { written, taken }
            }
            (12..17, OpenSsh) => Shape::Terminal {
                bytes: rng.size() >> 3,
            },
            (12..27, _) => Shape::Held {
                stdout: rng.size(),
                jobs: rng.jobs(),
            },
            // An eager server would cut the late writer off; that is another matter.
            (27..37, OpenSsh | Drain | DrainNoStdin) => Shape::Late {
                stdout: rng.size(),
                later: rng.size(),
            },
            _ => Shape::Output {
                stdout: rng.size(),
                stderr: if rng.below(3) == 0 { rng.size() } else { 0 },
                pauses: [rng.pause(), rng.pause()],
                end: if rng.below(8) == 0 {
                    End::Killed
                } else {
                    End::Code(rng.pick(&[0, 0, 0, 1, 77]))
                },
            },
        };
        Self {
            number,
            server,
            shape,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn a_seed_always_gives_the_same_sessions() {
        let draw = |seed| {
            (0..50)
                .map(|number| Plan::new(seed, number).to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
