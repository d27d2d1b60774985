//! A real dropbear server on a loopback port.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::procs::Owned;
use crate::sshd::{await_line, free_port};
use crate::stage::Skipped;
use crate::sys;

/// A running dropbear; ends with its owner, as far as the listener goes.
#[derive(Debug)]
pub struct Dropbear {
    _listener: Owned,
    /// TCP port on 127.0.0.1.
    pub port: u16,
}

impl Dropbear {
    /// Starts dropbear; the user's key goes where dropbear insists on looking for it, his `home`.
    ///
    /// # Errors
    /// [`Skipped`] when it is not installed; otherwise when it cannot be started.
    pub fn start(dir: &Path, home: &Path, (uid, gid): (u32, u32)) -> anyhow::Result<Self> {
        let key = dir.join("dropbear-host");
        let made = Command::new("dropbearkey")
            .args(["-t", "ed25519", "-f"])
            .arg(&key)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match made {
            Ok(status) => ensure!(status.success(), "dropbearkey: {status}"),
            Err(_) => return Err(Skipped("dropbear is not installed".to_owned()).into()),
        }
        let ssh = home.join(".ssh");
        fs::create_dir_all(&ssh).with_context(|| format!("cannot make {}", ssh.display()))?;
        let keys = ssh.join("authorized_keys");
        fs::copy(dir.join("user.pub"), &keys)?;
        for (path, mode) in [(&ssh, 0o700), (&keys, 0o600)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            chown(path, Some(uid), Some(gid))?;
        }
        let port = free_port()?;
        let mut command = Command::new("dropbear");
        command
            .args(["-F", "-E", "-s", "-p", &format!("127.0.0.1:{port}"), "-r"])
            .arg(&key)
            .arg("-P")
            .arg(dir.join("dropbear.pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let child = sys::end_with_parent(&mut command).spawn();
        let mut listener = Owned(child.context("cannot start dropbear")?);
        let stderr = listener.0.stderr.take().context("dropbear has no stderr")?;
        let log = fs::File::create(dir.join("dropbear.log"))?;
        await_line(stderr, log, "Not backgrounding").context("dropbear")?;
        Ok(Self {
            _listener: listener,
            port,
        })
    }
}
