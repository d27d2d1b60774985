//! Servers that give the command no stdin, and streams that somebody else reads.

use std::fs::File;
use std::io::Read as _;

use anyhow::ensure;

use super::truncated::until_lost_with;
use crate::case::{Case, Class, Tier};
use crate::expect::{Bytes, Expect, Stream};
use crate::procs::{leader, quiescent, server_end};
use crate::stage::{Stage, new_marker};
use crate::sys;
use crate::world::BIG;
use crate::world::Server::{self, DrainNoStdin, DrainOnePipe, EagerNoStdin, EagerOnePipe, OpenSsh};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "E2",
        title: "no stdin: sessions that lose nothing",
        class: Class::Clean,
        tier: Tier::Chosen,
        scenario: |stage| nothing_lost(stage, DrainNoStdin),
    },
    Case {
        id: "E3",
        title: "no stdin, one pipe for both outputs: nothing lost",
        class: Class::Clean,
        tier: Tier::Full,
        scenario: |stage| nothing_lost(stage, DrainOnePipe),
    },
    Case {
        id: "T0n",
        title: "eager server without stdin: cat of 4 MB",
        class: Class::Truncated,
        tier: Tier::Chosen,
        scenario: |stage| until_lost_with(stage, EagerNoStdin, "", |_| {}),
    },
    Case {
        id: "T0p",
        title: "eager server, no stdin, one pipe: cat of 4 MB",
        class: Class::Truncated,
        tier: Tier::Full,
        scenario: |stage| until_lost_with(stage, EagerOnePipe, "", |_| {}),
    },
    Case {
        id: "T27",
        title: "another process reads the command's output",
        class: Class::Truncated,
        tier: Tier::Full,
        scenario: |stage| Ok(vec![taken(stage, 60_000, 38_019)?]),
    },
];

fn nothing_lost(stage: &mut Stage<'_>, server: Server) -> anyhow::Result<Vec<Expect>> {
    let big = stage.setting.world.big();
    let whole = stage
        .run(server, &format!("cat {}", big.display()))?
        .ended_with(0)?;
    let line = stage.run(server, "echo hi")?.ended_with(0)?;
    let silent = stage.run(server, "exit 3")?.ended_with(3)?;
    ensure!(
        line.arrived.stdout == 3,
        "{} B arrived",
        line.arrived.stdout
    );
    Ok(vec![
        whole.whole(BIG)?,
        line.clean()
            .exits(0)
            .counts(Stream::Stdout, Some(3), Some(3)),
        silent.clean().exits(3),
    ])
}

/// Reads `taken` of `written` bytes through /proc before the server can, which is stopped.
///
/// # Errors
/// When the scenario does not work out.
pub(crate) fn taken(stage: &Stage<'_>, written: u64, taken: usize) -> anyhow::Result<Expect> {
    let patience = stage.setting.patience;
    let gate = stage.setting.world.fifo(&new_marker())?;
    let (open, big) = (gate.display(), stage.setting.world.big());
    let command = format!("cat {open}; head -c {written} {}; sleep 1", big.display());
    let started = stage.start(OpenSsh, &command)?;
    let leader = leader(&started.marker, patience)?;
    let end = server_end(leader.parent, leader.pid, 1)?;
    sys::kill(leader.parent, libc::SIGSTOP)?;
    // Opening the gate lets `cat` go on, closing it at once ends it.
    drop(File::create(&gate)?);
    let read = quiescent(&end, patience, |bytes| bytes == written).and_then(|_| {
        File::open(format!("/proc/{}/fd/1", leader.pid))?.read_exact(&mut vec![0; taken])?;
        Ok(())
    });
    sys::kill(leader.parent, libc::SIGCONT)?;
    read?;
    let run = started.finish(patience)?.ended_with(0)?;
    let taken = u64::try_from(taken)?;
    ensure!(
        run.arrived.stdout == written - taken,
        "{} B arrived",
        run.arrived.stdout
    );
    let expect = run.clean().exits(0);
    let expect = expect.cut(Stream::Stdout, &["taken"], Bytes::Equal(taken));
    Ok(match stage.setting.tracer.backend().as_str() {
        // It sees a read only where the reader's descriptor is known to be the stream's.
        "syscall" => expect.lacking(),
        _ => expect,
    })
}
