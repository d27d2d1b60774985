//! Text: what was found, in sentences for a person, and what to do in the shell's words.
//!
//! The last layer of the model: nothing is decided here, and only the model itself calls it.

mod durations;
mod findings;
mod fixes;
mod gaps;
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
    findings::finding,
    gaps::{interrupted, lost_records, preexisting, too_many},
    notes::note,
};
