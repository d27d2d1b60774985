//! Holders by unusual roads: no descriptor of their own, one descriptor table for two, a container.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::case::{Case, Class, Tier};
use crate::event::Event;
use crate::expect::Expect;
use crate::procs::{self, Owned};
use crate::sshd::await_line;
use crate::stage::{Skipped, Stage, Started, new_marker};
use crate::sys::{self, needs_io_uring};
use crate::world::Server::OpenSsh;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "O10",
        title: "the end is registered with an io_uring",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: registered,
    },
    Case {
        id: "O16a",
        title: "the end waits in an accepted connection",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: accepted,
    },
    Case {
        id: "O16b",
        title: "the end waits in a connection that is not accepted",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: backlog,
    },
    Case {
        id: "O16c",
        title: "the end waits in a datagram socket",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: datagram,
    },
    Case {
        id: "O17",
        title: "two processes share their descriptors",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: shared,
    },
    Case {
        id: "O18",
        title: "a holder inside a container",
        class: Class::Orphaned,
        tier: Tier::Full,
        scenario: contained,
    },
];

/// The pid that the session prints first.
fn printed_pid(stage: &Stage<'_>, started: &Started) -> anyhow::Result<u32> {
    procs::poll(stage.setting.patience, "the pid on stdout", || {
        started.client.stdout_head().lines().next()?.parse().ok()
    })
}

fn holder(finding: &Event, pid: u32) -> anyhow::Result<&Value> {
    finding
        .holder(pid)
        .with_context(|| format!("pid {pid} is not named: {}", finding.raw))
}

/// Checks one field of a holder.
fn says(holder: &Value, field: &str, truth: &Value) -> anyhow::Result<()> {
    ensure!(
        holder[field] == *truth,
        "`{field}` is {}, in truth {truth}",
        holder[field]
    );
    Ok(())
}

fn registered(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    needs_io_uring()?;
    let fixture = stage.setting.world.fixture()?;
    let command = format!("{} register {} & echo $!", fixture.display(), stage.hold());
    let started = stage.start(OpenSsh, &command)?;
    let owner = printed_pid(stage, &started)?;
    let finding = stage.finding("orphaned", &started.marker)?;
    let rings = procs::open_as(owner, "anon_inode:[io_uring]");
    ensure!(
        procs::holders(&started.marker).is_empty(),
        "a descriptor of the end is open"
    );
    let said = holder(&finding, owner)?;
    says(said, "rings", &json!(rings))?;
    says(said, "streams", &json!(["stdout", "stderr"]))?;
    says(said, "inherited", &json!(true))?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    let truth = [(owner, BTreeSet::new())].into();
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

fn accepted(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    in_flight(stage, "accepted")
}

fn backlog(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    in_flight(stage, "backlog")
}

fn datagram(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    in_flight(stage, "datagram")
}

/// The leader sends its stdout to a process that has nothing to do with it and never receives it.
fn in_flight(stage: &mut Stage<'_>, how: &str) -> anyhow::Result<Vec<Expect>> {
    let world = stage.setting.world;
    let fixture = world.fixture()?;
    let dir = world.dir().join(new_marker());
    std::fs::create_dir(&dir)?;
    let socket = dir.join("socket");
    let mut keeper = Command::new(&fixture);
    keeper
        .arg("ignore")
        .arg(&socket)
        .args([&stage.setting.patience.as_secs().to_string(), how])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut keeper = Owned(keeper.spawn().context("cannot start the keeper")?);
    let stdout = keeper.0.stdout.take().context("the keeper has no stdout")?;
    let log = dir.join("log");
    await_line(stdout, std::fs::File::create(&log)?, "ready")?;
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;

    let flag = if how == "datagram" { " --datagram" } else { "" };
    let command = format!(
        "echo $$; exec {} pass{flag} {}",
        fixture.display(),
        socket.display()
    );
    let started = stage.start(OpenSsh, &command)?;
    let sender = printed_pid(stage, &started)?;
    let finding = stage.finding("orphaned", &started.marker)?;
    let behind: i32 = std::fs::read_to_string(&log)?
        .lines()
        .find_map(|line| line.strip_prefix("ignored "))
        .context("the keeper did not say which descriptor")?
        .parse()?;
    let pid = keeper.0.id();
    let said = holder(&finding, pid)?;
    says(said, "sockets", &json!([behind]))?;
    says(said, "streams", &json!(["stdout"]))?;
    says(said, "inherited", &json!(false))?;
    // Where only members' calls are seen, the socket must tell who is at its other end.
    let unnamed = how == "datagram" && stage.setting.tracer.backend() == "syscall";
    let name = format!("fixture {sender}");
    says(said, "sender", &json!((!unnamed).then_some(name)))?;

    drop(keeper);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    let truth = [(pid, BTreeSet::new())].into();
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

fn shared(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let fixture = stage.setting.world.fixture()?;
    let command = format!("{} share {} & echo $!", fixture.display(), stage.hold());
    let started = stage.start(OpenSsh, &command)?;
    let first = printed_pid(stage, &started)?;
    let finding = stage.finding("orphaned", &started.marker)?;
    let mut truth = procs::holders(&started.marker);
    ensure!(truth.len() == 2, "two processes hold, not {truth:?}");
    truth.retain(|pid, _| *pid != first);
    let other = *truth.keys().next().context("the other process")?;
    says(holder(&finding, first)?, "shared_with", &json!([other]))?;
    let fds = truth.remove(&other).unwrap_or_default();
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).held_by([(first, fds)].into())])
}

fn contained(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const ID: &str = "3f2a9c0d1e4b5a69788796a5b4c3d2e1f00112233445566778899aabbccddeef";
    let world = stage.setting.world;
    let group = Group::new(
        &world.dir().join(new_marker()),
        &format!("docker-{ID}.scope"),
    )?;
    let gate = world.fifo(&new_marker())?;
    let command = format!("sleep {} & echo $!; cat {}", stage.hold(), gate.display());
    let started = stage.start(OpenSsh, &command)?;
    let pid = printed_pid(stage, &started)?;
    group.take(pid)?;
    drop(std::fs::File::create(&gate)?);
    let finding = stage.finding("orphaned", &started.marker)?;
    says(holder(&finding, pid)?, "container", &json!(ID))?;
    let truth = procs::holders(&started.marker);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).held_by(truth)])
}

/// A control group of our own; gone when dropped.
struct Group {
    mount: PathBuf,
    path: PathBuf,
}

impl Group {
    fn new(mount: &Path, name: &str) -> anyhow::Result<Self> {
        std::fs::create_dir(mount)?;
        sys::mount_cgroups(mount)
            .map_err(|error| Skipped(format!("cgroup2 cannot be mounted: {error}")))?;
        let group = Self {
            mount: mount.to_owned(),
            path: mount.join(name),
        };
        std::fs::create_dir(&group.path)
            .map_err(|error| Skipped(format!("no control group can be made: {error}")))?;
        Ok(group)
    }

    fn take(&self, pid: u32) -> anyhow::Result<()> {
        let file = self.path.join("cgroup.procs");
        std::fs::write(&file, pid.to_string()).with_context(|| file.display().to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Only a process that is still in it could prevent this; there is nobody to tell.
        drop(std::fs::remove_dir(&self.path));
        drop(sys::unmount(&self.mount));
    }
}
