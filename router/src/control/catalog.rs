//! The catalog: every model, endpoint configuration and endpoint, as records. One owner applies
//! changes to it; everybody else reads snapshots.

use super::arn::ResourceKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::id::{EndpointName, FleetId, VariantName};
use std::{collections::BTreeMap, sync::Arc};

/// All records, by [`key`]: ARNs hold names in lower case, so names that differ in case alone would
/// be the same resource. The records are shared between snapshots.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    pub models: BTreeMap<String, Arc<Model>>,
    pub configs: BTreeMap<String, Arc<EndpointConfig>>,
    pub endpoints: BTreeMap<String, Arc<Endpoint>>,
}

/// Returns the key of a name in the catalog.
pub fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

impl Catalog {
    /// A name means a record only in its exact case.
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(&key(name)).filter(|model| model.name == name)
    }

    pub fn config(&self, name: &str) -> Option<&Arc<EndpointConfig>> {
        self.configs.get(&key(name)).filter(|config| config.name == name)
    }

    pub fn endpoint(&self, name: &str) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(&key(name)).filter(|endpoint| endpoint.name.as_str() == name)
    }

    /// Whether a new record of this name would take the place of another.
    pub fn has(&self, kind: ResourceKind, name: &str) -> bool {
        let key = key(name);
        match kind {
            ResourceKind::Model => self.models.contains_key(&key),
            ResourceKind::EndpointConfig => self.configs.contains_key(&key),
            ResourceKind::Endpoint => self.endpoints.contains_key(&key),
        }
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::PutModel(model) => {
                self.models.insert(key(&model.name), Arc::new(model));
            }
            Change::DeleteModel(key) => {
                self.models.remove(&key);
            }
            Change::PutConfig(config) => {
                self.configs.insert(key(&config.name), Arc::new(config));
            }
            Change::DeleteConfig(key) => {
                self.configs.remove(&key);
            }
            Change::PutEndpoint(endpoint) => {
                self.endpoints.insert(key(endpoint.name.as_str()), Arc::new(endpoint));
            }
            Change::DeleteEndpoint(key) => {
                self.endpoints.remove(&key);
            }
        }
    }
}

/// What an operation does to the catalog. Deletions name keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and on its way into an `Arc`")]
pub enum Change {
    PutModel(Model),
    DeleteModel(String),
    PutConfig(EndpointConfig),
    DeleteConfig(String),
    PutEndpoint(Endpoint),
    DeleteEndpoint(String),
}

impl Change {
    /// The deployment that an endpoint is to get by this change.
    pub fn pending(&self) -> Option<&Deployment> {
        match self {
            Self::PutEndpoint(endpoint) => endpoint.pending.as_ref(),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    pub arn: String,
    pub created: Timestamp,
    /// `CreateModel`'s input as validated, without tags.
    pub input: Map<String, Value>,
    #[serde(default)]
    pub tags: Vec<Tag>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointConfig {
    pub name: String,
    pub arn: String,
    pub created: Timestamp,
    /// `CreateEndpointConfig`'s input as validated, without tags.
    pub input: Map<String, Value>,
    #[serde(default)]
    pub tags: Vec<Tag>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub name: EndpointName,
    pub arn: String,
    pub created: Timestamp,
    pub modified: Timestamp,
    /// Of the deployment that serves, or of the first one until it does.
    pub config_name: String,
    pub status: EndpointStatus,
    #[serde(default)]
    pub failure_reason: Option<String>,
    /// What serves.
    #[serde(default)]
    pub active: Option<Deployment>,
    /// What shall serve next.
    #[serde(default)]
    pub pending: Option<Deployment>,
    /// What served before and is not yet drained.
    #[serde(default)]
    pub retired: Vec<Deployment>,
    #[serde(default)]
    pub tags: Vec<Tag>,
    /// `CreateEndpoint`'s input as validated, without tags. Its `DeploymentConfig` is the last given.
    #[serde(default)]
    pub input: Map<String, Value>,
}

impl Endpoint {
    /// Everything that has, or shall have, instances.
    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.active.iter().chain(&self.pending).chain(&self.retired)
    }
}

/// A configuration and its models as they were when it was deployed: a snapshot, since both may be
/// deleted, and created anew, while it serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub config_name: String,
    pub started: Timestamp,
    pub variants: Vec<DeployedVariant>,
    #[serde(default)]
    pub async_inference: Option<Value>,
    /// What `DescribeEndpoint` shows of the configuration and nothing here acts on.
    #[serde(default)]
    pub shown: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeployedVariant {
    pub name: VariantName,
    pub fleet: FleetId,
    pub weight: f64,
    /// How many there shall be.
    pub n_instances: u32,
    /// How many there are.
    #[serde(default)]
    pub current_instances: u32,
    pub model_name: String,
    pub image: String,
    /// In the canonical form `s3://bucket/prefix`.
    pub model_data_url: String,
    pub is_multi_model: bool,
    #[serde(default)]
    pub is_cache_disabled: bool,
    /// As given. What of it reaches a worker is decided where the worker is started.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Seconds until its containers must answer pings, if somebody said so.
    #[serde(default)]
    pub startup_timeout_s: Option<u32>,
    #[serde(default)]
    pub instance_type: Option<String>,
    /// What `VariantStatus` tells the client.
    #[serde(default)]
    pub note: Option<String>,
}

/// Written as SageMaker writes it, in records and answers alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    pub key: String,
    pub value: String,
}

/// Milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Seconds with a fraction, as answers have them.
    #[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

/// SageMaker's word for the state of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointStatus {
    Creating,
    Updating,
    InService,
    Deleting,
    Failed,
    OutOfService,
    SystemUpdating,
    RollingBack,
    UpdateRollbackFailed,
}

impl EndpointStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Updating => "Updating",
            Self::InService => "InService",
            Self::Deleting => "Deleting",
            Self::Failed => "Failed",
            Self::OutOfService => "OutOfService",
            Self::SystemUpdating => "SystemUpdating",
            Self::RollingBack => "RollingBack",
            Self::UpdateRollbackFailed => "UpdateRollbackFailed",
        }
    }

    /// Whether it leaves this state by itself.
    pub fn is_in_progress(self) -> bool {
        match self {
            Self::Creating
            | Self::Updating
            | Self::Deleting
            | Self::SystemUpdating
            | Self::RollingBack => true,
            Self::InService | Self::Failed | Self::OutOfService | Self::UpdateRollbackFailed => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn timestamps_are_seconds_with_milliseconds() {
        assert_eq!(json!(Timestamp(1_763_872_084_123).seconds()).to_string(), "1763872084.123");
        assert_eq!(json!(Timestamp(0).seconds()).to_string(), "0.0");
    }

    #[test]
    fn names_are_found_in_their_exact_case_and_taken_in_any() {
        let mut catalog = Catalog::default();
        let model = Model {
            name: "Demo".to_owned(),
            arn: String::new(),
            created: Timestamp(1),
            input: Map::new(),
            tags: Vec::new(),
        };
        catalog.apply(Change::PutModel(model));
        assert!(catalog.model("Demo").is_some() && catalog.model("demo").is_none());
        assert!(catalog.has(ResourceKind::Model, "DEMO"));
        catalog.apply(Change::DeleteModel("demo".to_owned()));
        assert_eq!(catalog, Catalog::default());
    }

    #[test]
    fn records_of_an_older_version_are_read() {
        let endpoint = json!({
            "name": "e", "arn": "a", "created": 1, "modified": 2, "config_name": "c",
            "status": "InService",
            "active": { "config_name": "c", "started": 1, "variants": [] },
        });
        let endpoint: Endpoint = serde_json::from_value(endpoint).unwrap();
        assert_eq!(endpoint.status, EndpointStatus::InService);
        assert_eq!(endpoint.deployments().count(), 1);
    }
}
