//! The stages of `cargo xtask test`.

use anyhow::{Context as _, Result, bail};

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
                // The versions are the same, so dependencies are checked once for both.
                .arg("--target-dir")
                .arg(paths::cargo_target())
                .args(DENY_WARNINGS),
        )?;
    }
    Ok(())
}

/// The eBPF program cannot be built for the host, so it is checked for BPF, with `core` from source:
/// stable rustc does that only with RUSTC_BOOTSTRAP.
pub fn clippy_ebpf() -> Result<()> {
    sh::run(
        sh::cargo()
            .args(["clippy", "--package", "tracer-ebpf", "--features", "ebpf"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
            .args(DENY_WARNINGS)
            .env("RUSTC_BOOTSTRAP", "1"),
    )
}

/// Warnings of rustdoc, such as links that lead nowhere. It shares what clippy has built.
pub fn docs() -> Result<()> {
    sh::run(
        sh::cargo()
            .args(["doc", "--quiet", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
}

/// Tests that cannot run say so on stderr. As root each of them can.
pub fn unit_tests() -> Result<()> {
    let tests = &mut sh::cargo();
    tests.args(["test", "--quiet", "--workspace"]);
    let skipped = sh::run_collecting(tests, "skipped: ")?;
    println!("{} tests skipped", skipped.len());
    if sh::is_root()? && !skipped.is_empty() {
        bail!("no test may be skipped as root:\n{}", skipped.join("\n"));
    }
    Ok(())
}

/// Waits for the network more than it computes, so it runs beside other stages, and in silence.
pub fn dependencies() -> Result<()> {
    let deny = paths::tool("cargo-deny");
    for workspace in [paths::workspace(), &fuzz::project()] {
        sh::quietly(
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
    sh::quietly(sh::cmd(&deny).args(["check", "--disable-fetch", "advisories"]))
        .context("a dependency has a known vulnerability")
}

/// Optimised, and static where VMs are supported: one build then serves them and this machine.
pub fn build() -> Result<Binaries> {
    match vm::SUPPORTED {
        true => build::static_with_testkit(Arch::X86_64),
        false => build::with_testkit(),
    }
}

pub fn native_cases(binaries: &Binaries) -> Result<()> {
    cases::native(binaries, &[])
}

/// The same sessions each time, so that a failure can be reproduced. `cargo xtask cases -- --random 200`
/// draws others.
pub fn random_sessions(binaries: &Binaries) -> Result<()> {
    cases::native(
        binaries,
        &["--random", "200", "--seed", "1"].map(Into::into),
    )
}

/// A daemon under load, and clients that misbehave. For half an hour: `cargo xtask cases -- --soak 1800`.
/// Memory does not settle in so short a time, so it may grow more.
pub fn soak(binaries: &Binaries) -> Result<()> {
    cases::native(
        binaries,
        &["--soak", "120", "--growth", "20"].map(Into::into),
    )
}

/// The highest exposure that `systemd-analyze security` may report for the service, in tenths.
const EXPOSURE: &str = "30";

/// The user that the service becomes: where lastbyte is installed, its directory belongs to that user.
const USERS: [&str; 2] = ["lastbyte", "nobody"];
/// The service's store: where its unit may write, apart from the store of an installed service.
const SERVICE_STORE: &str = "/var/lib/lastbyte/test";

/// What differs from a real service: its user, and the path of its socket, as no systemd passes one. The
/// socket's group is one that every machine has: the group `lastbyte` exists only where lastbyte is installed.
fn service_config(user: &str) -> String {
    format!(
        "user = {user:?}\n\
         [socket]\npath = \"/tmp/lastbyte.sock\"\ngroup = \"daemon\"\n\
         [store]\ndir = {SERVICE_STORE:?}\n\
         [tracing]\npins = \"\"\n"
    )
}

/// `$0` runs `$2`, lastbyte, under the restrictions of the unit `$1`; `$3` is its configuration. It must
/// trace, store, admit the group, and end on SIGTERM.
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

/// Where the test puts the service's files: the unit hides home directories and /tmp, where the project
/// may be.
const SERVICE_FILES: &str = "/var/lib/lastbyte.test";

/// The files for systemd: systemd accepts them, the service's exposure is low, and tracing works under
/// its restrictions.
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

    let exists = |user: &&&str| sh::quietly(sh::cmd("id").arg(user)).is_ok();
    let user = USERS
        .iter()
        .find(exists)
        .context("there is no user nobody")?;
    // As systemd-tmpfiles creates it where lastbyte is installed.
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
    let traced = install.and_then(|()| {
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
    traced
}

pub fn vm_cases() -> Result<()> {
    vm::in_short()
}

/// Compares what the README claims with the results of this run.
pub fn support() -> Result<()> {
    support::main(&support::Args { check: true })
}

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];
