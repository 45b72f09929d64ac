//! What a client of the control plane did, and what it must therefore see.

use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tests::Client;

/// A handful, so that names come again.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// One, because instances cost seconds.
const ENDPOINT: &str = "only";

/// Model and configuration that the others stand on; the script leaves them alone.
const BASE: &str = "base";

/// Calls of [`Log::start`].
pub(super) const N_CALLS_AT_START: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Resource {
    Model(&'static str),
    Config(&'static str),
    Endpoint,
}

/// `None`: it is not there. Else what calls change of it: the tag of a model, the instances of an
/// endpoint, nothing of a configuration.
type State = Option<u64>;

/// A call, and what it makes of its resource.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) input: Value,
    resource: Resource,
    then: State,
}

/// The states in which each resource may be: one, or two after a call that was not answered.
#[derive(Debug)]
pub(super) struct Log {
    possible: BTreeMap<Resource, BTreeSet<State>>,
    n_operations: u64,
}

fn container() -> Value {
    json!({"Image": "any", "Mode": "MultiModel", "ModelDataUrl": "s3://bucket/models/"})
}

fn model(name: &str) -> Value {
    json!({"ModelName": name, "PrimaryContainer": container()})
}

fn variant() -> Value {
    json!({
        "VariantName": "AllTraffic", "ModelName": BASE, "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
    })
}

fn config(name: &str) -> Value {
    json!({"EndpointConfigName": name, "ProductionVariants": [variant()]})
}

fn arn(name: &str) -> String {
    format!("arn:aws:sagemaker:us-east-1:123456789012:model/{name}")
}

impl Log {
    /// Makes what the script stands on.
    pub(super) async fn start(client: &Client) -> Self {
        client.control("CreateModel", model(BASE)).await;
        client.control("CreateEndpointConfig", config(BASE)).await;
        let models = NAMES.map(Resource::Model).into_iter();
        let all = models.chain(NAMES.map(Resource::Config)).chain([Resource::Endpoint]);
        let possible = all.map(|resource| (resource, BTreeSet::from([None]))).collect();
        Self { possible, n_operations: 0 }
    }

    /// Chooses the next call: mostly one that can be done.
    pub(super) fn next(&mut self, random: &mut StdRng) -> Operation {
        self.n_operations += 1;
        let resources: Vec<_> = self.possible.keys().copied().collect();
        let resource = resources[random.random_range(0..resources.len())];
        let is_there = self.possible[&resource].iter().all(Option::is_some);
        let is_second = random.random::<bool>();
        let (name, input, then) = match (resource, is_there) {
            (Resource::Model(name), false) => ("CreateModel", model(name), Some(0)),
            (Resource::Model(name), true) if is_second => {
                let tag = json!({"Key": "n", "Value": self.n_operations.to_string()});
                let input = json!({"ResourceArn": arn(name), "Tags": [tag]});
                ("AddTags", input, Some(self.n_operations))
            }
            (Resource::Model(name), true) => ("DeleteModel", json!({"ModelName": name}), None),
            (Resource::Config(name), false) => ("CreateEndpointConfig", config(name), Some(0)),
            (Resource::Config(name), true) => {
                ("DeleteEndpointConfig", json!({"EndpointConfigName": name}), None)
            }
            (Resource::Endpoint, false) => {
                let input = json!({"EndpointName": ENDPOINT, "EndpointConfigName": BASE});
                ("CreateEndpoint", input, Some(1))
            }
            (Resource::Endpoint, true) if is_second => {
                let n_instances = random.random_range(1..=2);
                let desired =
                    json!({"VariantName": "AllTraffic", "DesiredInstanceCount": n_instances});
                let input =
                    json!({"EndpointName": ENDPOINT, "DesiredWeightsAndCapacities": [desired]});
                ("UpdateEndpointWeightsAndCapacities", input, Some(n_instances))
            }
            (Resource::Endpoint, true) => {
                ("DeleteEndpoint", json!({"EndpointName": ENDPOINT}), None)
            }
        };
        Operation { name, input, resource, then }
    }

    /// The call was acknowledged.
    pub(super) fn done(&mut self, operation: &Operation) {
        self.possible.insert(operation.resource, BTreeSet::from([operation.then]));
    }

    /// The call was not answered.
    pub(super) fn perhaps_done(&mut self, operation: &Operation) {
        self.possible.entry(operation.resource).or_default().insert(operation.then);
    }

    /// Fails the test unless everything is as it can be, by Describe and by List alike.
    pub(super) async fn compare(&mut self, client: &Client, when: &str) {
        let resources: Vec<_> = self.possible.keys().copied().collect();
        for resource in resources {
            let seen = describe(client, resource).await;
            let possible = &self.possible[&resource];
            assert!(
                possible.contains(&seen),
                "{resource:?} is {seen:?} {when}, and can only be {possible:?}"
            );
            self.possible.insert(resource, BTreeSet::from([seen]));
        }
        for (list, members, name) in [
            ("ListModels", "Models", "ModelName"),
            ("ListEndpointConfigs", "EndpointConfigs", "EndpointConfigName"),
        ] {
            let listed = client.control(list, json!({"MaxResults": 100})).await;
            let listed = listed[members].as_array().expect("a list").iter();
            let listed: BTreeSet<_> = listed.map(|it| it[name].as_str().expect("a name")).collect();
            assert_eq!(listed.into_iter().collect::<Vec<_>>(), self.names(members), "{when}");
        }
    }

    /// The names that a list must hold, in order.
    fn names(&self, members: &str) -> Vec<&'static str> {
        let is_there = |(resource, states): (&Resource, &BTreeSet<State>)| {
            let name = match resource {
                Resource::Model(name) if members == "Models" => *name,
                Resource::Config(name) if members == "EndpointConfigs" => *name,
                _ => return None,
            };
            (!states.contains(&None)).then_some(name)
        };
        let mut names: Vec<_> = self.possible.iter().filter_map(is_there).chain([BASE]).collect();
        names.sort_unstable();
        names
    }

    /// How many instances the endpoint wants.
    pub(super) fn n_instances(&self) -> usize {
        let states = self.possible[&Resource::Endpoint].iter();
        let n_instances: u64 = states.map(|state| state.unwrap_or(0)).sum();
        usize::try_from(n_instances).expect("a handful")
    }
}

/// Whether the endpoint goes nowhere by itself; one that is not there does not.
pub(super) async fn is_settled(client: &Client) -> bool {
    let described = client.try_control("DescribeEndpoint", json!({"EndpointName": ENDPOINT})).await;
    described.map_or(true, |it| it["EndpointStatus"] == "InService")
}

pub(super) async fn delete_endpoint(client: &Client) {
    // It may be gone already.
    let _ = client.try_control("DeleteEndpoint", json!({"EndpointName": ENDPOINT})).await;
}

/// Returns the state of a resource, and fails the test if its record is not whole.
async fn describe(client: &Client, resource: Resource) -> State {
    let (operation, input) = match resource {
        Resource::Model(name) => ("DescribeModel", json!({"ModelName": name})),
        Resource::Config(name) => ("DescribeEndpointConfig", json!({"EndpointConfigName": name})),
        Resource::Endpoint => ("DescribeEndpoint", json!({"EndpointName": ENDPOINT})),
    };
    let described = match client.try_control(operation, input).await {
        Ok(described) => described,
        Err(error) => {
            assert!(error.to_string().contains("Could not find"), "{error}");
            return None;
        }
    };
    match resource {
        Resource::Model(name) => {
            let seen = &described["PrimaryContainer"];
            for (member, value) in container().as_object().expect("an object") {
                assert_eq!(&seen[member], value, "{described}");
            }
            let tags = client.control("ListTags", json!({"ResourceArn": arn(name)})).await;
            let tag = tags["Tags"][0]["Value"].as_str().unwrap_or("0").parse();
            Some(tag.expect("the script's tags are numbers"))
        }
        Resource::Config(_) => {
            let seen = &described["ProductionVariants"][0];
            for (member, value) in variant().as_object().expect("an object") {
                assert_eq!(&seen[member], value, "{described}");
            }
            Some(0)
        }
        Resource::Endpoint if described["EndpointStatus"] == "Deleting" => None,
        Resource::Endpoint => {
            // What is under way counts.
            let pending = &described["PendingDeploymentSummary"];
            let variants = if pending.is_null() {
                &described["ProductionVariants"]
            } else {
                &pending["ProductionVariants"]
            };
            let n_instances = variants[0]["DesiredInstanceCount"].as_u64();
            Some(
                n_instances.unwrap_or_else(|| panic!("an endpoint without instances: {described}")),
            )
        }
    }
}
