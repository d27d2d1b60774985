//! lastbyte: did the last byte of an SSH session make it, and who keeps a finished session open.
//!
//! Data has one road: kernel, [`probe`], record, [`model`], update, subscribers. A recording
//! ([`store`]) taps it at the record, so that a replay gives the very same findings.

pub mod cli;
pub mod daemon;
pub mod export;
pub mod model;
mod pipeline;
pub mod probe;
#[cfg(test)]
#[path = "../tests/support/skipped.rs"]
mod skipped;
pub mod store;
pub mod tui;
