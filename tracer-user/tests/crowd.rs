//! Ten thousand sessions open at once: what each takes in the daemon, and how soon they are listed.

use std::time::{Duration, Instant};

use lastbyte::{
    daemon::{
        Board, Sees,
        protocol::{self, Frame, Reply},
    },
    export::{self, Zone},
    model::{Model, Update},
    store::{Options, Policy, Recorder},
};
use peak_alloc::PeakAlloc;
use tracer_ebpf::{
    Exec, Fork, Header, Kind, Proc, Record, SessionStart, Start, Stream, StreamEnds, Tick, backend,
    edge, role, session_id, transport,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const SESSIONS: u32 = 10_000;
const MS: u64 = 1_000_000;
/// Bytes that an open session may take.
const BOUND: usize = 4096;
/// How soon all of them are to be listed. A release takes a tenth of that on an idle machine.
const LISTED_WITHIN: Duration = match cfg!(debug_assertions) {
    true => Duration::from_secs(5),
    false => Duration::from_millis(200),
};

/// The daemon's road without its kernel and its socket.
struct Road {
    model: Model,
    recorder: Recorder,
    board: Board,
    updates: Vec<Update>,
    now: u64,
}

impl Road {
    fn put<T: FromZeros + IntoBytes + Immutable>(&mut self, kind: Kind, fill: impl FnOnce(&mut T)) {
        let mut record = T::new_zeroed();
        fill(&mut record);
        let header = Header {
            time: self.now,
            kind: kind as u16,
            size: kind.size() as u16,
            cpu: 0,
        };
        // Every record begins with its header.
        let mut words = vec![0u64; kind.size() / 8];
        let bytes = words.as_mut_bytes();
        bytes.copy_from_slice(record.as_bytes());
        bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        let record = Record::decode(bytes).expect("a record");
        let from = self.updates.len();
        let applied = self.model.apply(record, &mut self.updates);
        let updates = &self.updates[from..];
        self.recorder.record(&record, &applied, updates, self.now);
        for update in self.updates.drain(..) {
            self.board.apply(&update);
        }
    }

    /// A session begins, with a shell that runs a command, and writes something.
    fn session(&mut self, number: u32) {
        self.now += MS;
        let proc = |pid: u32| Proc {
            start: self.now,
            pid,
            pad: 0,
        };
        let (server, leader, child) = (
            proc(100_000 + number),
            proc(200_000 + number),
            proc(300_000 + number),
        );
        let id = session_id(leader);
        self.put(Kind::SessionStart, |r: &mut SessionStart| {
            (r.session, r.leader, r.server) = (id, leader, server);
            r.uid = 1000;
            for (slot, ends) in r.streams.iter_mut().enumerate() {
                *ends = StreamEnds {
                    object: u64::from(number) * 3 + slot as u64 + 1,
                    transport: transport::PIPE,
                    capacity: 65_536,
                };
            }
            r.conn.sock = u64::from(number) + 1;
            r.conn.family = 2;
            r.exe[..4].copy_from_slice(b"sshd");
        });
        let exec = |r: &mut Exec, proc: Proc, parent: u32, argv: &str, flags: u32| {
            (r.session, r.proc, r.parent, r.flags) = (id, proc, parent, flags);
            r.argv[..argv.len()].copy_from_slice(argv.as_bytes());
            r.argv_len = argv.len() as u32;
            r.argv_full = r.argv_len;
        };
        let shell = format!("bash\0-c\0backup --job {number} --to /srv/backup/daily\0");
        self.put(Kind::Exec, |r: &mut Exec| {
            exec(r, leader, server.pid, &shell, role::LEADER);
        });
        self.put(Kind::Fork, |r: &mut Fork| {
            (r.session, r.parent, r.child) = (id, leader, child);
        });
        let job = format!("backup\0--job\0{number}\0--to\0/srv/backup/daily\0");
        self.put(Kind::Exec, |r: &mut Exec| {
            exec(r, child, leader.pid, &job, 0);
        });
        for edge in [edge::FIRST_WRITE, edge::FIRST_READ, edge::SAMPLE] {
            self.put(Kind::Stream, |r: &mut Stream| {
                (r.session, r.object, r.slot, r.edge) = (id, u64::from(number) * 3 + 2, 1, edge);
                (r.counters.written, r.counters.read) = (100, 100);
            });
        }
        self.put(Kind::Tick, |_: &mut Tick| ());
    }
}

#[test]
fn ten_thousand_open_sessions_are_small_and_soon_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (recorder, _) = Recorder::open(Options {
        directory: folder.path().to_owned(),
        policy: Policy::default(),
        boot: "crowd".to_owned(),
    });
    let mut road = Road {
        model: Model::new(),
        recorder,
        board: Board::default(),
        updates: Vec::new(),
        now: 1_000 * MS,
    };
    road.put(Kind::Start, |r: &mut Start| r.backend = backend::FENTRY);
    road.put(Kind::Ready, |_: &mut Tick| ());
    let before = HEAP.current_usage();
    for number in 0..SESSIONS {
        road.session(number);
    }
    // A quarter of an hour later everything that is quiet has been written down.
    road.now += 900_000 * MS;
    road.put(Kind::Tick, |_: &mut Tick| ());
    // What is being written is dropped before the next is.
    for _ in 0..2 {
        road.recorder.set_policy(Policy::default());
        let written = road.recorder.flush(Duration::from_secs(60));
        assert!(written, "{}", road.recorder.health());
    }
    let each = (HEAP.current_usage() - before) / SESSIONS as usize;
    assert_eq!(road.board.open(), SESSIONS as usize);

    let began = Instant::now();
    // As a daemon says it, and as its client shows it.
    let listed = road.board.list(Sees::Everything).into_iter();
    let said = listed.map(|listed| protocol::json(&Reply::Listed(Box::new(listed))));
    let heard = said.map(|frame| match protocol::read(frame) {
        Ok(Frame::Message(Reply::Listed(listed))) => *listed,
        other => panic!("{other:?}"),
    });
    let heard: Vec<_> = heard.collect();
    let table = export::table(&heard, road.now, &Zone::default(), false);
    let took = began.elapsed();
    assert_eq!(table.len(), SESSIONS as usize + 1);
    println!("{each} B a session; {SESSIONS} are listed in {took:?}");
    assert!(each < BOUND, "{each} B a session");
    assert!(took < LISTED_WITHIN, "listing takes {took:?}");
}
