//! A control group with too little memory: the kernel kills the worker in it. Gone when it is dropped,
//! and at the next start what a killed test left.

use crate::{
    privilege::is_root,
    processes,
    rig::{Rig, by_shell},
    tied::tied,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

/// A control group of memory (v2, or v1). Removed when it is dropped, and who is in it killed.
#[derive(Debug)]
pub struct MemoryCgroup {
    folder: PathBuf,
    files: Files,
    hog: Option<Child>,
}

/// How the names of groups begin; a process id follows.
const NAME: &str = "mfchaos-";

/// What the two versions call the same.
#[derive(Clone, Copy, Debug)]
struct Files {
    root: &'static str,
    /// There if memory can be limited.
    proof: &'static str,
    limit: &'static str,
    usage: &'static str,
    events: &'static str,
}

const VERSIONS: [Files; 2] = [
    Files {
        root: "/sys/fs/cgroup",
        proof: "/sys/fs/cgroup/cgroup.subtree_control",
        limit: "memory.max",
        usage: "memory.current",
        events: "memory.events",
    },
    Files {
        root: "/sys/fs/cgroup/memory",
        proof: "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        limit: "memory.limit_in_bytes",
        usage: "memory.usage_in_bytes",
        events: "memory.oom_control",
    },
];

/// Memory that is left when the limit is set. The hog takes it at once.
const ROOM: u64 = 32 << 20;

impl MemoryCgroup {
    /// Makes a control group, or says why this machine cannot.
    pub fn new() -> Result<Self, String> {
        if !is_root() {
            return Err("a control group needs root".to_owned());
        }
        let limits_memory = |files: &&Files| {
            let text = fs::read_to_string(files.proof).unwrap_or_default();
            text.contains("memory") || text.trim().parse::<u64>().is_ok()
        };
        let files = VERSIONS.iter().find(limits_memory).copied();
        let files = files.ok_or("no control group here limits memory")?;
        sweep(Path::new(files.root));
        let folder = Path::new(files.root).join(format!("{NAME}{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder, files, hog: None })
    }

    /// Starts a worker in the group, as the one that the kernel prefers to kill.
    pub fn worker(&self) -> Rig {
        let procs = self.folder.join("cgroup.procs").display().to_string();
        Rig::new(move |spec| {
            by_shell(
                spec,
                &format!(
                    "echo $$ > {procs} && echo 1000 > /proc/self/oom_score_adj && exec \"$@\""
                ),
            )
        })
    }

    /// Limits the group to what it has and a little, and takes that little away: another process of
    /// the group takes memory without end.
    pub fn run_out(&mut self) -> io::Result<()> {
        self.limit(ROOM)?;
        let procs = self.folder.join("cgroup.procs");
        // It holds a line in memory until its end, and this one has none.
        let script = format!("echo $$ > {} && exec tail /dev/zero", procs.display());
        let hog = tied("/bin/sh").args(["-c", &script]).stdout(Stdio::null()).spawn()?;
        self.hog = Some(hog);
        Ok(())
    }

    /// Limits the group to what it has and so many bytes.
    pub fn limit(&self, room: u64) -> io::Result<()> {
        let usage: u64 = self.read(self.files.usage)?.trim().parse().map_err(io::Error::other)?;
        fs::write(self.folder.join(self.files.limit), (usage + room).to_string())
    }

    /// Ends the hog, and lifts the limit for who comes next.
    pub fn relax(&mut self) {
        self.end_hog();
        // As much as one may write in both versions.
        let _ = fs::write(self.folder.join(self.files.limit), (1_u64 << 50).to_string());
    }

    /// How many processes the kernel has killed here.
    pub fn n_kills(&self) -> u64 {
        let text = self.read(self.files.events).unwrap_or_default();
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|it| it.parse().ok()).unwrap_or(0)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.folder.join(file))
    }

    fn end_hog(&mut self) {
        if let Some(mut hog) = self.hog.take() {
            // The kernel may have been faster.
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        self.end_hog();
        remove(&self.folder);
    }
}

/// Kills who is in a group, and removes it.
fn remove(group: &Path) {
    // A group whose processes are just ending is busy for a moment.
    for _ in 0..100 {
        let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|it| it.parse().ok()) {
            processes::kill(pid);
        }
        if fs::remove_dir(group).is_ok() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Removes what killed tests left.
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(NAME);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn groups_of_tests_that_are_gone_are_removed_and_no_others() {
        let root = tempfile::tempdir().unwrap();
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let [gone, own] = [gone.id(), std::process::id()].map(|pid| format!("{NAME}{pid}"));
        for name in [&*gone, &own, "another"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        sweep(root.path());
        assert!(!root.path().join(gone).exists());
        assert!(root.path().join(own).exists() && root.path().join("another").exists());
    }
}
