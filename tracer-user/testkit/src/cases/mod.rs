//! The catalogue, by what goes on in a session.

mod adversarial;
mod clean;
mod copies;
mod daemon;
mod everyday;
mod helpers;
mod holders;
mod identity;
mod late;
mod network;
mod orphaned;
mod quiet;
mod recording;
mod roads;
mod servers;
pub(crate) mod stdinless;
mod top;
pub(crate) mod truncated;
mod waiting;
mod writers;

use crate::case::Case;

/// Every case, in the order in which they run.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        clean::CASES,
        copies::CASES,
        writers::CASES,
        quiet::CASES,
        truncated::CASES,
        network::CASES,
        orphaned::CASES,
        holders::CASES,
        identity::CASES,
        late::CASES,
        roads::CASES,
        waiting::CASES,
        servers::CASES,
        adversarial::CASES,
        recording::CASES,
        everyday::CASES,
        everyday::ACCUSATIONS,
        helpers::CASES,
        stdinless::CASES,
        daemon::CASES,
        top::CASES,
    ]
    .concat()
}
