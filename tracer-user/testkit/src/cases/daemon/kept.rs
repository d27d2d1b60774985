//! What a daemon keeps, finds again, and lets go of, whatever becomes of its disk.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::super::waiting;
use super::{start, stopped};
use crate::daemon::{Conf, Daemon};
use crate::expect::Expect;
use crate::procs;
use crate::stage::{Run, Skipped, Stage, Started, new_marker};
use crate::sys;
use crate::world::Server::OpenSsh;

const DATABASE: &str = "lastbyte.db";

/// What looks like a secret is kept.
const UNMASKED: &str = "[privacy]\ncapture_argv = \"full\"";

/// A session with some 120 KB of records that do not compress: the arguments of its commands.
const BULKY: &str =
    "head -c 90000 /dev/urandom | base64 -w 480 | while read word; do /bin/true $word; done";

/// Runs a session to its end and waits until it is in the store.
fn kept(stage: &Stage<'_>, daemon: &Daemon, started: Started) -> anyhow::Result<(Run, Value)> {
    let patience = stage.setting.patience;
    let run = started.finish(patience)?.ended_with(0)?;
    let closed = ["--closed", "--command", &run.marker];
    let listed = procs::poll(patience, "the session among those that are over", || {
        daemon.ls(&closed).ok()?.pop()
    })?;
    Ok((run, listed))
}

/// A session that is orphaned, told to be, and then over.
fn orphan(stage: &Stage<'_>, daemon: &Daemon) -> anyhow::Result<(Run, Expect)> {
    let started = stage.start(OpenSsh, &format!("sleep {} &", stage.lasting()))?;
    daemon.await_state(&started.marker, "orphaned", stage.setting.patience)?;
    stage.finding("orphaned", &started.marker)?;
    let holders = procs::holders(&started.marker);
    procs::end(&started.marker);
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    let expect = run.clean().exits(0).held_by(holders);
    Ok((run, expect))
}

pub(super) fn d11(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut daemon = start(stage, "")?;
    daemon.end(libc::SIGTERM, patience)?;
    let database = daemon.state().join("lastbyte.db");
    for entry in fs::read_dir(daemon.state())? {
        fs::remove_file(entry?.path())?;
    }
    let foreign = b"these are somebody's notes, and no database";
    fs::write(&database, foreign)?;
    ensure!(
        daemon.again(patience).is_err() || daemon.log().contains("ERROR"),
        "it says nothing of a database that is none"
    );
    daemon.check_alive()?;
    ensure!(
        fs::read(&database)? == foreign,
        "it wrote to what is somebody else's"
    );
    let (_, expect) = orphan(stage, &daemon)?;
    Ok(vec![expect])
}

/// A session with more records than a request may have bytes.
pub(super) fn d17(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let daemon = start(stage, "")?;
    let started = stage.start(OpenSsh, BULKY)?;
    let (run, listed) = kept(stage, &daemon, started)?;
    let name = listed["name"].as_str().context("no name")?;
    let show = daemon.says(&["show", name])?;
    ensure!(show.contains("executed base64"), "show says {show}");
    let explain = daemon.says(&["explain", name])?;
    ensure!(explain.contains("exited 0"), "explain says {explain}");
    stopped(daemon, stage)?;
    Ok(vec![run.clean().exits(0)])
}

/// Before the command of a session with X11 forwarding, sshd runs xauth.
pub(super) fn d18(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    if !Path::new(waiting::XAUTH).exists() {
        return Err(Skipped(format!("{} is not installed", waiting::XAUTH)).into());
    }
    let daemon = start(stage, "")?;
    let (display, number) = waiting::display()?;
    let started = stage.start_with(OpenSsh, "echo on $DISPLAY >&2", |ssh| {
        ssh.env("DISPLAY", format!("127.0.0.1:{number}")).arg("-Y");
    })?;
    let (run, listed) = kept(stage, &daemon, started)?;
    drop(display);
    let recent = daemon.ls(&["--since", "10m", "--command", &run.marker])?;
    ensure!(
        recent == [listed.clone()],
        "of the last ten minutes it lists {recent:?}, and of all times {listed}"
    );
    stopped(daemon, stage)?;
    Ok(vec![run.clean().exits(0)])
}

pub(super) fn d13(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let daemon = start(stage, "")?;
    let here = stage.start(OpenSsh, "echo here")?;
    let (here, listed) = kept(stage, &daemon, here)?;
    let there = stage.start_with(OpenSsh, "echo there", |ssh| {
        // All of 127/8 is loopback.
        ssh.args(["-b", "127.0.0.2"]);
    })?;
    let (there, _) = kept(stage, &daemon, there)?;
    let open = stage.start(OpenSsh, &format!("sleep {}", stage.lasting()))?;
    daemon.await_state(&open.marker, "running", stage.setting.patience)?;

    // Other sessions of this machine may be in the list: it is about these three.
    let all = [&here.marker, &there.marker, &open.marker];
    let found = |filter: &[&str]| -> anyhow::Result<[bool; 3]> {
        let listed = daemon.ls(&[filter, &["--limit", "0"]].concat())?;
        Ok(all.map(|marker| {
            let is = |it: &&Value| it["session"]["command"].to_string().contains(marker);
            listed.iter().filter(is).count() == 1
        }))
    };
    let (uid, _) = stage.setting.world.ids();
    let user = listed["session"]["user"].as_str().context("no user")?;
    let peer = listed["session"]["peer"].as_str().context("no peer")?;
    ensure!(peer.starts_with("127.0.0.1:"), "it came from {peer}");
    let filters: [(&[&str], [bool; 3]); 22] = [
        (&[], [true, true, true]),
        (&["--user", user], [true, true, true]),
        (&["--user", &uid.to_string()], [true, true, true]),
        (&["--user", "nobody"], [false, false, false]),
        (&["--peer", "127.0.0.1"], [true, false, true]),
        (&["--peer", "127.0.0.2"], [false, true, false]),
        (&["--state", "running"], [false, false, true]),
        (&["--state", "truncated"], [false, false, false]),
        (&["--open"], [false, false, true]),
        (&["--closed"], [true, true, false]),
        (&["--command", &there.marker], [false, true, false]),
        (&["--since", "1h"], [true, true, true]),
        (&["--until", "1h"], [false, false, false]),
        (&["--since", "1 hour ago"], [true, true, true]),
        (&["--until", "10m ago"], [false, false, false]),
        (&["--since", "yesterday"], [true, true, true]),
        (&["--since", "1d"], [true, true, true]),
        (&["--at", "now"], [false, false, true]),
        (&["--at", "1 hour ago"], [false, false, false]),
        (&["--since", "2001-01-01"], [true, true, true]),
        (&["--until", "2001-01-01T12:00Z"], [false, false, false]),
        (
            &["--closed", "--peer", "127.0.0.1", "--user", user],
            [true, false, false],
        ),
    ];
    for (filter, wanted) in filters {
        let found = found(filter)?;
        ensure!(found == wanted, "{filter:?} finds {found:?} of {all:?}");
    }
    ensure!(daemon.ls(&["--limit", "1"])?.len() == 1, "not one");
    for (wrong, says) in [
        (["--state", "trunkated"], "truncated"),
        (["--since", "soon"], "expected a time"),
        (["--at", "2126-01-01"], "in the future"),
    ] {
        let refused = daemon.client(&["ls"]).args(wrong).output()?;
        let words = String::from_utf8_lossy(&refused.stderr);
        ensure!(
            !refused.status.success() && words.contains(says),
            "{wrong:?} is answered with {words:?}"
        );
    }
    procs::end(&open.marker);
    let open = open.finish(stage.setting.patience)?;
    stopped(daemon, stage)?;
    Ok(vec![
        here.clean().exits(0),
        there.clean().exits(0).from("127.0.0.2"),
        open.clean(),
    ])
}

/// A file system in memory, unmounted when it is dropped.
struct Small(PathBuf);

impl Small {
    fn mount(on: PathBuf, bytes: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(&on)?;
        sys::mount_small(&on, bytes).with_context(|| format!("cannot mount {}", on.display()))?;
        Ok(Self(on))
    }

    /// Leaves no room on it; gives what takes the room.
    fn fill(&self) -> anyhow::Result<PathBuf> {
        let path = self.0.join("ballast");
        let mut ballast = fs::File::create(&path)?;
        for bytes in [1 << 16, 1 << 12] {
            while ballast.write_all(&vec![7; bytes]).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(sys::unmount(&self.0));
    }
}

/// What `doctor` says of the store, and whether it is content.
fn health(daemon: &Daemon) -> anyhow::Result<(bool, String)> {
    let output = daemon.client(&["doctor", "--daemon", "--json"]).output()?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    Ok((status["store_good"] == true, status["store"].to_string()))
}

pub(super) fn d14(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let dir = stage.setting.world.dir().join(new_marker());
    let small = Small::mount(dir.join("state"), 1 << 20)?;
    let conf = Conf::new(stage.setting.backend).more(UNMASKED);
    let mut daemon = Daemon::start(stage.setting.lastbyte, &dir, conf, patience)?;
    let before = stage.start(OpenSsh, "echo before")?;
    let (before, _) = kept(stage, &daemon, before)?;

    let ballast = small.fill()?;
    let mut expects = vec![before.clean().exits(0)];
    // What little room there is in the files themselves is soon used up.
    let says = loop {
        expects.push(stage.run(OpenSsh, BULKY)?.clean().exits(0));
        let (good, says) = health(&daemon)?;
        if !good {
            break says;
        }
        ensure!(expects.len() < 10, "the disk is not full: {}", daemon.log());
    };
    ensure!(says.contains("full"), "doctor says {says}");
    let log = daemon.log();
    ensure!(log.contains("ERROR") && log.contains("full"), "{log}");
    let (run, expect) = orphan(stage, &daemon)?;
    expects.push(expect);

    fs::remove_file(ballast)?;
    procs::poll(patience, "the store to be well again", || {
        health(&daemon).ok().filter(|(good, _)| *good)
    })
    .with_context(|| daemon.log())?;
    // What is listed now is no longer in the memory of the one that saw it.
    daemon.end(libc::SIGTERM, patience)?;
    daemon.again(patience)?;
    daemon.session(&before.marker)?;
    let session = daemon.session(&run.marker)?;
    ensure!(!session["verdict"].is_null(), "it is listed as {session}");
    let name = session["name"].as_str().context("no name")?;
    let story = daemon.says(&["explain", name])?;
    ensure!(
        story.contains("orphaned: session") && story.contains("sleep"),
        "explain says {story}"
    );
    drop(daemon);
    Ok(expects)
}

/// Overwrites all but the head, by which it is known.
fn damage(database: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = fs::read(database)?;
    bytes[100..].fill(0x5a);
    fs::write(database, &bytes)?;
    Ok(bytes)
}

pub(super) fn d15(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut daemon = start(stage, "")?;
    let before = stage.start(OpenSsh, "echo before")?;
    let (before, _) = kept(stage, &daemon, before)?;
    daemon.end(libc::SIGTERM, patience)?;
    let damaged = damage(&daemon.state().join(DATABASE))?;
    daemon.again(patience)?;
    let (_, expect) = orphan(stage, &daemon)?;
    let log = daemon.log();
    ensure!(
        log.contains("ERROR") && log.contains("corrupt"),
        "it says nothing of the damage: {log}"
    );
    let aside = fs::read_dir(daemon.state())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains(".db.corrupt-"));
    let aside = aside.context("the damaged one is gone")?;
    ensure!(fs::read(&aside)? == damaged, "it wrote to {aside:?}");
    let (good, says) = health(&daemon)?;
    ensure!(good, "doctor says {says}");
    Ok(vec![before.clean().exits(0), expect])
}

pub(super) fn d16(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    const MOST: u64 = 512 << 10;
    const SESSIONS: usize = 6;
    let patience = stage.setting.patience;
    let mut daemon = start(stage, UNMASKED)?;
    daemon.end(libc::SIGTERM, patience)?;
    daemon.conf.store = format!("max_bytes = \"{MOST} B\"\n");
    daemon.again(patience)?;
    let (found, expect) = orphan(stage, &daemon)?;
    let mut expects = vec![expect];
    let mut markers = Vec::new();
    let size = |daemon: &Daemon| {
        let of = |name: &str| fs::metadata(daemon.state().join(name)).map_or(0, |it| it.len());
        of(DATABASE) + of("lastbyte.db-wal")
    };
    for _ in 0..SESSIONS {
        let (run, _) = kept(stage, &daemon, stage.start(OpenSsh, BULKY)?)?;
        // Room is made for what has been written once that is done.
        procs::poll(patience, "what is over the limit to go", || {
            (size(&daemon) <= MOST).then_some(())
        })?;
        markers.push(run.marker.clone());
        expects.push(run.clean().exits(0));
    }
    let there = |daemon: &Daemon, marker: &str| -> anyhow::Result<bool> {
        Ok(!daemon
            .ls(&["--command", marker, "--limit", "0"])?
            .is_empty())
    };
    ensure!(
        !there(&daemon, &markers[0])?,
        "the oldest is there: it was not for want of room"
    );
    ensure!(there(&daemon, &markers[SESSIONS - 1])?, "the newest is not");
    ensure!(there(&daemon, &found.marker)?, "the finding is not");

    daemon.end(libc::SIGTERM, patience)?;
    daemon.conf.store = "max_age = \"1s\"\n".to_owned();
    daemon.again(patience)?;
    let newest = &markers[SESSIONS - 1];
    procs::poll(patience, "the old session to be let go of", || {
        there(&daemon, newest).ok().filter(|there| !there)
    })?;
    ensure!(there(&daemon, &found.marker)?, "the finding went as well");
    stopped(daemon, stage)?;
    Ok(expects)
}
