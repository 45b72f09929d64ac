//! How many connections may be open.

/// As many as a router's threads take: an instance has a few routers, each with idle connections for a
/// few hundred invocations.
const MAX_PER_THREAD: u64 = 8192;

/// Returns how many connections each HTTP thread may hold. Together they take half of the open files
/// (`None`: any number); the other half is for models, downloads and routers, so that whoever connects
/// cannot keep the instance from its work.
pub fn per_thread(max_open_files: Option<u64>, n_threads: usize) -> usize {
    let n_threads = (n_threads as u64).max(1);
    let share = max_open_files.map_or(MAX_PER_THREAD, |it| it / 2 / n_threads);
    usize::try_from(share.clamp(1, MAX_PER_THREAD)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_half_of_the_files() {
        assert_eq!(per_thread(Some(1024), 1), 512);
        assert_eq!(per_thread(Some(1024), 4), 128);
        assert_eq!(per_thread(Some(1 << 20), 4), 8192);
        assert_eq!(per_thread(None, 4), 8192);
        assert_eq!(per_thread(Some(3), 4), 1);
    }
}
