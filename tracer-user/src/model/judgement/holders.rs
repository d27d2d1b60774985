//! Which processes hold a session open after its leader's exit.

use std::collections::{BTreeMap, BTreeSet};

use tracer_ebpf::{Proc, via};

use crate::model::{
    facts::{Argv, Copy, Look, Scan, Seen, Session, Sight},
    view::{HolderView, Origin, Slot, Step, Visible},
};

/// How old a process must be to hold something of its own, ns, unless it has executed something:
/// from fork to exec every child has what its parent has, and gives up most of it.
const GROWN_UP: u64 = 50_000_000;

/// What a look says of a session's holders.
#[derive(Debug)]
pub(in crate::model) struct Holders {
    /// Those that hold it, the first of them first.
    pub holders: Vec<HolderView>,
    /// Those that are no members, whether the look before had found them or not.
    pub strangers: BTreeSet<Proc>,
    /// Some are so young that they may only be about to execute something.
    pub any_young: bool,
}

/// Who holds an end of a stream that the server could still read. A process that is no member counts only
/// if the look before had found it too: it is one of `known`.
pub(in crate::model) fn holders(
    session: &Session,
    look: &Look<'_>,
    known: &BTreeSet<Proc>,
) -> Holders {
    let server = session.server().proc();
    let held: Vec<&Copy> = look
        .copies
        .iter()
        .filter(|copy| {
            let hangs = session
                .outputs()
                .any(|stream| stream.slot() == copy.slot && stream.hangs());
            hangs && copy.is_session_end() && !look.is_server(copy, server)
        })
        .collect();
    let mut by_proc = by_holder(&held);
    let strangers: BTreeSet<Proc> = by_proc
        .keys()
        .copied()
        .filter(|proc| !session.tree().is_member(*proc))
        .collect();
    by_proc.retain(|proc, _| !strangers.contains(proc) || known.contains(proc));
    let found = by_proc.len();
    by_proc.retain(|proc, _| {
        look.now.saturating_sub(proc.start) >= GROWN_UP || session.tree().has_executed(*proc)
    });
    Holders {
        any_young: by_proc.len() < found,
        holders: by_proc
            .iter()
            .map(|(proc, copies)| holder(session, *proc, copies, look))
            .collect(),
        strangers,
    }
}

/// Holders that do not descend from another one: what a loop starts anew each second is its own.
pub(in crate::model) fn roots(holders: &[HolderView]) -> Vec<HolderView> {
    let pids: BTreeSet<u32> = holders.iter().map(|it| it.pid).collect();
    let is_root = |it: &&HolderView| {
        let mut above = it.path.iter().filter(|step| step.pid != it.pid);
        !above.any(|step| pids.contains(&step.pid))
    };
    holders.iter().filter(is_root).cloned().collect()
}

/// Copies by who holds them. A descriptor table is one holder, however many processes have it: the
/// one that has lived longest stands for all.
fn by_holder<'a>(copies: &[&'a Copy]) -> BTreeMap<Proc, Vec<&'a Copy>> {
    let mut owners: BTreeMap<u64, Proc> = BTreeMap::new();
    for copy in copies.iter().filter(|copy| copy.table != 0) {
        let owner = owners.entry(copy.table).or_insert(copy.proc);
        *owner = copy.proc.min(*owner);
    }
    let mut holders: BTreeMap<Proc, Vec<&Copy>> = BTreeMap::new();
    for copy in copies {
        let owner = owners.get(&copy.table).unwrap_or(&copy.proc);
        holders.entry(*owner).or_default().push(copy);
    }
    holders
}

fn holder(session: &Session, proc: Proc, copies: &[&Copy], look: &Look<'_>) -> HolderView {
    let through = |via| distinct(copies.iter().filter(|it| it.via == via).map(|it| it.fd));
    let own = copies.iter().find(|copy| copy.proc == proc);
    let seen = own.unwrap_or(&copies[0]).seen;
    let streams = distinct(copies.iter().map(|copy| copy.slot));
    let fds = through(via::DESCRIPTOR);
    let mut view = view(session, proc, &seen, fds, streams, look.scan);
    view.sockets = through(via::SOCKET);
    view.rings = through(via::RING);
    let others = copies.iter().map(|copy| copy.proc.pid);
    view.shared_with = distinct(others.filter(|pid| *pid != proc.pid));

    let files: Vec<u64> = copies.iter().map(|copy| copy.file).collect();
    let sight = match session.gaps().is_empty() {
        false => Sight::Gap,
        true if look.env.all_handovers => Sight::Whole,
        true => Sight::Members,
    };
    let received =
        view.origin != Origin::Inherited && session.handovers().received(proc, &files, sight);
    if received || view.is_in_flight() {
        view.origin = Origin::Passed;
        view.sender = session.handovers().sender(proc, &files, sight);
    }
    view
}

/// Each of them once, ascending.
fn distinct<T: Ord>(of: impl Iterator<Item = T>) -> Vec<T> {
    of.collect::<BTreeSet<T>>().into_iter().collect()
}

/// A process by what the session and the scan know of it.
pub(super) fn view(
    session: &Session,
    proc: Proc,
    seen: &Seen,
    fds: Vec<u32>,
    streams: Vec<Slot>,
    scan: &Scan,
) -> HolderView {
    let (path, origin) = session.tree().path(proc, !session.gaps().is_empty());
    let (argv, forked) = match session.tree().argv(proc) {
        Some((argv, own)) => (Some(argv), !own),
        None => (scan.argv(proc), false),
    };
    let path = match path.is_empty() {
        true => vec![Step {
            comm: Visible::field(&seen.comm),
            pid: proc.pid,
        }],
        false => path,
    };
    HolderView {
        pid: proc.pid,
        ns_pid: seen.ns_pid,
        start: proc.start,
        uid: seen.uid,
        comm: Visible::field(&seen.comm),
        argv: argv.map(Argv::words).unwrap_or_default(),
        argv_cut: argv.is_some_and(|argv| argv.cut),
        argv_verbatim: argv.is_some_and(Argv::is_verbatim),
        launcher: session.tree().launcher(proc),
        forked,
        fds,
        sockets: Vec::new(),
        rings: Vec::new(),
        shared_with: Vec::new(),
        streams,
        path,
        origin,
        sender: None,
        container: scan.container(proc).cloned(),
    }
}
