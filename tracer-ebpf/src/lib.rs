//! The record ABI: the data that the eBPF programs and user space exchange.
//!
//! This library is the only thing that both sides share. It holds plain data and no logic:
//!
//! - [records](Kind), which are fixed-layout, padding-free structs that begin with a [`Header`];
//! - the values of the [tables](StreamState) that both sides read and write;
//! - the [`Config`] that user space injects into the programs before it loads them, with the
//!   [`Layout`] of the running kernel's structs.
//!
//! The programs write records to a ring buffer. User space adds records of its own (snapshots,
//! samples, ticks), and all of them pass through one pipeline. A recording consists of these bytes
//! and nothing else.
//!
//! Times are nanoseconds of `CLOCK_BOOTTIME`, sizes are bytes. Pids are those of the initial pid
//! namespace and name thread groups.
//!
//! Any module of any crate may use it. The eBPF programs are the binary beside it (`main.rs`).
#![no_std]

mod abi;

pub use abi::*;
