//! A replica's model, and how its handles see it.

use crate::runtime::{Footprint, Model, Outside};
use std::sync::{Arc, Weak};

/// A loaded model, kept in memory.
#[derive(Clone, Debug)]
pub enum Held {
    /// In this process.
    Inside(Arc<dyn Model>),
    /// In processes of its own.
    Outside(Arc<dyn Outside>),
}

/// A loaded model for as long as its actor keeps it: no snapshot of the cache keeps an evicted one in
/// memory.
#[derive(Debug)]
pub(super) enum Seen {
    Inside(Weak<dyn Model>),
    Outside(Weak<dyn Outside>),
}

impl Held {
    pub(super) fn downgrade(&self) -> Seen {
        match self {
            Self::Inside(model) => Seen::Inside(Arc::downgrade(model)),
            Self::Outside(model) => Seen::Outside(Arc::downgrade(model)),
        }
    }

    pub(super) fn footprint(&self) -> Footprint {
        match self {
            Self::Inside(model) => model.footprint(),
            Self::Outside(model) => model.footprint(),
        }
    }
}

impl Seen {
    pub(super) fn upgrade(&self) -> Option<Held> {
        match self {
            Self::Inside(model) => model.upgrade().map(Held::Inside),
            Self::Outside(model) => model.upgrade().map(Held::Outside),
        }
    }
}
