//! Who may ask a daemon, and what becomes of those who ask nonsense.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use anyhow::{Context as _, ensure};

use super::{start, stopped};
use crate::daemon::Daemon;
use crate::expect::Expect;
use crate::procs;
use crate::stage::Stage;
use crate::world::Server::OpenSsh;

pub(super) fn d6(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
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

pub(super) fn d7(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let daemon = start(stage, "")?;
    let framed = |bytes: &[u8]| {
        let mut frame = (bytes.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(bytes);
        frame
    };
    let hello = framed(br#"j{"protocol":2,"client":"the case"}"#);
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
    until(&mut late, b"100 clients are connected already")?;
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
