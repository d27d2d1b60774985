//! What a backend cannot see, though the case passes: the cases ask less of it there.

/// Cases of which a backend cannot see all.
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    /// As lastbyte's `--backend` spells it.
    pub backend: &'static str,
    /// The cases.
    pub cases: &'static [&'static str],
    /// What is not seen, and why.
    pub reason: &'static str,
}

/// All that is known.
pub const HOLES: &[Hole] = &[Hole {
    backend: "syscall",
    cases: &["T7a", "T7b", "T7c", "T10", "T12a"],
    reason: "the release of a pipe is seen only as the exit that causes it: while somebody can \
                 still write, the count is right but \"at least\"",
}];

/// Why `backend` does not see all of `case`; `None` when it does.
#[must_use]
pub fn reason(backend: &str, case: &str) -> Option<&'static str> {
    HOLES
        .iter()
        .find(|hole| hole.backend == backend && hole.cases.contains(&case))
        .map(|hole| hole.reason)
}

#[cfg(test)]
mod tests {
    use super::HOLES;

    #[test]
    fn a_hole_is_in_a_case_that_exists() {
        let all = crate::cases::all();
        for case in HOLES.iter().flat_map(|hole| hole.cases) {
            assert!(
                all.iter().any(|one| one.id == *case),
                "there is no case {case}"
            );
        }
    }
}
