//! The process tree of a session: how a holder descends from the leader.

use std::{collections::HashMap, sync::Arc};

use tracer_ebpf::{COMM_LEN, Proc};

use super::argv::Argv;
use crate::model::view::{Origin, Step, Visible, until_nul};

/// Most processes kept of one session; a fork bomb's rest is not told apart.
const MAX_NODES: usize = 4096;
/// Most dead processes kept that only link one child to its ancestors.
const MAX_LINKS: usize = 32;
/// Most steps of a path that are told: of a longer one, those next to the leader and those next to
/// the holder. Every link of a chain of processes that wait for one another may hold the stream.
const MAX_STEPS: usize = 32;

#[derive(Debug)]
struct Node {
    parent: Option<Proc>,
    comm: [u8; COMM_LEN],
    /// The parent's until it executes something; `None` when dead or not known.
    argv: Option<Arc<Argv>>,
    /// The arguments of a program that executed what it found at their end: `nohup java -jar x`.
    started: Option<Arc<Argv>>,
    execed: bool,
    alive: bool,
    children: u32,
}

/// The living processes of a session and their ancestors.
#[derive(Debug, Default)]
pub(in crate::model) struct Tree {
    nodes: HashMap<Proc, Node>,
    leader: Proc,
    living: usize,
    /// How many more there may be, as all sessions share what is kept.
    pub room: usize,
    overflowed: bool,
}

impl Tree {
    pub fn new(leader: Proc, comm: [u8; COMM_LEN]) -> Self {
        let mut tree = Self {
            leader,
            room: MAX_NODES,
            ..Self::default()
        };
        if leader.pid != 0 {
            tree.insert(leader, None, comm, None, false);
        }
        tree
    }

    /// Processes kept.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Members that have not exited.
    pub fn living(&self) -> usize {
        self.living
    }

    pub fn is_member(&self, proc: Proc) -> bool {
        self.nodes.contains_key(&proc)
    }

    /// Whether a member runs a program of its own.
    pub fn has_executed(&self, proc: Proc) -> bool {
        self.nodes.get(&proc).is_some_and(|node| node.execed)
    }

    /// Its name, as far as known.
    pub fn comm(&self, proc: Proc) -> &[u8] {
        self.nodes
            .get(&proc)
            .map_or(&[], |node| until_nul(&node.comm))
    }

    pub fn fork(&mut self, parent: Proc, child: Proc, comm: [u8; COMM_LEN]) {
        if self.nodes.contains_key(&child) {
            return;
        }
        let (parent, argv, started) = match self.nodes.get(&parent) {
            Some(node) => (Some(parent), node.argv.clone(), node.started.clone()),
            None => (None, None, None),
        };
        self.insert(child, parent, comm, argv, false);
        if let Some(node) = self.nodes.get_mut(&child) {
            node.started = started;
        }
    }

    /// A process executed something, or is found to exist. `parent` is a pid.
    pub fn exec(&mut self, proc: Proc, parent: u32, comm: [u8; COMM_LEN], argv: Arc<Argv>) {
        if !self.nodes.contains_key(&proc) {
            // By pid alone, so only a living one can be meant.
            let by_pid =
                |(proc, node): (&Proc, &Node)| (proc.pid == parent && node.alive).then_some(*proc);
            let parent = self.nodes.iter().find_map(by_pid);
            self.insert(proc, parent, comm, None, true);
        }
        if let Some(node) = self.nodes.get_mut(&proc) {
            node.comm = comm;
            let earlier = node.started.take().or(node.argv.take());
            node.started = earlier.filter(|earlier| earlier.before(&argv).is_some());
            node.argv = Some(argv);
            node.execed = true;
        }
    }

    pub fn exit(&mut self, proc: Proc) {
        let Some(node) = self.nodes.get_mut(&proc).filter(|node| node.alive) else {
            return;
        };
        node.alive = false;
        node.argv = None;
        node.started = None;
        self.living -= 1;
        self.prune(proc);
    }

    /// From the leader to `proc`, as far as known, its middle left out when long; and how it came by
    /// its copies.
    pub fn path(&self, proc: Proc, gap: bool) -> (Vec<Step>, Origin) {
        let mut line = Vec::new();
        let mut at = Some(proc);
        while let Some(proc) = at
            && let Some(node) = self.nodes.get(&proc)
            // Guards against records that would make a circle.
            && line.len() <= self.nodes.len()
        {
            line.push((proc, node));
            at = node.parent;
        }
        let top = line.last().map(|(proc, _)| *proc);
        if line.len() > MAX_STEPS {
            line.drain(MAX_STEPS / 2..line.len() - MAX_STEPS / 2);
        }
        let steps: Vec<Step> = line
            .into_iter()
            .rev()
            .map(|(proc, node)| Step {
                comm: Visible::field(&node.comm),
                pid: proc.pid,
            })
            .collect();
        let origin = if top == Some(self.leader) {
            Origin::Inherited
        } else if gap || !steps.is_empty() || self.overflowed || self.leader.pid == 0 {
            Origin::Unknown
        } else {
            Origin::Received
        };
        (steps, origin)
    }

    /// Arguments of a living member, and whether they are its own.
    pub fn argv(&self, proc: Proc) -> Option<(&Argv, bool)> {
        let node = self.nodes.get(&proc)?;
        Some((node.argv.as_deref()?, node.execed))
    }

    /// What stood before the arguments of a living member when it was started.
    pub fn launcher(&self, proc: Proc) -> Vec<Visible> {
        let before = self.nodes.get(&proc).and_then(|node| {
            let argv = node.argv.as_ref()?;
            node.started.as_ref()?.before(argv)
        });
        before.map_or_else(Vec::new, |before| Argv::new(before, false).words())
    }

    fn insert(
        &mut self,
        proc: Proc,
        parent: Option<Proc>,
        comm: [u8; COMM_LEN],
        argv: Option<Arc<Argv>>,
        execed: bool,
    ) {
        if self.nodes.len() >= MAX_NODES || self.room == 0 || parent == Some(proc) {
            self.overflowed = true;
            return;
        }
        if let Some(parent) = parent.and_then(|parent| self.nodes.get_mut(&parent)) {
            parent.children += 1;
        }
        self.nodes.insert(
            proc,
            Node {
                parent,
                comm,
                argv,
                started: None,
                execed,
                alive: true,
                children: 0,
            },
        );
        self.living += 1;
        self.room -= 1;
    }

    fn remove(&mut self, proc: Proc) {
        self.nodes.remove(&proc);
        self.room += 1;
    }

    /// Drops the dead that no living one descends from, and thins out chains of the dead.
    fn prune(&mut self, from: Proc) {
        let mut at = from;
        loop {
            let Some(node) = self.nodes.get(&at) else {
                return;
            };
            if node.alive || at == self.leader {
                return;
            }
            match node.children {
                0 => {
                    let parent = node.parent;
                    self.remove(at);
                    let Some(parent) = parent else { return };
                    if let Some(node) = self.nodes.get_mut(&parent) {
                        node.children = node.children.saturating_sub(1);
                    }
                    at = parent;
                }
                1 if self.nodes.len() - self.living > MAX_LINKS => return self.unlink(at),
                _ => return,
            }
        }
    }

    /// Takes a dead process with one child out of the chain.
    fn unlink(&mut self, at: Proc) {
        let Some(parent) = self.nodes.get(&at).map(|node| node.parent) else {
            return;
        };
        if let Some(child) = self.nodes.values_mut().find(|node| node.parent == Some(at)) {
            child.parent = parent;
            self.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc(pid: u32) -> Proc {
        Proc {
            start: u64::from(pid) * 10,
            pid,
            pad: 0,
        }
    }

    fn comm(name: &str) -> [u8; COMM_LEN] {
        let mut comm = [0; COMM_LEN];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        comm
    }

    fn path(tree: &Tree, pid: u32) -> Vec<String> {
        tree.path(proc(pid), false)
            .0
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_daemon_keeps_its_path_when_its_ancestors_die() {
        let mut tree = Tree::new(proc(1), comm("bash"));
        tree.fork(proc(1), proc(2), comm("bash"));
        tree.fork(proc(2), proc(3), comm("bash"));
        tree.exec(
            proc(3),
            2,
            comm("java"),
            Arc::new(Argv::new(b"java\0-jar\0x\0", false)),
        );
        tree.exit(proc(1));
        tree.exit(proc(2));
        assert_eq!(path(&tree, 3), ["bash 1", "bash 2", "java 3"]);
        assert_eq!(tree.living(), 1);
        let (argv, own) = tree.argv(proc(3)).unwrap();
        assert!(own);
        assert_eq!(argv.words().len(), 3);
        tree.exit(proc(3));
        assert_eq!(tree.nodes.len(), 1, "only the leader stays");
    }

    #[test]
    fn what_a_program_was_started_through_is_known() {
        let run = |tree: &mut Tree, argv: &[u8]| {
            tree.exec(proc(2), 1, comm("x"), Arc::new(Argv::new(argv, false)));
            tree.launcher(proc(2))
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let mut tree = Tree::new(proc(1), comm("bash"));
        tree.fork(proc(1), proc(2), comm("bash"));
        assert!(run(&mut tree, b"nohup\0nice\0java\0-jar\0x\0").is_empty());
        assert_eq!(run(&mut tree, b"nice\0java\0-jar\0x\0"), ["nohup"]);
        assert_eq!(run(&mut tree, b"java\0-jar\0x\0"), ["nohup", "nice"]);
        tree.fork(proc(2), proc(3), comm("x"));
        assert_eq!(
            tree.launcher(proc(3)).len(),
            2,
            "a fork is the same program"
        );
        assert!(run(&mut tree, b"ar\0x\0").is_empty(), "half a word");
    }

    #[test]
    fn a_stranger_has_no_path() {
        let tree = Tree::new(proc(1), comm("bash"));
        assert_eq!(tree.path(proc(99), false), (vec![], Origin::Received));
        assert_eq!(tree.path(proc(99), true).1, Origin::Unknown);
        let newcomer = Proc {
            start: 77,
            ..proc(1)
        };
        assert_eq!(
            tree.path(newcomer, false).1,
            Origin::Received,
            "same pid, other process"
        );
    }

    #[test]
    fn an_endless_chain_of_forks_stays_small() {
        let mut tree = Tree::new(proc(1), comm("hydra"));
        for pid in 1..10_000 {
            tree.fork(proc(pid), proc(pid + 1), comm("hydra"));
            tree.exit(proc(pid));
        }
        assert!(tree.nodes.len() <= MAX_LINKS + 3, "{}", tree.nodes.len());
        let steps = path(&tree, 10_000);
        assert_eq!(
            (steps[0].as_str(), steps.last().unwrap().as_str()),
            ("hydra 1", "hydra 10000")
        );
    }

    #[test]
    fn of_a_long_chain_the_ends_are_told() {
        let mut tree = Tree::new(proc(1), comm("hydra"));
        for pid in 1..4000 {
            tree.fork(proc(pid), proc(pid + 1), comm("hydra"));
        }
        let steps = path(&tree, 4000);
        assert_eq!(steps.len(), MAX_STEPS);
        assert_eq!(steps[..2], ["hydra 1", "hydra 2"]);
        assert_eq!(steps[MAX_STEPS - 2..], ["hydra 3999", "hydra 4000"]);
        assert_eq!(tree.path(proc(4000), false).1, Origin::Inherited);
    }

    #[test]
    fn without_room_a_process_is_not_told_apart() {
        let mut tree = Tree::new(proc(1), comm("bash"));
        tree.room = 1;
        tree.fork(proc(1), proc(2), comm("bash"));
        tree.fork(proc(1), proc(3), comm("bash"));
        assert_eq!(tree.len(), 2);
        assert_eq!(tree.path(proc(3), false).1, Origin::Unknown);
    }

    #[test]
    fn a_fork_bomb_is_bounded() {
        let mut tree = Tree::new(proc(1), comm("bomb"));
        for pid in 2..20_000 {
            tree.fork(proc(1), proc(pid), comm("bomb"));
        }
        assert_eq!(tree.nodes.len(), MAX_NODES);
        assert_eq!(tree.path(proc(19_999), false).1, Origin::Unknown);
    }
}
