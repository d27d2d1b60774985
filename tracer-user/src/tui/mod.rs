//! The terminal UI: `lastbyte top`.
//!
//! A [`Source`] tells what happens, `state` knows it and where the user is, `keys` says what a key
//! means, `view` draws, and `run` is all contact with the terminal.

mod actions;
pub mod feed;
mod keys;
mod run;
pub mod source;
mod state;
mod view;

pub(crate) use self::view::{fit, wrap};
pub use self::{
    run::run,
    source::{Replay, Source},
    state::{Begin, Setup},
};
