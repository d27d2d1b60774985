//! Sessions drawn at random, several at once, each with its ground truth.
//!
//! Session number `n` of a seed is the same in every run, whatever ran beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::cases::truncated::{client_killed, killed_with};
use crate::check;
use crate::event::Event;
use crate::expect::{Bytes, Expect, Stream, Who};
use crate::procs;
use crate::stage::{Run, Setting, Stage};
use crate::world::Server::{self, Drain, Dropbear, Eager, EagerSocket, OpenSsh};

/// How many sessions, which ones, and how many at a time.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Number of sessions.
    pub sessions: u64,
    /// Determines all of them.
    pub seed: u64,
    /// Sessions under way at the same time.
    pub jobs: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Result {
    /// Everything that is wrong, with the session it is about.
    pub problems: Vec<String>,
    /// Sessions about which nothing had to be reported.
    pub clean: usize,
    /// Sessions that lost bytes.
    pub truncated: usize,
    /// Bytes they lost, where the number is known.
    pub lost: u64,
    /// Sessions that hung.
    pub orphaned: usize,
    /// Sessions that were called unknown, by the reasons of the gap that makes them so.
    pub unknown: BTreeMap<String, usize>,
    /// What was told of losses.
    pub losses: Score,
    /// What was told of holders.
    pub hangs: Score,
    /// Byte counts of losses that were called exact; a wrong one is a problem.
    pub exact: usize,
}

/// How many sessions were told to have something, against how many had it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    told: usize,
    true_: usize,
    both: usize,
}

impl Score {
    /// Of sessions by their markers.
    fn of(told: &BTreeSet<&str>, true_: &BTreeSet<&str>) -> Self {
        Self {
            told: told.len(),
            true_: true_.len(),
            both: told.intersection(true_).count(),
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, true_, both } = self;
        let share = |of: usize| match of {
            0 => 1.0,
            _ => *both as f64 / of as f64,
        };
        write!(
            f,
            "precision {:.4} ({both} of {told} told), recall {:.4} ({both} of {true_} true)",
            share(*told),
            share(*true_),
        )
    }
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} clean, {} truncated ({} B), {} orphaned; {} told as unknown; {} problems",
            self.clean,
            self.truncated,
            self.lost,
            self.orphaned,
            self.unknown.values().sum::<usize>(),
            self.problems.len()
        )?;
        for (reasons, sessions) in &self.unknown {
            write!(f, "\nunknown:   {sessions} for {reasons}")?;
        }
        write!(
            f,
            "\ntruncated: {}; {} byte counts called exact\norphaned:  {}",
            self.losses, self.exact, self.hangs
        )
    }
}

/// After how many sessions it is said how many there were.
const PROGRESS: usize = 250;

/// Runs the sessions and compares what was said about them with what is true.
///
/// # Errors
/// When a server cannot be started. What goes wrong in a session is a problem in the result.
pub fn run(draw: Draw, setting: Setting<'_>) -> anyhow::Result<Result> {
    for server in [OpenSsh, Eager, Drain, EagerSocket, Dropbear] {
        setting.world.target(server)?;
    }
    let whole = Stage::new(setting);
    let next = AtomicU64::new(0);
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..draw.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= draw.sessions || setting.tracer.check_alive().is_err() {
                        return;
                    }
                    let plan = Plan::new(draw.seed, number);
                    let outcome = plan.execute(&Stage::new(setting));
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((plan, outcome));
                    if done.len() % PROGRESS == 0 {
                        println!("{} of {} sessions have run", done.len(), draw.sessions);
                    }
                }
            });
        }
    });

    let mut result = Result::default();
    let (mut expects, mut plans) = (Vec::new(), Vec::new());
    for (plan, outcome) in done.into_inner().unwrap_or_else(PoisonError::into_inner) {
        match outcome {
            Ok(expect) => {
                let expect = expect.lacking();
                result.count(&expect);
                if let Who::Marked(marker) = &expect.who {
                    plans.push((marker.clone(), plan));
                }
                expects.push(expect);
            }
            Err(error) => result
                .problems
                .push(format!("scenario of {plan}: {error:#}")),
        }
    }
    if let Err(error) = whole.settle(expects.len()) {
        result.problems.push(format!("{error:#}"));
    }
    let events = whole.events();
    result.score(&events, &expects);
    for problem in check::window(&events, &expects) {
        let about = plans
            .iter()
            .find(|(marker, _)| problem.contains(marker.as_str()));
        result.problems.push(match about {
            Some((_, plan)) => format!("{problem}\n       {plan}"),
            None => problem,
        });
    }
    result.problems.extend(setting.tracer.garbage());
    Ok(result)
}

impl Result {
    /// Holds what was told of each session against what is true of it.
    fn score(&mut self, events: &[Event], expects: &[Expect]) {
        let having = |has: &dyn Fn(&Expect) -> bool| -> BTreeSet<&str> {
            let own = expects.iter().filter(|expect| has(expect));
            own.filter_map(|expect| expect.who.marker()).collect()
        };
        let all = having(&|_| true);
        let told = |kind: &str| -> BTreeSet<&str> {
            let findings = events.iter().filter(|event| event.finds(kind));
            let marked = findings.filter_map(|event| {
                all.iter()
                    .find(|marker| event.command().contains(**marker))
                    .copied()
            });
            marked.collect()
        };
        self.losses = Score::of(&told("truncated"), &having(&|one| !one.cuts.is_empty()));
        let tolerated = having(&|one| one.holders.is_none() && one.tolerated.contains(&"orphaned"));
        let hangs: BTreeSet<&str> = told("orphaned").difference(&tolerated).copied().collect();
        self.hangs = Score::of(&hangs, &having(&|one| one.holders.is_some()));
        let unknown = |event: &&Event| event.is("session_closed") && event.verdict() == "unknown";
        for event in events.iter().filter(unknown) {
            let reasons = event.value["gap_reasons"].to_string();
            *self.unknown.entry(reasons).or_default() += 1;
        }
        let exact = |event: &&Event| event.finds("truncated") && event.value["exact"] == true;
        self.exact = events.iter().filter(exact).count();
    }

    fn count(&mut self, expect: &Expect) {
        if expect.holders.is_some() {
            self.orphaned += 1;
        } else if expect.cuts.is_empty() {
            self.clean += 1;
        } else {
            self.truncated += 1;
        }
        for cut in &expect.cuts {
            if let Bytes::Exactly(bytes) | Bytes::Equal(bytes) = cut.bytes {
                self.lost += bytes;
            }
        }
    }
}

/// How the leader ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Code(u8),
    Killed,
}

/// Which outputs a job keeps.
#[derive(Clone, Copy, Debug)]
enum Keeps {
    Stdout,
    Stderr,
    Both,
}

#[derive(Debug)]
enum Shape {
    /// Bytes on both outputs, in this order, with pauses in milliseconds before each.
    Output {
        stdout: u64,
        stderr: u64,
        pauses: [u64; 2],
        end: End,
    },
    /// Bytes on a terminal.
    Terminal { bytes: u64 },
    /// Output, and a job that writes some more a little later, well within the grace time.
    Late { stdout: u64, later: u64 },
    /// Output, and jobs that hold on until they have been looked at, and write nothing.
    Held { stdout: u64, jobs: Vec<Keeps> },
    /// The server is killed with bytes unread.
    ServerKilled { unread: u64 },
    /// The client is killed.
    ClientKilled,
}

/// One session to be.
#[derive(Debug)]
struct Plan {
    number: u64,
    server: Server,
    shape: Shape,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "session {} on {:?}: {:?}",
            self.number, self.server, self.shape
        )
    }
}

impl Plan {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut rng = Rng::new(seed, number);
        let server = rng.pick(&[
            OpenSsh,
            OpenSsh,
            OpenSsh,
            Eager,
            Eager,
            EagerSocket,
            Drain,
            Dropbear,
        ]);
        let shape = match (rng.below(100), server) {
            (0..5, OpenSsh) => Shape::ClientKilled,
            (5..12, OpenSsh) => Shape::ServerKilled {
                unread: 1 + rng.below(65536),
            },
            (12..17, OpenSsh) => Shape::Terminal {
                bytes: rng.size() >> 3,
            },
            (12..27, _) => Shape::Held {
                stdout: rng.size(),
                jobs: rng.jobs(),
            },
            // An eager server would cut the late writer off; that is another matter.
            (27..37, OpenSsh | Drain) => Shape::Late {
                stdout: rng.size(),
                later: rng.size(),
            },
            _ => Shape::Output {
                stdout: rng.size(),
                stderr: if rng.below(3) == 0 { rng.size() } else { 0 },
                pauses: [rng.pause(), rng.pause()],
                end: if rng.below(8) == 0 {
                    End::Killed
                } else {
                    End::Code(rng.pick(&[0, 0, 0, 1, 77]))
                },
            },
        };
        Self {
            number,
            server,
            shape,
        }
    }

    fn execute(&self, stage: &Stage<'_>) -> anyhow::Result<Expect> {
        match &self.shape {
            Shape::Output {
                stdout,
                stderr,
                pauses,
                end,
            } => {
                let last = match end {
                    End::Code(code) => format!("exit {code}"),
                    End::Killed => "kill -9 $$".to_owned(),
                };
                let command = format!(
                    "{}{}{}{}{last}",
                    pause(pauses[0]),
                    output(*stdout, ""),
                    pause(pauses[1]),
                    output(*stderr, " >&2")
                );
                let begin = Instant::now();
                let run = stage.run(self.server, &command)?;
                let expect = match end {
                    End::Code(code) => run.clean().exits(i64::from(*code)),
                    End::Killed => run.clean().signalled(9),
                };
                let idle = Duration::from_millis(pauses.iter().sum());
                let expect = expect.tolerate(slowness(begin.elapsed().saturating_sub(idle)));
                let expect = self.arrived(stage, expect, &run, Stream::Stdout, *stdout)?;
                self.arrived(stage, expect, &run, Stream::Stderr, *stderr)
            }
            Shape::Late { stdout, later } => {
                let command = format!(
                    "(sleep 0.2; {}true) & {}true",
                    output(*later, ""),
                    output(*stdout, "")
                );
                let begin = Instant::now();
                let run = stage.run(self.server, &command)?;
                let expect = run.clean().tolerate(slowness(begin.elapsed()));
                self.arrived(stage, expect, &run, Stream::Stdout, stdout + later)
            }
            Shape::Held { stdout, jobs } => {
                let mut command = output(*stdout, "");
                for keeps in jobs {
                    let redirect = match keeps {
                        Keeps::Stdout => "2>/dev/null",
                        Keeps::Stderr => ">/dev/null",
                        Keeps::Both => "",
                    };
                    command.push_str(&format!("sleep {} {redirect} & ", stage.lasting()));
                }
                command.push_str("exit 0");
                let started = stage.start(self.server, &command)?;
                let marker = started.marker.clone();
                if matches!(self.server, Eager | EagerSocket | Dropbear) {
                    // It closes at once, so nothing hangs; who writes nothing loses nothing.
                    let run = started.finish(stage.setting.patience);
                    procs::end(&marker);
                    let run = run?;
                    return self.arrived(
                        stage,
                        run.clean().exits(0),
                        &run,
                        Stream::Stdout,
                        *stdout,
                    );
                }
                let finding = stage.finding("orphaned", &marker);
                let truth = procs::holders(&marker);
                procs::end(&marker);
                finding?;
                ensure!(truth.len() == jobs.len(), "{truth:?} hold on");
                let run = started.finish(stage.setting.patience)?;
                let expect = run.clean().exits(0).held_by(truth);
                self.arrived(stage, expect, &run, Stream::Stdout, *stdout)
            }
            Shape::Terminal { bytes } => {
                // As they are, without what a terminal makes of line ends.
                let command = format!("stty raw -echo; {}exit 0", output(*bytes, ""));
                let begin = Instant::now();
                let started = stage.start_with(self.server, &command, |ssh| {
                    ssh.arg("-tt");
                })?;
                let run = started.finish(stage.setting.patience)?;
                let expect = run.clean().exits(0).tolerate(slowness(begin.elapsed()));
                ensure!(
                    run.arrived.stdout == *bytes,
                    "{} of {bytes} B arrived",
                    run.arrived.stdout
                );
                Ok(expect)
            }
            Shape::ServerKilled { unread } => killed_with(stage, *unread),
            Shape::ClientKilled => client_killed(stage),
        }
        .with_context(|| format!("session {}", self.number))
    }

    /// Adds what the client's count says about a stream of `written` bytes.
    fn arrived(
        &self,
        stage: &Stage<'_>,
        expect: Expect,
        run: &Run,
        stream: Stream,
        written: u64,
    ) -> anyhow::Result<Expect> {
        let arrived = match stream {
            Stream::Stdout => run.arrived.stdout,
            Stream::Stderr => run.arrived.stderr,
        };
        ensure!(arrived <= written, "{arrived} B arrived of {written}");
        let expect = expect.counts(stream, Some(written), Some(arrived));
        if arrived == written {
            return Ok(expect);
        }
        ensure!(
            matches!(self.server, Eager | EagerSocket),
            "{arrived} of {written} B of {stream} arrived, with no reason for a loss"
        );
        let lost = written - arrived;
        Ok(match self.shape {
            // Closed with bytes unread and with writers alive: both are true.
            Shape::Held { .. } => expect.cut(
                stream,
                &["server_closed_early", "writer_cut"],
                stage.with_writers(lost),
            ),
            _ => expect.cut(stream, &["server_closed_early"], Bytes::Exactly(lost)),
        })
    }
}

/// What may be reported about a session that took this long beyond its own pauses: on a busy machine
/// a writer does stand still, and a late one does outlast the grace time.
fn slowness(took: Duration) -> &'static [&'static str] {
    if took < Duration::from_millis(900) {
        &[]
    } else {
        &["stalled", "orphaned"]
    }
}

fn output(bytes: u64, to: &str) -> String {
    match bytes {
        0 => String::new(),
        _ => format!("head -c {bytes} /dev/zero{to}; "),
    }
}

fn pause(milliseconds: u64) -> String {
    match milliseconds {
        0 => String::new(),
        _ => format!("sleep 0.{milliseconds:03}; "),
    }
}

/// SplitMix64: small, and the same everywhere.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut rng = Self(seed ^ number.wrapping_mul(0xA24B_AED4_963E_E407));
        // Neighbouring numbers must not begin alike.
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap_or(0)]
    }

    /// Bytes: nothing, a line, around a pipe's capacity, or of any magnitude up to 64 MiB.
    fn size(&mut self) -> u64 {
        match self.below(5) {
            0 => 0,
            1 => 1 + self.below(200),
            2 => 65536 - 50 + self.below(100),
            _ => {
                let magnitude = 1 << self.below(26);
                magnitude + self.below(magnitude)
            }
        }
    }

    /// Milliseconds.
    fn pause(&mut self) -> u64 {
        if self.below(3) == 0 {
            1 + self.below(300)
        } else {
            0
        }
    }

    fn jobs(&mut self) -> Vec<Keeps> {
        let count = 1 + self.below(3);
        (0..count)
            .map(|_| self.pick(&[Keeps::Stdout, Keeps::Stderr, Keeps::Both]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Plan;

    #[test]
    fn a_seed_always_gives_the_same_sessions() {
        let draw = |seed| {
            (0..50)
                .map(|number| Plan::new(seed, number).to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
