//! What a router that starts does when it cannot catch up with etcd. A plain function.

use crate::records::RecordsError;
use shared::etcd::EtcdError;
use std::time::Duration;

/// How long a router that has a copy waits for etcd when it starts, and one that has none: then it
/// would only say that no endpoint is there.
const WITH_COPY: Duration = Duration::from_secs(3);
const WITHOUT: Duration = Duration::from_secs(20);

/// Why the copy is not what etcd has.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatchUpError {
    #[error(transparent)]
    Asking(#[from] RecordsError),
    #[error("records cannot be given back to etcd")]
    Restoring(#[source] EtcdError),
}

impl From<CatchUpError> for RecordsError {
    fn from(error: CatchUpError) -> Self {
        match error {
            CatchUpError::Asking(error) => error,
            CatchUpError::Restoring(error) => error.into(),
        }
    }
}

/// What a router does that starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    TryAgain,
    StartWithCopy,
    End,
}

/// A router that has a copy serves with it, whatever is wrong with etcd; only if it is not let in it
/// ends, so that who has just configured it sees that.
pub(super) fn after_failure(
    error: &CatchUpError,
    has_copy: bool,
    waited: Duration,
) -> AfterFailure {
    let (is_refused, is_definite) = match error {
        CatchUpError::Asking(RecordsError::Etcd(EtcdError::Access(_) | EtcdError::Denied(..))) => {
            (true, true)
        }
        CatchUpError::Asking(error) => (false, error.is_definite()),
        CatchUpError::Restoring(error) => (false, error.is_definite()),
    };
    let patience = if has_copy { WITH_COPY } else { WITHOUT };
    if !is_definite && waited < patience {
        AfterFailure::TryAgain
    } else if has_copy && !is_refused {
        AfterFailure::StartWithCopy
    } else {
        AfterFailure::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Table;

    fn away() -> EtcdError {
        EtcdError::Unreachable("a".to_owned(), None)
    }

    fn too_large() -> EtcdError {
        EtcdError::Rejected("a".to_owned(), "request is too large".to_owned())
    }

    fn denied() -> EtcdError {
        EtcdError::Denied("a".to_owned(), "no".to_owned())
    }

    fn unreadable() -> RecordsError {
        let reason = String::new();
        RecordsError::Malformed { table: Table::Cluster, key: "generation".to_owned(), reason }
    }

    #[track_caller]
    fn check(error: &CatchUpError, with_copy: AfterFailure, without: AfterFailure) {
        assert_eq!(after_failure(error, true, Duration::ZERO), with_copy, "{error:?}");
        assert_eq!(after_failure(error, false, Duration::ZERO), without, "{error:?}");
    }

    #[test]
    fn an_etcd_that_is_away_is_waited_for_and_longer_by_who_has_nothing() {
        let error = CatchUpError::Asking(away().into());
        for (has_copy, waited, expected) in [
            (true, Duration::ZERO, AfterFailure::TryAgain),
            (true, WITH_COPY, AfterFailure::StartWithCopy),
            (false, WITH_COPY, AfterFailure::TryAgain),
            (false, WITHOUT, AfterFailure::End),
        ] {
            assert_eq!(after_failure(&error, has_copy, waited), expected);
        }
        check(&RecordsError::Lost.into(), AfterFailure::TryAgain, AfterFailure::TryAgain);
    }

    #[test]
    fn who_is_not_let_in_ends_at_once() {
        let error = CatchUpError::Asking(denied().into());
        check(&error, AfterFailure::End, AfterFailure::End);
    }

    #[test]
    fn what_is_wrong_with_etcd_ends_no_router_that_has_a_copy() {
        check(
            &CatchUpError::Restoring(too_large()),
            AfterFailure::StartWithCopy,
            AfterFailure::End,
        );
        check(&CatchUpError::Restoring(denied()), AfterFailure::StartWithCopy, AfterFailure::End);
        check(&unreadable().into(), AfterFailure::StartWithCopy, AfterFailure::End);
    }
}
