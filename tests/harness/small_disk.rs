//! A small disk for a worker's cache, which others can fill: a tmpfs that only the worker sees, and
//! that goes with it.

use crate::{
    privilege::{is_root, run},
    rig::{Rig, by, flag},
};
use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
};

/// Large enough for the models of a scenario, small enough to be filled at once.
const SIZE: usize = 8 << 20;

/// The name of the file that fills it.
const FILLER: &str = "filler";

/// Puts a worker's cache on a small disk, or says why this machine cannot.
pub fn small_disk() -> Result<Rig, String> {
    if !is_root() {
        return Err("a mount namespace needs root".to_owned());
    }
    run("unshare", &["--mount", "true"])?;
    Ok(Rig::new(|spec| {
        let cache = flag(&spec, "--cache-dir");
        fs::create_dir_all(&cache).expect("the folder takes another");
        // The worker takes no folder that others may write into.
        let script = format!(
            "mount -t tmpfs -o size={SIZE},mode=0700 manifold-chaos '{cache}' && exec \"$@\""
        );
        by(spec, "unshare", &["--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
    }))
}

/// The small disk of a running worker, as seen through the worker.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn of(pid: u32, cache: &std::path::Path) -> Self {
        let below_root = cache.strip_prefix("/").expect("children are told absolute paths");
        Self(PathBuf::from(format!("/proc/{pid}/root")).join(below_root))
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut filler = File::create(self.0.join(FILLER)).expect("the disk takes a file");
        let page = [0; 4096];
        let n_pages =
            (0..=SIZE / page.len()).take_while(|_| filler.write_all(&page).is_ok()).count();
        assert!((1..SIZE / page.len()).contains(&n_pages), "the disk is the small one: {n_pages}");
    }

    /// Gives the room back.
    pub fn clear(&self) {
        fs::remove_file(self.0.join(FILLER)).expect("it was filled");
    }
}
