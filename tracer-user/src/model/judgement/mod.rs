//! Judgement: what follows from the facts. Every function here is pure: the same facts give the same
//! answer, and nothing is remembered.

mod delivery;
mod departure;
mod hangup;
mod holders;
mod stall;
mod verdict;
mod waiting;

pub(in crate::model) use self::{
    delivery::{Fate, fate},
    departure::{Ender, LEADER_FOLLOWS, ender},
    hangup::{killed as killed_by_hangup, losers as losers_by_hangup},
    holders::{Holders, holders, roots},
    stall::{Stall, stall},
    verdict::{cut, disagreement, doubt, margin, report, unaccounted},
    waiting::{Kept, concerns, kept_by},
};
