//! What a fault does to a process before it starts: other flags, another way to start it.

use driver::child::ChildSpec;
use std::{ffi::OsString, fmt, path::PathBuf};

/// A change of how a process is started. Applied at every start.
pub struct Rig(Box<dyn Fn(ChildSpec) -> ChildSpec + Send + Sync>);

impl Rig {
    pub fn new(rig: impl Fn(ChildSpec) -> ChildSpec + Send + Sync + 'static) -> Self {
        Self(Box::new(rig))
    }

    pub(crate) fn apply(&self, spec: ChildSpec) -> ChildSpec {
        (self.0)(spec)
    }
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").finish_non_exhaustive()
    }
}

/// Returns what follows a flag.
#[track_caller]
pub fn flag(spec: &ChildSpec, name: &str) -> String {
    let at = position(spec, name).unwrap_or_else(|| panic!("{} has no {name}", spec.name));
    spec.args[at + 1].to_string_lossy().into_owned()
}

/// Says something else after a flag, which may not be there yet.
#[must_use]
pub fn with_flag(mut spec: ChildSpec, name: &str, value: impl Into<OsString>) -> ChildSpec {
    match position(&spec, name) {
        Some(at) => spec.args[at + 1] = value.into(),
        None => spec.args.extend([name.into(), value.into()]),
    }
    spec
}

/// Starts a process by another program, which becomes it: `sh -c '… exec "$@"' sh PROGRAM ARGS…`.
#[must_use]
pub fn by_shell(spec: ChildSpec, script: &str) -> ChildSpec {
    by(spec, "/bin/sh", &["-c", script, "sh"])
}

/// Starts a process by another program that is given its command line at the end, and becomes it.
#[must_use]
pub fn by(mut spec: ChildSpec, program: &str, args: &[&str]) -> ChildSpec {
    let own = std::mem::replace(&mut spec.program, PathBuf::from(program));
    let before = args.iter().map(OsString::from).chain([own.into_os_string()]);
    spec.args = before.chain(spec.args).collect();
    spec
}

fn position(spec: &ChildSpec, name: &str) -> Option<usize> {
    spec.args.iter().position(|it| it == name)
}
