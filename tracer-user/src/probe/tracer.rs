//! The source of all records: drains the ring, adds ticks, samples, scans and names.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::Future,
    os::fd::AsRawFd,
    pin::pin,
    time::Duration,
};

use anyhow::Context as _;
use aya::maps::{MapData, RingBuf};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};
use tracer_ebpf::{
    Kind, Loss, Proc, Record, Resume, STREAMS, Scan, SessionVanished, Start, Stream, Tick, User,
    edge,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::{
    Host, Options, Past, Probes, boottime, cgroup, scan,
    skipped::Skipped,
    snapshot::{self, header},
    tables::{self, Tables, fixed},
};

/// Where records go: a model, a recording, both.
pub trait RecordSink {
    /// Takes one record.
    ///
    /// # Errors
    /// Ends the tracing.
    fn record(&mut self, record: &[u8]) -> anyhow::Result<()>;
    /// When it next wants a [`Kind::Tick`], ns of `CLOCK_BOOTTIME`.
    fn deadline(&self) -> Option<u64>;
    /// Whether it wants to know all holders now.
    fn wants_scan(&self) -> bool;
    /// Sessions whose counters are worth a sample; asked a few times a second, whatever happens.
    fn sessions_to_sample(&mut self) -> Vec<u64>;
    /// Sessions that are over since the last call.
    fn take_closed(&mut self) -> Vec<u64>;
    /// Whether nothing more is wanted.
    fn finished(&self) -> bool;
    /// The ring has been emptied for the `number`th time; a tick follows.
    fn drained(&mut self, number: u64) {
        let _ = number;
    }
    /// Sessions that it knows and that are not over.
    fn open_sessions(&self) -> HashSet<u64> {
        HashSet::new()
    }
    /// What it remembers from before this tracer; asked once, as that begins.
    fn resume_state(&mut self) -> Option<ResumeState> {
        None
    }
}

/// What a road that goes on after a restart knows.
#[derive(Clone, Debug, Default)]
pub struct ResumeState {
    /// When its last record was, ns of `CLOCK_BOOTTIME`; 0 when nothing is known of it.
    pub since: u64,
    /// The number of the last [`RecordSink::drained`] of which everything is kept.
    pub drain: Option<u64>,
    /// Sessions that were open then.
    pub sessions: Vec<KnownSession>,
}

/// A session that was open at the end of an earlier tracer.
#[derive(Clone, Copy, Debug)]
pub struct KnownSession {
    /// Its id.
    pub session: u64,
    /// Its server.
    pub server: Proc,
    /// Inode numbers of its streams' objects; 0 for none.
    pub objects: [u64; STREAMS],
}

/// How often the counters of open streams are read.
const SAMPLE: Duration = Duration::from_millis(250);
/// How long the kernel side keeps a session that is over. What was freed last is what the kernel gives out
/// next: by then another pipe is at the address and has its own entry, or hardly will be while the old
/// one is dropped.
const KEPT: Duration = Duration::from_secs(5);
/// How often left-overs of dead servers are looked for.
const SWEEP: Duration = Duration::from_secs(30);

/// Attached probes and what reads from them.
pub struct Tracer {
    /// What is attached.
    pub probes: Probes,
    tables: Tables,
    skipped: Skipped,
    ring: AsyncFd<RingBuf<MapData>>,
    log: Option<AsyncFd<aya_log::EbpfLogger<&'static dyn log::Log>>>,
    named: HashSet<u32>,
    /// By session and slot: what was sampled last, hashed.
    sampled: HashMap<u64, [u32; STREAMS]>,
    /// Sessions that are over, and since when.
    over: VecDeque<(Instant, u64)>,
    host: Host,
    grace: u64,
    stall_after: u64,
}

impl Tracer {
    /// Loads and attaches.
    ///
    /// # Errors
    /// See [`super::LoadError`]; also when the tables of a fresh load cannot be used.
    pub fn open(options: &Options) -> anyhow::Result<Self> {
        let host = Host::read();
        let mut probes = Probes::load(options, &host)?;
        let ring = tables::ring(&mut probes.side).context("the ring buffer")?;
        let ring = readiness(ring).context("waiting for the ring buffer")?;
        let log = match probes.side.ebpf() {
            Some(ebpf) if options.verbose => {
                let logger = aya_log::EbpfLogger::init(ebpf).context("the programs' log")?;
                Some(readiness(logger).context("waiting for the programs' log")?)
            }
            _ => None,
        };
        let tables = Tables::take(&mut probes.side).context("the kernel side's tables")?;
        let skipped = Skipped::of(&probes.side).context("the programs' own counters")?;
        Ok(Self {
            probes,
            tables,
            skipped,
            ring,
            log,
            named: HashSet::new(),
            sampled: HashMap::new(),
            over: VecDeque::new(),
            host,
            grace: options.grace,
            stall_after: options.stall_after,
        })
    }

    /// Puts what is there already on the road, then everything that happens, until the road is
    /// finished or `stop` is.
    ///
    /// # Errors
    /// When the road refuses a record or the kernel a scan.
    pub async fn run(
        &mut self,
        road: &mut impl RecordSink,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        match road.resume_state() {
            Some(earlier) => self.resume(road, &earlier)?,
            None => self.begin(road)?,
        }
        let mut stop = pin!(stop);
        let mut sample_at = Instant::now() + SAMPLE;
        let mut sweep_at = Instant::now() + SWEEP;
        while !road.finished() {
            let now = boottime();
            let wake = road.deadline().map_or(sample_at, |deadline| {
                sample_at.min(Instant::now() + Duration::from_nanos(deadline.saturating_sub(now)))
            });
            let stopping = tokio::select! {
                biased;
                () = &mut stop => true,
                guard = self.ring.readable_mut() => {
                    // Cleared before the ring is emptied: the kernel wakes us for the first record
                    // after that (bpf_ringbuf_commit, kernel/bpf/ringbuf.c), so none is slept over.
                    guard.context("waiting for the ring buffer")?.clear_ready();
                    false
                }
                guard = readable(&mut self.log) => {
                    guard?;
                    false
                }
                () = tokio::time::sleep_until(wake) => false,
            };
            self.drain(road)?;
            let now = Instant::now();
            if now >= sample_at {
                sample_at = now + SAMPLE;
                self.sample(road)?;
                self.forget(now);
            }
            if now >= sweep_at {
                sweep_at = now + SWEEP;
                self.tables.sweep();
            }
            if road
                .deadline()
                .is_some_and(|deadline| deadline <= boottime())
            {
                self.losses(road)?;
                tick(road, Kind::Tick)?;
            }
            self.serve(road)?;
            if stopping {
                break;
            }
        }
        Ok(())
    }

    /// Empties the ring and ends with a tick: the barrier that every record before it has passed.
    fn drain(&mut self, road: &mut impl RecordSink) -> anyhow::Result<()> {
        let mut number = None;
        let mut users = Vec::new();
        while let Some(item) = self.ring.get_mut().next() {
            if number.is_none() {
                // Before the first is taken: it is when the item is dropped.
                number = Some(self.tables.taking().context("counting what is taken")?);
            }
            if let Some(Record::SessionStart(start)) = Record::decode(&item) {
                users.push(start.uid);
            }
            road.record(&item)?;
        }
        for uid in users {
            self.name(road, uid)?;
        }
        if let Some(number) = number {
            self.losses(road)?;
            road.drained(number);
            tick(road, Kind::Tick)?;
        }
        Ok(())
    }

    /// What was lost is told before the tick that lets verdicts be given.
    fn losses(&mut self, road: &mut impl RecordSink) -> anyhow::Result<()> {
        if let Some(counts) = self
            .tables
            .new_losses(&mut self.skipped)
            .context("reading the loss counters")?
        {
            put(
                road,
                &Loss {
                    header: header(Kind::Loss, boottime()),
                    counts,
                },
            )?;
        }
        Ok(())
    }

    /// Does what the road asks for: scans for holders, and drops what is over.
    fn serve(&mut self, road: &mut impl RecordSink) -> anyhow::Result<()> {
        if road.wants_scan() {
            self.scan(road)?;
            tick(road, Kind::Tick)?;
        }
        let now = Instant::now();
        for session in road.take_closed() {
            self.sampled.remove(&session);
            self.over.push_back((now, session));
        }
        Ok(())
    }

    /// Drops what has been over for long enough.
    fn forget(&mut self, now: Instant) {
        while let Some((_, session)) = self.over.pop_front_if(|(since, _)| *since + KEPT <= now) {
            self.tables.forget(session);
        }
    }

    fn scan(&mut self, road: &mut impl RecordSink) -> anyhow::Result<()> {
        put(
            road,
            &Scan {
                header: header(Kind::ScanBegin, boottime()),
                partial: 0,
                pad: 0,
            },
        )?;
        let mut strangers = HashSet::new();
        let mut placed = HashSet::new();
        let mut holders = scan::descriptors(&mut self.probes.side)?;
        holders.extend(scan::hidden(&mut self.probes.side)?);
        for holder in holders {
            put(road, &holder)?;
            if !self.tables.is_server(holder.proc.pid)
                && placed.insert(holder.proc)
                && let Some(cgroup) = cgroup::of(holder.proc, holder.header.time)
            {
                put(road, &cgroup)?;
            }
            if !self.tables.is_known(holder.proc.pid, holder.session)
                && strangers.insert(holder.proc)
            {
                put(road, &snapshot::stranger(&holder))?;
            }
        }
        for socket in scan::sockets(&mut self.probes.side)? {
            put(road, &socket)?;
        }
        put(
            road,
            &Scan {
                header: header(Kind::ScanEnd, boottime()),
                partial: 0,
                pad: 0,
            },
        )
    }

    /// Tells how far streams have come that moved or that something waits in.
    fn sample(&mut self, road: &mut impl RecordSink) -> anyhow::Result<()> {
        let mut any = false;
        for session in road.sessions_to_sample() {
            for state in self.tables.streams(session) {
                let counters = state.counters;
                let waits = counters.written != counters.read || counters.blocked_since != 0;
                let told = self.sampled.entry(session).or_default();
                let Some(told) = told.get_mut(state.slot as usize) else {
                    continue;
                };
                let now = crc32fast::hash(counters.as_bytes());
                if std::mem::replace(told, now) == now && !waits {
                    continue;
                }
                let mut sample = Stream::new_zeroed();
                sample.header = header(Kind::Stream, boottime());
                sample.session = session;
                sample.object = state.object;
                sample.slot = state.slot;
                sample.edge = edge::SAMPLE;
                sample.unread = counters.written.saturating_sub(counters.read);
                sample.counters = counters;
                put(road, &sample)?;
                any = true;
            }
        }
        if any { tick(road, Kind::Tick) } else { Ok(()) }
    }

    /// A road without a past.
    fn begin(&mut self, road: &mut impl RecordSink) -> anyhow::Result<()> {
        if self.probes.past == Past::Seen {
            // Nobody remembers what came before what is in the ring.
            return self.resume(road, &ResumeState::default());
        }
        self.start(road)?;
        self.snapshot(road, &[], false)?;
        tick(road, Kind::Ready)?;
        tick(road, Kind::Tick)?;
        self.serve(road)
    }

    /// A road that goes on: first what the programs have told meanwhile, if they ran, then what else
    /// there is.
    fn resume(&mut self, road: &mut impl RecordSink, earlier: &ResumeState) -> anyhow::Result<()> {
        self.start(road)?;
        let seen = self.probes.past == Past::Seen;
        let taken = self.tables.taken().context("counting what was taken")?;
        let complete = seen && earlier.drain == Some(taken);
        // Whatever was missed is reported now, once: the next tracer goes on from here.
        road.drained(taken);
        put(
            road,
            &Resume {
                header: header(Kind::Resume, boottime()),
                since: earlier.since,
                complete: u32::from(complete),
                pad: 0,
            },
        )?;
        if seen {
            self.drain(road)?;
            self.tables.keep_only(&road.open_sessions());
        }
        let mut there = self.snapshot(road, &earlier.sessions, complete)?;
        if !complete {
            there.extend(self.tables.all_sessions());
            let sessions = earlier.sessions.iter().map(|known| known.session);
            for session in sessions.filter(|session| !there.contains(session)) {
                put(
                    road,
                    &SessionVanished {
                        header: header(Kind::SessionVanished, boottime()),
                        session,
                    },
                )?;
            }
        }
        tick(road, Kind::Ready)?;
        tick(road, Kind::Tick)?;
        self.serve(road)
    }

    fn start(&mut self, road: &mut impl RecordSink) -> anyhow::Result<()> {
        let mut start = Start::new_zeroed();
        start.header = header(Kind::Start, boottime());
        start.wall_offset = self.host.wall_offset;
        start.grace = self.grace;
        start.stall_after = self.stall_after;
        start.pid = std::process::id();
        start.backend = self.probes.backend.number();
        start.host = fixed(&self.host.name);
        start.kernel = fixed(&self.host.kernel);
        start.boot = fixed(&self.host.boot);
        let mut servers = self.probes.servers.join("\0");
        servers.push('\0');
        start.servers = fixed(&servers);
        put(road, &start)
    }

    /// Tells what is there; gives the sessions. `complete`: nothing of those that are known is new.
    fn snapshot(
        &mut self,
        road: &mut impl RecordSink,
        known: &[KnownSession],
        complete: bool,
    ) -> anyhow::Result<HashSet<u64>> {
        let names = self.probes.servers.clone();
        let (side, tables) = (&mut self.probes.side, &mut self.tables);
        let snapshot = snapshot::take(side, tables, &names, known, boottime())
            .context("finding what was there before the tracer")?;
        for session in &snapshot.sessions {
            put(road, session)?;
            self.name(road, session.uid)?;
        }
        for process in &snapshot.processes {
            let is_known = known.iter().any(|it| it.session == process.session);
            if !(complete && is_known) {
                put(road, process)?;
            }
        }
        Ok(snapshot.sessions.iter().map(|it| it.session).collect())
    }

    /// Tells a user's name once.
    fn name(&mut self, road: &mut impl RecordSink, uid: u32) -> anyhow::Result<()> {
        if !self.named.insert(uid) {
            return Ok(());
        }
        let Some(user) = uzers::get_user_by_uid(uid) else {
            return Ok(());
        };
        let name = fixed(&user.name().to_string_lossy());
        put(
            road,
            &User {
                header: header(Kind::User, boottime()),
                uid,
                pad: 0,
                name,
            },
        )
    }
}

fn put(road: &mut impl RecordSink, record: &(impl IntoBytes + Immutable)) -> anyhow::Result<()> {
    road.record(record.as_bytes())
}

fn tick(road: &mut impl RecordSink, kind: Kind) -> anyhow::Result<()> {
    put(
        road,
        &Tick {
            header: header(kind, boottime()),
        },
    )
}

/// Watches a descriptor for input.
fn readiness<T: AsRawFd>(of: T) -> std::io::Result<AsyncFd<T>> {
    // SAFETY: `of` owns its descriptor, which stays open and the same for as long as it lives.
    unsafe { AsyncFd::register_with_interest(of, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}

/// Passes on what the programs logged; never ready without `-v`.
async fn readable(
    log: &mut Option<AsyncFd<aya_log::EbpfLogger<&'static dyn log::Log>>>,
) -> anyhow::Result<()> {
    let Some(log) = log else {
        return std::future::pending().await;
    };
    let mut guard = log
        .readable_mut()
        .await
        .context("waiting for the programs' log")?;
    guard.get_inner_mut().flush();
    guard.clear_ready();
    Ok(())
}
