//! The processes of a session as a tree.

use crate::model::timeline::{Life, Timeline};

/// The processes that had begun by `now`, with their depth, children below their parents.
pub(super) fn tree(line: &Timeline, now: u64) -> Vec<(usize, &Life)> {
    let lives: Vec<&Life> = line
        .processes
        .iter()
        .filter(|life| life.began <= now)
        .collect();
    // Pids are reused: the parent is the process that had the pid when the child began.
    let parent = |child: &Life| {
        lives.iter().rposition(|other| {
            other.pid == child.parent
                && other.began <= child.began
                && other.ended.is_none_or(|ended| ended >= child.began)
                && !std::ptr::eq(*other, child)
        })
    };
    let parents: Vec<Option<usize>> = lives.iter().map(|life| parent(life)).collect();
    let mut out = Vec::with_capacity(lives.len());
    let mut stack: Vec<(usize, usize)> = roots(&parents).rev().map(|at| (0, at)).collect();
    while let Some((depth, at)) = stack.pop() {
        out.push((depth, lives[at]));
        let children = (0..lives.len())
            .rev()
            .filter(|child| parents[*child] == Some(at));
        stack.extend(children.map(|child| (depth + 1, child)));
        if out.len() > lives.len() {
            break;
        }
    }
    out
}

fn roots(parents: &[Option<usize>]) -> impl DoubleEndedIterator<Item = usize> + '_ {
    let all = parents.iter().enumerate();
    all.filter(|(_, parent)| parent.is_none()).map(|(at, _)| at)
}
