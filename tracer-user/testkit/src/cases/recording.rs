//! Recordings: how large they get, and that replay says the same.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::case::{Case, Class, Tier};
use crate::expect::{Bytes, Expect, Stream};
use crate::stage::{Stage, new_marker};
use crate::tracer::Tracer;
use crate::world::{
    BIG,
    Server::{Eager, OpenSsh},
};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "R1",
        title: "2 GiB make as many records as 2 MiB",
        class: Class::Recording,
        tier: Tier::Full,
        scenario: r1,
    },
    Case {
        id: "G1",
        title: "replay without privileges equals the live run",
        class: Class::Recording,
        tier: Tier::Full,
        scenario: g1,
    },
];

/// Records that may differ between two sessions that do the same: whether the reader or the writer
/// was faster at the end is chance.
const CHANCE: u64 = 8;

fn r1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    let mut expects = Vec::new();
    let mut counts = Vec::new();
    // Still far more than the records that are chance, where a gigabyte would take an hour.
    let bytes: u64 = if stage.slow() { 32 << 20 } else { 2 << 30 };
    for (name, size) in [("small", 2 << 20), ("large", bytes)] {
        let file = stage.setting.world.dir().join(format!("{name}.rec"));
        let tracer = record(stage, &file)?;
        let run = stage
            .run(OpenSsh, &format!("head -c {size} /dev/zero"))?
            .ended_with(0)?;
        ensure!(
            run.arrived.stdout == size,
            "{} of {size} B arrived",
            run.arrived.stdout
        );
        expects.push(
            run.clean()
                .exits(0)
                .counts(Stream::Stdout, Some(size), Some(size))
                .tolerate(&["stalled"]),
        );
        seen_to_end(stage, &tracer)?;
        stop(stage, tracer)?;
        counts.push(count(stage, &file)?);
    }
    let [small, large] = &counts[..] else {
        anyhow::bail!("two recordings were made")
    };
    let total = |kinds: &BTreeMap<String, u64>| kinds.values().sum::<u64>();
    stage.notes.push(format!(
        "{} records, {} of {bytes} B",
        total(small),
        total(large)
    ));
    ensure!(
        total(small) > 0 && total(large).abs_diff(total(small)) <= CHANCE,
        "2 MiB made {small:?}, {bytes} B {large:?}"
    );
    Ok(expects)
}

fn g1(stage: &mut Stage<'_>) -> anyhow::Result<Vec<Expect>> {
    says_what_it_wrote(stage)?;
    let file = stage
        .setting
        .world
        .dir()
        .join(format!("{}.rec", new_marker()));
    let tracer = record(stage, &file)?;
    let mut expects = Vec::new();
    expects.push(
        stage
            .run(OpenSsh, "echo hi; exit 3")?
            .ended_with(3)?
            .clean()
            .exits(3),
    );
    // Shorter than the grace time: it must not be flagged.
    expects.push(
        stage
            .run(OpenSsh, "sleep 0.3 &")?
            .ended_with(0)?
            .clean()
            .exits(0),
    );
    for _ in 0..4 {
        let run = stage.run(
            Eager,
            &format!("cat {}", stage.setting.world.big().display()),
        )?;
        let lost = BIG - run.arrived.stdout;
        let expect = run.clean();
        expects.push(match lost {
            0 => expect,
            lost => expect.cut(
                Stream::Stdout,
                &["server_closed_early"],
                Bytes::Exactly(lost),
            ),
        });
    }
    seen_to_end(stage, &tracer)?;
    let live = stop(stage, tracer)?;

    let (uid, gid) = stage.setting.world.ids();
    std::os::unix::fs::chown(&file, Some(uid), Some(gid))?;
    // A place where the other user may execute it.
    let binary = stage.setting.world.dir().join("lastbyte");
    fs::copy(stage.setting.lastbyte, &binary)?;
    let replay = Command::new(&binary)
        .args(["replay", "--json", "--all"])
        .arg(&file)
        .current_dir("/")
        .uid(uid)
        .gid(gid)
        .output()
        .context("cannot start the replay")?;
    ensure!(
        replay.status.success(),
        "replay: {}",
        String::from_utf8_lossy(&replay.stderr).trim_end()
    );
    let replayed = String::from_utf8_lossy(&replay.stdout);
    let mut lines = replayed.lines();
    for (number, line) in live.iter().enumerate() {
        let same = lines.next();
        ensure!(
            same == Some(line),
            "line {}: live {line}, replayed {same:?}",
            number + 1
        );
    }
    ensure!(
        lines.next().is_none(),
        "replay prints more than the {} lines of the live run",
        live.len()
    );
    stage.notes.push(format!("{} lines", live.len()));
    Ok(expects)
}

fn record(stage: &Stage<'_>, file: &Path) -> anyhow::Result<Tracer> {
    let setting = stage.setting;
    let file = file.to_str().context("the directory's name is no UTF-8")?;
    Tracer::start(
        setting.lastbyte,
        setting.backend,
        &["record", file],
        setting.patience,
    )
}

/// At its end `record` says what it wrote.
fn says_what_it_wrote(stage: &Stage<'_>) -> anyhow::Result<()> {
    let file = stage.setting.world.dir().join("brief.rec");
    let mut command = Command::new(stage.setting.lastbyte);
    command.arg("record").arg(&file).args(["--for", "500ms"]);
    if let Some(backend) = stage.setting.backend {
        command.args(["--backend", backend]);
    }
    let output = command.output().context("cannot run lastbyte record")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let wrote = format!("wrote {}: 0 sessions closed", file.display());
    ensure!(
        output.status.success() && said.contains(&wrote) && said.contains(" records, "),
        "record ends with {}: {said}",
        output.status
    );
    Ok(())
}

/// Waits until the recording tracer has seen every session end that the main one has seen begin.
fn seen_to_end(stage: &Stage<'_>, tracer: &Tracer) -> anyhow::Result<()> {
    tracer.wait_for(
        0,
        stage.setting.patience,
        "the recorder's session_closed",
        |events| {
            let count = |kind: &str| events.iter().filter(|event| event.is(kind)).count();
            let opened = count("session_opened");
            (opened > 0 && count("session_closed") == opened).then_some(())
        },
    )
}

/// Ends the recording; its lines of output.
fn stop(stage: &Stage<'_>, tracer: Tracer) -> anyhow::Result<Vec<String>> {
    let (status, events) = tracer.stop(stage.setting.patience)?;
    ensure!(status.success(), "the recording tracer ended with {status}");
    Ok(events.into_iter().map(|event| event.raw).collect())
}

/// Records by kind, without the samples: these come by time.
fn count(stage: &Stage<'_>, file: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let output = Command::new(stage.setting.lastbyte)
        .args(["replay", "--count"])
        .arg(file)
        .output()
        .context("cannot run lastbyte replay --count")?;
    ensure!(
        output.status.success(),
        "replay: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    let value: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("replay --count")?;
    let kinds = value["records"]
        .as_object()
        .context("replay --count has no `records`")?;
    Ok(kinds
        .iter()
        .filter(|(kind, _)| *kind != "sample")
        .filter_map(|(kind, count)| Some((kind.clone(), count.as_u64()?)))
        .collect())
}
