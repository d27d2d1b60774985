//! What a client sees of an open session comes from the daemon's memory.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::expect::Expect;
use crate::procs;
use crate::stage::Stage;

/// The timeline of an open session is answered without the database, and only while it is open.
pub(super) fn d22(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let patience = stage.setting.patience;
    let daemon = super::start(stage, "")?;
    let halfway = super::halfway(stage)?;
    let marker = halfway.started.marker.clone();
    let listed = procs::poll(patience, "the session in the list", || {
        daemon.session(&marker).ok()
    })?;
    let name = listed["name"].as_str().context("no name")?;
    // Whoever opens the database from here on finds none.
    for entry in fs::read_dir(daemon.state())? {
        fs::remove_file(entry?.path())?;
    }
    let written = procs::poll(patience, "the first half in the timeline", || {
        let timeline = timeline(&daemon, name).ok()??;
        let streams = timeline["streams"].as_array()?;
        let stdout = streams.iter().find(|it| it["slot"] == "Stdout")?;
        let written = stdout["points"].as_array()?.last()?["written"].as_u64()?;
        (written >= super::BEFORE).then_some(written)
    })?;
    ensure!(written == super::BEFORE, "{written} B were written");
    let run = halfway.goes_on(patience)?;
    procs::poll(patience, "the end of the timeline", || {
        timeline(&daemon, name).ok()?.is_none().then_some(())
    })?;
    daemon.check_alive()?;
    Ok(vec![super::whole(&run)?])
}

fn timeline(daemon: &Daemon, session: &str) -> anyhow::Result<Option<Value>> {
    let mut stream = UnixStream::connect(daemon.socket())?;
    send(&mut stream, &json!({ "protocol": 2, "client": "cases" }))?;
    send(&mut stream, &json!({ "timeline": { "session": session } }))?;
    let welcome = receive(&mut stream)?;
    ensure!(welcome["welcome"].is_object(), "{welcome}");
    Ok(match receive(&mut stream)? {
        Value::Object(reply) => reply.get("timeline").cloned(),
        _ => None,
    })
}

fn send(stream: &mut UnixStream, message: &Value) -> anyhow::Result<()> {
    let message = format!("j{message}");
    stream.write_all(&u32::try_from(message.len())?.to_be_bytes())?;
    Ok(stream.write_all(message.as_bytes())?)
}

/// A message that fits into one frame.
fn receive(stream: &mut UnixStream) -> anyhow::Result<Value> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame)?;
    ensure!(frame.first() == Some(&b'j'), "a frame of another kind");
    Ok(serde_json::from_slice(&frame[1..])?)
}
