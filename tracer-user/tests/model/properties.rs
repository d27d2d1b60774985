//! Whatever comes down the road.

use lastbyte::{
    model::{Model, Size, Update},
    store::recording::{Reader, Writer},
};
use proptest::{collection::vec, prelude::*};
use tracer_ebpf::{Header, Kind, SessionStart, User, session_id};
use zerocopy::IntoBytes;

use crate::{
    grammar::Grammar,
    road::{self, Road},
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
        head(&mut bytes, kind, ms * 5 * road::MS);
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

fn walk(road: &mut Road, step: &Step) {
    match *step {
        Step::After(ms) => road.after(ms),
        Step::Tick => road.tick(),
        Step::Loss => road.loses(1),
        Step::Start(leader) => road.session(leader),
        Step::LeaderExits(leader) => road.leader_exits(leader, 0, road::empty()),
        Step::Close {
            leader,
            slot,
            unread,
            writers,
            refs,
        } => road.stream(leader, slot, tracer_ebpf::edge::SERVER_CLOSE, |r| {
            (r.unread, r.writers, r.refs) = (unread, writers, refs);
        }),
        Step::Edge {
            leader,
            slot,
            edge,
            bytes,
        } => road.stream(leader, slot, edge, |r| {
            r.bytes = bytes;
            r.counters.written = bytes;
            r.counters.read = bytes / 2;
        }),
        Step::Spawn { leader, child } => road.spawn(leader, leader, child, &["job"]),
        Step::Exits { leader, pid } => road.exits(leader, pid),
        Step::Scan {
            leader,
            pid,
            slot,
            server,
        } => road.scan(&mut |road: &mut Road| {
            if server {
                road.server_holds(leader);
            }
            road.holds(leader, pid, "job", &[(slot, slot)]);
        }),
        Step::Conn { new, error } => road.conn(1, new, error),
        Step::Kill => road.kill(road::SERVER, 15),
        Step::ServerExits(status) => road.server_exits(status),
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
        let mut road = Road::exact();
        for record in &records {
            road.apply(record);
        }
        prop_assert!(road.model.open() <= records.len());
        road.lines(true, true);
        road.lines(false, true);
    }

    #[test]
    fn updates_make_sense(steps in vec(step(), 0..80)) {
        let mut road = Road::exact();
        for step in &steps {
            walk(&mut road, step);
        }
        check(&road.updates);
        road.idle(200_000);
        check(&road.updates);
    }

    #[test]
    fn a_replay_tells_the_same(steps in vec(step(), 0..80)) {
        let mut road = Road::exact();
        for step in &steps {
            walk(&mut road, step);
        }
        let mut writer = Writer::new(Vec::new()).unwrap();
        for record in &road.records {
            writer.append(record).unwrap();
        }
        let file = writer.finish().unwrap();
        let mut reader = Reader::new(&file[..]).unwrap();
        let (mut model, mut updates) = (Model::new(), Vec::new());
        while let Some(record) = reader.next().unwrap() {
            model.apply(record, &mut updates);
        }
        prop_assert_eq!(&updates, &road.updates);
    }
}

#[test]
fn ten_thousand_sessions_leave_nothing_behind() {
    let mut road = Road::exact();
    for leader in 20_000..30_000 {
        road.records.clear();
        road.updates.clear();
        road.runs(leader, "true")
            .spawn(leader, leader, leader + 100_000, &["job"]);
        road.exits(leader, leader + 100_000)
            .leader_exits(leader, 0, road::empty())
            .closes_all(leader, 1)
            .tick();
        assert_eq!(road.model.open(), 0);
        assert_eq!(road.model.deadline(), None);
        assert!(!road.model.needs_scan());
    }
    assert_eq!(road.model.closed(), 10_000);
}

#[test]
fn whatever_comes_what_is_kept_has_bounds() {
    let mut road = Road::exact();
    let put = |road: &mut Road, most: u32, step: &mut dyn FnMut(&mut Road, u32)| {
        for n in 0..=most {
            step(road, n);
            road.records.clear();
            road.updates.clear();
        }
        let size = road.model.size();
        assert!(size.is_within(&Size::LIMITS), "{size:?}");
    };
    let limits = Size::LIMITS;
    put(&mut road, limits.servers as u32, &mut |road, n| {
        road.server(1_000_000 + n);
    });
    put(&mut road, limits.users as u32, &mut |road, n| {
        road.put(Kind::User, |r: &mut User| r.uid = n);
    });
    put(&mut road, limits.sessions as u32, &mut |road, n| {
        road.put(Kind::SessionStart, |r: &mut SessionStart| {
            r.leader = road::proc(2_000_000 + n);
            r.session = session_id(r.leader);
        });
    });
    put(&mut road, limits.processes as u32, &mut |road, n| {
        let leader = 2_000_000 + n % 100;
        road.fork(leader, leader, 3_000_000 + n, "job");
    });
    let size = road.model.size();
    assert_eq!(
        (size.sessions, size.servers, size.users),
        (limits.sessions, limits.servers, limits.users)
    );
    assert!(
        size.processes >= limits.processes - limits.sessions,
        "{size:?}"
    );
}
