//! How many files this process may have open; every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use tracing::{info, warn};

/// Allows this process as many open files as it may ask for.
///
/// The usual soft limit of 1024 is for programs that use `select`; the hard one is the true one.
pub fn raise_limit() {
    match raise() {
        Ok(max_open_files) => info!(?max_open_files, "raised the limit of open files"),
        Err(error) => warn!(%error, "the limit of open files stays as it was"),
    }
}

/// How many files may be open; `None`: no limit.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

fn raise() -> io::Result<Option<u64>> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_becomes_the_hard_one() {
        raise_limit();
        assert_eq!(limit(), getrlimit(Resource::Nofile).maximum);
    }
}
