//! OpenSSH's own regression scripts under the tracer: some hundreds of sessions of every kind that its
//! authors thought of, about which nothing may be reported.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::event::Event;
use crate::tracer::Tracer;

/// The scripts that run sessions, of OpenSSH 9.2's `LTESTS`.
///
/// Left out are those that
/// - test a program alone, and start no session: `keygen-*`, `sshcfgparse`, `cfgparse`, `cfgmatch*`,
///   `percent`, `addrmatch`, `krl`, `sshsig`, `knownhosts`, `proto-*`, `keyscan`, `agent-*`,
///   `servcfginclude`, `allow-deny-users`, `reexec`, `sshfp-connect`;
/// - try every cipher, key type or option on the same session, for minutes: `rekey`, `integrity`,
///   `try-ciphers`, `dhgex`, `kextype`, `keytype`, `cert-*`, `hostkey-*`, `multipubkey`, `limit-keytype`,
///   `key-options`, `brokenkeys`, `cfginclude`, `host-expand`, `knownhosts-command`, `authinfo`,
///   `agent-restrict`, `portnum`, `proxy-connect`, `connect-uri`;
/// - wait for time to pass: `login-timeout`, `connection-timeout`, `reconfigure`;
/// - want what a machine need not have: `hostbased`, `sftp-chroot`;
/// - make the server end sessions whose command runs, which is reported as it should be:
///   `channel-timeout`, `forward-control`.
const SCRIPTS: &[&str] = &[
    "connect",
    "connect-privsep",
    "exit-status",
    "exit-status-signal",
    "envpass",
    "transfer",
    "banner",
    "stderr-data",
    "stderr-after-eof",
    "broken-pipe",
    "yes-head",
    "agent",
    "scp",
    "scp3",
    "scp-uri",
    "sftp",
    "sftp-cmds",
    "sftp-badcmds",
    "sftp-batch",
    "sftp-perm",
    "sftp-uri",
    "localcommand",
    "forcecommand",
    "keys-command",
    "principals-command",
    "multiplex",
    "dynamic-forward",
    "forwarding",
];

/// Sessions that the scripts have at the least; fewer, and the tracer or the scripts did not work.
const LEAST: usize = 140;

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Sessions that were seen.
    pub sessions: usize,
    /// Reports about them.
    pub problems: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} scripts, {} sessions, {} problems",
            SCRIPTS.len(),
            self.sessions,
            self.problems.len()
        )
    }
}

/// Runs the scripts of the OpenSSH that was built in `source`.
///
/// # Errors
/// When a script fails, or the tracer does not start.
pub fn run(
    lastbyte: &Path,
    backend: Option<&str>,
    source: &Path,
    patience: Duration,
) -> anyhow::Result<Outcome> {
    let mut watch = Command::new(lastbyte);
    // What is printed when not everything is asked for is what may not be wrong.
    watch.args(["watch", "--no-daemon", "--json"]);
    if let Some(backend) = backend {
        watch.args(["--backend", backend]);
    }
    let watch = Tracer::spawn(watch)?;
    watch.wait_for(0, 4 * patience, "`started`", |events| {
        events.iter().any(|event| event.is("started")).then_some(())
    })?;
    let status = Command::new("make")
        .arg("-C")
        .arg(source)
        .arg("t-exec")
        .arg(format!("LTESTS={}", SCRIPTS.join(" ")))
        .stdin(Stdio::null())
        .status()
        .context("cannot start make")?;
    let closed = |events: &[Event]| events.iter().filter(|it| it.is("session_closed")).count();
    // The last sessions end with the last script.
    let enough = watch.wait_for(0, patience, "the sessions' ends", |events| {
        (closed(events) >= LEAST).then_some(())
    });
    ensure!(
        status.success(),
        "a script fails, or finds what it tests broken: {status}"
    );
    enough?;
    watch.check_alive()?;
    let events = watch.since(0);
    let is_wrong = |event: &&Event| {
        let lacks = event.is("gap") && event.text_of("reason") != "preexisting";
        let unknown = event.is("session_closed") && event.verdict() == "unknown";
        event.is("finding") || lacks || unknown
    };
    let problems = events.iter().filter(is_wrong).map(|it| it.raw.clone());
    Ok(Outcome {
        sessions: closed(&events),
        problems: problems.chain(watch.garbage()).collect(),
    })
}
