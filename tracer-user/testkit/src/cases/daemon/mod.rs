//! The daemon, its memory, and whom it tells.

mod access;
mod kept;
mod live;
mod restart;
mod why;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::case::{Case, Class, Tier};
use crate::daemon::{Conf, Daemon};
use crate::expect::Expect;
use crate::procs;
use crate::stage::{Run, Stage, Started, new_marker};
use crate::world::Server::OpenSsh;

const fn case(
    id: &'static str,
    title: &'static str,
    tier: Tier,
    scenario: fn(&mut Stage<'_>) -> anyhow::Result<Vec<Expect>>,
) -> Case {
    Case {
        id,
        title,
        class: Class::Daemon,
        tier,
        scenario,
    }
}

pub(super) const CASES: &[Case] = &[
    case(
        "D1",
        "ls, show, explain and watch of a daemon",
        Tier::Chosen,
        d1,
    ),
    case(
        "D2",
        "a daemon ended and started again mid-session",
        Tier::Chosen,
        restart::d2,
    ),
    case(
        "D3",
        "a daemon killed mid-session and started again",
        Tier::Chosen,
        restart::d3,
    ),
    case(
        "D4",
        "another load takes over mid-session",
        Tier::Chosen,
        restart::d4,
    ),
    case(
        "D5",
        "a daemon that pins nothing, killed",
        Tier::Full,
        restart::d5,
    ),
    case(
        "D6",
        "strangers, members, and users who may see their own",
        Tier::Full,
        access::d6,
    ),
    case(
        "D7",
        "clients that speak nonsense, and a hundred at once",
        Tier::Full,
        access::d7,
    ),
    case("D8", "a secret in a command line", Tier::Full, d8),
    case("D9", "a hook is run for an orphan", Tier::Full, d9),
    case("D10", "readiness, watchdog, reload", Tier::Full, d10),
    case(
        "D12",
        "a daemon that is root no more",
        Tier::Chosen,
        restart::d12,
    ),
    case(
        "D11",
        "a store that is somebody else's",
        Tier::Full,
        kept::d11,
    ),
    case(
        "D13",
        "ls by user, peer, state, command and time",
        Tier::Full,
        kept::d13,
    ),
    case(
        "D14",
        "a disk that is full, and has room again",
        Tier::Full,
        kept::d14,
    ),
    case("D15", "a store that is damaged", Tier::Full, kept::d15),
    case(
        "D16",
        "old sessions go, by bytes and by age, and findings stay",
        Tier::Full,
        kept::d16,
    ),
    case(
        "D17",
        "show and explain of a session with many records",
        Tier::Chosen,
        kept::d17,
    ),
    case(
        "D18",
        "a session with X11 forwarding is listed by its time",
        Tier::Full,
        kept::d18,
    ),
    case(
        "D19",
        "a second daemon with the same pins",
        Tier::Full,
        restart::d19,
    ),
    case(
        "D20",
        "why a session is there no more",
        Tier::Full,
        why::d20,
    ),
    case(
        "D21",
        "why a session stands still, without a daemon",
        Tier::Full,
        why::d21,
    ),
    case(
        "D22",
        "the timeline of an open session, without the database",
        Tier::Full,
        live::d22,
    ),
];

/// A session that waits in the middle of its output.
struct Halfway {
    started: Started,
    gate: PathBuf,
}

const BEFORE: u64 = 3893;
const AFTER: u64 = 1492;

fn halfway(stage: &Stage<'_>) -> anyhow::Result<Halfway> {
    let gate = stage.setting.world.fifo(&new_marker())?;
    let command = format!("seq 1 1000; cat {}; seq 1 400", gate.display());
    let started = stage.start(OpenSsh, &command)?;
    procs::poll(stage.setting.patience, "the first half", || {
        (started.client.stdout_so_far() == BEFORE).then_some(())
    })?;
    Ok(Halfway { started, gate })
}

impl Halfway {
    fn goes_on(self, patience: Duration) -> anyhow::Result<Run> {
        drop(fs::File::create(&self.gate)?);
        let run = self.started.finish(patience)?.ended_with(0)?;
        Ok(run)
    }
}

pub(super) fn start(stage: &Stage<'_>, more: &str) -> anyhow::Result<Daemon> {
    let setting = stage.setting;
    let dir = setting.world.dir().join(new_marker());
    let conf = Conf::new(setting.backend).more(more);
    Daemon::start(setting.lastbyte, &dir, conf, setting.patience)
}

pub(super) fn stopped(daemon: Daemon, stage: &Stage<'_>) -> anyhow::Result<()> {
    match daemon.stop(stage.setting.patience)? {
        None => Ok(()),
        Some(complaint) => anyhow::bail!(complaint),
    }
}

fn whole(run: &Run) -> anyhow::Result<Expect> {
    run.whole(BEFORE + AFTER)
}

fn d1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let daemon = start(stage, "")?;
    let half = halfway(stage)?;
    let marker = half.started.marker.clone();
    // The counters are read a few times a second.
    let open = procs::poll(patience, "the first half in the list", || {
        let session = daemon.session(&marker).ok()?;
        (session["written"] == BEFORE && session["state"] == "running").then_some(session)
    })?;
    let run = half.goes_on(patience)?;
    let is_good =
        |session: &Value| ["clean", "near_miss"].contains(&session["state"].as_str().unwrap_or(""));
    procs::poll(patience, "the session's end", || {
        daemon.session(&marker).ok().filter(is_good)
    })?;
    let closed = daemon.session(&marker)?;
    ensure!(
        closed["written"] == BEFORE + AFTER && closed["name"] == open["name"],
        "it closed as {closed}"
    );
    let name = open["name"].as_str().context("no name")?;
    let show = daemon.says(&["show", name])?;
    ensure!(
        show.contains("executed seq: seq 1 1000") && show.contains("SIGCHLD"),
        "show says {show}"
    );
    let explain = daemon.says(&["explain", name, "--bytes"])?;
    ensure!(
        explain.contains(&format!("Stdout: {} B were written", BEFORE + AFTER)),
        "explain says {explain}"
    );
    let events = daemon.says(&["show", name, "--json"])?;
    for line in events.lines() {
        serde_json::from_str::<Value>(line).with_context(|| line.to_owned())?;
    }
    let nobody = daemon.client(&["show", "1-zzz"]).output()?;
    ensure!(!nobody.status.success(), "shows what is not there");
    stopped(daemon, stage)?;
    Ok(vec![whole(&run)?])
}

fn d8(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let daemon = start(stage, "[privacy]\nmask = [\"NEEDLE-[a-z]+\"]")?;
    let run = stage
        .run(
            OpenSsh,
            "true --password=sesame-opens mysql://root:sesame-opens@db/ NEEDLE-sesame; echo done",
        )?
        .ended_with(0)?;
    let marker = run.marker.clone();
    let session = procs::poll(patience, "the session in the list", || {
        daemon
            .session(&marker)
            .ok()
            .filter(|it| !it["verdict"].is_null())
    })?;
    let name = session["name"].as_str().context("no name")?.to_owned();
    let mut said = daemon.says(&["show", &name])? + &daemon.says(&["explain", &name])?;
    said += &session.to_string();
    ensure!(said.contains("***"), "nothing is masked in {said}");
    ensure!(!said.contains("sesame"), "it tells the secret: {said}");
    let state = daemon.state();
    stopped(daemon, stage)?;
    for entry in fs::read_dir(state)? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        ensure!(
            !bytes.windows(6).any(|it| it == b"sesame"),
            "{} holds the secret",
            path.display()
        );
    }
    Ok(vec![run.clean().exits(0)])
}

fn d9(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let dir = stage.setting.world.dir().join(new_marker());
    fs::create_dir(&dir)?;
    let (script, out) = (dir.join("hook"), dir.join("out"));
    fs::write(
        &script,
        format!(
            "#!/bin/sh\n{{ printf '%s\\n' \"$@\"; cat; }} >{0}.new\nmv {0}.new {0}\n",
            out.display()
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let more = format!(
        "[[hook]]\nkinds = [\"orphaned\"]\nmin_age = \"0s\"\ncommand = [\"{}\", \"$(touch /tmp/hostile)\"]",
        script.display()
    );
    let daemon = start(stage, &more)?;
    let started = stage.start(OpenSsh, &format!("sleep {} &", stage.lasting()))?;
    let marker = started.marker.clone();
    let told = procs::poll(patience, "the hook", || fs::read_to_string(&out).ok())?;
    let (argument, line) = told.split_once('\n').context("no argument")?;
    ensure!(
        argument == "$(touch /tmp/hostile)",
        "a shell had {argument}"
    );
    let finding: Value = serde_json::from_str(line)?;
    ensure!(
        finding["kind"] == "orphaned" && finding.to_string().contains(&marker),
        "the hook was told {finding}"
    );
    let reported = format!("hook {}: 1 ran, 0 failed", script.display());
    procs::poll(patience, "the hook in what doctor says", || {
        let doctor = daemon.says(&["doctor", "--daemon"]).ok()?;
        doctor.contains(&reported).then_some(())
    })?;
    let holders = procs::holders(&marker);
    let holder = holders
        .keys()
        .next()
        .context("nobody holds it")?
        .to_string();
    let why = daemon.says(&["why", &holder])?;
    ensure!(
        why.contains("ORPHANED") && why.contains(&holder) && why.contains("next time: "),
        "why says {why}"
    );
    procs::end(&marker);
    let run = started.finish(patience)?.ended_with(0)?;
    stopped(daemon, stage)?;
    Ok(vec![run.clean().exits(0).held_by(holders)])
}

fn d10(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut daemon = start(stage, "")?;
    daemon.end(libc::SIGTERM, patience)?;
    let path = daemon.dir().join("notify");
    let notify = UnixDatagram::bind(&path)?;
    notify.set_read_timeout(Some(patience))?;
    let says = |wanted: &str| -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let read = notify
                .recv(&mut buffer)
                .with_context(|| format!("systemd is not told {wanted}"))?;
            if String::from_utf8_lossy(&buffer[..read]).contains(wanted) {
                return Ok(());
            }
        }
    };
    let path = path.display().to_string();
    daemon.again_with(
        &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "1000000")],
        patience,
    )?;
    says("READY=1")?;
    says("WATCHDOG=1")?;
    says("WATCHDOG=1")?;

    // One that is wrong changes nothing, and is said to be.
    daemon.conf.more = "[privacy]\ncapture_arg = 1".to_owned();
    daemon.reload()?;
    procs::poll(patience, "the complaint", || {
        daemon.log().contains("capture_argv").then_some(())
    })?;
    daemon.check_alive()?;
    daemon.conf.more = "[privacy]\ncapture_argv = \"comm\"".to_owned();
    daemon.reload()?;
    procs::poll(patience, "the reload", || {
        daemon
            .log()
            .contains("configuration reloaded")
            .then_some(())
    })?;
    // The tracer's thread takes it over within its next sample.
    let mut expects = Vec::new();
    procs::poll(patience, "commands without their arguments", || {
        let run = stage.run(OpenSsh, "echo unseen").ok()?;
        expects.push(run.clean().exits(0));
        let all = daemon.ls(&["--limit", "1"]).ok()?;
        let shown = all.first()?["session"]["command"].as_str()?;
        (!shown.contains("unseen")).then_some(())
    })?;
    Ok(expects)
}
