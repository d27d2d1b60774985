//! The flight recorder: what is kept, and what is told from it.

mod crash;
mod queries;
mod restart;
mod retention;
#[path = "../model/scenario/mod.rs"]
#[expect(dead_code, reason = "stories about the model need more of it")]
mod scenario;
#[path = "../support/skipped.rs"]
mod skipped;
mod stories;
mod told;
mod trace;
mod trouble;
