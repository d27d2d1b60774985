//! Whatever records arrive.

use lastbyte::{
    model::{Model, Size, Update},
    store::recording::{Reader, Writer},
};
use proptest::{collection::vec, prelude::*};
use tracer_ebpf::{Header, Kind, SessionStart, User, session_id};
use zerocopy::IntoBytes;

use crate::{
    grammar::Grammar,
    scenario::{self, Scenario},
};

/// A record of any kind with any content; small numbers, so that records concern each other.
fn record() -> impl Strategy<Value = Vec<u8>> {
    (0..Kind::ALL.len(), any::<u64>(), 0u64..400).prop_map(|(kind, seed, ms)| {
        let kind = Kind::ALL[kind];
        let mut bytes = vec![0; kind.size()];
        let mut random = seed;
        for word in bytes.chunks_exact_mut(4) {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let value = (random >> 33) as u32;
            let value = match value % 8 {
                0..6 => (value >> 3) % 8,
                6 => u32::MAX,
                _ => value,
            };
            word.copy_from_slice(&value.to_ne_bytes());
        }
        head(&mut bytes, kind, ms * 5 * scenario::MS);
        bytes
    })
}

fn head(bytes: &mut [u8], kind: Kind, time: u64) {
    let header = Header {
        time,
        kind: kind as u16,
        size: kind.size() as u16,
        cpu: 0,
    };
    bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
}

/// A step of a story with two sessions in it.
#[derive(Clone, Debug)]
enum Step {
    After(u64),
    Tick,
    Loss,
    Start(u32),
    LeaderExits(u32),
    Close {
        leader: u32,
        slot: u32,
        unread: u64,
        writers: u32,
        refs: u32,
    },
    Edge {
        leader: u32,
        slot: u32,
        edge: u32,
        bytes: u64,
    },
    Spawn {
        leader: u32,
        child: u32,
    },
    Exits {
        leader: u32,
        pid: u32,
    },
    Scan {
        leader: u32,
        pid: u32,
        slot: u32,
        server: bool,
    },
    Conn {
        new: u32,
        error: u32,
    },
    Kill,
    ServerExits(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let leader = 5000u32..5002;
    prop_oneof![
        (0u64..2000).prop_map(Step::After),
        Just(Step::Tick),
        Just(Step::Tick),
        Just(Step::Loss),
        leader.clone().prop_map(Step::Start),
        leader.clone().prop_map(Step::LeaderExits),
        (
            leader.clone(),
            0u32..3,
            prop_oneof![Just(0u64), Just(9)],
            0u32..2,
            1u32..3
        )
            .prop_map(|(leader, slot, unread, writers, refs)| Step::Close {
                leader,
                slot,
                unread,
                writers,
                refs
            }),
        (leader.clone(), 0u32..3, 1u32..9, 0u64..9).prop_map(|(leader, slot, edge, bytes)| {
            Step::Edge {
                leader,
                slot,
                edge,
                bytes,
            }
        }),
        (leader.clone(), 5010u32..5014).prop_map(|(leader, child)| Step::Spawn { leader, child }),
        (leader.clone(), 5010u32..5014).prop_map(|(leader, pid)| Step::Exits { leader, pid }),
        (leader, 5010u32..5014, 0u32..3, any::<bool>()).prop_map(|(leader, pid, slot, server)| {
            Step::Scan {
                leader,
                pid,
                slot,
                server,
            }
        }),
        (1u32..12, prop_oneof![Just(0u32), Just(104), Just(110)])
            .prop_map(|(new, error)| Step::Conn { new, error }),
        Just(Step::Kill),
        (0u32..16).prop_map(Step::ServerExits),
    ]
}

fn walk(scenario: &mut Scenario, step: &Step) {
    match *step {
        Step::After(ms) => scenario.after(ms),
        Step::Tick => scenario.tick(),
        Step::Loss => scenario.loses(1),
        Step::Start(leader) => scenario.session(leader),
        Step::LeaderExits(leader) => scenario.leader_exits(leader, 0, scenario::empty()),
        Step::Close {
            leader,
            slot,
            unread,
            writers,
            refs,
        } => scenario.stream(leader, slot, tracer_ebpf::edge::SERVER_CLOSE, |r| {
            (r.unread, r.writers, r.refs) = (unread, writers, refs);
        }),
        Step::Edge {
            leader,
            slot,
            edge,
            bytes,
        } => scenario.stream(leader, slot, edge, |r| {
            r.bytes = bytes;
            r.counters.written = bytes;
            r.counters.read = bytes / 2;
        }),
        Step::Spawn { leader, child } => scenario.spawn(leader, leader, child, &["job"]),
        Step::Exits { leader, pid } => scenario.exits(leader, pid),
        Step::Scan {
            leader,
            pid,
            slot,
            server,
        } => scenario.scan(&mut |scenario: &mut Scenario| {
            if server {
                scenario.server_holds(leader);
            }
            scenario.holds(leader, pid, "job", &[(slot, slot)]);
        }),
        Step::Conn { new, error } => scenario.conn(1, new, error),
        Step::Kill => scenario.kill(scenario::SERVER, 15),
        Step::ServerExits(status) => scenario.server_exits(status),
    };
}

/// Holds updates against what must hold of any.
fn check(updates: &[Update]) {
    let mut grammar = Grammar::default();
    updates.iter().for_each(|update| grammar.take(update));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_record_is_too_odd(records in vec(record(), 0..200)) {
        let mut scenario = Scenario::exact();
        for record in &records {
            scenario.apply(record);
        }
        prop_assert!(scenario.model.open() <= records.len());
        scenario.lines(true, true);
        scenario.lines(false, true);
    }

    #[test]
    fn updates_make_sense(steps in vec(step(), 0..80)) {
        let mut scenario = Scenario::exact();
        for step in &steps {
            walk(&mut scenario, step);
        }
        check(&scenario.updates);
        scenario.idle(200_000);
        check(&scenario.updates);
    }

    #[test]
    fn a_replay_tells_the_same(steps in vec(step(), 0..80)) {
        let mut scenario = Scenario::exact();
        for step in &steps {
            walk(&mut scenario, step);
        }
        let mut writer = Writer::new(Vec::new()).unwrap();
        for record in &scenario.records {
            writer.append(record).unwrap();
        }
        let file = writer.finish().unwrap();
        let mut reader = Reader::new(&file[..]).unwrap();
        let (mut model, mut updates) = (Model::new(), Vec::new());
        while let Some(record) = reader.next().unwrap() {
            model.apply(record, &mut updates);
        }
        prop_assert_eq!(&updates, &scenario.updates);
    }
}

#[test]
fn ten_thousand_sessions_leave_nothing_behind() {
    let mut scenario = Scenario::exact();
    for leader in 20_000..30_000 {
        scenario.records.clear();
        scenario.updates.clear();
        scenario
            .runs(leader, "true")
            .spawn(leader, leader, leader + 100_000, &["job"]);
        scenario
            .exits(leader, leader + 100_000)
            .leader_exits(leader, 0, scenario::empty())
            .closes_all(leader, 1)
            .tick();
        assert_eq!(scenario.model.open(), 0);
        assert_eq!(scenario.model.deadline(), None);
        assert!(!scenario.model.needs_scan());
    }
    assert_eq!(scenario.model.closed(), 10_000);
}

#[test]
fn whatever_comes_what_is_kept_has_bounds() {
    let mut scenario = Scenario::exact();
    let put = |scenario: &mut Scenario, most: u32, step: &mut dyn FnMut(&mut Scenario, u32)| {
        for n in 0..=most {
            step(scenario, n);
            scenario.records.clear();
            scenario.updates.clear();
        }
        let size = scenario.model.size();
        assert!(size.is_within(&Size::LIMITS), "{size:?}");
    };
    let limits = Size::LIMITS;
    put(&mut scenario, limits.servers as u32, &mut |scenario, n| {
        scenario.server(1_000_000 + n);
    });
    put(&mut scenario, limits.users as u32, &mut |scenario, n| {
        scenario.put(Kind::User, |r: &mut User| r.uid = n);
    });
    put(&mut scenario, limits.sessions as u32, &mut |scenario, n| {
        scenario.put(Kind::SessionStart, |r: &mut SessionStart| {
            r.leader = scenario::proc(2_000_000 + n);
            r.session = session_id(r.leader);
        });
    });
    put(
        &mut scenario,
        limits.processes as u32,
        &mut |scenario, n| {
            let leader = 2_000_000 + n % 100;
            scenario.fork(leader, leader, 3_000_000 + n, "job");
        },
    );
    let size = scenario.model.size();
    assert_eq!(
        (size.sessions, size.servers, size.users),
        (limits.sessions, limits.servers, limits.users)
    );
    assert!(
        size.processes >= limits.processes - limits.sessions,
        "{size:?}"
    );
}
