//! What the system says about processes. The only file of the tests that names sysinfo.

use sysinfo::{
    Pid, Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, Signal, System, UpdateKind,
};

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

/// Returns every running process whose command line holds `text`. One that ended and was not waited
/// for does not run.
pub fn naming(text: &str) -> Vec<u32> {
    let all = all();
    let running = all.processes().values().filter(|process| {
        let has_ended = matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead);
        process.thread_kind().is_none() && !has_ended
    });
    let names = |process: &&Process| {
        process.cmd().iter().any(|argument| argument.to_string_lossy().contains(text))
    };
    running.filter(names).map(|process| process.pid().as_u32()).collect()
}

/// Returns what follows a flag in a process's command line.
pub fn flag(pid: u32, name: &str) -> Option<String> {
    let all = all();
    let mut arguments = all.process(Pid::from_u32(pid))?.cmd().iter();
    arguments.find(|argument| *argument == name)?;
    arguments.next().map(|value| value.to_string_lossy().into_owned())
}

/// Returns the environment of a process, `NAME=value` each.
pub fn environment(pid: u32) -> Vec<String> {
    let pid = Pid::from_u32(pid);
    let mut system = System::new().expect("this system has a process table");
    let only = ProcessRefreshKind::nothing().with_environ(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, only);
    let variables = system.process(pid).into_iter().flat_map(Process::environ);
    variables.map(|it| it.to_string_lossy().into_owned()).collect()
}

/// Kills a process (SIGKILL).
pub fn kill(pid: u32) {
    send(pid, Signal::Kill);
}

/// Interrupts a process as Ctrl-C does (SIGINT).
pub fn interrupt(pid: u32) {
    send(pid, Signal::Interrupt);
}

/// Asks a process to end (SIGTERM).
pub fn terminate(pid: u32) {
    send(pid, Signal::Term);
}

/// Stops a process where it is, with all that it holds (SIGSTOP).
pub fn freeze(pid: u32) {
    send(pid, Signal::Stop);
}

/// Lets a stopped process go on (SIGCONT).
pub fn thaw(pid: u32) {
    send(pid, Signal::Continue);
}

fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_u32(pid);
    let mut system = System::new().expect("this system has a process table");
    // Of this one alone, because it takes a while to look at all, and faults are timed.
    let nothing_more = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, nothing_more);
    // If there is none any more, that is what was wanted.
    let _ = system.process(pid).and_then(|process| process.kill_with(signal));
}

fn all() -> System {
    let mut system = System::new().expect("this system has a process table");
    let command_lines = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, command_lines);
    system
}
