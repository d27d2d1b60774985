//! The terminal UI: `lastbyte top`.
//!
//! Data flows one way. A [`Source`] (a tracer in this process, a daemon, a recording) sends [`feed`]
//! messages. `state` applies them, together with the user's commands from `keys`, and `view` draws the
//! state. Only `run` and `actions` touch the terminal, files and other processes, so that `state` and
//! `view` can be tested without any of them.

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
