//! What a client of the control plane did, and what it must therefore see.

use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tests::Client;

/// A handful, so that names come again.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// One, because instances cost seconds.
const ENDPOINT: &str = "only";

/// The model that the others stand on; the script leaves it alone.
const BASE: &str = "base";

/// Configurations that the endpoint moves between, each with its number of instances; the script
/// leaves them alone.
const BASE_CONFIGS: [(&str, u64); 2] = [("base", 1), ("base-2", 2)];

/// Calls of [`Log::start`].
pub(super) const N_CALLS_AT_START: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Resource {
    Model(&'static str),
    Config(&'static str),
    Endpoint,
}

/// What calls change of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Absent,
    Model { tag: u64 },
    Config,
    Endpoint { config: &'static str, n_instances: u64 },
}

/// A call, and what it makes of its resource.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) input: Value,
    resource: Resource,
    before: State,
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

fn variant(n_instances: u64) -> Value {
    json!({
        "VariantName": "AllTraffic", "ModelName": BASE, "InitialInstanceCount": n_instances,
        "InstanceType": "ml.m5.large",
    })
}

fn config(name: &str, n_instances: u64) -> Value {
    json!({"EndpointConfigName": name, "ProductionVariants": [variant(n_instances)]})
}

fn arn(name: &str) -> String {
    format!("arn:aws:sagemaker:us-east-1:123456789012:model/{name}")
}

impl Log {
    /// Makes what the script stands on.
    pub(super) async fn start(client: &Client) -> Self {
        client.control("CreateModel", model(BASE)).await;
        for (name, n_instances) in BASE_CONFIGS {
            client.control("CreateEndpointConfig", config(name, n_instances)).await;
        }
        let models = NAMES.map(Resource::Model).into_iter();
        let all = models.chain(NAMES.map(Resource::Config)).chain([Resource::Endpoint]);
        let possible = all.map(|resource| (resource, BTreeSet::from([State::Absent]))).collect();
        Self { possible, n_operations: 0 }
    }

    /// Chooses the next call: mostly one that can be done. Every resource was compared since the last.
    pub(super) fn next(&mut self, random: &mut StdRng) -> Operation {
        self.n_operations += 1;
        let resources: Vec<_> = self.possible.keys().copied().collect();
        let resource = resources[random.random_range(0..resources.len())];
        let before = *self.possible[&resource].first().expect("a resource is in some state");
        let (name, input, then) = match (resource, before) {
            (Resource::Model(name), before) => self.of_model(random, name, before),
            (Resource::Config(name), State::Absent) => {
                ("CreateEndpointConfig", config(name, 1), State::Config)
            }
            (Resource::Config(name), _) => {
                ("DeleteEndpointConfig", json!({"EndpointConfigName": name}), State::Absent)
            }
            (Resource::Endpoint, before) => of_endpoint(random, before),
        };
        Operation { name, input, resource, before, then }
    }

    fn of_model(
        &self,
        random: &mut StdRng,
        name: &'static str,
        before: State,
    ) -> (&'static str, Value, State) {
        if before == State::Absent {
            return ("CreateModel", model(name), State::Model { tag: 0 });
        }
        if random.random() {
            return ("DeleteModel", json!({"ModelName": name}), State::Absent);
        }
        let tag = json!({"Key": "n", "Value": self.n_operations.to_string()});
        let input = json!({"ResourceArn": arn(name), "Tags": [tag]});
        ("AddTags", input, State::Model { tag: self.n_operations })
    }

    /// The call was acknowledged.
    pub(super) fn done(&mut self, operation: &Operation) {
        self.possible.insert(operation.resource, BTreeSet::from([operation.then]));
    }

    /// The call was not answered.
    pub(super) fn perhaps_done(&mut self, operation: &Operation) {
        self.possible.entry(operation.resource).or_default().insert(operation.then);
    }

    /// Whether a call that was not answered was done, once it was compared; `None` if it would have
    /// changed nothing.
    pub(super) fn was_done(&self, operation: &Operation) -> Option<bool> {
        let is_then = self.possible[&operation.resource].contains(&operation.then);
        (operation.before != operation.then).then_some(is_then)
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
        self.compare_endpoints(client, when).await;
    }

    /// Between two calls, an endpoint may go on to its next status.
    async fn compare_endpoints(&self, client: &Client, when: &str) {
        let before = status(client).await;
        let listed = client.control("ListEndpoints", json!({"MaxResults": 100})).await;
        let after = status(client).await;
        let listed = match &**listed["Endpoints"].as_array().expect("a list") {
            [] => None,
            [one] if one["EndpointName"] == ENDPOINT => Some(one["EndpointStatus"].clone()),
            _ => panic!("{listed} {when}"),
        };
        assert!(listed == before || listed == after, "{listed:?}, {before:?}, {after:?} {when}");
        let is_gone = listed.is_none_or(|status| status == "Deleting");
        let is_absent = self.possible[&Resource::Endpoint].contains(&State::Absent);
        assert_eq!(is_gone, is_absent, "{when}");
    }

    /// The names that a list must hold, in order.
    fn names(&self, members: &str) -> Vec<&'static str> {
        let is_there = |(resource, states): (&Resource, &BTreeSet<State>)| {
            let name = match resource {
                Resource::Model(name) if members == "Models" => *name,
                Resource::Config(name) if members == "EndpointConfigs" => *name,
                _ => return None,
            };
            (!states.contains(&State::Absent)).then_some(name)
        };
        let made: Vec<_> = self.possible.iter().filter_map(is_there).collect();
        let base = match members {
            "Models" => vec![BASE],
            _ => BASE_CONFIGS.map(|(name, _)| name).to_vec(),
        };
        let mut names = [made, base].concat();
        names.sort_unstable();
        names
    }

    /// How many instances the endpoint wants.
    pub(super) fn n_instances(&self) -> usize {
        let states = self.possible[&Resource::Endpoint].iter();
        let n_instances: u64 = states
            .map(|state| match state {
                State::Endpoint { n_instances, .. } => *n_instances,
                _ => 0,
            })
            .sum();
        usize::try_from(n_instances).expect("a handful")
    }
}

fn of_endpoint(random: &mut StdRng, before: State) -> (&'static str, Value, State) {
    let State::Endpoint { config, .. } = before else {
        let (config, n_instances) = BASE_CONFIGS[random.random_range(0..BASE_CONFIGS.len())];
        let input = json!({"EndpointName": ENDPOINT, "EndpointConfigName": config});
        return ("CreateEndpoint", input, State::Endpoint { config, n_instances });
    };
    match random.random_range(0..4) {
        0 => ("DeleteEndpoint", json!({"EndpointName": ENDPOINT}), State::Absent),
        1 => {
            let n_instances = random.random_range(1..=2);
            let desired = json!({"VariantName": "AllTraffic", "DesiredInstanceCount": n_instances});
            let input = json!({"EndpointName": ENDPOINT, "DesiredWeightsAndCapacities": [desired]});
            let then = State::Endpoint { config, n_instances };
            ("UpdateEndpointWeightsAndCapacities", input, then)
        }
        _ => {
            let other = BASE_CONFIGS.into_iter().find(|(name, _)| *name != config);
            let (config, n_instances) = other.expect("there are two");
            let input = json!({"EndpointName": ENDPOINT, "EndpointConfigName": config});
            ("UpdateEndpoint", input, State::Endpoint { config, n_instances })
        }
    }
}

/// Whether the endpoint goes nowhere by itself; one that is not there does not.
pub(super) async fn is_settled(client: &Client) -> bool {
    match client.try_control("DescribeEndpoint", json!({"EndpointName": ENDPOINT})).await {
        Ok(described) => described["EndpointStatus"] == "InService",
        Err(error) => is_absence(&error.to_string()),
    }
}

fn is_absence(error: &str) -> bool {
    error.contains("Could not find")
}

/// Returns the endpoint's status as it is described.
async fn status(client: &Client) -> Option<Value> {
    match client.try_control("DescribeEndpoint", json!({"EndpointName": ENDPOINT})).await {
        Ok(described) => Some(described["EndpointStatus"].clone()),
        Err(error) => {
            assert!(is_absence(&error.to_string()), "{error}");
            None
        }
    }
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
            assert!(is_absence(&error.to_string()), "{error}");
            return State::Absent;
        }
    };
    match resource {
        Resource::Model(name) => {
            holds(&described["PrimaryContainer"], &container());
            let tags = client.control("ListTags", json!({"ResourceArn": arn(name)})).await;
            let tag = tags["Tags"][0]["Value"].as_str().unwrap_or("0").parse();
            State::Model { tag: tag.expect("the script's tags are numbers") }
        }
        Resource::Config(_) => {
            holds(&described["ProductionVariants"][0], &variant(1));
            State::Config
        }
        Resource::Endpoint => endpoint(&described),
    }
}

fn holds(seen: &Value, made: &Value) {
    for (member, value) in made.as_object().expect("an object") {
        assert_eq!(&seen[member], value, "{seen}");
    }
}

fn endpoint(described: &Value) -> State {
    if described["EndpointStatus"] == "Deleting" {
        return State::Absent;
    }
    // What is under way counts.
    let pending = &described["PendingDeploymentSummary"];
    let deployment = if pending.is_null() { described } else { pending };
    let config = &deployment["EndpointConfigName"];
    let config = BASE_CONFIGS.into_iter().find(|(name, _)| config == name);
    let n_instances = deployment["ProductionVariants"][0]["DesiredInstanceCount"].as_u64();
    match (config, n_instances) {
        (Some((config, _)), Some(n_instances)) => State::Endpoint { config, n_instances },
        _ => panic!("half an endpoint: {described}"),
    }
}
