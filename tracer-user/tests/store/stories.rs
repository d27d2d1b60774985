//! Sessions to keep.

use tracer_ebpf::{Conn, Kind, chld, edge};

use crate::scenario::{self, MS, STDERR, STDIN, STDOUT, Scenario, empty, id, object, stdout_has};

/// A session of its own connection, that ends with everything read.
pub fn ordinary(scenario: &mut Scenario, leader: u32) {
    begins(scenario, leader);
    ends(scenario, leader, 0);
}

/// The same, with so many bytes lost.
pub fn truncated(scenario: &mut Scenario, leader: u32, unread: u64) {
    begins(scenario, leader);
    ends(scenario, leader, unread);
}

/// It runs something that runs something else.
pub fn begins(scenario: &mut Scenario, leader: u32) {
    scenario
        .after(1)
        .session_with(leader, |r| {
            r.conn.sock = id(leader);
            r.conn.peer[3] = (leader % 250) as u8;
        })
        .exec(
            leader,
            leader,
            scenario::SERVER,
            &["bash", "-c", &format!("make target-{leader}")],
        )
        .tick()
        .spawn(leader, leader, leader + 1_000_000, &["make", "target"])
        .stream(leader, STDOUT, edge::FIRST_WRITE, |r| {
            r.counters.written = 100;
        })
        .stream(leader, STDOUT, edge::FIRST_READ, |r| r.counters.read = 100)
        .after(5)
        .tick();
}

/// The same comes to its end.
pub fn ends(scenario: &mut Scenario, leader: u32, unread: u64) {
    let now = scenario.now();
    scenario
        .exits(leader, leader + 1_000_000)
        .leader_exits(leader, 0, stdout_has(unread, 4096))
        .chld(leader, chld::GENERATED, stdout_has(unread, 4096))
        .chld(leader, chld::DELIVERED, stdout_has(unread, 4096))
        .chld(leader, chld::REAPED, empty())
        .closes(leader, STDIN, 0)
        .stream(leader, STDOUT, edge::SERVER_CLOSE, |r| {
            r.unread = unread;
            r.counters.written = 4096;
            r.counters.read = 4096 - unread;
            r.counters.last_read = now + MS;
            r.object = object(leader, STDOUT);
        })
        .closes(leader, STDERR, 0)
        .put(Kind::Conn, |r: &mut Conn| {
            r.conn.sock = id(leader);
            (r.old, r.new) = (1, 8);
        })
        .tick();
}

/// The records of these sessions, one after the other; of every tenth bytes are lost, if so wanted.
pub fn many(leaders: std::ops::Range<u32>, lossy: bool) -> Vec<Vec<u8>> {
    let mut scenario = Scenario::exact();
    for leader in leaders {
        match lossy && leader % 10 == 0 {
            true => truncated(&mut scenario, leader, 77),
            false => ordinary(&mut scenario, leader),
        }
    }
    std::mem::take(&mut scenario.records)
}
