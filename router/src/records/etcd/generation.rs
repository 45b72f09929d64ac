//! Which state of the records a copy is, and how two of them relate. Plain functions.

use serde::{Deserialize, Serialize};

/// Commits that a generation names: a copy that is farther behind is not compared but replaced.
const HISTORY: usize = 32;

/// One state of the records. Each commit makes the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Generation {
    /// Made when records begin; everything that follows from there has it.
    lineage: String,
    /// Made whenever they are put into an etcd that had lost them: then etcd counts anew.
    incarnation: String,
    number: u64,
    /// The last commits that led here, the newest last.
    commits: Vec<String>,
}

/// What a copy is to do about what etcd says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing: they are the same.
    Current,
    /// Take the changes since.
    Behind,
    /// Take everything: what changed since cannot be told.
    Replaced,
    /// Take everything, and keep aside what was here: somebody went on without it.
    Forked,
    /// Give what is here: etcd has lost it.
    Lost,
}

impl Generation {
    /// Begins with `n_records` that were there before.
    pub(super) fn begin(id: String, n_records: usize) -> Self {
        let commits = if n_records == 0 { Vec::new() } else { vec![id.clone()] };
        Self { lineage: id.clone(), incarnation: id, number: commits.len() as u64, commits }
    }

    pub(super) fn after(&self, commit: &str) -> Self {
        let mut next = self.clone();
        next.number += 1;
        next.commits.push(commit.to_owned());
        let n_old = next.commits.len().saturating_sub(HISTORY);
        next.commits.drain(..n_old);
        next
    }

    /// The same records in an etcd that had lost them.
    pub(super) fn restored(&self, incarnation: String) -> Self {
        Self { incarnation, ..self.clone() }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn has(&self, commit: &str) -> bool {
        self.commits.iter().any(|it| it == commit)
    }

    /// Whether it still names every commit that came after `before`.
    pub(super) fn remembers(&self, before: &Self) -> bool {
        self.number.saturating_sub(before.number) < HISTORY as u64
    }

    /// Whether `later` came from this, as far as can be told.
    fn led_to(&self, later: &Self) -> bool {
        if !later.remembers(self) {
            return true;
        }
        self.commits.last().is_none_or(|head| later.has(head))
    }
}

/// Compares a copy with what etcd says.
pub(super) fn standing(ours: Option<&Generation>, theirs: Option<&Generation>) -> Standing {
    let (ours, theirs) = match (ours, theirs) {
        (_, None) => return Standing::Lost,
        (None, Some(_)) => return Standing::Replaced,
        (Some(ours), Some(theirs)) => (ours, theirs),
    };
    if ours.lineage != theirs.lineage {
        return if ours.number == 0 { Standing::Replaced } else { Standing::Forked };
    }
    if theirs.number < ours.number {
        return if theirs.led_to(ours) { Standing::Lost } else { Standing::Forked };
    }
    if !ours.led_to(theirs) {
        return Standing::Forked;
    }
    if ours.incarnation != theirs.incarnation || !theirs.remembers(ours) {
        return Standing::Replaced;
    }
    if ours.number == theirs.number { Standing::Current } else { Standing::Behind }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(commits: &[&str]) -> Generation {
        let begin = Generation::begin("a".to_owned(), 0);
        commits.iter().fold(begin, |it, commit| it.after(commit))
    }

    #[track_caller]
    fn check(ours: &Generation, theirs: &Generation, expected: Standing) {
        assert_eq!(standing(Some(ours), Some(theirs)), expected);
    }

    #[test]
    fn a_copy_follows_what_came_from_it() {
        check(&of(&["1", "2"]), &of(&["1", "2"]), Standing::Current);
        check(&of(&["1"]), &of(&["1", "2", "3"]), Standing::Behind);
        check(&of(&[]), &of(&["1"]), Standing::Behind);
    }

    #[test]
    fn an_etcd_that_knows_nothing_or_less_has_lost_something() {
        assert_eq!(standing(None, None), Standing::Lost);
        assert_eq!(standing(Some(&of(&["1"])), None), Standing::Lost);
        check(&of(&["1", "2"]), &of(&["1"]), Standing::Lost);
        check(&of(&["1", "2"]), &of(&[]), Standing::Lost);
    }

    #[test]
    fn who_knows_nothing_takes_everything() {
        assert_eq!(standing(None, Some(&of(&["1"]))), Standing::Replaced);
        check(&Generation::begin("b".to_owned(), 0), &of(&["1"]), Standing::Replaced);
    }

    #[test]
    fn what_etcd_counts_anew_is_taken_as_a_whole() {
        let restored = of(&["1", "2"]).restored("again".to_owned());
        check(&of(&["1", "2"]), &restored, Standing::Replaced);
        check(&of(&["1"]), &restored.after("3"), Standing::Replaced);
    }

    #[test]
    fn two_that_went_on_apart_are_told_from_each_other() {
        check(&of(&["1", "x"]), &of(&["1", "2"]), Standing::Forked);
        check(&of(&["1", "x"]), &of(&["1", "2", "3"]), Standing::Forked);
        check(&of(&["1", "x", "y"]), &of(&["1", "2"]), Standing::Forked);
        check(&Generation::begin("b".to_owned(), 3), &of(&["1"]), Standing::Forked);
    }

    #[test]
    fn a_copy_that_is_far_behind_is_replaced() {
        let far = (0..2 * HISTORY).fold(of(&["1"]), |it, n| it.after(&n.to_string()));
        assert_eq!(far.commits.len(), HISTORY);
        check(&of(&["1"]), &far, Standing::Replaced);
        check(&far, &of(&["1"]), Standing::Lost);
    }
}
