//! Sentences for a person, and what to do in the shell's words.

mod durations;
mod fixes;
mod names;
mod notes;
mod sentences;

pub(crate) use self::{
    durations::{counted, duration, utc_time_of_day},
    fixes::stalled_advice,
    names::{command, ended, held, own_server, signal_name, user, who, without_command},
    sentences::still_stalled,
};
pub(super) use self::{
    fixes::{fix, fix_stalled, fix_truncated, fix_waiting},
    names::told_end,
    notes::{gave_up, hung_up, taken},
    sentences::{moves, near_miss, orphaned, released, stalled, truncated},
};
