//! Programs that are not ours, and yet end with the test, even if it is killed.
//!
//! Our own watch a pipe. Others would go on for ever, frozen ones, too: the kernel kills them once the
//! thread is gone that started them, which must therefore be one that lives as long as the test.

use std::{ffi::OsStr, process::Command};

/// Returns a command for a program that ends with us (`setpriv` becomes it).
pub(crate) fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{eventually, processes};
    use std::{io::Read as _, process::Stdio, thread};

    #[tokio::test]
    async fn what_is_tied_ends_with_who_started_it_even_if_it_is_frozen() {
        let mut sleeper = thread::spawn(|| {
            let mut command = tied("sh");
            command.args(["-c", "echo it runs; exec sleep 600"]).stdout(Stdio::piped());
            let mut sleeper = command.spawn().unwrap();
            // By then `setpriv` has done its part.
            sleeper.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            processes::freeze(sleeper.id());
            sleeper
        })
        .join()
        .unwrap();
        eventually(async || sleeper.try_wait().unwrap().is_some()).await;
    }
}
