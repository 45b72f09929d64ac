//! The endpoint of a local cluster, made by the control plane like anybody's.

use crate::{
    child::POLL,
    client::{Client, ClientError},
};
use serde_json::{Value, json};
use shared::address::ModelDataUrl;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The endpoint, its configuration and its model have one name.
pub const ENDPOINT: &str = "demo";

/// The variant of that endpoint, named as SageMaker does for those who name none.
const VARIANT: &str = "AllTraffic";

/// Longer than a router waits for instances before it says that they do not come.
const PATIENCE: Duration = Duration::from_mins(3);

/// Any would do: SageMaker asks for a role of a certain form, and so do we.
const ROLE: &str = "arn:aws:iam::123456789012:role/manifold";

#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("endpoint `{ENDPOINT}` failed: {0}")]
    Failed(String),
    #[error("endpoint `{ENDPOINT}` is {status} after {PATIENCE:?}")]
    Slow { status: String },
}

/// Makes the endpoint over a prefix of models, or changes the number of instances of the one that is
/// there, and returns when it is in service.
pub async fn ensure(
    client: &Client,
    model_data_url: &ModelDataUrl,
    n_instances: usize,
) -> Result<(), EndpointError> {
    let status = settled(client).await?;
    if matches!(status.as_deref(), Some("Failed")) {
        delete(client).await?;
    }
    match status.as_deref() {
        Some("InService") => resize(client, n_instances).await?,
        _ => create(client, model_data_url, n_instances).await?,
    }
    match settled(client).await?.as_deref() {
        Some("InService") => has_instances(client).await,
        _ => Err(EndpointError::Failed(reason(&describe(client).await?))),
    }
}

/// Waits for the instances: an endpoint of an earlier run is in service by its record before they are
/// back.
async fn has_instances(client: &Client) -> Result<(), EndpointError> {
    let described = describe(client).await?;
    let variants = described["ProductionVariants"].as_array().cloned().unwrap_or_default();
    let wanted = variants.iter().filter_map(|it| it["DesiredInstanceCount"].as_u64());
    let n_wanted = usize::try_from(wanted.sum::<u64>()).unwrap_or(usize::MAX);
    // How a launcher names them.
    let prefix = format!("{ENDPOINT}-");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let instances = client.instances().await?.into_iter();
        let ours = instances.filter(|it| it.in_service && it.instance.starts_with(&prefix));
        let n_in_service = ours.count();
        if n_in_service >= n_wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            let status = format!("InService with {n_in_service} of {n_wanted} instances");
            return Err(EndpointError::Slow { status });
        }
        sleep(POLL).await;
    }
}

/// Deletes the endpoint, and returns when it is gone.
pub async fn delete(client: &Client) -> Result<(), EndpointError> {
    let name = json!({ "EndpointName": ENDPOINT });
    client.control("DeleteEndpoint", &name).await?;
    settled(client).await.map(|_| ())
}

async fn create(
    client: &Client,
    model_data_url: &ModelDataUrl,
    n_instances: usize,
) -> Result<(), EndpointError> {
    let model = json!({
        "ModelName": ENDPOINT,
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {
            "Image": "manifold", "Mode": "MultiModel", "ModelDataUrl": model_data_url,
        },
    });
    let config = json!({
        "EndpointConfigName": ENDPOINT,
        "ProductionVariants": [{
            "VariantName": VARIANT, "ModelName": ENDPOINT, "InitialInstanceCount": n_instances,
            "InstanceType": "ml.m5.large",
        }],
    });
    // Left by an endpoint that was deleted: they may say something else than is wanted now.
    for (operation, name) in
        [("DeleteEndpointConfig", "EndpointConfigName"), ("DeleteModel", "ModelName")]
    {
        match client.control(operation, &json!({ name: ENDPOINT })).await {
            Ok(_) | Err(ClientError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let endpoint = json!({ "EndpointName": ENDPOINT, "EndpointConfigName": ENDPOINT });
    client.control("CreateModel", &model).await?;
    client.control("CreateEndpointConfig", &config).await?;
    client.control("CreateEndpoint", &endpoint).await?;
    Ok(())
}

async fn resize(client: &Client, n_instances: usize) -> Result<(), EndpointError> {
    let described = describe(client).await?;
    let variants = described["ProductionVariants"].as_array().cloned().unwrap_or_default();
    let wanted = json!(n_instances);
    let [variant] = &*variants else { return Ok(()) };
    if variant["DesiredInstanceCount"] == wanted {
        return Ok(());
    }
    let input = json!({
        "EndpointName": ENDPOINT,
        "DesiredWeightsAndCapacities": [
            { "VariantName": variant["VariantName"], "DesiredInstanceCount": wanted },
        ],
    });
    client.control("UpdateEndpointWeightsAndCapacities", &input).await?;
    Ok(())
}

/// Waits until the endpoint goes nowhere by itself, and returns its status; `None` if there is none.
async fn settled(client: &Client) -> Result<Option<String>, EndpointError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let described = match describe(client).await {
            Ok(described) => described,
            Err(EndpointError::Client(ClientError::Refused { message, .. }))
                if message.starts_with("Could not find") =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let status = described["EndpointStatus"].as_str().unwrap_or_default();
        if !matches!(status, "Creating" | "Updating" | "Deleting") {
            return Ok(Some(status.to_owned()));
        }
        if Instant::now() > deadline {
            return Err(EndpointError::Slow { status: status.to_owned() });
        }
        sleep(POLL).await;
    }
}

async fn describe(client: &Client) -> Result<Value, EndpointError> {
    Ok(client.control("DescribeEndpoint", &json!({ "EndpointName": ENDPOINT })).await?)
}

fn reason(described: &Value) -> String {
    described["FailureReason"].as_str().unwrap_or("it does not say why").to_owned()
}
