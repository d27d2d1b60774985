//! What a daemon can still do once it has given up its privileges. Only root has any: for another user
//! only the refusals are tested.

#[path = "support/skipped.rs"]
mod skipped;

use std::{
    fs,
    io::ErrorKind,
    process::{Command, Stdio},
    thread,
};

use lastbyte::daemon::privileges::{self, PrivilegesError};
use nix::unistd::{Uid, geteuid, setuid};
use skipped::skipped;

fn main() {
    let refused =
        thread::spawn(|| privileges::drop_to(&privileges::user("nobody").unwrap())).join();
    assert!(matches!(refused, Ok(Err(PrivilegesError::Threads))));
    let error = privileges::user("no-such-user").unwrap_err().to_string();
    assert!(error.contains("useradd --system no-such-user"), "{error}");
    if !geteuid().is_root() {
        return skipped("privileges", "only root has privileges to give up");
    }

    let before = privileges::held(std::process::id()).expect("this process");
    assert!(
        before.capabilities.len() > 2 && before.uid == 0,
        "{before:?}"
    );
    // Ends with us.
    let cat = Command::new("cat").stdin(Stdio::piped()).spawn();
    let mut cat = cat.expect("cat");
    let roots = format!("/proc/{}/exe", cat.id());
    privileges::drop_to(&privileges::user("nobody").unwrap()).expect("root may");
    let after = privileges::held(std::process::id()).expect("this process");
    assert_eq!(
        after.uid,
        nix::unistd::User::from_name("nobody")
            .unwrap()
            .unwrap()
            .uid
            .as_raw()
    );
    assert!(
        after
            .capabilities
            .iter()
            .all(|it| it == "CAP_SYS_PTRACE" || it == "CAP_BPF"),
        "{after:?}"
    );
    assert!(
        after.attainable.is_empty() && after.no_new_privs,
        "{after:?}"
    );
    assert!(after.to_string().ends_with("no_new_privs"), "{after}");

    assert!(setuid(Uid::from_raw(0)).is_err(), "there is no way back");
    cat.kill().expect_err("it is root's");
    let shadow = fs::read("/etc/shadow").expect_err("is root's");
    assert_eq!(shadow.kind(), ErrorKind::PermissionDenied);
    fs::read_link(roots).expect("the program of another user's process");
    // Its input ends, and so does it.
    drop(cat.stdin.take());
    cat.wait().expect("its end");
    fs::read_to_string("/proc/self/fdinfo/0").expect("its own");

    let child = Command::new("cat")
        .arg("/proc/self/status")
        .output()
        .unwrap();
    let status = String::from_utf8(child.stdout).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = format!("{set}:\t0000000000000000\n");
        assert!(status.contains(&line), "{status}");
    }
}
