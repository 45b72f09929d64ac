//! The operations: which there are, what each takes, and what runs it.

mod configs;
mod deployment;
mod describe;
mod endpoints;
mod input;
mod instances;
mod listing;
mod models;
mod tags;
mod update;

pub use models::{ModelData, model_data_urls};

use super::{
    arn::{self, ResourceKind},
    catalog::{Catalog, Change, Timestamp},
    error::{ControlError, Limit},
    schema::{self, Shape},
};
use serde_json::{Map, Value};
use shared::id::FleetId;
use std::fmt;

/// The largest body that is parsed, bytes. The largest valid input is a pipeline of 15 containers
/// with 32 KB of environment each.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// What an operation knows beside its input.
pub struct Context<'a> {
    /// Of the credential scope; without one, the configured region.
    pub region: &'a str,
    pub account_id: &'a str,
    pub now: Timestamp,
    /// Instances that all endpoints may have together.
    pub max_instances: u32,
    /// Records of one kind, and so a bound for memory.
    pub max_records: usize,
    /// Whether instances are containers of the images that models name.
    pub launches_images: bool,
    /// `host` or `host:port` under which our own store is reached, in model data URLs.
    pub own_hosts: &'a [String],
    /// Makes an id that no fleet had before.
    pub new_fleet: &'a dyn Fn() -> FleetId,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("region", &self.region)
            .field("account_id", &self.account_id)
            .field("now", &self.now)
            .field("max_instances", &self.max_instances)
            .field("max_records", &self.max_records)
            .field("own_hosts", &self.own_hosts)
            .finish_non_exhaustive()
    }
}

impl Context<'_> {
    fn arn(&self, kind: ResourceKind, name: &str) -> String {
        arn::arn(self.region, self.account_id, kind, name)
    }

    fn not_found(&self, kind: ResourceKind, name: &str) -> ControlError {
        ControlError::not_found(kind, &self.arn(kind, name))
    }

    /// Refuses a name that is taken, and one record more than there may be.
    fn check_new(
        &self,
        catalog: &Catalog,
        kind: ResourceKind,
        name: &str,
    ) -> Result<(), ControlError> {
        if catalog.has(kind, name) {
            return Err(ControlError::already_exists(kind, &self.arn(kind, name)));
        }
        let (n_records, what, unit) = match kind {
            ResourceKind::Model => (catalog.models.len(), "Number of models", "Models"),
            ResourceKind::EndpointConfig => (
                catalog.configs.len(),
                "Number of endpoint configurations",
                "Endpoint Configurations",
            ),
            ResourceKind::Endpoint => (catalog.endpoints.len(), "Number of endpoints", "Endpoints"),
        };
        if n_records >= self.max_records {
            return Err(ControlError::limit_exceeded(Limit {
                name: what,
                unit,
                limit: self.max_records as u64,
                utilization: n_records as u64,
                delta: 1,
            }));
        }
        Ok(())
    }
}

/// What an operation does, and what the client is told once that is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Empty for reads.
    pub changes: Vec<Change>,
    pub output: Value,
}

impl Outcome {
    fn read(output: Value) -> Self {
        Self { changes: Vec::new(), output }
    }

    fn change(change: Change, output: Value) -> Self {
        Self { changes: vec![change], output }
    }

    /// For operations whose answer is an empty object.
    fn silent(change: Change) -> Self {
        Self::change(change, Value::Object(Map::new()))
    }
}

type Run = fn(&Catalog, &Context<'_>, &Map<String, Value>) -> Result<Outcome, ControlError>;

/// An operation that this control plane has.
struct Operation {
    name: &'static str,
    input: &'static Shape,
    run: Run,
    is_read: bool,
}

const fn read(name: &'static str, input: &'static Shape, run: Run) -> Operation {
    Operation { name, input, run, is_read: true }
}

const fn write(name: &'static str, input: &'static Shape, run: Run) -> Operation {
    Operation { name, input, run, is_read: false }
}

static OPERATIONS: [Operation; 17] = {
    use schema::operations::{
        ADD_TAGS, CREATE_ENDPOINT, CREATE_ENDPOINT_CONFIG, CREATE_MODEL, DELETE_TAGS, LIST,
        LIST_ENDPOINTS, LIST_TAGS, NAME_ENDPOINT, NAME_ENDPOINT_CONFIG, NAME_MODEL,
        UPDATE_ENDPOINT, UPDATE_WEIGHTS_AND_CAPACITIES,
    };
    [
        write("CreateModel", &CREATE_MODEL, models::create),
        read("DescribeModel", &NAME_MODEL, models::describe),
        read("ListModels", &LIST, models::list),
        write("DeleteModel", &NAME_MODEL, models::delete),
        write("CreateEndpointConfig", &CREATE_ENDPOINT_CONFIG, configs::create),
        read("DescribeEndpointConfig", &NAME_ENDPOINT_CONFIG, configs::describe),
        read("ListEndpointConfigs", &LIST, configs::list),
        write("DeleteEndpointConfig", &NAME_ENDPOINT_CONFIG, configs::delete),
        write("CreateEndpoint", &CREATE_ENDPOINT, endpoints::create),
        read("DescribeEndpoint", &NAME_ENDPOINT, describe::describe),
        read("ListEndpoints", &LIST_ENDPOINTS, endpoints::list),
        write("UpdateEndpoint", &UPDATE_ENDPOINT, update::update),
        write(
            "UpdateEndpointWeightsAndCapacities",
            &UPDATE_WEIGHTS_AND_CAPACITIES,
            update::update_weights_and_capacities,
        ),
        write("DeleteEndpoint", &NAME_ENDPOINT, endpoints::delete),
        write("AddTags", &ADD_TAGS, tags::add),
        read("ListTags", &LIST_TAGS, tags::list),
        write("DeleteTags", &DELETE_TAGS, tags::delete),
    ]
};

/// A request whose input is valid by itself.
pub struct Request {
    operation: &'static Operation,
    input: Map<String, Value>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The environment of a model may hold secrets.
        f.debug_struct("Request").field("operation", &self.operation.name).finish_non_exhaustive()
    }
}

impl Request {
    /// Parses and validates. `operation` is what follows `SageMaker.` in the target.
    pub fn parse(operation: &str, body: &[u8]) -> Result<Self, ControlError> {
        let operation = find(operation).ok_or_else(ControlError::unknown_operation)?;
        if body.len() > MAX_BODY_BYTES {
            let message = format!("Request body is longer than {MAX_BODY_BYTES} bytes");
            return Err(ControlError::serialization(message));
        }
        let body: &[u8] = if body.trim_ascii().is_empty() { b"{}" } else { body };
        // serde_json stops at a depth of 128.
        let input = serde_json::from_slice(body).map_err(|error| {
            ControlError::serialization(format!("The body is not valid JSON: {error}"))
        })?;
        Ok(Self { operation, input: schema::validate(operation.input, input)? })
    }

    pub fn operation(&self) -> &'static str {
        self.operation.name
    }

    pub fn is_read(&self) -> bool {
        self.operation.is_read
    }

    pub fn input(&self) -> &Map<String, Value> {
        &self.input
    }

    /// Decides what the request does to a catalog. The catalog is not changed.
    pub fn operate(&self, catalog: &Catalog, ctx: &Context<'_>) -> Result<Outcome, ControlError> {
        (self.operation.run)(catalog, ctx, &self.input)
    }
}

/// Parses, validates and decides.
pub fn operate(
    operation: &str,
    body: &[u8],
    catalog: &Catalog,
    ctx: &Context<'_>,
) -> Result<Outcome, ControlError> {
    Request::parse(operation, body)?.operate(catalog, ctx)
}

/// Whether an operation never changes the catalog. False for one that is unknown.
pub fn is_read(operation: &str) -> bool {
    find(operation).is_some_and(|operation| operation.is_read)
}

fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

#[cfg(test)]
mod tests;
