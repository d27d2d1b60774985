//! Real SSH sessions whose outcome is known from outside, to hold `lastbyte`'s findings against.
//!
//! [`eager`] is a server that loses bytes the way early OpenSSH did; everything else starts real
//! servers and clients, follows the tracer's JSON lines and compares them with the bytes that
//! arrived and the processes that exist.

pub mod case;
pub mod cases;
pub mod check;
pub mod client;
pub mod confine;
pub mod daemon;
pub mod dropbear;
pub mod eager;
pub mod event;
pub mod expect;
pub mod holes;
pub mod netns;
pub mod procs;
pub mod random;
pub mod regress;
pub mod results;
pub mod soak;
pub mod sshd;
pub mod stage;
pub mod sys;
pub mod terminal;
pub mod tracer;
pub mod world;
