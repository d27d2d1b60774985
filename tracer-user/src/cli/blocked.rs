//! Writers that a session's server lets wait, found without any history: a process that is in the same
//! call on the same stream in two samples of `/proc`, and did not run in between, is blocked.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use crate::{
    model::{
        Finding, FindingBody, Fix, SessionView, Slot, State, Visible,
        message::{command, duration, stalled_advice, who},
    },
    probe::boottime,
};

/// From one sample to the next. What moves does so many times within it.
pub const PAUSE: Duration = Duration::from_secs(1);

/// System calls whose first argument is what they write to.
const WRITES: [libc::c_long; 4] = [
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendfile,
    libc::SYS_sendto,
];

/// Members of a session that are writing to one of its streams, by pid.
#[derive(Debug, PartialEq, Eq)]
pub struct Writers(BTreeMap<u32, Call>);

#[derive(Debug, PartialEq, Eq)]
struct Call {
    object: PathBuf,
    /// The call with its arguments, as `/proc/PID/syscall` has it.
    call: String,
    /// How often it has been switched away from.
    switches: String,
}

impl Writers {
    /// Takes a sample of the session's members.
    pub fn of(session: &SessionView, members: impl Iterator<Item = u32>) -> Self {
        let server = objects(session.server_pid);
        let of_session =
            |object: &PathBuf| server.contains(object) || object.starts_with("/dev/pts");
        let calls = members.filter_map(|pid| {
            let call = Call::now(pid)?;
            of_session(&call.object).then_some((pid, call))
        });
        Self(calls.collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stall of a session, if one of these writers is in the same call in a `later` sample.
    pub fn stall(&self, later: &Self, session: &SessionView) -> Option<Finding> {
        let same = |(pid, call): &(&u32, &Call)| later.0.get(pid) == Some(call);
        let (&pid, call) = self.0.iter().find(same)?;
        let slot = slot(session.leader_pid, &call.object);
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = Visible::new(name.trim_ascii_end());
        let pause = u64::try_from(PAUSE.as_nanos()).unwrap_or(u64::MAX);
        Some(Finding {
            time: boottime(),
            known: 0,
            state: State::Open,
            session: session.clone().into(),
            body: FindingBody::Stalled {
                stream: slot,
                unread: 0,
                since: None,
            },
            exact: false,
            message: format!(
                "{} {}: the server has not read {slot} for at least {} while {name} pid {pid} waits to write to it: \
                 its client is not taking more, or the server is stopped",
                who(session),
                command(session),
                duration(pause),
            ),
            fix: Fix {
                advice: Some(stalled_advice(session.server_pid)),
                ..Fix::default()
            },
            quiet: false,
        })
    }
}

impl Call {
    fn now(pid: u32) -> Option<Self> {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
        let mut words = call.split(' ');
        let number = words.next()?.parse().ok()?;
        let fd = words.next()?.strip_prefix("0x")?;
        let fd = u32::from_str_radix(fd, 16).ok()?;
        if !WRITES.contains(&number) {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
        Some(Self {
            object: fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?,
            switches: switches.collect(),
            call,
        })
    }
}

/// Everything that a process has open.
fn objects(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let links = entries.into_iter().flatten().flatten();
    links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect()
}

/// Which of a session's streams an object is.
fn slot(leader: u32, object: &PathBuf) -> Slot {
    let is =
        |fd: u32| fs::read_link(format!("/proc/{leader}/fd/{fd}")).is_ok_and(|it| it == *object);
    match (is(1), is(2)) {
        (false, true) => Slot::Stderr,
        _ => Slot::Stdout,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        process::{Command, Stdio},
        time::Instant,
    };

    use super::*;
    use crate::model::SessionId;

    fn session(leader: u32) -> SessionView {
        SessionView {
            id: SessionId(u64::from(leader)),
            user: None,
            uid: Some(0),
            peer: None,
            local: None,
            server_exe: Visible::new(b"sshd"),
            server_owner: None,
            server_pid: std::process::id(),
            command: Some(Visible::new(b"cat /dev/zero")),
            leader_pid: leader,
            exit: None,
            exited: None,
            opened: 0,
            preexisting: true,
        }
    }

    /// The server here reads nothing, until it does.
    #[test]
    fn a_writer_that_waits_is_found_and_one_that_goes_on_is_not() {
        let mut cat = Command::new("cat")
            .arg("/dev/zero")
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat");
        let session = session(cat.id());
        let sample = || Writers::of(&session, [cat.id()].into_iter());
        let until = Instant::now() + Duration::from_secs(30);
        let blocked = loop {
            let (first, second) = (sample(), sample());
            if let Some(found) = first.stall(&second, &session) {
                break (first, found);
            }
            assert!(Instant::now() < until, "{first:?}");
        };
        let (before, found) = blocked;
        assert_eq!(found.stream(), Some(Slot::Stdout));
        assert!(
            found
                .message
                .contains(&format!("while cat pid {} waits to write to it", cat.id())),
            "{}",
            found.message
        );
        let mut some = vec![0; 1 << 20];
        let stdout = cat.stdout.as_mut().expect("a pipe");
        stdout.read_exact(&mut some).expect("what it wrote");
        let after = Writers::of(&session, [cat.id()].into_iter());
        assert_eq!(before.stall(&after, &session), None, "it ran in between");
        cat.kill().expect("cat is there");
        cat.wait().expect("its end");
    }
}
