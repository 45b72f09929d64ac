//! What somebody who loads a model by name wants of it, beyond what its archive says.

use parking_lot::Mutex;
use shared::address::ArtifactAddress;
use std::{
    collections::{HashMap, hash_map::Entry},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

/// How a model's handler is to be run. What is `None`, the archive or the worker decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// `[path/]module[.py][:function]`.
    pub handler: Option<String>,
    pub n_processes: Option<NonZeroUsize>,
    pub batch_size: Option<NonZeroUsize>,
    pub max_batch_delay: Option<Duration>,
    /// How long a batch may take.
    pub timeout: Option<Duration>,
}

/// The options of artifacts that are loaded by name. Cheap to clone.
///
/// An artifact is in memory once, so it has one set of options at a time.
#[derive(Clone, Debug, Default)]
pub struct OptionsByArtifact(Arc<Mutex<HashMap<ArtifactAddress, Held>>>);

#[derive(Debug)]
struct Held {
    options: LoadOptions,
    /// How many processes it was given since.
    scaled: Option<NonZeroUsize>,
    n_names: usize,
}

/// The artifact is loaded with other options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherOptions;

impl OptionsByArtifact {
    /// Notes that one name more has an artifact, and says whether it is the first.
    pub fn hold(
        &self,
        address: &ArtifactAddress,
        options: &LoadOptions,
    ) -> Result<bool, OtherOptions> {
        match self.0.lock().entry(address.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Held { options: options.clone(), scaled: None, n_names: 1 });
                Ok(true)
            }
            Entry::Occupied(entry) if entry.get().options != *options => Err(OtherOptions),
            Entry::Occupied(mut entry) => {
                entry.get_mut().n_names += 1;
                Ok(false)
            }
        }
    }

    /// Notes that one name less has it.
    pub fn release(&self, address: &ArtifactAddress) {
        if let Entry::Occupied(mut entry) = self.0.lock().entry(address.clone()) {
            entry.get_mut().n_names -= 1;
            if entry.get().n_names == 0 {
                entry.remove();
            }
        }
    }

    /// Notes how many processes it is to have from now on.
    pub fn scale(&self, address: &ArtifactAddress, n_processes: NonZeroUsize) {
        if let Some(held) = self.0.lock().get_mut(address) {
            held.scaled = Some(n_processes);
        }
    }

    /// What is wanted of an artifact.
    pub(super) fn of(&self, address: &ArtifactAddress) -> LoadOptions {
        let all = self.0.lock();
        let Some(Held { options, scaled, .. }) = all.get(address) else {
            return LoadOptions::default();
        };
        LoadOptions { n_processes: scaled.or(options.n_processes), ..options.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_has_one_set_of_options_until_its_last_name_goes() {
        let held = OptionsByArtifact::default();
        let address: ArtifactAddress = "file:///models/a".parse().unwrap();
        let two = LoadOptions { n_processes: NonZeroUsize::new(2), ..LoadOptions::default() };
        assert_eq!(held.hold(&address, &two), Ok(true));
        assert_eq!(held.hold(&address, &two), Ok(false));
        assert_eq!(held.hold(&address, &LoadOptions::default()), Err(OtherOptions));
        assert_eq!(held.of(&address), two);
        held.scale(&address, NonZeroUsize::MIN);
        assert_eq!(held.of(&address).n_processes, Some(NonZeroUsize::MIN));
        assert_eq!(held.hold(&address, &two), Ok(false));
        held.release(&address);
        held.release(&address);
        assert_eq!(held.of(&address).n_processes, Some(NonZeroUsize::MIN));
        held.release(&address);
        assert_eq!(held.of(&address), LoadOptions::default());
        assert_eq!(held.hold(&address, &LoadOptions::default()), Ok(true));
    }
}
