//! A real OpenSSH server on a loopback port, with keys and configuration of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::netns::{self, Side};
use crate::procs::Owned;
use crate::sys;

/// What serves the `sftp` subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sftp {
    /// The program `sftp-server`.
    External,
    /// sshd itself, in a forked child that never execs.
    Internal,
}

/// A running sshd; ends with its owner, as far as the listener goes.
#[derive(Debug)]
pub struct Sshd {
    listener: Owned,
    /// TCP port on 127.0.0.1.
    pub port: u16,
}

/// Places where distributions put the external sftp server.
const SFTP_SERVERS: &[&str] = &[
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
];

impl Sshd {
    /// Starts sshd with the files in `keys` (see [`crate::world`]) and `extra` configuration lines.
    ///
    /// # Errors
    /// When sshd cannot be started or refuses its configuration.
    pub fn start(dir: &Path, name: &str, sftp: Sftp, extra: &[&str]) -> anyhow::Result<Self> {
        Self::start_at(dir, name, sftp, extra, None)
    }

    /// The same with another program than the machine's sshd.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_program(
        program: &Path,
        dir: &Path,
        name: &str,
        extra: &[&str],
    ) -> anyhow::Result<Self> {
        let config = configure(dir, name, Sftp::Internal, extra, "127.0.0.1")?;
        Self::listen(Command::new(program), dir, name, &config)
    }

    /// The same at another address, in the network namespace that has it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_at(
        dir: &Path,
        name: &str,
        sftp: Sftp,
        extra: &[&str],
        place: Option<&Side>,
    ) -> anyhow::Result<Self> {
        let host = place.map_or("127.0.0.1", |side| side.address);
        let config = configure(dir, name, sftp, extra, host)?;
        let command = match place {
            None => Command::new(sshd_path()?),
            Some(side) => netns::inside(&side.netns, sshd_path()?),
        };
        Self::listen(command, dir, name, &config)
    }

    fn listen(
        mut command: Command,
        dir: &Path,
        name: &str,
        config: &Config,
    ) -> anyhow::Result<Self> {
        command
            .args(["-D", "-e", "-f"])
            .arg(&config.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = sys::end_with_parent(&mut command).spawn();
        let mut listener = Owned(child.context("cannot start sshd")?);
        let stderr = listener.0.stderr.take().context("sshd has no stderr")?;
        let log = fs::File::create(dir.join(format!("{name}.log")))?;
        await_line(stderr, log, "Server listening on").with_context(|| format!("sshd {name}"))?;
        Ok(Self {
            listener,
            port: config.port,
        })
    }
}

impl Sshd {
    /// Process id of the listener.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.listener.0.id()
    }
}

/// A configuration file, and the port in it.
struct Config {
    path: PathBuf,
    port: u16,
}

fn configure(
    dir: &Path,
    name: &str,
    sftp: Sftp,
    extra: &[&str],
    host: &str,
) -> anyhow::Result<Config> {
    // sshd insists on this directory for privilege separation.
    fs::create_dir_all("/run/sshd").context("cannot make /run/sshd")?;
    let port = free_port()?;
    // Of two values for a keyword sshd takes the first.
    let mut text = extra
        .iter()
        .fold(String::new(), |text, line| text + line + "\n");
    text.push_str(&format!(
        "ListenAddress {host}:{port}\n\
         HostKey {dir}/host\n\
         AuthorizedKeysFile {dir}/user.pub\n\
         PidFile none\n\
         UsePAM no\n\
         StrictModes no\n\
         MaxStartups 1000:30:1000\n\
         MaxSessions 100\n\
         AcceptEnv LB_*\n\
         X11Forwarding yes\n\
         PrintMotd no\n",
        dir = dir.display(),
    ));
    let subsystem = match sftp {
        Sftp::Internal => Some("internal-sftp"),
        Sftp::External => SFTP_SERVERS
            .iter()
            .copied()
            .find(|path| Path::new(path).exists()),
    };
    if let Some(subsystem) = subsystem {
        text.push_str(&format!("Subsystem sftp {subsystem}\n"));
    }
    let path = dir.join(format!("{name}.conf"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Config { path, port })
}

fn sshd_path() -> anyhow::Result<&'static str> {
    // sshd re-executes itself and therefore wants an absolute path.
    ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .context("sshd is not installed")
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(probe.local_addr()?.port())
}

/// Waits for a line that contains `wanted` and returns it; copies everything to `log` for as long
/// as there is output.
///
/// # Errors
/// When the output ends, or 20 s pass, without that line.
pub(crate) fn await_line(
    from: impl std::io::Read + Send + 'static,
    mut log: impl std::io::Write + Send + 'static,
    wanted: &'static str,
) -> anyhow::Result<String> {
    let (found, answer) = mpsc::channel();
    thread::spawn(move || {
        let mut seen = String::new();
        let mut found = Some(found);
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // A full disk must not stop the server from being read.
            drop(writeln!(log, "{line}"));
            let Some(waiting) = &found else { continue };
            if line.contains(wanted) {
                drop(waiting.send(Ok(line)));
                found = None;
            } else {
                seen.push_str(&line);
                seen.push('\n');
            }
        }
        if let Some(waiting) = found {
            drop(waiting.send(Err(seen)));
        }
    });
    match answer.recv_timeout(Duration::from_secs(20)) {
        Ok(Ok(line)) => Ok(line),
        Ok(Err(seen)) => bail!("ended before `{wanted}`; it said: {}", seen.trim_end()),
        Err(_) => bail!("no `{wanted}` within 20 s"),
    }
}
