//! The catalogue: one file a class.

mod clean;
mod copies;
mod orphaned;
mod quiet;
mod recording;
pub(crate) mod truncated;

use crate::case::Case;

/// Every case, in the order in which they run.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        clean::CASES,
        copies::CASES,
        quiet::CASES,
        truncated::CASES,
        orphaned::CASES,
        recording::CASES,
    ]
    .concat()
}
