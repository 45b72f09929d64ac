//! Shows instances that we are of their cluster.

use crate::{headers, instance::Instance};
use awc::http::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use shared::{id::InstanceId, token::ClusterToken};
use std::{collections::BTreeSet, sync::Arc};
use tracing::error;

/// Instances whose refusal is remembered, so that it is logged once: as many as there may be.
const MAX_REMEMBERED: usize = 1024;

/// What this router is to instances: who has the cluster's token, if there is one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Bearer {
    token: Option<ClusterToken>,
    refused_by: Arc<Mutex<BTreeSet<InstanceId>>>,
}

impl Bearer {
    pub fn new(token: Option<ClusterToken>) -> Self {
        Self { token, refused_by: Arc::default() }
    }

    pub fn token(&self) -> Option<&ClusterToken> {
        self.token.as_ref()
    }

    /// Returns what a request shows, to an instance and to nobody else; `None` without a token.
    pub fn header(&self) -> Option<(&'static HeaderName, HeaderValue)> {
        let token = self.token.as_ref()?;
        let value = HeaderValue::from_maybe_shared(token.expose());
        let mut value = value.expect("a token has visible characters of ASCII alone");
        value.set_sensitive(true);
        Some((&headers::CLUSTER_TOKEN, value))
    }

    /// Adds it to a request of awc's.
    pub fn show(&self, up: &mut HeaderMap) {
        if let Some((name, value)) = self.header() {
            up.insert(name.clone(), value);
        }
    }

    /// Logs that an instance does not take our token, once for each.
    pub fn note_refusal(&self, instance: &Instance) {
        let mut refused_by = self.refused_by.lock();
        if refused_by.len() < MAX_REMEMBERED && refused_by.insert(instance.id.clone()) {
            error!(
                instance = %instance.id,
                "it does not take our cluster token, so it gets no invocations: see its \
                 --cluster-token-file and ours; it is logged once"
            );
        }
    }
}
