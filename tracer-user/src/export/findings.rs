//! Findings as a table for people.

use super::{
    clock::{Clock, Zone},
    list::{command, lay_out},
    size::size,
};
use crate::model::{Found, HolderView, Kind, message::duration};

/// The column of how long it lasted.
const LASTED: usize = 1;

/// Lines of a table of findings, the first of them its head. `now` is wall clock, ns since 1970: how long
/// what is not resolved has lasted. `exact`: sizes in bytes.
#[must_use]
pub fn table(findings: &[Found], now: u64, zone: &Zone, exact: bool) -> Vec<String> {
    let head = [
        format!("OPENED ({})", zone.label(now)),
        "LASTED".to_owned(),
        "KIND".to_owned(),
        "ID".to_owned(),
        "USER".to_owned(),
        "FROM".to_owned(),
        "WHAT".to_owned(),
        "COMMAND".to_owned(),
    ];
    let rows: Vec<[String; 8]> = findings
        .iter()
        .map(|it| row(it, now, zone, exact))
        .collect();
    lay_out(&head, &rows, &[LASTED])
}

fn row(it: &Found, now: u64, zone: &Zone, exact: bool) -> [String; 8] {
    let clock = Clock {
        offset: it.wall_offset,
        zone: zone.clone(),
    };
    let session = &it.finding.session;
    let user = session.user.as_deref().map(str::to_owned);
    let peer = session.peer.map(|peer| peer.ip().to_string());
    [
        clock.recent(it.opened, now),
        lasted(it, now),
        it.finding.kind().name().to_owned(),
        it.name.clone(),
        user.or_else(|| session.uid.map(|uid| uid.to_string()))
            .unwrap_or_else(|| "?".to_owned()),
        peer.unwrap_or_else(|| "?".to_owned()),
        what(it, exact),
        command(session),
    ]
}

fn lasted(it: &Found, now: u64) -> String {
    match (it.finding.kind(), it.ended()) {
        // At one moment, and for good.
        (Kind::Truncated | Kind::NearMiss, _) => "-".to_owned(),
        (_, Some(ended)) => duration(ended.saturating_sub(it.opened)),
        (_, None) => {
            let now = now.wrapping_sub(it.wall_offset);
            format!("{} so far", duration(now.saturating_sub(it.opened)))
        }
    }
}

/// Bytes, causes, processes: what there is to it, in a few words.
fn what(it: &Found, exact: bool) -> String {
    let finding = &it.finding;
    let cause = finding.cause().map_or("", |cause| cause.name());
    let stream = finding.stream().map_or("", |slot| slot.name());
    match finding.kind() {
        Kind::Truncated => {
            let least = if finding.exact { "" } else { "at least " };
            format!(
                "{stream} {least}{} lost: {cause}",
                size(finding.bytes(), exact)
            )
        }
        Kind::NearMiss => format!("{stream} {}", size(finding.bytes(), exact)),
        Kind::Stalled => stream.to_owned(),
        Kind::Waiting => cause.to_owned(),
        Kind::Orphaned => holders(finding.holders()),
    }
}

fn holders(holders: &[HolderView]) -> String {
    match holders {
        [] => "-".to_owned(),
        [one] => format!("{} {}", one.comm, one.pid),
        [first, rest @ ..] => format!("{} {} and {} more", first.comm, first.pid, rest.len()),
    }
}
