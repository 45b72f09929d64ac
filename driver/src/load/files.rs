//! How many files this process may have open: a connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files, libraries and pipes that a process has open anyway.
const OTHERS: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} invocations in flight need {needed} open files, and there may be {limit}: raise the limit (ulimit -n), or lower --max-in-flight or --concurrency"
)]
pub struct FilesError {
    wanted: usize,
    needed: u64,
    limit: u64,
}

/// Raises the limit of open files as far as need be.
pub(super) fn allow(max_in_flight: usize, n_routers: usize) -> Result<(), FilesError> {
    let needed = (max_in_flight as u64).saturating_mul(n_routers as u64).saturating_add(OTHERS);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let refused = |limit| FilesError { wanted: max_in_flight, needed, limit };
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        return Err(refused(maximum));
    }
    let raised = Rlimit { current: Some(needed), maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| refused(current.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_in_flight_than_files_is_refused_in_words() {
        let error = allow(usize::MAX / 2, 3).unwrap_err();
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
}
