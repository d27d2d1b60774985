//! Once the probes are attached, a daemon gives up being root: it becomes a system user that can do
//! little more than read what it traces.
//!
//! Nothing that is left can be had back: no set-user-ID program raises it (`no_new_privs`), and what
//! a hook starts has none of it (nothing is inheritable or ambient).

use std::fmt;

use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    sys::prctl,
    unistd::{Gid, Uid, User, geteuid, setgroups, setresgid, setresuid},
};
use procfs::process::Process;

use crate::probe::Host;

/// Which programs other users' processes run is hidden without (`/proc/PID/exe`): sessions that
/// began before the daemon would not be found.
const ALWAYS: Capability = Capability::CAP_SYS_PTRACE;
/// Where kernel.unprivileged_bpf_disabled is set, which is the rule, older kernels refuse every bpf(2)
/// call without, also for tables and iterators that are open already.
const BEFORE_5_19: Capability = Capability::CAP_BPF;

/// The capabilities that a daemon keeps on a kernel of this version, major and minor.
#[must_use]
pub fn kept(kernel: (u32, u32)) -> CapsHashSet {
    let mut kept = CapsHashSet::from([ALWAYS]);
    if kernel < (5, 19) {
        kept.insert(BEFORE_5_19);
    }
    kept
}

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    /// Capabilities belong to threads.
    #[error("cannot give up privileges: there are threads already, which would keep them")]
    Threads,
    /// Nobody to become.
    #[error(
        "there is no user {0}: make it (`systemd-sysusers`, `useradd --system {0}`), or set `user = \"root\"` in the \
         configuration"
    )]
    NoUser(String),
    /// The kernel would not.
    #[error("cannot give up privileges: {what}: {reason}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What it said.
        reason: String,
    },
}

/// Finds the user that is to be become.
///
/// # Errors
/// When there is none.
pub fn user(name: &str) -> Result<User, PrivilegesError> {
    let found = User::from_name(name).map_err(|error| refused("looking up the user", error))?;
    found.ok_or_else(|| PrivilegesError::NoUser(name.to_owned()))
}

/// Becomes `user` with nothing but what is [`kept`]; `root` stays root, with no more than that either. Must
/// run before any thread is made, and after everything that needs root.
///
/// # Errors
/// When the kernel refuses. Then some privileges may be gone, and
/// the process should end.
pub fn drop_to(user: &User) -> Result<(), PrivilegesError> {
    let me = Process::myself().and_then(|me| me.status());
    if me
        .map_err(|error| refused("reading /proc/self/status", error))?
        .threads
        != 1
    {
        return Err(PrivilegesError::Threads);
    }
    let permitted = caps::read(None, CapSet::Permitted);
    let permitted = permitted.map_err(|error| refused("reading capabilities", error))?;
    // While there still is the capability to do so.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding).map_err(|error| refused("the bounding set", error))?;
    }
    if user.uid != geteuid() {
        become_user(user.uid, user.gid)?;
    }
    let kept = &kept(Host::read().version()) & &permitted;
    let none = CapsHashSet::new();
    for (set, what, wanted) in [
        (CapSet::Ambient, "the ambient set", &none),
        (CapSet::Inheritable, "the inheritable set", &none),
        (CapSet::Effective, "the effective set", &kept),
        (CapSet::Permitted, "the permitted set", &kept),
    ] {
        caps::set(None, set, wanted).map_err(|error| refused(what, error))?;
    }
    prctl::set_no_new_privs().map_err(|error| refused("no_new_privs", error))?;
    // Another user's /proc/self/fdinfo is root's unless a process may be dumped (task_dump_owner,
    // fs/proc/base.c), and the programs' own counters are read there. Whoever would look into us
    // by ptrace(2) must still have our capabilities (cap_ptrace_access_check, security/commoncap.c).
    prctl::set_dumpable(true).map_err(|error| refused("staying readable", error))
}

/// The capabilities stay for now.
fn become_user(uid: Uid, gid: Gid) -> Result<(), PrivilegesError> {
    prctl::set_keepcaps(true).map_err(|error| refused("keeping capabilities", error))?;
    setgroups(&[gid]).map_err(|error| refused("setgroups", error))?;
    setresgid(gid, gid, gid).map_err(|error| refused("setresgid", error))?;
    setresuid(uid, uid, uid).map_err(|error| refused("setresuid", error))?;
    prctl::set_keepcaps(false).map_err(|error| refused("keeping capabilities", error))
}

fn refused(what: &'static str, reason: impl fmt::Display) -> PrivilegesError {
    PrivilegesError::Refused {
        what,
        reason: reason.to_string(),
    }
}

/// What a process may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its effective user id.
    pub uid: u32,
    /// What it may do, or could make itself able to.
    pub capabilities: Vec<String>,
    /// What a program that it starts could get.
    pub attainable: Vec<String>,
    /// Programs that it starts get no more than it has.
    pub no_new_privs: bool,
    /// Its system calls are filtered.
    pub filtered: bool,
}

/// What the process with that pid holds; `None` when there is none.
#[must_use]
pub fn held(pid: u32) -> Option<Held> {
    let process = Process::new(pid.try_into().ok()?).ok()?;
    let status = process.status().ok()?;
    Some(Held {
        uid: status.euid,
        capabilities: names(status.capprm | status.capeff),
        attainable: names(status.capamb.unwrap_or(0) | status.capinh),
        no_new_privs: status.nonewprivs == Some(1),
        filtered: status.seccomp.is_some_and(|mode| mode != 0),
    })
}

fn names(bits: u64) -> Vec<String> {
    let mut held: Vec<_> = caps::all()
        .into_iter()
        .filter(|it| it.bitmask() & bits != 0)
        .collect();
    held.sort_unstable_by_key(Capability::index);
    held.iter().map(ToString::to_string).collect()
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capabilities = match self.capabilities.len() {
            0 => "no capability".to_owned(),
            n if n > 2 => format!("{n} capabilities"),
            _ => self.capabilities.join(" "),
        };
        write!(f, "uid {}, {capabilities}", self.uid)?;
        if self.no_new_privs {
            f.write_str(", no_new_privs")?;
        }
        if self.filtered {
            f.write_str(", system calls filtered")?;
        }
        Ok(())
    }
}
