//! What sshd starts besides sessions: the helpers of logins. None of them is a session.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::case::{Case, Class, Tier};
use crate::expect::{Expect, Stream};
use crate::sshd::{Sftp, Sshd};
use crate::stage::{Skipped, Stage};
use crate::world::Server::OpenSsh;
use crate::world::{USER, run};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "C31",
        title: "AuthorizedKeysCommand that prints much",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: keys_command,
    },
    Case {
        id: "C32",
        title: "AuthorizedPrincipalsCommand that prints much",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: principals_command,
    },
    Case {
        id: "C33",
        title: "pam_exec, with its output and without",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: pam_exec,
    },
    Case {
        id: "C34",
        title: "the shell that runs ~/.ssh/rc",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: rc,
    },
    Case {
        id: "C35",
        title: "a forced command",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: forced,
    },
];

/// A script of root's that sshd accepts, in a folder of root's alone.
fn script(name: &str, text: &str) -> anyhow::Result<PathBuf> {
    // sshd wants every folder above it to be root's and not to be written by others: not /tmp.
    let folder = Path::new("/run/lbcases");
    fs::create_dir_all(folder)?;
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Lines that mean nothing to sshd, some 6 KB.
const MUCH: &str = "seq 1 200 | sed 's/^/# a line that sshd skips: /'";

/// One session on a server with these lines: one session exactly, and clean.
fn one_session(stage: &Stage<'_>, lines: &[&str]) -> anyhow::Result<Vec<Expect>> {
    let world = stage.setting.world;
    let sshd = Sshd::start(world.dir(), "sshd-helpers", Sftp::Internal, lines)?;
    let started = stage.start_at(&world.at(sshd.port), OpenSsh, "echo hi", |_| {})?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    let three = Some(3);
    Ok(vec![run.clean().exits(0).counts(
        Stream::Stdout,
        three,
        three,
    )])
}

fn keys_command(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let key = stage.setting.world.dir().join("user.pub");
    let keys = script("keys", &format!("{MUCH}; cat {}", key.display()))?;
    let command = format!("AuthorizedKeysCommand {}", keys.display());
    one_session(
        stage,
        &[
            &command,
            "AuthorizedKeysCommandUser nobody",
            "AuthorizedKeysFile none",
        ],
    )
}

fn principals_command(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let world = stage.setting.world;
    let principals = script("principals", &format!("{MUCH}; echo lb-principal"))?;
    let folder = world.dir().join("certified");
    fs::create_dir_all(&folder)?;
    for name in ["user", "user.pub"] {
        fs::copy(world.dir().join(name), folder.join(name))?;
    }
    // The host's key as the authority: any will do.
    run(Command::new("ssh-keygen")
        .args(["-q", "-I", "lb", "-n", "lb-principal", "-s"])
        .arg(world.dir().join("host"))
        .arg(folder.join("user.pub")))?;
    let authority = format!(
        "TrustedUserCAKeys {}",
        world.dir().join("host.pub").display()
    );
    let command = format!("AuthorizedPrincipalsCommand {}", principals.display());
    let lines = [
        authority.as_str(),
        &command,
        "AuthorizedPrincipalsCommandUser nobody",
        "AuthorizedKeysFile none",
    ];
    let sshd = Sshd::start(world.dir(), "sshd-principals", Sftp::Internal, &lines)?;
    let mut target = world.at(sshd.port);
    target.key = folder.join("user");
    let started = stage.start_at(&target, OpenSsh, "echo hi", |_| {})?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    Ok(vec![run.clean().exits(0)])
}

/// A PAM service that goes away with its owner.
struct Service(PathBuf);

impl Drop for Service {
    fn drop(&mut self) {
        // Left behind it would serve a program that nobody has.
        drop(fs::remove_file(&self.0));
    }
}

fn pam_exec(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let world = stage.setting.world;
    // The name of the service is the name of the program: this one's are not /etc/pam.d/sshd's rules.
    let program = world.dir().join("pam").join("sshd-session");
    let service = Path::new("/etc/pam.d/sshd-session");
    let original = Path::new("/usr/sbin/sshd");
    let usable = original.exists() && service.parent().is_some_and(Path::exists);
    ensure!(usable, Skipped("no PAM, or no /usr/sbin/sshd".to_owned()));
    ensure!(
        !service.exists() && !Path::new("/usr/lib/openssh/sshd-session").exists(),
        Skipped("sshd-session is this machine's own".to_owned())
    );
    fs::create_dir_all(program.parent().context("no folder")?)?;
    fs::copy(original, &program)?;
    let hook = script("pam-hook", "cat >/dev/null; seq 1 500; seq 1 500 >&2")?;
    let hook = hook.display();
    let _service = Service(service.to_owned());
    fs::write(
        service,
        format!(
            "auth required pam_exec.so expose_authtok {hook}\n\
             auth required pam_permit.so\n\
             account required pam_exec.so {hook}\n\
             account required pam_exec.so stdout {hook}\n\
             session optional pam_exec.so {hook}\n\
             session optional pam_exec.so stdout {hook}\n"
        ),
    )?;
    let sshd = Sshd::start_program(&program, world.dir(), "sshd-pam", &["UsePAM yes"])?;
    let started = stage.start_at(&world.at(sshd.port), OpenSsh, "echo hi", |_| {})?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    // What the hooks print may go to the client as a message of the login.
    Ok(vec![run.clean().exits(0)])
}

fn rc(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let folder = Path::new("/home").join(USER).join(".ssh");
    fs::create_dir_all(&folder)?;
    let rc = Service(folder.join("rc"));
    fs::write(&rc.0, "seq 1 500 >&2; cat >/dev/null\n")?;
    fs::set_permissions(&rc.0, fs::Permissions::from_mode(0o644))?;
    let run = stage.run(OpenSsh, "echo hi")?.ended_with(0)?;
    drop(rc);
    Ok(vec![run.clean().exits(0).counts(
        Stream::Stdout,
        Some(3),
        Some(3),
    )])
}

fn forced(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let world = stage.setting.world;
    let line = ["ForceCommand echo forced $SSH_ORIGINAL_COMMAND"];
    let sshd = Sshd::start(world.dir(), "sshd-forced", Sftp::Internal, &line)?;
    let started = stage.start_at(&world.at(sshd.port), OpenSsh, "echo hi", |_| {})?;
    let run = started.finish(stage.setting.patience)?.ended_with(0)?;
    let arrived = &run.arrived.stdout_head;
    ensure!(arrived.starts_with("forced"), "got {arrived:?}");
    let bytes = Some(run.arrived.stdout);
    let mut expect = run.clean().exits(0).counts(Stream::Stdout, bytes, bytes);
    // Its command line is the server's, not the client's.
    expect.who = crate::expect::Who::Unmarked;
    Ok(vec![expect])
}
