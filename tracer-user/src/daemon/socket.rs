//! The unix socket that clients connect to: systemd's, or our own.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use listenfd::ListenFd;
use nix::unistd::{Gid, getegid, setegid};

/// A socket that is listened on; its file goes with it.
pub struct Socket {
    /// The end that clients connect to.
    pub listener: UnixListener,
    /// What is ours to remove.
    path: Option<PathBuf>,
}

impl Socket {
    /// Takes what systemd passed (sd_listen_fds(3)), else makes a socket at `path` that members of
    /// `group` may connect to, or everybody.
    ///
    /// # Errors
    /// When a daemon listens there already, or the file cannot be made.
    pub fn open(path: &Path, group: &str, everybody: bool) -> anyhow::Result<Self> {
        let passed = ListenFd::from_env().take_unix_listener(0);
        if let Some(listener) = passed.context("the socket that systemd passed")? {
            return Ok(Self {
                listener,
                path: None,
            });
        }
        let failed = || format!("the socket {}", path.display());
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o755);
            builder.create(parent).with_context(failed)?;
        }
        remove_stale(path)?;
        let gid = uzers::get_group_by_name(group).map(|group| group.gid());
        if gid.is_none() && !everybody {
            log::warn!(
                "there is no group {group}: only root may connect to {}",
                path.display()
            );
        }
        let listener = bind_for(path, gid).with_context(failed)?;
        let socket = Self {
            listener,
            path: Some(path.to_owned()),
        };
        let owner = fs::metadata(path).with_context(failed)?.gid();
        if let Some(gid) = gid.filter(|gid| *gid != owner) {
            // The directory may give its own group to what is made in it.
            chown(path, None, Some(gid)).with_context(|| {
                format!(
                    "cannot give the socket {} to the group {group}: start the daemon as root with CAP_SETGID or \
                     CAP_CHOWN, let systemd make the socket (lastbyte.socket), or set socket.group to a group \
                     that the daemon is in",
                    path.display()
                )
            })?;
        }
        let mode = match (everybody, gid) {
            (true, _) => 0o666,
            (false, Some(_)) => 0o660,
            (false, None) => 0o600,
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(failed)?;
        Ok(socket)
    }
}

/// Makes a socket that belongs to a group: a new file has the effective group. Changing it afterwards would
/// take CAP_CHOWN, which the service's unit does not leave us; CAP_SETGID it does, to become another user.
fn bind_for(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    let own = getegid();
    let switched = match group.map(Gid::from_raw) {
        Some(group) if group != own => setegid(group).is_ok(),
        _ => false,
    };
    let listener = UnixListener::bind(path);
    if switched {
        setegid(own)?;
    }
    listener
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    // Connecting to any other file is refused as well.
    let is_other = |meta: fs::Metadata| !meta.file_type().is_socket();
    anyhow::ensure!(
        !path.symlink_metadata().is_ok_and(is_other),
        "{shown} is in the way: it is no socket"
    );
    match UnixStream::connect(path) {
        Ok(_) => anyhow::bail!("a daemon listens on {shown} already: end it first"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("removing the dead socket {shown}"))
        }
        Err(error) => Err(error).with_context(|| format!("{shown} is in the way")),
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Its directory may not be ours to change any more; the next daemon finds it dead.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_socket_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/lastbyte.sock");
        let open = || Socket::open(&path, "no such group", false);
        let first = open().unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let error = open().err().expect("it lives");
        assert!(error.to_string().contains("already"), "{error:#}");
        drop(first);
        assert!(open().is_ok());
    }

    #[test]
    fn a_socket_left_by_the_dead_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lastbyte.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::open(&path, "no such group", true).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o666
        );
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        fs::write(&path, "mine").unwrap();
        assert!(Socket::open(&path, "no such group", false).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
