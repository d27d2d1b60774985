//! Sessions drawn at random, several at once, each with its ground truth.
//!
//! Session number `n` of a seed is the same in every run, whatever ran beside it.

mod plan;
mod play;
mod rng;
mod score;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use self::plan::Plan;
pub(crate) use self::rng::Rng;
pub use self::score::{Result, Score};
use crate::check;
use crate::expect::Who;
use crate::stage::{Setting, Stage};
use crate::world::Server::{
    Drain, DrainNoStdin, Dropbear, Eager, EagerNoStdin, EagerOnePipe, EagerSocket, OpenSsh,
};

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

/// After how many sessions it is said how many there were.
const PROGRESS: usize = 250;

/// Runs the sessions and compares what was said about them with what is true.
///
/// # Errors
/// When a server cannot be started. What goes wrong in a session is a problem in the result.
pub fn run(draw: Draw, setting: Setting<'_>) -> anyhow::Result<Result> {
    for server in [
        OpenSsh,
        Eager,
        Drain,
        EagerSocket,
        EagerNoStdin,
        EagerOnePipe,
        DrainNoStdin,
        Dropbear,
    ] {
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
