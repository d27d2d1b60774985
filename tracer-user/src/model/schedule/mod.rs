//! When to look at a session again, and when it is closed: decided from facts and judgement, never from what
//! was reported.

mod alarm;
mod end;
mod watch;

pub(in crate::model) use self::{
    alarm::Alarm,
    end::{EXIT_TAKES, Linger, has_ended, is_on_its_way, lingers, opening_is_due},
    watch::{Watch, plan_look},
};
