//! What the system says about processes. The only file of the tests that names sysinfo.

use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

/// Returns the resident memory of a process, or `None` if there is no such process.
pub fn rss_bytes(pid: u32) -> Option<u64> {
    let pid = Pid::from_u32(pid);
    let mut system = System::new().expect("this system has a process table");
    let only = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, only);
    system.process(pid).map(sysinfo::Process::memory)
}

/// Returns the children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    let parent = Some(Pid::from_u32(parent));
    let all = all();
    let children = all.processes().values().filter(|process| process.parent() == parent);
    // On Linux, threads are listed too.
    children
        .filter(|process| process.thread_kind().is_none())
        .map(|process| process.pid().as_u32())
        .collect()
}

/// Returns the name of a process's program, as far as the system keeps it (15 bytes on Linux).
pub fn name(pid: u32) -> String {
    let all = all();
    let process = all.process(Pid::from_u32(pid));
    process.map(|process| process.name().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a process runs. One that ended and was not waited for does not.
pub fn is_running(pid: u32) -> bool {
    let all = all();
    let process = all.process(Pid::from_u32(pid));
    process.is_some_and(|process| {
        !matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead)
    })
}

/// Kills a process (SIGKILL).
pub fn kill(pid: u32) {
    let all = all();
    // If there is none any more, that is what was wanted.
    let _ = all.process(Pid::from_u32(pid)).map(sysinfo::Process::kill);
}

fn all() -> System {
    let mut system = System::new().expect("this system has a process table");
    let nothing_more = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, nothing_more);
    system
}
