//! Holders by unusual roads.

use lastbyte::model::{Container, Finding, Kind, Origin, State};
use tracer_ebpf::{Cgroup, Holder, Passed, backend, transport, via, way};

use crate::scenario::{STDOUT, Scenario, empty, id, object, proc, text};

const FILE: u64 = 0xffff_8880_0000_7000;
/// The process that is handed an end; it has nothing to do with the session.
const KEEPER: u32 = 777;

/// An end of stdout as a scan finds it in the keeper: its own, or through something.
fn keeper_holds(scenario: &mut Scenario, fd: u32, via: u32) {
    holds(scenario, KEEPER, "keeper", |r| {
        r.fd = fd;
        r.via = via;
    });
}

fn holds(scenario: &mut Scenario, pid: u32, comm: &str, more: impl FnOnce(&mut Holder)) {
    scenario.server_holds(5000);
    scenario.put(tracer_ebpf::Kind::Holder, |r: &mut Holder| {
        r.session = id(5000);
        r.object = object(5000, STDOUT);
        r.proc = proc(pid);
        r.ns_pid = pid;
        r.fd = 1;
        r.slot = STDOUT;
        r.mode = 2;
        r.transport = transport::PIPE;
        r.file = FILE;
        r.comm = text(comm);
        more(r);
    });
}

fn passes(scenario: &mut Scenario, way: u32, pid: u32, comm: &str, peer: u32) {
    scenario.put(tracer_ebpf::Kind::Passed, |r: &mut Passed| {
        r.session = id(5000);
        r.proc = proc(pid);
        r.file = FILE;
        r.way = way;
        r.peer = peer;
        r.comm = text(comm);
    });
}

/// The session's leader hands its stdout over, in whatever way, and ends.
fn hands_over(backend: u32, passes: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = Scenario::new(backend);
    scenario.runs(5000, "hand-over");
    passes(&mut scenario);
    scenario.leader_exits(5000, 0, empty());
    scenario
}

fn only(scenario: &Scenario) -> &Finding {
    match scenario.findings(Kind::Orphaned)[..] {
        [found] => found,
        ref other => panic!("{other:#?}"),
    }
}

fn fix(scenario: &Scenario) -> &str {
    only(scenario).fix.text().expect("a fix")
}

#[test]
fn the_sender_of_a_received_end_is_named() {
    let mut scenario = hands_over(backend::FENTRY, |scenario| {
        passes(scenario, way::SENT, 5000, "bash", 0);
        passes(scenario, way::RECEIVED, KEEPER, "keeper", 0);
    });
    scenario.run(1500, |scenario| keeper_holds(scenario, 5, via::DESCRIPTOR));
    let found = only(&scenario);
    assert_eq!(found.holders()[0].origin, Origin::Passed);
    assert!(
        found.message.ends_with(
            "keeper pid 777 still holds its stdout (fd 5), not inherited: received over a unix socket from bash pid 5000"
        ),
        "{}",
        found.message
    );
    assert_eq!(
        fix(&scenario),
        "let keeper pid 777 close fd 5: it was handed the session's stdout, so redirecting a job in the session does not help"
    );
}

#[test]
fn a_sender_is_not_guessed() {
    let mut scenario = hands_over(backend::FENTRY, |scenario| {
        passes(scenario, way::SENT, 5000, "bash", 0);
        passes(scenario, way::SENT, 600, "relay", 0);
        passes(scenario, way::RECEIVED, KEEPER, "keeper", 0);
    });
    scenario.run(1500, |scenario| keeper_holds(scenario, 5, via::DESCRIPTOR));
    assert!(
        only(&scenario)
            .message
            .ends_with(", not inherited: received over a unix socket"),
        "{}",
        only(&scenario).message
    );

    let mut scenario = hands_over(backend::FENTRY, |scenario| {
        passes(scenario, way::SENT, 5000, "bash", 0);
    });
    scenario.run(1500, |scenario| keeper_holds(scenario, 5, via::DESCRIPTOR));
    assert_eq!(
        only(&scenario).holders()[0].origin,
        Origin::Received,
        "it received nothing: it took its copy in another way"
    );
}

#[test]
fn where_only_members_are_seen_the_other_end_of_the_socket_must_be_the_holder() {
    let told = |peer| {
        let mut scenario = hands_over(backend::SYSCALL, |scenario| {
            passes(scenario, way::SENT, 5000, "bash", peer);
        });
        scenario.run(1500, |scenario| keeper_holds(scenario, 5, via::DESCRIPTOR));
        only(&scenario).holders()[0]
            .sender
            .as_ref()
            .map(|step| step.pid)
    };
    assert_eq!(told(KEEPER), Some(5000));
    assert_eq!(told(KEEPER + 1), None);
}

#[test]
fn an_end_in_flight_is_held_by_who_can_receive_it() {
    let mut scenario = hands_over(backend::FENTRY, |scenario| {
        passes(scenario, way::SENT, 5000, "bash", 0);
    });
    scenario.run(1500, |scenario| keeper_holds(scenario, 4, via::SOCKET));
    let holder = &only(&scenario).holders()[0];
    assert_eq!((&holder.fds[..], &holder.sockets[..]), (&[][..], &[4][..]));
    assert!(
        only(&scenario).message.ends_with(
            "keeper pid 777 still holds its stdout (in flight: sent to its unix socket, fd 4, and not yet received), sent by bash pid 5000"
        ),
        "{}",
        only(&scenario).message
    );
    assert!(
        fix(&scenario).starts_with(
            "let keeper pid 777 receive and close it, or close its unix socket (fd 4): it was handed"
        ),
        "{}",
        fix(&scenario)
    );
}

#[test]
fn a_ring_holds_what_its_process_has_closed() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "server &")
        .spawn(5000, 5000, 5001, &["server"])
        .leader_exits(5000, 0, empty());
    scenario.run(1500, |scenario| {
        holds(scenario, 5001, "server", |r| {
            r.fd = 3;
            r.via = via::RING;
        });
    });
    let holder = &only(&scenario).holders()[0];
    assert_eq!((&holder.fds[..], &holder.rings[..]), (&[][..], &[3][..]));
    assert!(
        only(&scenario).message.ends_with(
            "server pid 5001 still holds its stdout (registered with its io_uring, fd 3), inherited from bash 5000"
        ),
        "{}",
        only(&scenario).message
    );
    assert_eq!(fix(&scenario), "server </dev/null >server.log 2>&1 &");
}

#[test]
fn one_descriptor_table_is_one_holder() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "pair &")
        .spawn(5000, 5000, 5001, &["pair"])
        .fork(5000, 5001, 5002, "pair")
        .leader_exits(5000, 0, empty());
    let table = |pid, table| {
        move |scenario: &mut Scenario| holds(scenario, pid, "pair", |r| r.files = table)
    };
    scenario.run(1100, |scenario| {
        table(5002, 0xf000)(scenario);
        table(5001, 0xf000)(scenario);
    });
    let found = only(&scenario);
    assert_eq!(found.holders().len(), 1);
    assert_eq!(
        (found.holders()[0].pid, &found.holders()[0].shared_with[..]),
        (5001, &[5002][..])
    );
    assert!(
        found.message.contains(
            "pair pid 5001 (and pid 5002, which shares its descriptors) still holds its stdout (fd 1)"
        ),
        "{}",
        found.message
    );
    // Whoever is left holds it alone; tables of their own make two holders.
    scenario.exits(5000, 5001).run(300, table(5002, 0xf000));
    scenario
        .fork(5000, 5002, 5003, "pair")
        .run(500, |scenario| {
            table(5002, 0xf000)(scenario);
            table(5003, 0xf100)(scenario);
        });
    assert_eq!(
        scenario.course(Kind::Orphaned),
        [(State::Open, 1), (State::Updated, 1)]
    );
}

#[test]
fn a_holder_in_a_container_is_told_with_it() {
    let mut scenario = Scenario::exact();
    scenario
        .runs(5000, "sleep 20 &")
        .spawn(5000, 5000, 5001, &["sleep", "20"])
        .leader_exits(5000, 0, empty());
    scenario.run(1500, |scenario| {
        holds(scenario, 5001, "sleep", |_| ());
        scenario.put(tracer_ebpf::Kind::Cgroup, |r: &mut Cgroup| {
            let path = b"/docker/3f2a9c0d1e4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeef";
            r.proc = proc(5001);
            r.len = path.len() as u32;
            r.path[..path.len()].copy_from_slice(path);
        });
    });
    let container = only(&scenario).holders()[0].container.as_ref();
    assert_eq!(container.map(Container::short), Some("3f2a9c0d1e4b"));
    assert!(
        only(&scenario)
            .message
            .contains("sleep pid 5001 in container 3f2a9c0d1e4b still holds"),
        "{}",
        only(&scenario).message
    );
}
