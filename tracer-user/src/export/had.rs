//! What a session went through, in a few words.

use crate::model::{Episode, History, Kind, SessionView, message::duration};

/// `was orphaned 25.0 s and stalled 3 times, 12.1 s in all`; what still goes on lasts until `now`. `None`
/// when there was nothing. How long a session was orphaned is a lower bound if the exit of its command
/// was not seen.
#[must_use]
pub fn was<'a>(
    had: impl Iterator<Item = &'a Episode>,
    now: u64,
    session: &SessionView,
) -> Option<String> {
    let all: Vec<&Episode> = had.collect();
    let of_kind = |kind| {
        let times: Vec<u64> = all
            .iter()
            .filter(|it| it.kind == kind)
            .map(|it| it.duration(now))
            .collect();
        let total = duration(times.iter().copied().fold(0, u64::saturating_add));
        let least = match kind == Kind::Orphaned && session.exited.is_none() {
            true => "at least ",
            false => "",
        };
        let (kind, total) = (kind.name(), format!("{least}{total}"));
        match times.len() {
            0 => None,
            1 => Some(format!("{kind} {total}")),
            n => Some(format!("{kind} {n} times, {total} in all")),
        }
    };
    let kinds: Vec<String> = History::KINDS.into_iter().filter_map(of_kind).collect();
    (!kinds.is_empty()).then(|| format!("was {}", kinds.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tests::session;

    const S: u64 = 1_000_000_000;

    #[test]
    fn each_kind_once_with_how_long() {
        let episode = |kind, opened, resolved: Option<u64>| Episode {
            kind,
            cause: None,
            stream: None,
            opened: opened * S,
            resolved: resolved.map(|time| time * S),
            quiet: false,
        };
        let had = [
            episode(Kind::Stalled, 1, Some(3)),
            episode(Kind::Orphaned, 10, Some(35)),
            episode(Kind::Stalled, 40, None),
        ];
        let mut session = session();
        session.exited = Some(10 * S);
        assert_eq!(was([].iter(), 0, &session), None);
        assert_eq!(
            was(had[1..2].iter(), 0, &session).as_deref(),
            Some("was orphaned 25.0 s")
        );
        assert_eq!(
            was(had.iter(), 50 * S, &session).as_deref(),
            Some("was orphaned 25.0 s and stalled 2 times, 12.0 s in all")
        );
        session.exited = None;
        assert_eq!(
            was(had.iter(), 50 * S, &session).as_deref(),
            Some("was orphaned at least 25.0 s and stalled 2 times, 12.0 s in all")
        );
    }
}
