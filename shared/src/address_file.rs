//! `--address-file`: where a process that chose its own port tells whoever started it.

use std::{fs, io, net::SocketAddr, path::Path};

/// Writes where a process listens, all at once, so that nobody reads half of it.
pub fn write(path: &Path, address: SocketAddr) -> io::Result<()> {
    // Appended, not exchanged: `manifold.router` and `manifold.worker` have drafts of their own.
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    fs::write(&draft, format!("{address}\n"))?;
    fs::rename(draft, path)
}
