//! The daemon, its memory, and whom it tells.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::case::{Case, Class, Tier};
use crate::daemon::{Conf, Daemon};
use crate::expect::{Expect, Stream};
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
        d2,
    ),
    case(
        "D3",
        "a daemon killed mid-session and started again",
        Tier::Chosen,
        d3,
    ),
    case(
        "D4",
        "another load takes over mid-session",
        Tier::Chosen,
        d4,
    ),
    case("D5", "a daemon that pins nothing, killed", Tier::Full, d5),
    case(
        "D6",
        "strangers, members, and users who may see their own",
        Tier::Full,
        d6,
    ),
    case(
        "D7",
        "clients that speak nonsense, and a hundred at once",
        Tier::Full,
        d7,
    ),
    case("D8", "a secret in a command line", Tier::Full, d8),
    case("D9", "a hook is run for an orphan", Tier::Full, d9),
    case("D10", "readiness, watchdog, reload", Tier::Full, d10),
    case("D12", "a daemon that is root no more", Tier::Chosen, d12),
    case("D11", "a store that is somebody else's", Tier::Full, d11),
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
        ensure!(run.arrived.stdout == BEFORE + AFTER, "{:?}", run.arrived);
        Ok(run)
    }
}

fn start(stage: &Stage<'_>, more: &str) -> anyhow::Result<Daemon> {
    let setting = stage.setting;
    let dir = setting.world.dir().join(new_marker());
    let conf = Conf::new(setting.backend).more(more);
    Daemon::start(setting.lastbyte, &dir, conf, setting.patience)
}

fn stopped(daemon: Daemon, stage: &Stage<'_>) -> anyhow::Result<()> {
    match daemon.stop(stage.setting.patience)? {
        None => Ok(()),
        Some(complaint) => anyhow::bail!(complaint),
    }
}

fn whole(run: &Run) -> Expect {
    let bytes = Some(BEFORE + AFTER);
    run.clean().exits(0).counts(Stream::Stdout, bytes, bytes)
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
        show.contains("executes seq: seq 1 1000") && show.contains("SIGCHLD"),
        "show says {show}"
    );
    let explain = daemon.says(&["explain", name])?;
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
    Ok(vec![whole(&run)])
}

/// Restarts a daemon in the middle of a session; gives how that closed in its memory, with the gaps.
fn restarted(
    stage: &mut Stage<'_>,
    more: &str,
    between: impl FnOnce(&mut Daemon, &Stage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<(Value, Vec<Expect>)> {
    let patience = stage.setting.patience;
    let mut daemon = start(stage, more)?;
    let half = halfway(stage)?;
    let marker = half.started.marker.clone();
    let before = kept(&daemon, &marker, patience)?;
    between(&mut daemon, stage)?;
    // Nobody sees it but the programs.
    let meanwhile = stage.run(OpenSsh, "echo meanwhile")?.ended_with(0)?;
    daemon.again(patience)?;
    let found = daemon.session(&marker)?;
    ensure!(
        found["name"] == before["name"] && found["state"] == "running",
        "it was {before}, it is {found}"
    );
    let run = half.goes_on(patience)?;
    let closed = procs::poll(patience, "the session's end", || {
        let session = daemon.session(&marker).ok()?;
        (!session["verdict"].is_null()).then_some(session)
    })?;
    let all = daemon.ls(&["--limit", "0"])?;
    let phantoms: Vec<_> = all
        .iter()
        .filter(|session| session["closed"].is_null())
        .collect();
    ensure!(
        phantoms.is_empty(),
        "sessions that are not there: {phantoms:?}"
    );
    let echo = daemon.ls(&["--command", &meanwhile.marker])?;
    let seen = echo
        .first()
        .map_or(Value::Null, |session| session["verdict"].clone());
    let mut closed = closed;
    closed["meanwhile"] = seen;
    stopped(daemon, stage)?;
    Ok((closed, vec![whole(&run), meanwhile.clean().exits(0)]))
}

/// A running session, once it is on the disk: whoever is shown it waits for that.
fn kept(daemon: &Daemon, marker: &str, patience: Duration) -> anyhow::Result<Value> {
    let session = daemon.await_state(marker, "running", patience)?;
    daemon.says(&["show", session["name"].as_str().context("no name")?])?;
    Ok(session)
}

/// Nothing at all was missed.
fn seamless(closed: &Value) -> anyhow::Result<()> {
    let good = |verdict: &Value| verdict == "clean" || verdict == "near_miss";
    ensure!(
        good(&closed["verdict"])
            && good(&closed["meanwhile"])
            && closed["written"] == BEFORE + AFTER
            && closed["gap_reasons"] == serde_json::json!([]),
        "it closed as {closed}"
    );
    Ok(())
}

/// Links of kprobes end with their tracer: what happened meanwhile is a gap.
fn has_kprobes(stage: &Stage<'_>) -> bool {
    stage.setting.tracer.backend() == "kprobe"
}

fn interrupted(closed: &Value) -> anyhow::Result<()> {
    ensure!(
        closed["verdict"] == "unknown"
            && closed["gap_reasons"] == serde_json::json!(["interrupted"]),
        "nobody saw it all, yet it closed as {closed}"
    );
    Ok(())
}

fn as_far_as_seen(stage: &Stage<'_>, closed: &Value) -> anyhow::Result<()> {
    match has_kprobes(stage) {
        true => interrupted(closed),
        false => seamless(closed),
    }
}

fn d2(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let (closed, expects) = restarted(stage, "", |daemon, stage| {
        let status = daemon.end(libc::SIGTERM, stage.setting.patience)?;
        ensure!(status.success(), "it ended with {status}: {}", daemon.log());
        Ok(())
    })?;
    as_far_as_seen(stage, &closed)?;
    Ok(expects)
}

fn d3(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let (closed, expects) = restarted(stage, "", |daemon, stage| {
        daemon.end(libc::SIGKILL, stage.setting.patience)?;
        Ok(())
    })?;
    // What was taken from the ring and not yet written down is a gap; mostly there was nothing.
    if closed["verdict"] == "unknown" {
        interrupted(&closed)?;
        stage
            .notes
            .push("something was on its way to the disk".to_owned());
    } else {
        as_far_as_seen(stage, &closed)?;
    }
    Ok(expects)
}

fn d4(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let (closed, expects) = restarted(stage, "", |daemon, stage| {
        daemon.end(libc::SIGTERM, stage.setting.patience)?;
        // With other servers it is another load.
        daemon.conf.servers.push("another-server");
        Ok(())
    })?;
    as_far_as_seen(stage, &closed)?;
    Ok(expects)
}

fn d5(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let mut daemon = start(stage, "")?;
    daemon.end(libc::SIGTERM, patience)?;
    daemon.conf.pins = false;
    daemon.again(patience)?;
    let half = halfway(stage)?;
    let marker = half.started.marker.clone();
    let before = kept(&daemon, &marker, patience)?;
    daemon.end(libc::SIGKILL, patience)?;
    let lost = stage.run(OpenSsh, "echo nobody sees this")?.ended_with(0)?;
    daemon.again(patience)?;
    let found = daemon.session(&marker)?;
    ensure!(
        found["name"] == before["name"],
        "it was {before}, it is {found}"
    );
    let run = half.goes_on(patience)?;
    let closed = daemon.await_state(&marker, "unknown", patience)?;
    interrupted(&closed)?;
    ensure!(
        daemon.ls(&["--command", &lost.marker])?.is_empty(),
        "it tells of what nobody saw"
    );
    stopped(daemon, stage)?;
    Ok(vec![whole(&run), lost.clean().exits(0)])
}

fn d6(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let (uid, gid) = stage.setting.world.ids();
    let ls = |daemon: &Daemon, uid: u32, gid: u32| {
        let mut ls = daemon.client(&["ls", "--json", "--limit", "0"]);
        // The binary may be where only root gets to.
        let copy = stage.setting.world.dir().join("lastbyte");
        if !copy.exists() {
            fs::copy(stage.setting.lastbyte, &copy)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        }
        let args: Vec<_> = ls.get_args().map(ToOwned::to_owned).collect();
        ls = std::process::Command::new(copy);
        ls.args(args)
            .uid(uid)
            .gid(gid)
            .stdin(Stdio::null())
            .output()
    };
    let nobody = (65534, 65534);

    // Nobody but the group's members.
    let daemon = start(stage, "")?;
    fs::set_permissions(daemon.dir(), fs::Permissions::from_mode(0o755))?;
    let socket = fs::metadata(daemon.socket())?;
    ensure!(
        (socket.uid(), socket.gid(), socket.mode() & 0o777) == (0, 0, 0o660),
        "the socket is {:o} of {}:{}",
        socket.mode(),
        socket.uid(),
        socket.gid()
    );
    let run = stage.run(OpenSsh, "echo mine")?.ended_with(0)?;
    let marker = run.marker.clone();
    procs::poll(patience, "the session in the list", || {
        daemon
            .session(&marker)
            .ok()
            .filter(|it| !it["verdict"].is_null())
    })?;
    let refused = ls(&daemon, uid, gid)?;
    ensure!(
        !refused.status.success() && refused.stdout.is_empty(),
        "a stranger was told {}",
        String::from_utf8_lossy(&refused.stdout)
    );
    let member = ls(&daemon, uid, 0)?;
    ensure!(
        String::from_utf8_lossy(&member.stdout).contains(&marker),
        "a member was told {member:?}"
    );
    drop(daemon);

    // Everybody their own.
    let mut own = start(stage, "")?;
    own.conf.allow_own = true;
    own.end(libc::SIGTERM, patience)?;
    own.again(patience)?;
    fs::set_permissions(own.dir(), fs::Permissions::from_mode(0o755))?;
    let again = stage.run(OpenSsh, "echo mine again")?.ended_with(0)?;
    procs::poll(patience, "the session in the list", || {
        own.session(&again.marker)
            .ok()
            .filter(|it| !it["verdict"].is_null())
    })?;
    let seen = ls(&own, uid, gid)?;
    ensure!(
        seen.status.success() && String::from_utf8_lossy(&seen.stdout).contains(&again.marker),
        "the user was told {seen:?}"
    );
    let other = ls(&own, nobody.0, nobody.1)?;
    ensure!(
        other.status.success() && other.stdout.is_empty(),
        "another user was told {other:?}"
    );
    let name = own.session(&again.marker)?["name"].clone();
    let name = name.as_str().context("no name")?;
    let mut show = std::process::Command::new(stage.setting.world.dir().join("lastbyte"));
    show.args(["show", name, "--socket"]).arg(own.socket());
    let show = show.uid(nobody.0).gid(nobody.1).output()?;
    ensure!(
        !show.status.success() && show.stdout.is_empty(),
        "another user was shown {show:?}"
    );
    stopped(own, stage)?;
    Ok(vec![run.clean().exits(0), again.clean().exits(0)])
}

fn d7(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let daemon = start(stage, "")?;
    let framed = |bytes: &[u8]| {
        let mut frame = (bytes.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(bytes);
        frame
    };
    let hello = framed(br#"j{"protocol":1,"client":"the case"}"#);
    let huge = [&u32::MAX.to_be_bytes()[..], b"j"].concat();
    let nonsense: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        huge.clone(),
        framed(b""),
        framed(b"j{"),
        framed(b"x"),
        framed(br#"j{"protocol":77,"client":"from the future"}"#),
        [&hello[..], &framed(b"j{\"moon\":1}")].concat(),
        [&hello[..], &huge].concat(),
        [&hello[..], &framed(&vec![b'['; 60_000])].concat(),
        hello[..7].to_vec(),
    ];
    for bytes in &nonsense {
        let mut stream = UnixStream::connect(daemon.socket())?;
        // The daemon may have closed before it took everything.
        drop(stream.write_all(bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        stream.set_read_timeout(Some(patience))?;
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        ensure!(
            !ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "it waits for more after {bytes:?}"
        );
    }
    daemon.check_alive()?;

    // As many as there may be, each of which is told; one more is refused, in words.
    let request = framed(br#"j{"watch":{"all":true}}"#);
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut stream = UnixStream::connect(daemon.socket())?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(&hello)?;
        stream.write_all(&request)?;
        clients.push(stream);
    }
    for stream in &mut clients {
        until(stream, b"\"live\"")?;
    }
    let mut late = UnixStream::connect(daemon.socket())?;
    late.set_read_timeout(Some(patience))?;
    until(&mut late, b"100 clients already")?;
    let run = stage.run(OpenSsh, "echo to all")?.ended_with(0)?;
    for stream in &mut clients {
        until(stream, run.marker.as_bytes())?;
    }
    drop(clients);
    stopped(daemon, stage)?;
    Ok(vec![run.clean().exits(0)])
}

/// Reads until `wanted` has come by.
fn until(stream: &mut UnixStream, wanted: &[u8]) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        ensure!(
            read > 0,
            "the daemon left before {:?}",
            String::from_utf8_lossy(wanted)
        );
        seen.extend_from_slice(&buffer[..read]);
        if seen.windows(wanted.len()).any(|it| it == wanted) {
            return Ok(());
        }
        let keep = seen.len().min(wanted.len());
        seen.drain(..seen.len() - keep);
    }
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
        "[[hook]]\nkinds = [\"orphaned\"]\ncommand = [\"{}\", \"$(touch /tmp/hostile)\"]",
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
    let holders = procs::holders(&marker);
    let holder = holders
        .keys()
        .next()
        .context("nobody holds it")?
        .to_string();
    let why = daemon.says(&["why", &holder])?;
    ensure!(
        why.contains("ORPHANED") && why.contains(&holder) && why.contains("fix:"),
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
        daemon.log().contains("was read again").then_some(())
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

fn d11(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
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
    let started = stage.start(OpenSsh, &format!("sleep {} &", stage.lasting()))?;
    daemon.await_state(&started.marker, "orphaned", patience)?;
    stage.finding("orphaned", &started.marker)?;
    let holders = procs::holders(&started.marker);
    procs::end(&started.marker);
    let run = started.finish(patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0).held_by(holders)])
}

fn d12(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let dir = stage.setting.world.dir().join(new_marker());
    let mut conf = Conf::new(stage.setting.backend);
    conf.user = "nobody";
    let mut daemon = Daemon::start(stage.setting.lastbyte, &dir, conf, patience)?;
    is_harmless(&daemon)?;
    let half = halfway(stage)?;
    let marker = half.started.marker.clone();
    kept(&daemon, &marker, patience)?;
    daemon.end(libc::SIGTERM, patience)?;
    daemon.again(patience)?;
    is_harmless(&daemon)?;
    let run = half.goes_on(patience)?;
    procs::poll(patience, "the session's end", || {
        daemon
            .session(&marker)
            .ok()
            .filter(|it| !it["verdict"].is_null())
    })?;
    as_far_as_seen(stage, &with_itself(daemon.session(&marker)?))?;

    // What takes reading of others' processes: a holder that received its end.
    let started = stage.start(OpenSsh, &format!("sleep {} &", stage.lasting()))?;
    daemon.await_state(&started.marker, "orphaned", patience)?;
    stage.finding("orphaned", &started.marker)?;
    let holders = procs::holders(&started.marker);
    procs::end(&started.marker);
    let held = started.finish(patience)?.ended_with(0)?;
    daemon.await_state(&held.marker, "clean", patience)?;
    stopped(daemon, stage)?;
    Ok(vec![whole(&run), held.clean().exits(0).held_by(holders)])
}

/// There was no other session.
fn with_itself(mut closed: Value) -> Value {
    closed["meanwhile"] = Value::from("clean");
    closed
}

/// Whether it is no longer root, and can be so no more.
fn is_harmless(daemon: &Daemon) -> anyhow::Result<()> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid()))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|rest| rest.trim().to_owned()).unwrap_or_default()
    };
    let caps = |name: &str| u64::from_str_radix(&field(name), 16).unwrap_or(u64::MAX);
    // CAP_SYS_PTRACE, and CAP_BPF where the kernel needs it.
    let allowed = 1 << 19 | 1 << 39;
    ensure!(
        field("Uid:").split_whitespace().all(|uid| uid == "65534")
            && caps("CapPrm:") & !allowed == 0
            && caps("CapEff:") & !allowed == 0
            && caps("CapInh:") == 0
            && caps("CapAmb:") == 0
            && field("NoNewPrivs:") == "1",
        "it is still {status}"
    );
    Ok(())
}
