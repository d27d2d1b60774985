//! lastbyte: did the last byte of an SSH session make it, and who keeps a finished session open.

pub mod probe;
