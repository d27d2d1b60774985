//! The flight recorder: what is kept, and what is told from it.

mod crash;
mod queries;
mod restart;
mod retention;
#[path = "../model/road.rs"]
#[expect(dead_code, reason = "stories about the model need more of it")]
mod road;
mod stories;
mod told;
mod trace;
mod trouble;
