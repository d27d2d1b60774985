//! Who may see what: decided by the kernel's word on who is at the other end (unix(7), `SO_PEERCRED`).

use serde::{Deserialize, Serialize};

use crate::model::{SessionView, Update};

/// What a client is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sees {
    /// Every session.
    Everything,
    /// The sessions of one user id.
    Own(u32),
}

impl Sees {
    /// Whether a session is shown.
    #[must_use]
    pub fn session(self, session: &SessionView) -> bool {
        match self {
            Self::Everything => true,
            Self::Own(uid) => session.uid == Some(uid),
        }
    }

    /// Whether an update is shown.
    #[must_use]
    pub fn update(self, update: &Update) -> bool {
        match update {
            Update::SessionOpened(it) => self.session(&it.session),
            Update::Finding(it) => self.session(&it.session),
            Update::SessionClosed(it) => self.session(&it.session),
            Update::ProcessExec(it) | Update::ProcessExit(it) => self.session(&it.session),
            Update::StreamEof(it) | Update::Sample(it) => self.session(&it.session),
            // They tell of no session, and that something is missing concerns everybody.
            Update::Started(_) | Update::Gap(_) => true,
            Update::Forget { .. } => self == Self::Everything,
        }
    }
}

/// Whom the daemon lets in.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Members of this group see everything.
    pub group: String,
    /// Others see their own sessions.
    pub allow_own: bool,
    /// The daemon's own user.
    pub own_uid: u32,
}

impl Rules {
    /// What a process of this user may see; `None` for nothing.
    #[must_use]
    pub fn sees(&self, uid: u32, gid: u32) -> Option<Sees> {
        if uid == 0 || uid == self.own_uid || self.is_member(uid, gid) {
            Some(Sees::Everything)
        } else {
            self.allow_own.then_some(Sees::Own(uid))
        }
    }

    /// By the process's group, or by what the group database says of the user.
    fn is_member(&self, uid: u32, gid: u32) -> bool {
        let Some(group) = uzers::get_group_by_name(&self.group) else {
            return false;
        };
        let named = || {
            let user = uzers::get_user_by_uid(uid)?;
            uzers::get_user_groups(user.name(), user.primary_group_id())
        };
        group.gid() == gid
            || named()
                .unwrap_or_default()
                .iter()
                .any(|it| it.gid() == group.gid())
    }
}
