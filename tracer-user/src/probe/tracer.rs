//! The source of all records: drains the ring buffer, and adds ticks, samples, scans and names.

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
    Header, Kind, Loss, Record, Resume, STREAMS, Scan, SessionVanished, Start, Stream, Tick, User,
    edge,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::{
    Host, KnownSession, Options, Past, Probes, RecordSink, ResumeState, boottime, cgroup, scan,
    skipped::Skipped,
    snapshot,
    tables::{self, Tables, fixed},
};

/// How often the counters of open streams are read.
const SAMPLE: Duration = Duration::from_millis(250);
/// How long the kernel side keeps a session that has ended. The kernel hands out first what was freed
/// last. After this time another pipe is at the address and has its own entry, or it is unlikely that
/// one is made just while the old entry is removed.
const KEPT: Duration = Duration::from_secs(5);
/// How often the tables are searched for objects of servers that have ended.
const SWEEP: Duration = Duration::from_secs(30);

/// Attached probes, and everything that reads from them.
pub struct Tracer {
    /// What is attached.
    pub probes: Probes,
    tables: Tables,
    skipped: Skipped,
    ring: AsyncFd<RingBuf<MapData>>,
    /// The programs' own log, where it is wanted.
    log: Option<AsyncFd<aya_log::EbpfLogger<&'static dyn log::Log>>>,
    /// Users whose names have been sent.
    named: HashSet<u32>,
    /// Hash of the last sample, by session and slot.
    sampled: HashMap<u64, [u32; STREAMS]>,
    /// Sessions that have ended, and since when.
    closed: VecDeque<(Instant, u64)>,
    host: Host,
    /// See [`Options::grace`].
    grace: u64,
    /// See [`Options::stall_after`].
    stall_after: u64,
}

impl Tracer {
    /// Loads and attaches the probes.
    ///
    /// # Errors
    /// See [`super::LoadError`]; also when the tables of a new load cannot be used.
    pub fn open(options: &Options) -> anyhow::Result<Self> {
        let host = Host::read();
        let mut probes = Probes::load(options, &host)?;
        let ring = tables::ring(&mut probes.objects).context("the ring buffer")?;
        let ring = readiness(ring).context("waiting for the ring buffer")?;
        let log = match probes.objects.ebpf() {
            Some(ebpf) if options.verbose => {
                let logger = aya_log::EbpfLogger::init(ebpf).context("the programs' log")?;
                Some(readiness(logger).context("waiting for the programs' log")?)
            }
            _ => None,
        };
        let tables = Tables::open(&mut probes.objects).context("the kernel side's tables")?;
        let skipped = Skipped::of(&probes.objects).context("the programs' own counters")?;
        Ok(Self {
            probes,
            tables,
            skipped,
            ring,
            log,
            named: HashSet::new(),
            sampled: HashMap::new(),
            closed: VecDeque::new(),
            host,
            grace: options.grace,
            stall_after: options.stall_after,
        })
    }

    /// Sends `sink` records of what there is already, then of everything that happens, until the sink
    /// is finished or `stop` completes.
    ///
    /// # Errors
    /// When the sink refuses a record, or the kernel refuses a scan.
    pub async fn run(
        &mut self,
        sink: &mut impl RecordSink,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        match sink.resume_state() {
            Some(state) => self.resume(sink, &state)?,
            None => self.begin(sink)?,
        }
        let mut stop = pin!(stop);
        let mut sample_at = Instant::now() + SAMPLE;
        let mut sweep_at = Instant::now() + SWEEP;
        while !sink.finished() {
            let now = boottime();
            let wake = sink.deadline().map_or(sample_at, |deadline| {
                sample_at.min(Instant::now() + Duration::from_nanos(deadline.saturating_sub(now)))
            });
            let stopping = tokio::select! {
                biased;
                () = &mut stop => true,
                guard = self.ring.readable_mut() => {
                    // Cleared before the ring is drained: the kernel wakes us for the first record
                    // after that (bpf_ringbuf_commit, kernel/bpf/ringbuf.c), so none is missed.
                    guard.context("waiting for the ring buffer")?.clear_ready();
                    false
                }
                guard = readable(&mut self.log) => {
                    guard?;
                    false
                }
                () = tokio::time::sleep_until(wake) => false,
            };
            self.drain(sink)?;
            let now = Instant::now();
            if now >= sample_at {
                sample_at = now + SAMPLE;
                self.sample(sink)?;
                self.forget(now);
            }
            if now >= sweep_at {
                sweep_at = now + SWEEP;
                self.tables.sweep();
            }
            if sink
                .deadline()
                .is_some_and(|deadline| deadline <= boottime())
            {
                self.losses(sink)?;
                tick(sink, Kind::Tick)?;
            }
            self.serve(sink)?;
            if stopping {
                break;
            }
        }
        Ok(())
    }

    /// Drains the ring, and ends with a tick: the barrier after all records so far.
    fn drain(&mut self, sink: &mut impl RecordSink) -> anyhow::Result<()> {
        let mut number = None;
        let mut users = Vec::new();
        while let Some(item) = self.ring.get_mut().next() {
            if number.is_none() {
                // Before the first record is removed, which happens when the item is dropped.
                number = Some(self.tables.begin_drain().context("counting the drains")?);
            }
            if let Some(Record::SessionStart(start)) = Record::decode(&item) {
                users.push(start.uid);
            }
            sink.record(&item)?;
        }
        for uid in users {
            self.name(sink, uid)?;
        }
        if let Some(number) = number {
            self.losses(sink)?;
            sink.drained(number);
            tick(sink, Kind::Tick)?;
        }
        Ok(())
    }

    /// Sends what was lost, before the tick that lets verdicts be given.
    fn losses(&mut self, sink: &mut impl RecordSink) -> anyhow::Result<()> {
        if let Some(counts) = self
            .tables
            .new_losses(&mut self.skipped)
            .context("reading the loss counters")?
        {
            put(
                sink,
                &Loss {
                    header: Header::new(Kind::Loss, boottime()),
                    counts,
                },
            )?;
        }
        Ok(())
    }

    /// Does what the sink asks for: scans for holders, and forgets sessions that have ended.
    fn serve(&mut self, sink: &mut impl RecordSink) -> anyhow::Result<()> {
        if sink.wants_scan() {
            self.scan(sink)?;
            tick(sink, Kind::Tick)?;
        }
        let now = Instant::now();
        for session in sink.take_closed() {
            self.sampled.remove(&session);
            self.closed.push_back((now, session));
        }
        Ok(())
    }

    /// Removes the sessions that ended long enough ago from the kernel side's tables.
    fn forget(&mut self, now: Instant) {
        while let Some((_, session)) = self.closed.pop_front_if(|(since, _)| *since + KEPT <= now) {
            self.tables.forget(session);
        }
    }

    /// Scans for the holders of all streams. Describes processes that no record has described yet.
    fn scan(&mut self, sink: &mut impl RecordSink) -> anyhow::Result<()> {
        put(sink, &scan_edge(Kind::ScanBegin))?;
        let mut described = HashSet::new();
        let mut located = HashSet::new();
        let mut holders = scan::descriptors(&mut self.probes.objects)?;
        holders.extend(scan::inflight(&mut self.probes.objects)?);
        for holder in holders {
            put(sink, &holder)?;
            if !self.tables.is_server(holder.proc.pid)
                && located.insert(holder.proc)
                && let Some(cgroup) = cgroup::of(holder.proc, holder.header.time)
            {
                put(sink, &cgroup)?;
            }
            if !self.tables.is_known(holder.proc.pid, holder.session)
                && described.insert(holder.proc)
            {
                put(sink, &snapshot::describe_holder(&holder))?;
            }
        }
        for socket in scan::sockets(&mut self.probes.objects)? {
            put(sink, &socket)?;
        }
        put(sink, &scan_edge(Kind::ScanEnd))
    }

    /// Sends the counters of those streams whose counters have changed, or that contain unread bytes
    /// or have a blocked writer.
    fn sample(&mut self, sink: &mut impl RecordSink) -> anyhow::Result<()> {
        let mut any = false;
        for session in sink.sessions_to_sample() {
            for state in self.tables.streams(session) {
                let counters = state.counters;
                let waits = counters.written != counters.read || counters.blocked_since != 0;
                let hashes = self.sampled.entry(session).or_default();
                let Some(last) = hashes.get_mut(state.slot as usize) else {
                    continue;
                };
                let hash = crc32fast::hash(counters.as_bytes());
                if std::mem::replace(last, hash) == hash && !waits {
                    continue;
                }
                let mut sample = Stream::new_zeroed();
                sample.header = Header::new(Kind::Stream, boottime());
                sample.session = session;
                sample.object = state.object;
                sample.slot = state.slot;
                sample.edge = edge::SAMPLE;
                sample.unread = counters.written.saturating_sub(counters.read);
                sample.counters = counters;
                put(sink, &sample)?;
                any = true;
            }
        }
        if any { tick(sink, Kind::Tick) } else { Ok(()) }
    }

    /// Begins for a sink that remembers nothing.
    fn begin(&mut self, sink: &mut impl RecordSink) -> anyhow::Result<()> {
        if self.probes.past == Past::Seen {
            // Nobody remembers what came before the records in the ring.
            return self.resume(sink, &ResumeState::default());
        }
        self.start(sink)?;
        self.snapshot(sink, &[], false)?;
        tick(sink, Kind::Ready)?;
        tick(sink, Kind::Tick)?;
        self.serve(sink)
    }

    /// Begins for a sink that continues: first the records of programs that ran meanwhile, then what
    /// else there is.
    fn resume(&mut self, sink: &mut impl RecordSink, state: &ResumeState) -> anyhow::Result<()> {
        self.start(sink)?;
        let seen = self.probes.past == Past::Seen;
        let drains = self.tables.drains().context("counting the drains")?;
        let complete = seen && state.drain == Some(drains);
        // What was missed is reported now, and only once: the next tracer continues from here.
        sink.drained(drains);
        put(
            sink,
            &Resume {
                header: Header::new(Kind::Resume, boottime()),
                since: state.since,
                complete: u32::from(complete),
                pad: 0,
            },
        )?;
        if seen {
            self.drain(sink)?;
            self.tables.keep_only(&sink.open_sessions());
        }
        let mut present = self.snapshot(sink, &state.sessions, complete)?;
        if !complete {
            present.extend(self.tables.all_sessions());
            let sessions = state.sessions.iter().map(|known| known.session);
            for session in sessions.filter(|session| !present.contains(session)) {
                put(
                    sink,
                    &SessionVanished {
                        header: Header::new(Kind::SessionVanished, boottime()),
                        session,
                    },
                )?;
            }
        }
        tick(sink, Kind::Ready)?;
        tick(sink, Kind::Tick)?;
        self.serve(sink)
    }

    /// Sends the record that begins every recording.
    fn start(&mut self, sink: &mut impl RecordSink) -> anyhow::Result<()> {
        let mut start = Start::new_zeroed();
        start.header = Header::new(Kind::Start, boottime());
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
        put(sink, &start)
    }

    /// Sends what there is already, and returns the ids of the open sessions. `complete` means that
    /// the sink has missed nothing about the sessions that it knows.
    fn snapshot(
        &mut self,
        sink: &mut impl RecordSink,
        known: &[KnownSession],
        complete: bool,
    ) -> anyhow::Result<HashSet<u64>> {
        let names = self.probes.servers.clone();
        let (objects, tables) = (&mut self.probes.objects, &mut self.tables);
        let snapshot = snapshot::capture(objects, tables, &names, known, boottime())
            .context("finding what was there before the tracer")?;
        for session in &snapshot.sessions {
            put(sink, session)?;
            self.name(sink, session.uid)?;
        }
        for process in &snapshot.processes {
            let is_known = known.iter().any(|it| it.session == process.session);
            if !(complete && is_known) {
                put(sink, process)?;
            }
        }
        Ok(snapshot.sessions.iter().map(|it| it.session).collect())
    }

    /// Sends a user's name, once.
    fn name(&mut self, sink: &mut impl RecordSink, uid: u32) -> anyhow::Result<()> {
        if !self.named.insert(uid) {
            return Ok(());
        }
        let Some(user) = uzers::get_user_by_uid(uid) else {
            return Ok(());
        };
        let name = fixed(&user.name().to_string_lossy());
        put(
            sink,
            &User {
                header: Header::new(Kind::User, boottime()),
                uid,
                pad: 0,
                name,
            },
        )
    }
}

fn put(sink: &mut impl RecordSink, record: &(impl IntoBytes + Immutable)) -> anyhow::Result<()> {
    sink.record(record.as_bytes())
}

fn tick(sink: &mut impl RecordSink, kind: Kind) -> anyhow::Result<()> {
    put(
        sink,
        &Tick {
            header: Header::new(kind, boottime()),
        },
    )
}

/// The record that begins or ends a scan. A scan here always sees every process.
fn scan_edge(kind: Kind) -> Scan {
    Scan {
        header: Header::new(kind, boottime()),
        partial: 0,
        pad: 0,
    }
}

/// Watches a descriptor for input.
fn readiness<T: AsRawFd>(of: T) -> std::io::Result<AsyncFd<T>> {
    // SAFETY: `of` owns its descriptor, which stays open and the same for as long as it lives.
    unsafe { AsyncFd::register_with_interest(of, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}

/// Passes on what the programs logged. Without `-v` it never completes.
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
