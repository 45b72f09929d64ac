//! Which state of the records a copy is, and how two of them relate. Plain functions.

use serde::{Deserialize, Deserializer, Serialize, de};

/// Commits that a generation names: how a copy that is farther behind relates to it cannot be told.
const HISTORY: usize = 32;

/// Commits that are believed: ten thousand a second for a century are fewer. A larger number was written
/// by hand; taken, it would be the newest for ever.
const MAX_NUMBER: u64 = 1 << 45;

/// One state of the records. Each commit makes the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Generation {
    /// Made when records begin; everything that follows from there has it.
    lineage: String,
    /// Made whenever they are put into an etcd that had lost them: then etcd counts anew.
    incarnation: String,
    #[serde(deserialize_with = "number")]
    number: u64,
    /// The last commits that led here, the newest last.
    commits: Vec<String>,
    /// Whether all of them were seeds, which every router has in a file and puts there again: then
    /// nothing is lost with it.
    #[serde(default)]
    has_seeds_alone: bool,
}

/// What a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody asked for it.
    Change,
    /// It is in a router's file of endpoints.
    Seed,
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
    /// The same, because so much was written since that it cannot be told whether somebody did.
    Distant,
    /// Give what is here: etcd has lost it.
    Lost,
}

impl Generation {
    /// Begins with `n_records` that were there before.
    pub(super) fn begin(id: String, n_records: usize) -> Self {
        let commits = if n_records == 0 { Vec::new() } else { vec![id.clone()] };
        Self {
            lineage: id.clone(),
            incarnation: id,
            number: commits.len() as u64,
            has_seeds_alone: commits.is_empty(),
            commits,
        }
    }

    /// Returns the state after a commit; `None`: there have been more than can be counted.
    pub(super) fn after(&self, commit: &str, kind: Kind) -> Option<Self> {
        let mut next = self.clone();
        next.number = self.number.checked_add(1).filter(|it| *it <= MAX_NUMBER)?;
        next.has_seeds_alone &= kind == Kind::Seed;
        next.commits.push(commit.to_owned());
        let n_old = next.commits.len().saturating_sub(HISTORY);
        next.commits.drain(..n_old);
        Some(next)
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

    /// Whether `later` came from this, as far as it remembers.
    fn led_to(&self, later: &Self) -> bool {
        !later.remembers(self) || self.commits.last().is_none_or(|head| later.has(head))
    }
}

/// Reads a number of commits, and refuses one that nothing could follow.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if number > MAX_NUMBER {
        return Err(de::Error::custom(format!("{number} commits were never made")));
    }
    Ok(number)
}

/// Compares a copy with what etcd says.
pub(super) fn standing(ours: Option<&Generation>, theirs: Option<&Generation>) -> Standing {
    let (ours, theirs) = match (ours, theirs) {
        (_, None) => return Standing::Lost,
        (None, Some(_)) => return Standing::Replaced,
        (Some(ours), Some(theirs)) => (ours, theirs),
    };
    if ours.lineage != theirs.lineage {
        return match (ours.has_seeds_alone, theirs.has_seeds_alone) {
            (true, _) => Standing::Replaced,
            // Begun by a router that had no records, before this one was there.
            (false, true) => Standing::Lost,
            (false, false) => Standing::Forked,
        };
    }
    if theirs.number < ours.number {
        return if theirs.led_to(ours) { Standing::Lost } else { Standing::Forked };
    }
    if !ours.led_to(theirs) {
        return Standing::Forked;
    }
    if !theirs.remembers(ours) {
        return Standing::Distant;
    }
    if ours.incarnation != theirs.incarnation {
        return Standing::Replaced;
    }
    if ours.number == theirs.number { Standing::Current } else { Standing::Behind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(commits: &[&str]) -> Generation {
        let begin = Generation::begin("a".to_owned(), 0);
        commits.iter().fold(begin, |it, commit| after(&it, commit, Kind::Change))
    }

    fn after(generation: &Generation, commit: &str, kind: Kind) -> Generation {
        generation.after(commit, kind).unwrap()
    }

    fn of_many(n: usize) -> Generation {
        (0..n).fold(of(&[]), |it, n| after(&it, &n.to_string(), Kind::Change))
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
    fn a_router_without_records_that_came_first_does_not_beat_one_that_has_them() {
        let fresh = Generation::begin("b".to_owned(), 0);
        check(&of(&["1"]), &fresh, Standing::Lost);
        let seeded = after(&after(&fresh, "seed", Kind::Seed), "another", Kind::Seed);
        check(&of(&["1"]), &seeded, Standing::Lost);
        check(&seeded, &of(&["1"]), Standing::Replaced);
        check(&fresh, &Generation::begin("c".to_owned(), 0), Standing::Replaced);
        // What somebody asked for stays, also if more seeds follow.
        let changed = after(&after(&seeded, "x", Kind::Change), "seed", Kind::Seed);
        check(&of(&["1"]), &changed, Standing::Forked);
        check(&changed, &of(&["1"]), Standing::Forked);
    }

    #[test]
    fn what_etcd_counts_anew_is_taken_as_a_whole() {
        let restored = of(&["1", "2"]).restored("again".to_owned());
        check(&of(&["1", "2"]), &restored, Standing::Replaced);
        check(&of(&["1"]), &after(&restored, "3", Kind::Change), Standing::Replaced);
    }

    #[test]
    fn two_that_went_on_apart_are_told_from_each_other() {
        check(&of(&["1", "x"]), &of(&["1", "2"]), Standing::Forked);
        check(&of(&["1", "x"]), &of(&["1", "2", "3"]), Standing::Forked);
        check(&of(&["1", "x", "y"]), &of(&["1", "2"]), Standing::Forked);
        check(&Generation::begin("b".to_owned(), 3), &of(&["1"]), Standing::Forked);
    }

    #[test]
    fn a_copy_that_is_so_old_that_it_may_be_a_fork_is_not_thrown_away() {
        let far = of_many(2 * HISTORY);
        assert_eq!(far.commits.len(), HISTORY);
        check(&of(&["0"]), &far, Standing::Distant);
        check(&of(&["x"]), &far, Standing::Distant);
        check(&far, &of(&["0"]), Standing::Lost);
    }

    #[test]
    fn a_number_that_somebody_wrote_ends_no_router() {
        let read = |number: u64| {
            let mut text = serde_json::to_value(of(&["1"])).unwrap();
            text["number"] = number.into();
            serde_json::from_value::<Generation>(text)
        };
        let error = read(u64::MAX).unwrap_err();
        assert!(error.to_string().contains("commits were never made"), "{error}");
        assert!(read(MAX_NUMBER + 1).is_err());
        let last = read(MAX_NUMBER).unwrap();
        assert_eq!(last.after("2", Kind::Change), None, "nobody could read it");
        let before = read(MAX_NUMBER - 1).unwrap();
        assert_eq!(after(&before, "2", Kind::Change).number(), last.number());
    }

    proptest! {
        /// Of two histories with a common start, the one that would be overwritten is never one that
        /// has something of its own.
        #[test]
        fn nothing_that_somebody_asked_for_is_thrown_away(
            common in 0..50_usize, ours in 0..50_usize, theirs in 0..50_usize,
        ) {
            let go_on = |name: &str, n: usize| (0..n).fold(of_many(common), |it, n| {
                after(&it, &format!("{name}{n}"), Kind::Change)
            });
            let (our, their) = (go_on("a", ours), go_on("b", theirs));
            let is_kept = match standing(Some(&our), Some(&their)) {
                Standing::Current | Standing::Behind | Standing::Replaced => ours == 0,
                Standing::Lost => theirs == 0 || !our.remembers(&their),
                Standing::Forked => ours > 0 && theirs > 0,
                Standing::Distant => true,
            };
            prop_assert!(is_kept, "{:?}", standing(Some(&our), Some(&their)));
        }
    }
}
