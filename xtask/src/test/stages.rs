//! The stages of `cargo xtask test`.

use anyhow::{Context as _, Result};

use crate::{
    arch::Arch,
    build::{self, Binaries},
    cases, fuzz, paths, setup, sh, support, vm,
};

pub fn setup(quick: bool) -> Result<()> {
    if quick {
        setup::for_build()
    } else {
        setup::for_tests()
    }
}

pub fn format() -> Result<()> {
    for workspace in [paths::workspace(), &fuzz::project()] {
        sh::run(
            sh::cargo()
                .current_dir(workspace)
                .args(["fmt", "--all", "--", "--check", "-l"]),
        )
        .context("these files are not formatted: run `cargo fmt --all`")?;
    }
    Ok(())
}

pub fn clippy() -> Result<()> {
    for workspace in [paths::workspace(), &fuzz::project()] {
        sh::run(
            sh::cargo()
                .current_dir(workspace)
                .args(["clippy", "--workspace", "--all-targets"])
                // Of the same versions, so what was checked for one need not be for the other.
                .arg("--target-dir")
                .arg(paths::cargo_target())
                .args(DENY_WARNINGS),
        )?;
    }
    Ok(())
}

/// The eBPF program is no target of the host, so it is checked as its build makes it: for BPF,
/// with `core` from source, which stable rustc does only when told that it is bootstrapping.
pub fn clippy_ebpf() -> Result<()> {
    sh::run(
        sh::cargo()
            .args(["clippy", "--package", "tracer-ebpf", "--features", "ebpf"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
            .args(DENY_WARNINGS)
            .env("RUSTC_BOOTSTRAP", "1"),
    )
}

pub fn unit_tests() -> Result<()> {
    sh::run(sh::cargo().args(["test", "--quiet", "--workspace"]))
}

pub fn dependencies() -> Result<()> {
    let deny = paths::tool("cargo-deny");
    for workspace in [paths::workspace(), &fuzz::project()] {
        sh::run(
            sh::cmd(&deny)
                .arg("--manifest-path")
                .arg(workspace.join("Cargo.toml"))
                .arg("--config")
                .arg(paths::workspace().join("deny.toml"))
                .args(["check", "bans", "licenses", "sources"]),
        )
        .context("a dependency breaks a rule of deny.toml")?;
    }

    let fetched = sh::output(
        sh::cmd("timeout")
            .arg("60")
            .arg(&deny)
            .args(["fetch", "db"]),
    );
    if fetched.is_err() {
        println!(
            "note: the RustSec advisory database cannot be reached from here: \
             advisories were NOT checked"
        );
        return Ok(());
    }
    sh::run(sh::cmd(&deny).args(["check", "--disable-fetch", "advisories"]))
        .context("a dependency has a known vulnerability")
}

/// Optimised; static, where the VMs need that: what is built once serves them and this machine.
pub fn build() -> Result<Binaries> {
    match vm::SUPPORTED {
        true => build::static_with_testkit(Arch::X86_64),
        false => build::with_testkit(),
    }
}

pub fn native_cases(binaries: &Binaries) -> Result<()> {
    cases::native(binaries, &[])
}

/// The same sessions each time: a failure here can be looked into. Another seed is for whoever
/// doubts: `cargo xtask cases -- --random 200`.
pub fn random_sessions(binaries: &Binaries) -> Result<()> {
    cases::native(
        binaries,
        &["--random", "200", "--seed", "1"].map(Into::into),
    )
}

/// A daemon under load, and clients that misbehave. For half an hour: `cargo xtask cases -- --soak 1800`.
/// So short a time leaves the memory no time to settle.
pub fn soak(binaries: &Binaries) -> Result<()> {
    cases::native(
        binaries,
        &["--soak", "120", "--growth", "20"].map(Into::into),
    )
}

/// How exposed the service may be, tenths of what `systemd-analyze security` calls its exposure.
const EXPOSURE: &str = "30";

/// Whom the service becomes: where lastbyte is installed, its directory is that user's.
const USERS: [&str; 2] = ["lastbyte", "nobody"];
/// Where the service keeps what it sees: where its unit lets it, beside an installed one's store.
const SERVICE_STORE: &str = "/var/lib/lastbyte/test";

/// What differs from a real service: whom it becomes, and where its socket is, as no systemd passes one. That
/// goes to a group that every machine has, as the group `lastbyte` is only where lastbyte is installed.
fn service_config(user: &str) -> String {
    format!(
        "user = {user:?}\n\
         [socket]\npath = \"/tmp/lastbyte.sock\"\ngroup = \"daemon\"\n\
         [store]\ndir = {SERVICE_STORE:?}\n\
         [tracing]\npins = \"\"\n"
    )
}

/// `$0` confines, by the unit `$1`; `$2` is lastbyte, `$3` its configuration: it traces, keeps what it sees,
/// lets the group in, and ends when it is told to.
const SERVICE: &str = "\
\"$0\" \"$1\" -- \"$2\" daemon --config \"$3\" & daemon=$!
inside() { nsenter --mount --target $daemon \"$@\"; }
asks() { inside \"$2\" doctor --daemon --socket /tmp/lastbyte.sock; }
tries=0
until asks \"$@\" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 150 ] && kill -0 $daemon || break
    sleep 0.2
done
asks \"$@\"
socket=$(inside stat -c %U:%G:%a /tmp/lastbyte.sock)
kill $daemon
wait $daemon
[ \"$socket\" = root:daemon:660 ] || { echo \"the socket is $socket\" >&2; exit 1; }
";

/// Where the service's files are for the test: wherever the project is, in somebody's home or in /tmp, the
/// unit hides it.
const SERVICE_FILES: &str = "/var/lib/lastbyte.test";

/// The files for systemd: they are understood, the service can do little, and what it can do is
/// enough for tracing.
pub fn service(binaries: &Binaries) -> Result<()> {
    let dist = paths::workspace().join("tracer-user/dist");
    let unit = dist.join("lastbyte.service");
    sh::quietly(
        sh::cmd("systemd-analyze")
            .args(["security", "--no-pager", "--offline=yes"])
            .arg(format!("--threshold={EXPOSURE}"))
            .arg(&unit),
    )
    .context("the service is too exposed")?;

    let root = paths::cargo_target().join("systemd-root");
    std::fs::create_dir_all(root.join("etc"))
        .with_context(|| format!("cannot create {}", root.display()))?;
    for (program, arguments, file) in [
        ("systemd-sysusers", &[][..], "lastbyte.sysusers"),
        ("systemd-tmpfiles", &["--create"], "lastbyte.tmpfiles"),
    ] {
        sh::quietly(
            sh::root_cmd(program)?
                .arg(format!("--root={}", root.display()))
                .args(arguments)
                .arg(dist.join(file)),
        )?;
    }

    let is_there = |user: &&&str| sh::quietly(sh::cmd("id").arg(user)).is_ok();
    let user = USERS
        .iter()
        .find(is_there)
        .context("there is no user nobody")?;
    // As systemd-tmpfiles would have it; where lastbyte is installed it has.
    let store = std::path::Path::new(SERVICE_STORE);
    for directory in store
        .parent()
        .filter(|it| !it.exists())
        .into_iter()
        .chain([store])
    {
        sh::run(
            sh::root_cmd("install")?
                .args(["-d", "-o", user])
                .arg(directory),
        )?;
    }
    let config = root.join("lastbyte.toml");
    std::fs::write(&config, service_config(user))
        .with_context(|| format!("cannot write {}", config.display()))?;
    let install = sh::run(
        sh::root_cmd("install")?
            .args(["-D", "--target-directory", SERVICE_FILES])
            .args([&binaries.lastbyte, &config]),
    );
    let traces = install.and_then(|()| {
        sh::run(
            sh::root_cmd("sh")?
                .args(["-euc", SERVICE])
                .arg(&binaries.confine)
                .arg(&unit)
                .arg(format!("{SERVICE_FILES}/lastbyte"))
                .arg(format!("{SERVICE_FILES}/lastbyte.toml")),
        )
        .context("lastbyte does not trace under the unit's restrictions")
    });
    sh::run(sh::root_cmd("rm")?.args(["-rf", SERVICE_FILES, SERVICE_STORE]))?;
    traces
}

pub fn vm_cases() -> Result<()> {
    vm::in_short()
}

/// Holds what the README claims against what has just been tried.
pub fn support() -> Result<()> {
    support::main(&support::Args { check: true })
}

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];
