//! The course of one process.

use serde::{Deserialize, Serialize};
use tracer_ebpf::{Exec, Exit, Fork, Proc, role};

use super::Timeline;
use crate::model::{
    facts::Argv,
    view::{ExitStatus, Visible},
};

/// Most processes that are kept of a session.
pub(super) const MAX_LIVES: usize = 256;
/// Most programs that are kept of a process: the first, and the latest.
const MAX_PROGRAMS: usize = 4;

/// The course of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Its pid.
    pub pid: u32,
    /// When it started, as the kernel has it.
    pub start: u64,
    /// Its parent's pid when it began; 0 when not known.
    pub parent: u32,
    /// Real user id.
    pub uid: u32,
    /// Its name when it began.
    pub comm: Visible,
    /// What it executed since, ascending.
    pub programs: Vec<Program>,
    /// When it began: was forked, or was first seen.
    pub began: u64,
    /// When it exited.
    pub ended: Option<u64>,
    /// How.
    pub exit: Option<ExitStatus>,
}

/// A process executed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// When.
    pub time: u64,
    /// The process's name since.
    pub comm: Visible,
    /// Its arguments.
    pub argv: Vec<Visible>,
    /// There are more of them.
    pub argv_cut: bool,
}

impl Life {
    /// Its latest name.
    #[must_use]
    pub fn name(&self) -> &Visible {
        self.name_at(u64::MAX)
    }

    /// Its name at a moment.
    #[must_use]
    pub fn name_at(&self, time: u64) -> &Visible {
        let mut programs = self.programs.iter().rev();
        programs
            .find(|program| program.time <= time)
            .map_or(&self.comm, |program| &program.comm)
    }

    /// Arguments of its latest program; empty when it never executed any.
    #[must_use]
    pub fn argv(&self) -> &[Visible] {
        self.programs
            .last()
            .map_or(&[], |program| program.argv.as_slice())
    }

    /// Whether it had begun, and not ended, at a moment.
    #[must_use]
    pub fn lives_at(&self, time: u64) -> bool {
        self.began <= time && self.ended.is_none_or(|ended| ended > time)
    }

    /// Forgets what came later.
    pub(super) fn cut(&mut self, time: u64) {
        self.programs.retain(|program| program.time <= time);
        if self.ended.is_some_and(|ended| ended > time) {
            (self.ended, self.exit) = (None, None);
        }
    }

    const fn is(&self, proc: Proc) -> bool {
        self.pid == proc.pid && self.start == proc.start
    }

    fn executes(&mut self, record: &Exec) {
        let argv = Argv::of(record);
        if self.programs.len() == MAX_PROGRAMS {
            self.programs.remove(1);
        }
        self.programs.push(Program {
            time: record.header.time,
            comm: Visible::field(&record.comm),
            argv: argv.words(),
            argv_cut: argv.cut,
        });
        self.uid = record.uid;
    }
}

pub(super) fn started(timeline: &mut Timeline, leader: Proc, server: u32, uid: u32) {
    let began = timeline.session.opened;
    add(
        timeline,
        Life {
            pid: leader.pid,
            start: leader.start,
            parent: server,
            uid,
            // Until it executes something it runs the server's code, under the server's name.
            comm: timeline.session.server_exe.clone(),
            programs: Vec::new(),
            // Between its fork and its taking the streams it was the server's.
            began: began.min(leader.start.max(1)),
            ended: None,
            exit: None,
        },
    );
}

pub(super) fn fork(timeline: &mut Timeline, record: &Fork) {
    if timeline.processes.iter().any(|life| life.is(record.child)) {
        return;
    }
    add(
        timeline,
        Life {
            pid: record.child.pid,
            start: record.child.start,
            parent: record.parent.pid,
            uid: record.uid,
            comm: Visible::field(&record.comm),
            programs: Vec::new(),
            began: record.header.time,
            ended: None,
            exit: None,
        },
    );
}

/// What the process of a pid was called at a moment; empty when not known. A child that has executed
/// nothing yet has its parent's name.
fn name_of(timeline: &Timeline, pid: u32, time: u64) -> Visible {
    let mut lives = timeline.processes.iter().filter(|life| life.pid == pid);
    match lives.find(|life| life.lives_at(time)) {
        Some(life) => life.name_at(time).clone(),
        None if pid != 0 && pid == timeline.session.server_pid => {
            timeline.session.server_exe.clone()
        }
        None => Visible::default(),
    }
}

/// A member executed something, or was there before the tracer.
pub(super) fn exec(timeline: &mut Timeline, record: &Exec) {
    let known = timeline
        .processes
        .iter_mut()
        .find(|life| life.is(record.proc));
    if let Some(life) = known {
        life.executes(record);
    } else {
        let began = record.header.time.min(record.proc.start.max(1));
        let mut life = Life {
            pid: record.proc.pid,
            start: record.proc.start,
            parent: record.parent,
            uid: record.uid,
            comm: name_of(timeline, record.parent, began),
            programs: Vec::new(),
            began,
            ended: None,
            exit: None,
        };
        life.executes(record);
        add(timeline, life);
    }
    if record.flags & role::EXITED != 0 {
        end(timeline, record.proc, record.header.time, None);
    }
}

pub(super) fn exit(timeline: &mut Timeline, record: &Exit) {
    let status = ExitStatus::of_wait(record.status);
    end(timeline, record.proc, record.header.time, Some(status));
}

fn end(timeline: &mut Timeline, proc: Proc, time: u64, exit: Option<ExitStatus>) {
    if let Some(life) = timeline.processes.iter_mut().find(|life| life.is(proc)) {
        life.ended.get_or_insert(time);
        life.exit = life.exit.or(exit);
    }
}

/// Keeps a process; where there are too many, the one that was there for the shortest time goes.
/// Those that live are what a session waits for, and the leader is what it is about.
fn add(timeline: &mut Timeline, life: Life) {
    let lives = &mut timeline.processes;
    if lives.len() >= MAX_LIVES {
        timeline.left_out.processes += 1;
        let shortest = lives
            .iter()
            .enumerate()
            .skip(1)
            .filter_map(|(at, life)| Some((life.ended? - life.began.min(life.ended?), at)))
            .min();
        let Some((_, at)) = shortest else { return };
        lives.remove(at);
    }
    let leader = timeline.session.leader_pid;
    let key = |life: &Life| (life.pid != leader, life.began, life.start, life.pid);
    let at = lives.partition_point(|other| key(other) <= key(&life));
    lives.insert(at, life);
}
