//! What the model makes of stories told in records.

mod delivery;
mod departure;
mod fixes;
mod gaps;
#[path = "../../fuzz/src/grammar.rs"]
mod grammar;
mod lines;
mod lives;
mod orphaned;
mod properties;
mod restarts;
mod scenario;
mod stalled;
mod timeline;
#[path = "../store/trace.rs"]
mod trace;
mod truncated;
mod unusual_holders;
mod waiting;
