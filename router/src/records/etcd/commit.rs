//! Makes a change in etcd, once, and finds out whether it was made.

use super::{
    Shared,
    copy::new_id,
    generation::{Generation, Kind},
    understood, unreadable,
};
use crate::records::{RecordsError, Write};
use shared::{
    backoff::Backoff,
    etcd::{EtcdError, Guard, Operation, Transacted, Transaction},
    telemetry::Chain,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// How long it is found out what became of a commit.
const PATIENCE: Duration = Duration::from_secs(4);

/// Between the attempts to find out.
const AGAIN: Backoff = Backoff { base: Duration::from_millis(50), max: Duration::from_millis(500) };

/// What an attempt to commit tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Made,
    /// Not made, and this was the only attempt.
    Conflict,
    /// The same, for good.
    Refused,
    /// The generation is another. That may be by an attempt of ours of which nothing was heard.
    Look,
    Again,
    Unknown,
}

fn verdict(
    attempt: &Result<Transacted, EtcdError>,
    n_before: u32,
    since_first: Duration,
) -> Verdict {
    match attempt {
        Ok(done) if done.is_done => Verdict::Made,
        Ok(_) if n_before == 0 => Verdict::Conflict,
        Ok(_) => Verdict::Look,
        // After an attempt of which nothing was heard, whatever is said of another says nothing of it.
        Err(error) if error.is_definite() && n_before == 0 => Verdict::Refused,
        Err(_) if since_first >= PATIENCE => Verdict::Unknown,
        Err(_) => Verdict::Again,
    }
}

impl Shared {
    pub(super) async fn commit(&self, writes: &[Write], kind: Kind) -> Result<(), RecordsError> {
        let mut copy = self.copy.lock().await;
        let before = copy.generation.clone().ok_or(RecordsError::Lost)?;
        let commit = new_id();
        let next = before.after(&commit, kind).ok_or_else(|| {
            unreadable(&self.etcd.address().generation(), "more commits than can be counted")
        })?;
        let transaction = self.transaction(writes, &next, copy.generation_revision);
        let started = Instant::now();
        let mut n_before = 0;
        loop {
            let attempt = self.etcd.transact(transaction.clone()).await;
            let verdict = verdict(&attempt, n_before, started.elapsed());
            match (verdict, attempt) {
                (Verdict::Made, Ok(Transacted { revision, .. })) => {
                    copy.generation_revision = revision;
                    copy.take(writes, next, revision);
                    return Ok(());
                }
                (Verdict::Look, _) => return self.outcome(&commit, &before).await,
                (Verdict::Again, _) => sleep(AGAIN.delay(n_before)).await,
                (Verdict::Refused, Err(error)) => return Err(error.into()),
                (Verdict::Unknown, Err(error)) => {
                    warn!(error = %Chain(&error), "it is not known whether a change was made");
                    copy.failed_at = Some(Instant::now());
                    return Err(RecordsError::Unknown);
                }
                _ => return Err(RecordsError::Conflict),
            }
            n_before += 1;
        }
    }

    /// Returns what became of a commit after which the generation is another.
    async fn outcome(&self, commit: &str, before: &Generation) -> Result<(), RecordsError> {
        let entry = self.etcd.get(&self.etcd.address().generation()).await;
        let theirs = entry.ok().flatten().and_then(|it| understood(&it).ok());
        match theirs {
            // The copy is of before: it follows with the next refresh.
            Some(theirs) if theirs.has(commit) => Ok(()),
            Some(theirs) if theirs.remembers(before) => Err(RecordsError::Conflict),
            _ => Err(RecordsError::Unknown),
        }
    }

    fn transaction(&self, writes: &[Write], next: &Generation, revision: i64) -> Transaction {
        let address = self.etcd.address();
        let operation = |Write { table, key, value }: &Write| {
            let key = format!("{}{}/{key}", address.records(), table.as_str());
            match value {
                Some(value) => Operation::Put { key, value: value.clone(), lease: 0 },
                None => Operation::Delete(key),
            }
        };
        let value = serde_json::to_vec(next).expect("text and numbers can be written");
        let generation = Operation::Put { key: address.generation(), value, lease: 0 };
        Transaction {
            guards: vec![Guard::Unchanged(address.generation(), revision)],
            operations: writes.iter().map(operation).chain([generation]).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = Result<Transacted, EtcdError>;

    const MADE: Answer = Ok(Transacted { is_done: true, revision: 1 });
    const OVERTAKEN: Answer = Ok(Transacted { is_done: false, revision: 1 });

    fn unheard() -> Answer {
        Err(EtcdError::Unreachable("a".to_owned(), None))
    }

    fn denied() -> Answer {
        Err(EtcdError::Denied("a".to_owned(), "no".to_owned()))
    }

    #[test]
    fn the_only_attempt_is_believed() {
        assert_eq!(verdict(&MADE, 0, Duration::ZERO), Verdict::Made);
        assert_eq!(verdict(&OVERTAKEN, 0, Duration::ZERO), Verdict::Conflict);
        assert_eq!(verdict(&denied(), 0, Duration::ZERO), Verdict::Refused);
        assert_eq!(verdict(&unheard(), 0, Duration::ZERO), Verdict::Again);
    }

    #[test]
    fn a_commit_of_which_nothing_was_heard_is_never_said_not_to_be_made() {
        assert_eq!(verdict(&MADE, 1, Duration::ZERO), Verdict::Made);
        assert_eq!(verdict(&OVERTAKEN, 1, Duration::ZERO), Verdict::Look);
        for attempt in [denied(), unheard()] {
            assert_eq!(verdict(&attempt, 1, Duration::ZERO), Verdict::Again);
            assert_eq!(verdict(&attempt, 1, PATIENCE), Verdict::Unknown);
        }
        assert_eq!(verdict(&unheard(), 0, PATIENCE), Verdict::Unknown);
    }
}
