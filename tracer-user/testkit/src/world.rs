//! Everything a run needs besides the tracer: a directory, keys, a user, files and servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, bail};

use crate::client::Target;
use crate::dropbear::Dropbear;
use crate::event::Event;
use crate::procs::Owned;
use crate::sshd::{Sftp, Sshd, await_line};
use crate::sys;

/// The user that sessions log in as: a server treats uid 0 differently.
pub const USER: &str = "lbtest";

/// Bytes in [`World::big`].
pub const BIG: u64 = 4 << 20;

/// Which server a session goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// OpenSSH with the external sftp server.
    OpenSsh,
    /// OpenSSH with `internal-sftp`.
    OpenSshInternal,
    /// The test server, closing early, on pipes.
    Eager,
    /// The test server, reading to the end, on pipes.
    Drain,
    /// The test server, closing early, on unix sockets.
    EagerSocket,
    /// The test server, closing early, with pipes for the outputs and no stdin.
    EagerNoStdin,
    /// The test server, closing early, with one pipe for both outputs and no stdin.
    EagerOnePipe,
    /// The test server, reading to the end, with pipes for the outputs and no stdin.
    DrainNoStdin,
    /// The test server, reading to the end, with one pipe for both outputs and no stdin.
    DrainOnePipe,
    /// The test server, reading to the end and sending nothing, on pipes.
    Forget,
    /// The test server, reading to the end, as the test user's own program called `sshd`.
    Own,
    /// dropbear.
    Dropbear,
}

impl Server {
    /// How the test server is started for this, if it is the test server: its mode, its streams.
    #[must_use]
    pub fn eager(self) -> Option<(&'static str, &'static str)> {
        Some(match self {
            Self::Eager => ("eager", "pipe"),
            Self::EagerSocket => ("eager", "socketpair"),
            Self::EagerNoStdin => ("eager", "no-stdin"),
            Self::EagerOnePipe => ("eager", "one-pipe"),
            Self::Drain | Self::Own => ("drain", "pipe"),
            Self::DrainNoStdin => ("drain", "no-stdin"),
            Self::DrainOnePipe => ("drain", "one-pipe"),
            Self::Forget => ("forget", "pipe"),
            Self::OpenSsh | Self::OpenSshInternal | Self::Dropbear => return None,
        })
    }
}

/// One of the test server's processes.
#[derive(Debug)]
struct EagerHost {
    _process: Owned,
    port: u16,
}

/// The directory with everything in it; servers start when first asked for.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
    /// Where the eager server was built, and where it is run.
    eager_source: PathBuf,
    eager_binary: PathBuf,
    uid: u32,
    gid: u32,
    openssh: OnceLock<Sshd>,
    internal: OnceLock<Sshd>,
    eager: Mutex<BTreeMap<Server, EagerHost>>,
    dropbear: OnceLock<Dropbear>,
    /// Ports of all servers that were asked for.
    ports: Mutex<BTreeSet<u16>>,
}

impl World {
    /// Makes the directory, the keys, the user if he does not exist, and the files.
    ///
    /// # Errors
    /// When one of these cannot be made; the caller must be root.
    pub fn new(eager_binary: &Path) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("lbcases-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // The test user reads the files and runs the eager server from here.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        for name in ["host", "user"] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(name)))?;
        }
        let (uid, gid) = ensure_user()?;
        let binary = dir.join("eager");
        fs::copy(eager_binary, &binary)
            .with_context(|| format!("cannot copy {}", eager_binary.display()))?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
        // Not zeroes: a copy with holes in it must not compare equal.
        let big: Vec<u8> = (0..BIG / 8)
            .flat_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
            .collect();
        fs::write(dir.join("big"), big)?;
        Ok(Self {
            dir,
            eager_source: eager_binary.to_owned(),
            eager_binary: binary,
            uid,
            gid,
            openssh: OnceLock::new(),
            internal: OnceLock::new(),
            eager: Mutex::default(),
            dropbear: OnceLock::new(),
            ports: Mutex::default(),
        })
    }

    /// The throw-away directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of [`BIG`] bytes that the test user can read.
    #[must_use]
    pub fn big(&self) -> PathBuf {
        self.dir.join("big")
    }

    /// A fifo that the test user can open: who opens it waits until the other side does.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn fifo(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(name);
        sys::make_fifo(&path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        Ok(path)
    }

    /// Numeric ids of the test user: uid, gid.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// How to reach a server; starts it if need be.
    ///
    /// # Errors
    /// When the server cannot be started.
    pub fn target(&self, server: Server) -> anyhow::Result<Target> {
        if let Some((mode, streams)) = server.eager() {
            return Ok(self.at(self.eager_port(server, mode, streams)?));
        }
        let port = match server {
            Server::OpenSsh => {
                once(&self.openssh, || {
                    Sshd::start(&self.dir, "sshd", Sftp::External, &[])
                })?
                .port
            }
            Server::OpenSshInternal => {
                once(&self.internal, || {
                    Sshd::start(&self.dir, "sshd-internal", Sftp::Internal, &[])
                })?
                .port
            }
            Server::Dropbear => {
                let home = Path::new("/home").join(USER);
                let start = || Dropbear::start(&self.dir, &home, (self.uid, self.gid));
                once(&self.dropbear, start)?.port
            }
            _ => bail!("{server:?} is the test server"),
        };
        Ok(self.at(port))
    }

    /// Whether an event is about a session on somebody else's server.
    #[must_use]
    pub fn foreign(&self, event: &Event) -> bool {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        event
            .local_port()
            .is_some_and(|port| !ports.contains(&port))
    }

    /// How to reach a server of this world by its port, as the test user.
    #[must_use]
    pub fn at(&self, port: u16) -> Target {
        self.ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(port);
        Target {
            host: "127.0.0.1".to_owned(),
            port,
            netns: None,
            user: USER.to_owned(),
            key: self.dir.join("user"),
        }
    }

    /// The program for what a shell cannot do, where the test user can run it.
    ///
    /// # Errors
    /// When it does not lie beside the eager server's binary.
    pub fn fixture(&self) -> anyhow::Result<PathBuf> {
        let copy = self.dir.join("fixture");
        if !copy.exists() {
            let original = self.eager_source.with_file_name("fixture");
            fs::copy(&original, &copy)
                .with_context(|| format!("cannot copy {}", original.display()))?;
        }
        Ok(copy)
    }

    fn eager_port(&self, server: Server, mode: &str, streams: &str) -> anyhow::Result<u16> {
        let mut started = self.eager.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = started.get(&server) {
            return Ok(host.port);
        }
        let host = match server {
            Server::Own => {
                let program = self.dir.join("sshd");
                fs::copy(&self.eager_source, &program)?;
                std::os::unix::fs::chown(&program, Some(self.uid), Some(self.gid))?;
                self.start(&program, mode, streams)?
            }
            _ => self.start(&self.eager_binary, mode, streams)?,
        };
        Ok(started.entry(server).or_insert(host).port)
    }

    fn start(&self, program: &Path, mode: &str, streams: &str) -> anyhow::Result<EagerHost> {
        let mut command = Command::new(program);
        command
            .args(["--mode", mode, "--streams", streams, "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .current_dir("/")
            // bash with a socket as its stdin reads ~/.bashrc, and that of root may not be read.
            .env("HOME", &self.dir)
            .uid(self.uid)
            .gid(self.gid);
        let child = sys::end_with_parent(&mut command).spawn();
        let mut process = Owned(child.context("cannot start the eager server")?);
        let stdout = process.0.stdout.take().context("eager has no stdout")?;
        let line = await_line(stdout, std::io::sink(), "listening ").context("eager server")?;
        let port = line
            .rsplit_once(':')
            .context("eager printed no port")?
            .1
            .parse()?;
        Ok(EagerHost {
            _process: process,
            port,
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Left behind it would only take space; there is nobody to tell.
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<&T> {
    if cell.get().is_none() {
        let made = make()?;
        return Ok(cell.get_or_init(|| made));
    }
    cell.get().context("just filled")
}

pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

/// Uid and gid of the test user, who is made if missing.
fn ensure_user() -> anyhow::Result<(u32, u32)> {
    if let Some(ids) = find_user()? {
        return Ok(ids);
    }
    // `*`, not `!`: without PAM sshd takes the latter for a locked account.
    run(Command::new("useradd").args(["-m", "-s", "/bin/bash", "-p", "*", USER]))
        .or_else(|_| append_user())?;
    find_user()?.with_context(|| format!("user {USER} is not in /etc/passwd"))
}

/// For systems too small to have useradd.
fn append_user() -> anyhow::Result<()> {
    use std::io::Write as _;
    let append = |path: &str, line: &str| -> anyhow::Result<()> {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(path)
            .with_context(|| path.to_owned())?;
        Ok(writeln!(file, "{line}")?)
    };
    append("/etc/group", &format!("{USER}:x:7770:"))?;
    append(
        "/etc/passwd",
        &format!("{USER}:x:7770:7770::/home/{USER}:/bin/bash"),
    )?;
    append("/etc/shadow", &format!("{USER}:*:19000:0:99999:7:::"))?;
    let home = format!("/home/{USER}");
    fs::create_dir_all(&home)?;
    std::os::unix::fs::chown(home, Some(7770), Some(7770))?;
    Ok(())
}

fn find_user() -> anyhow::Result<Option<(u32, u32)>> {
    let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [USER, _, uid, gid, ..] = fields[..] {
            return Ok(Some((uid.parse()?, gid.parse()?)));
        }
    }
    Ok(None)
}
