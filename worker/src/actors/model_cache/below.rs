//! Which models leave by prefix.

use shared::address::ArtifactAddress;

/// Which artifacts are meant: those whose address begins with a prefix, and with no other of some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    pub prefix: String,
    pub except: Vec<String>,
}

impl Below {
    pub(super) fn has(&self, address: &ArtifactAddress) -> bool {
        let text = address.to_string();
        let begins = |prefix: &String| text.starts_with(prefix);
        begins(&self.prefix) && !self.except.iter().any(begins)
    }
}
