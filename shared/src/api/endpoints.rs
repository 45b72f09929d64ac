//! The file that gives a router endpoints at its start, for who has no control plane's client: TOML.
//! Its URLs may be folders (`file://`).
//!
//! ```toml
//! [[endpoint]]
//! name = "demo"
//!
//! [[endpoint.variant]]
//! name = "AllTraffic"
//! model_data_url = "s3://manifold-demo/models/"
//! weight = 1.0
//! ```

use crate::{
    address::ModelDataUrl,
    id::{EndpointName, VariantName},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointsFile {
    #[serde(default, rename = "endpoint")]
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub name: EndpointName,
    #[serde(rename = "variant")]
    pub variants: Vec<Variant>,
    /// Where asynchronous invocations leave what comes of them; without it, there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asynchronous: Option<Asynchronous>,
}

/// What SageMaker has in an `AsyncInferenceConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asynchronous {
    /// `s3://bucket/prefix`
    pub output: String,
    pub failure: Option<String>,
    pub max_concurrent_per_instance: Option<usize>,
}

/// A weighted part of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub name: VariantName,
    /// A prefix: target models are appended to it by plain concatenation.
    pub model_data_url: ModelDataUrl,
    /// The share of traffic is this over the sum of the endpoint's weights.
    #[serde(default = "one")]
    pub weight: f64,
    /// Whether an invocation may run again when an instance dies under it. Inference is a function,
    /// so by default it may.
    #[serde(default = "yes")]
    pub repeats: bool,
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}
