//! One module a subject; `record` lists all kinds of records.

mod config;
mod connection;
mod layout;
mod process;
mod record;
mod scm_rights;
mod session;
mod stream;
mod tables;
mod userspace_records;

pub use config::{Config, Sys};
pub use connection::{Conn, ConnId, Progress, X11_PORTS};
pub use layout::{Layout, Member, OPTIONAL};
pub use process::{Exec, Exit, Fork, Proc, Signal, role};
pub use record::{Body, Header, Kind, Record};
pub use scm_rights::{Passed, way};
pub use session::{Chld, SessionStart, StreamEnds, chld, session_id, session_pid, transport};
pub use stream::{Counters, Stream, StreamNow, edge};
pub use tables::{Session, StreamState, Task, carry_over, seen};
pub use userspace_records::{
    CGROUP_LEN, Cgroup, ConnectionSiblings, Holder, Loss, Resume, Scan, SessionVanished, Socket,
    Start, Tick, User, backend, loss, via,
};

/// Version of the records. Changes with every change of a record's layout or meaning. A recording
/// of another version is refused.
pub const ABI_VERSION: u32 = 3;

/// Version of the tables. Changes with every change of their names, layout or meaning, so that a
/// tracer never takes over tables that it does not understand.
pub const TABLES_VERSION: u32 = 5;

/// Bytes of a kernel `comm` (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;
/// Bytes of the base name of a server's executable, its NUL included.
pub const EXE_LEN: usize = 32;
/// Bytes of an argument vector that a record keeps; a longer one is cut.
pub const ARGV_LEN: usize = 512;
/// Streams of a session: stdin, stdout, stderr.
pub const STREAMS: usize = 3;
/// Default size of the ring buffer in bytes.
pub const RING_BYTES: u32 = 8 << 20;
