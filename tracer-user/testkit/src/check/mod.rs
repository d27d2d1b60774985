//! Compares what the tracer said with what is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::Event;
use crate::expect::{Bytes, Expect, Holders, Who};
use crate::world::{Server, USER};

/// Says everything that is wrong with `events`, given that exactly the sessions of `expects` ran
/// while they were printed. Nothing wrong: nothing said.
#[must_use]
pub fn window(events: &[Event], expects: &[Expect]) -> Vec<String> {
    let mut problems = Vec::new();
    for event in events.iter().filter(|event| event.is("gap")) {
        // Sessions that began before the tracer are other people's; its own start says so late.
        let allowed = match event.value["reason"].as_str() {
            Some("preexisting") => true,
            Some("lost_records") => expects.iter().all(|expect| expect.may_lack),
            _ => false,
        };
        if allowed {
            continue;
        }
        problems.push(format!("gap: {}", event.raw));
    }
    let mut unclaimed = sessions(events);
    let mut claim = |wanted: &dyn Fn(&[&Event]) -> bool| {
        let at = unclaimed.iter().position(|(_, own)| wanted(own))?;
        Some(unclaimed.remove(at))
    };
    // Marked ones first: what is left can then only belong to the unmarked ones.
    let (marked, unmarked): (Vec<_>, Vec<_>) = expects
        .iter()
        .partition(|expect| matches!(expect.who, Who::Marked(_)));
    for expect in marked.into_iter().chain(unmarked) {
        let found = match &expect.who {
            Who::Marked(marker) => claim(&|own| {
                own.iter()
                    .any(|event| event.command().contains(marker.as_str()))
            }),
            Who::Unmarked => claim(&|_| true),
        };
        match found {
            Some((id, own)) => {
                let label = match &expect.who {
                    Who::Marked(marker) => marker.as_str(),
                    Who::Unmarked => "unmarked",
                };
                problems.extend(
                    session(&own, expect)
                        .into_iter()
                        .map(|one| format!("{label} ({id}): {one}")),
                );
            }
            None => problems.push(format!("no session for {:?}", expect.who)),
        }
    }
    for (id, own) in unclaimed {
        let command = own
            .iter()
            .map(|event| event.command())
            .find(|command| !command.is_empty());
        problems.push(format!(
            "unexpected session {id}, command {:?}",
            command.unwrap_or("")
        ));
    }
    problems
}

/// The events about each session, in order of the sessions' appearance.
fn sessions(events: &[Event]) -> Vec<(&str, Vec<&Event>)> {
    let mut places = BTreeMap::new();
    let mut sessions: Vec<(&str, Vec<&Event>)> = Vec::new();
    for event in events {
        let Some(id) = event.session() else { continue };
        let place = *places.entry(id).or_insert(sessions.len());
        match sessions.get_mut(place) {
            Some((_, own)) => own.push(event),
            None => sessions.push((id, vec![event])),
        }
    }
    sessions
}

fn session(events: &[&Event], expect: &Expect) -> Vec<String> {
    let mut problems = Vec::new();
    if !events.iter().any(|event| event.is("session_opened")) {
        problems.push("events, but no session_opened".to_owned());
    }
    let closed: Vec<&&Event> = events
        .iter()
        .filter(|event| event.is("session_closed"))
        .collect();
    match closed[..] {
        [last] => {
            if let Some(after) = events
                .iter()
                .skip_while(|event| !event.is("session_closed"))
                .nth(1)
            {
                problems.push(format!("after session_closed: {}", after.raw));
            }
            if expect.may_lack && last.verdict() == "unknown" && last.value["gap"] == true {
                // Nothing wrong may be said all the same.
                let accused = events.iter().any(|event| event.finds("truncated"));
                if accused && expect.cuts.is_empty() {
                    problems.push("nothing was lost, yet reported".to_owned());
                }
                return problems;
            }
            last_word(last, expect, &mut problems);
        }
        [] => problems.push("never closed".to_owned()),
        _ => problems.push(format!("closed {} times", closed.len())),
    }
    truncated(events, expect, &mut problems);
    orphaned(events, expect, &mut problems);
    for event in events.iter().filter(|event| event.is("finding")) {
        let kind = event.finding();
        let judged = ["near_miss", "truncated", "orphaned"].contains(&kind);
        let foreseen = expect.tolerated.contains(&kind) || expect.required.contains(&kind);
        if !judged && !foreseen {
            problems.push(format!("unexpected {kind}: {}", event.raw));
        }
    }
    for kind in expect.required {
        let states: Vec<&str> = events
            .iter()
            .filter(|event| event.finds(kind))
            .map(|event| event.state())
            .collect();
        if states.first() != Some(&"open") || states.last() != Some(&"resolved") {
            problems.push(format!(
                "{kind} must open and be resolved, its states: {states:?}"
            ));
        }
    }
    problems
}

fn last_word(event: &Event, expect: &Expect, problems: &mut Vec<String>) {
    let lost = event
        .streams()
        .iter()
        .any(|stream| stream.verdict == "truncated");
    match event.verdict() {
        "truncated" if lost => {}
        "clean" | "near_miss" if !lost => {}
        other => problems.push(format!(
            "session verdict {other:?} does not follow from its streams"
        )),
    }
    let gap = event.value["gap"].as_bool() != Some(false);
    if gap && !expect.may_lack {
        problems.push("gap on a session that was seen whole".to_owned());
    }
    for stream in event.streams() {
        let cut = expect
            .cuts
            .iter()
            .find(|cut| cut.stream.name() == stream.stream);
        let fine = match (stream.verdict.as_str(), cut) {
            ("clean" | "near_miss", Some(cut)) => !cut.certain,
            ("clean" | "near_miss", None) => true,
            ("truncated", Some(cut)) => cut.causes.contains(&stream.cause.as_str()),
            // What one stream is known to have lost does not make up for what is not known of another.
            ("unknown", _) => gap && expect.may_lack,
            _ => false,
        };
        if !fine {
            problems.push(format!(
                "{} is {} {}",
                stream.stream, stream.verdict, stream.cause
            ));
        }
    }
    for ledger in &expect.ledgers {
        let Some(stream) = event
            .streams()
            .into_iter()
            .find(|one| one.stream == ledger.stream.name())
        else {
            problems.push(format!("the last word does not mention {}", ledger.stream));
            continue;
        };
        let unsure = expect
            .cuts
            .iter()
            .any(|cut| cut.stream == ledger.stream && !matches!(cut.bytes, Bytes::Exactly(_)));
        let lacks = gap && !stream.exact;
        if !stream.exact && !unsure && !lacks {
            problems.push(format!("counts of {} are not exact", ledger.stream));
        }
        for (what, wanted, said) in [
            ("written", ledger.written, stream.written),
            ("read", ledger.read, stream.read),
        ] {
            if wanted.is_some() && said != wanted && !lacks {
                problems.push(format!(
                    "{}: {what} {said:?}, in truth {wanted:?}",
                    ledger.stream
                ));
            }
        }
    }
    if let Some((key, value)) = expect.exit
        && event
            .value
            .pointer(&format!("/session/leader/exit/{key}"))
            .and_then(serde_json::Value::as_i64)
            != Some(value)
    {
        let said = event.value.pointer("/session/leader/exit");
        problems.push(format!("leader's exit is {said:?}, in truth {key} {value}"));
    }
    identity(event, expect, problems);
}

fn identity(event: &Event, expect: &Expect, problems: &mut Vec<String>) {
    let text = |pointer: &str| {
        event
            .value
            .pointer(pointer)
            .and_then(serde_json::Value::as_str)
    };
    if text("/session/user") != Some(USER) {
        problems.push(format!(
            "user is {:?}, in truth {USER}",
            text("/session/user")
        ));
    }
    let (names, peer_known): (&[&str], bool) = match expect.server {
        Server::OpenSsh | Server::OpenSshInternal => (&["sshd", "sshd-session"], true),
        Server::Dropbear => (&["dropbear"], true),
        Server::Own => (&["sshd"], false),
        // One process serves all connections: which one a session belongs to need not be known.
        _ => (&["eager"], false),
    };
    let exe = text("/session/server/exe").unwrap_or("");
    if !names.contains(&exe.rsplit('/').next().unwrap_or(exe)) {
        problems.push(format!("server is {exe:?}, in truth one of {names:?}"));
    }
    let owner = event.value.pointer("/session/server/owner");
    let owned = owner.is_some_and(serde_json::Value::is_u64);
    if owned != (expect.server == Server::Own) {
        problems.push(format!("the server's program belongs to {owner:?}"));
    }
    let peer = text("/session/peer");
    let address =
        |peer: &str| peer.rsplit_once(':').map(|(address, _)| address) == Some(expect.peer);
    if peer_known && !peer.is_some_and(address) {
        problems.push(format!("peer is {peer:?}, in truth {}", expect.peer));
    }
}

fn truncated(events: &[&Event], expect: &Expect, problems: &mut Vec<String>) {
    let mut reported = BTreeSet::new();
    for event in events.iter().filter(|event| event.finds("truncated")) {
        let said = format!("{} {} {:?} B", event.stream(), event.cause(), event.bytes());
        if event.state() != "open" {
            problems.push(format!("truncated in state {:?}", event.state()));
        }
        if !reported.insert(event.stream()) {
            problems.push(format!("a second loss on one stream: {said}"));
        }
        let Some(cut) = expect
            .cuts
            .iter()
            .find(|cut| cut.stream.name() == event.stream())
        else {
            problems.push(format!("nothing was lost, yet reported: {said}"));
            continue;
        };
        if !cut.causes.contains(&event.cause()) {
            problems.push(format!(
                "loss reported as {said}, in truth {:?}",
                cut.causes
            ));
        }
        let exact = event.value["exact"].as_bool().unwrap_or(false);
        if !cut.bytes.agrees(event.bytes(), exact) {
            problems.push(format!(
                "loss reported as {said}, exact {exact}, in truth {:?}",
                cut.bytes
            ));
        }
    }
    for cut in expect.cuts.iter().filter(|cut| cut.certain) {
        if !reported.contains(cut.stream.name()) {
            problems.push(format!(
                "loss not reported: {} {:?} {:?}",
                cut.stream, cut.causes, cut.bytes
            ));
        }
    }
}

fn orphaned(events: &[&Event], expect: &Expect, problems: &mut Vec<String>) {
    let findings: Vec<&&Event> = events
        .iter()
        .filter(|event| event.finds("orphaned"))
        .collect();
    let Some(truth) = &expect.holders else {
        if expect.tolerated.contains(&"orphaned") {
            return;
        }
        problems.extend(
            findings
                .iter()
                .map(|event| format!("unexpected orphaned: {}", event.raw)),
        );
        return;
    };
    let Some((first, last)) = findings.first().zip(findings.last()) else {
        problems.push(format!("not reported: held by {truth:?}"));
        return;
    };
    if first.state() != "open" {
        problems.push(format!("orphaned begins in state {:?}", first.state()));
    }
    if last.state() != "resolved" || last.holders().is_empty() {
        problems.push(format!(
            "orphaned ends in state {:?} with {:?}",
            last.state(),
            last.holders()
        ));
    }
    if !findings
        .iter()
        .filter(|event| event.state() != "resolved")
        .any(|event| same_holders(&event.holders(), truth))
    {
        let said: Vec<Holders> = findings.iter().map(|event| event.holders()).collect();
        problems.push(format!("holders reported as {said:?}, in truth {truth:?}"));
    }
    for event in findings {
        for stranger in event
            .holders()
            .keys()
            .filter(|pid| !truth.contains_key(pid))
        {
            problems.push(format!(
                "pid {stranger} is called a holder, in truth {truth:?}"
            ));
        }
    }
}

/// Equal, except that a copy of stdin's end (fd 0) may be named too.
#[must_use]
pub fn same_holders(said: &Holders, truth: &Holders) -> bool {
    said.len() == truth.len()
        && said.iter().all(|(pid, fds)| {
            truth.get(pid).is_some_and(|true_fds| {
                true_fds.is_subset(fds) && fds.difference(true_fds).all(|&fd| fd == 0)
            })
        })
}

#[cfg(test)]
mod tests;
