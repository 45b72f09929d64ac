//! The body of a fuzz target: any request, in a world that has one record of each kind.
//!
//! Not part of what serves; it is here so that a fuzzer needs no copy of it.

use super::{
    Context, Outcome,
    catalog::{Catalog, Change, EndpointStatus, Timestamp},
    error::{ControlError, ErrorCode},
    operate,
};
use shared::id::FleetId;
use std::{cell::Cell, str};

/// More than any refusal says: ten violations, each with every instance type.
const MAX_MESSAGE_BYTES: usize = 128 * 1024;

const SCRIPT: [(&str, &str); 3] = [
    (
        "CreateModel",
        r#"{"ModelName":"m","PrimaryContainer":{"Image":"i","Mode":"MultiModel","ModelDataUrl":"s3://bkt/p/"}}"#,
    ),
    (
        "CreateEndpointConfig",
        r#"{"EndpointConfigName":"c","ProductionVariants":[{"VariantName":"v","ModelName":"m","InstanceType":"ml.m5.large","InitialInstanceCount":1}]}"#,
    ),
    ("CreateEndpoint", r#"{"EndpointName":"e","EndpointConfigName":"c"}"#),
];

/// Judges any request, twice, and checks what must hold of every outcome. Panics if it does not.
pub fn judge(operation: &[u8], body: &[u8]) {
    let Ok(operation) = str::from_utf8(operation) else { return };
    let mut catalog = world();
    for _ in 0..2 {
        match ask(operation, body, &catalog) {
            Ok(outcome) => apply(&mut catalog, outcome.changes),
            Err(error) => {
                assert!(error.code != ErrorCode::InternalFailure, "{error}");
                assert!(error.message.len() <= MAX_MESSAGE_BYTES, "{}", error.message.len());
            }
        }
        for list in ["ListModels", "ListEndpointConfigs", "ListEndpoints"] {
            assert!(ask(list, b"{}", &catalog).is_ok(), "{list}");
        }
    }
}

fn world() -> Catalog {
    let mut catalog = Catalog::default();
    for (operation, body) in SCRIPT {
        let outcome = ask(operation, body.as_bytes(), &catalog).expect("the script is valid");
        apply(&mut catalog, outcome.changes);
    }
    // As the driver leaves it.
    let mut endpoint = (**catalog.endpoint("e").expect("the script made it")).clone();
    endpoint.active = endpoint.pending.take();
    endpoint.status = EndpointStatus::InService;
    catalog.apply(Change::PutEndpoint(endpoint));
    catalog
}

fn ask(operation: &str, body: &[u8], catalog: &Catalog) -> Result<Outcome, ControlError> {
    let n_fleets = Cell::new(0_u32);
    let new_fleet = || {
        n_fleets.set(n_fleets.get() + 1);
        let fleet: FleetId = format!("f-{}", n_fleets.get()).parse().expect("a valid name");
        fleet
    };
    let ctx = Context {
        region: "us-east-1",
        account_id: "123456789012",
        now: Timestamp(1),
        max_instances: 8,
        max_records: 8,
        launches_images: false,
        own_hosts: &["localhost".to_owned()],
        new_fleet: &new_fleet,
    };
    operate(operation, body, catalog, &ctx)
}

/// Applies changes as they come back from the records.
fn apply(catalog: &mut Catalog, changes: Vec<Change>) {
    for change in changes {
        let stored = serde_json::to_vec(&change).expect("a change can be stored");
        let read: Change = serde_json::from_slice(&stored).expect("what was stored can be read");
        assert!(read == change, "records keep what they are given");
        catalog.apply(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_stands_and_any_request_is_judged() {
        judge(b"DescribeEndpoint", br#"{"EndpointName":"e"}"#);
        judge(b"DeleteEndpoint", br#"{"EndpointName":"e"}"#);
        judge(b"\xff", b"");
        for (operation, body) in SCRIPT {
            judge(operation.as_bytes(), body.as_bytes());
            for cut in 0..body.len() {
                judge(operation.as_bytes(), &body.as_bytes()[..cut]);
            }
        }
    }
}
