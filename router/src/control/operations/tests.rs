#![expect(clippy::needless_pass_by_value, reason = "inputs are written where they are used")]

use super::*;
use crate::control::{
    catalog::{Endpoint, EndpointStatus},
    error::ErrorCode,
};
use proptest::prelude::*;
use serde_json::json;
use std::cell::Cell;

mod configs;
mod endpoints;
mod models;
mod tags;
mod updates;

const ACCOUNT: &str = "123456789012";

/// A catalog and the clock of its clients.
struct World {
    catalog: Catalog,
    now: Timestamp,
    n_fleets: Cell<u32>,
    max_instances: u32,
    max_records: usize,
    launches_images: bool,
}

impl World {
    fn new() -> Self {
        Self {
            catalog: Catalog::default(),
            now: Timestamp(1_000_500),
            n_fleets: Cell::new(0),
            max_instances: 8,
            max_records: 100,
            launches_images: false,
        }
    }

    /// With model `m`, of many models, and configuration `c`, of one variant `v` of one instance.
    fn with_config() -> Self {
        let mut world = Self::new();
        world.does("CreateModel", multi_model("m"));
        world.does("CreateEndpointConfig", config("c", 1));
        world
    }

    /// With endpoint `e` of configuration `c` in service.
    fn with_endpoint() -> Self {
        let mut world = Self::with_config();
        world.does("CreateEndpoint", json!({ "EndpointName": "e", "EndpointConfigName": "c" }));
        world.settle("e");
        world
    }

    fn ask(&self, operation: &str, input: &Value) -> Result<Outcome, ControlError> {
        let new_fleet = || {
            self.n_fleets.set(self.n_fleets.get() + 1);
            format!("fleet-{}", self.n_fleets.get()).parse().unwrap()
        };
        let ctx = Context {
            region: "us-east-1",
            account_id: ACCOUNT,
            now: self.now,
            max_instances: self.max_instances,
            max_records: self.max_records,
            launches_images: self.launches_images,
            own_hosts: &["127.0.0.1:8443".to_owned()],
            new_fleet: &new_fleet,
        };
        let body = serde_json::to_vec(input).unwrap();
        let outcome = operate(operation, &body, &self.catalog, &ctx)?;
        assert!(outcome.changes.len() <= 1, "one operation, one change");
        assert!(!is_read(operation) || outcome.changes.is_empty());
        Ok(outcome)
    }

    /// Does an operation that succeeds.
    #[track_caller]
    fn does(&mut self, operation: &str, input: Value) -> Value {
        let outcome = self.ask(operation, &input).unwrap();
        for change in outcome.changes {
            // Records go through the store.
            let stored = serde_json::to_vec(&change).unwrap();
            self.catalog.apply(serde_json::from_slice(&stored).unwrap());
        }
        self.now.0 += 1000;
        outcome.output
    }

    #[track_caller]
    fn refuses(&self, operation: &str, input: Value, message: &str) {
        let error = self.ask(operation, &input).unwrap_err();
        assert_eq!((error.code, &*error.message), (ErrorCode::Validation, message));
    }

    #[track_caller]
    fn refuses_for_limit(&self, operation: &str, input: Value, start: &str) {
        let error = self.ask(operation, &input).unwrap_err();
        assert_eq!(error.code, ErrorCode::ResourceLimitExceeded);
        assert!(error.message.starts_with(start), "{}", error.message);
    }

    fn endpoint(&self, name: &str) -> Endpoint {
        (**self.catalog.endpoint(name).unwrap()).clone()
    }

    fn put(&mut self, endpoint: Endpoint) {
        self.catalog.apply(Change::PutEndpoint(endpoint));
    }

    /// What the driver does in the end: the pending deployment takes over.
    fn settle(&mut self, name: &str) {
        let mut endpoint = self.endpoint(name);
        let mut deployment = endpoint.pending.take().unwrap();
        for variant in &mut deployment.variants {
            variant.current_instances = variant.n_instances;
        }
        endpoint.config_name = deployment.config_name.clone();
        endpoint.active = Some(deployment);
        endpoint.status = EndpointStatus::InService;
        self.put(endpoint);
    }

    fn set_status(&mut self, name: &str, status: EndpointStatus) {
        self.put(Endpoint { status, ..self.endpoint(name) });
    }
}

fn arn_of(kind: &str, name: &str) -> String {
    format!("arn:aws:sagemaker:us-east-1:{ACCOUNT}:{kind}/{name}")
}

fn multi_model(name: &str) -> Value {
    let container = json!({
        "Image": "repo/worker:1", "Mode": "MultiModel", "ModelDataUrl": "s3://bkt/models/",
        "Environment": { "LEVEL": "3" },
    });
    json!({ "ModelName": name, "PrimaryContainer": container })
}

fn variant(name: &str, n_instances: u32) -> Value {
    json!({
        "VariantName": name, "ModelName": "m", "InstanceType": "ml.m5.large",
        "InitialInstanceCount": n_instances,
    })
}

fn config(name: &str, n_instances: u32) -> Value {
    json!({ "EndpointConfigName": name, "ProductionVariants": [variant("v", n_instances)] })
}

#[test]
fn operations_are_known_by_name() {
    let world = World::new();
    let error = world.ask("CreateTrainingJob", &json!({})).unwrap_err();
    assert_eq!(error.code.as_str(), "UnknownOperationException");
    assert!(is_read("ListModels") && !is_read("CreateModel") && !is_read("CreateTrainingJob"));
}

#[test]
fn bodies_must_be_json_of_bounded_size() {
    let world = World::new();
    let parse = |body: &[u8]| Request::parse("ListModels", body).map(|_| ());
    assert_eq!(parse(b""), Ok(()));
    assert_eq!(parse(b"{}"), Ok(()));
    let deep = "[".repeat(100_000);
    let long = " ".repeat(MAX_BODY_BYTES + 1);
    for body in [&b"{"[..], b"[]", b"\xff", b"{} x", deep.as_bytes(), long.as_bytes()] {
        assert_eq!(parse(body).unwrap_err().code, ErrorCode::Serialization);
    }
    assert!(world.ask("ListModels", &json!({ "Unknown": 1 })).is_ok());
}

#[test]
fn names_that_differ_in_case_alone_are_the_same_resource() {
    let mut world = World::with_config();
    world.refuses(
        "CreateModel",
        multi_model("M"),
        &format!("Cannot create already existing model \"{}\".", arn_of("model", "m")),
    );
    world.refuses(
        "DescribeModel",
        json!({ "ModelName": "M" }),
        &format!("Could not find model \"{}\".", arn_of("model", "m")),
    );
    world.max_records = 1;
    world.refuses_for_limit(
        "CreateModel",
        multi_model("m2"),
        "The account-level service limit 'Number of models' is 1 Models, with current utilization \
         of 1 Models and a request delta of 1 Models.",
    );
    world.refuses_for_limit("CreateEndpointConfig", config("c2", 1), "The account-level service");
}

proptest! {
    #[test]
    fn no_request_makes_an_operation_panic(
        idx in 0..OPERATIONS.len(),
        name in "(m|c|e|x|\\PC{0,2})",
        other in "(m|c|c2|v|\\PC{0,2})",
        n in -1..70_i64,
    ) {
        let world = World::with_endpoint();
        let arn = arn_of("endpoint", &name);
        let desired = json!([{ "VariantName": other, "DesiredInstanceCount": n }]);
        let input = json!({
            "ModelName": name, "EndpointName": name, "EndpointConfigName": other,
            "PrimaryContainer": { "Image": other, "ModelDataUrl": format!("s3://{name}/{other}") },
            "ProductionVariants": [variant(&other, 1)], "ResourceArn": arn, "MaxResults": n,
            "DesiredWeightsAndCapacities": desired, "TagKeys": [other], "NextToken": other,
            "Tags": [{ "Key": name, "Value": other }],
        });
        if let Err(error) = world.ask(OPERATIONS[idx].name, &input) {
            prop_assert_ne!(error.code, ErrorCode::InternalFailure);
        }
    }
}
