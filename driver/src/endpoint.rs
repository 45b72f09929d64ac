//! The endpoint of a local cluster, made by the control plane like anybody's.

use crate::{
    child::POLL,
    client::{Client, ClientError},
    console,
};
use serde_json::{Value, json};
use shared::address::ModelDataUrl;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The endpoint, its configuration and its model have one name.
pub const ENDPOINT: &str = "demo";

/// What the model names where instances are Manifold's own workers. Any would do.
const OWN_IMAGE: &str = "manifold";

/// The variant of that endpoint, named as SageMaker does for those who name none.
const VARIANT: &str = "AllTraffic";

/// Longer than a router waits for workers before it says that they do not come. A container may take
/// longer to start; its launcher says so when it gives up.
const PATIENCE: Duration = Duration::from_mins(20);

/// Any would do: SageMaker asks for a role of a certain form, and so do we.
const ROLE: &str = "arn:aws:iam::123456789012:role/manifold";

#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("endpoint `{ENDPOINT}` failed: {0}")]
    Failed(String),
    #[error(
        "endpoint `{ENDPOINT}` has {n_instances} instances and could not get {n_wanted}: {reason}"
    )]
    NotResized { n_instances: usize, n_wanted: usize, reason: String },
    #[error(
        "endpoint `{ENDPOINT}` cannot have {n_wanted} instances, because endpoints of an earlier run have so many that there may be no more: raise --max-instances or ask for fewer --workers ({message})"
    )]
    Limit { n_wanted: usize, message: String },
    #[error("endpoint `{ENDPOINT}` is {status} after {PATIENCE:?}")]
    Slow { status: String },
}

/// Makes the endpoint over a prefix of models, of this image if it matters, or changes the number of instances of the one that is
/// there, and returns when it is in service: with how many instances. They are fewer than wanted if
/// other endpoints have the rest of those that there may be.
pub async fn ensure(
    client: &Client,
    image: Option<&str>,
    model_data_url: &ModelDataUrl,
    n_instances: usize,
) -> Result<usize, EndpointError> {
    let mut is_serving = is_serving(client).await?;
    if let Some(image) = image
        && is_serving
        && !has_image(&describe(client).await?, image)
    {
        // An earlier run had another.
        delete(client).await?;
        is_serving = false;
    }
    let image = image.unwrap_or(OWN_IMAGE);
    let made = if is_serving {
        resize(client, n_instances).await
    } else {
        create(client, image, model_data_url, n_instances).await.map(|()| n_instances)
    };
    let n_wanted = made.map_err(|error| limit(error, n_instances))?;
    serves(client).await?;
    has_instances(client, n_wanted).await?;
    Ok(n_wanted)
}

/// Makes the endpoint over a prefix of models in a pool, where every instance serves every endpoint,
/// unless it is there, and returns when it is in service.
pub async fn ensure_pooled(
    client: &Client,
    model_data_url: &ModelDataUrl,
    n_instances: usize,
) -> Result<(), EndpointError> {
    if !is_serving(client).await? {
        create(client, OWN_IMAGE, model_data_url, n_instances).await?;
    }
    serves(client).await
}

fn has_image(described: &Value, image: &str) -> bool {
    let variants = described["ProductionVariants"].as_array().into_iter().flatten();
    let mut images = variants.map(|it| &it["DeployedImages"][0]["SpecifiedImage"]);
    images.all(|it| it == image)
}

/// Whether it is in service already. One that failed is deleted, to be made anew.
async fn is_serving(client: &Client) -> Result<bool, EndpointError> {
    let status = settled(client).await?;
    if matches!(status.as_deref(), Some("Failed")) {
        delete(client).await?;
    }
    Ok(matches!(status.as_deref(), Some("InService")))
}

/// Returns when it is in service.
async fn serves(client: &Client) -> Result<(), EndpointError> {
    match settled(client).await?.as_deref() {
        Some("InService") => Ok(()),
        _ => Err(EndpointError::Failed(reason(&describe(client).await?))),
    }
}

/// Says what to do about it where the router says only that there is a limit.
fn limit(error: EndpointError, n_wanted: usize) -> EndpointError {
    match error {
        EndpointError::Client(ClientError::Refused { code, message, .. })
            if code.ends_with("ResourceLimitExceeded") =>
        {
            EndpointError::Limit { n_wanted, message }
        }
        error => error,
    }
}

/// Waits for the instances: an endpoint of an earlier run is in service by its record before they are
/// back. An update that failed is in service, too, with what it had before.
async fn has_instances(client: &Client, n_wanted: usize) -> Result<(), EndpointError> {
    let described = describe(client).await?;
    let n_instances = n_desired(&described);
    if n_instances != n_wanted {
        let reason = reason(&described);
        return Err(EndpointError::NotResized { n_instances, n_wanted, reason });
    }
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

fn n_desired(described: &Value) -> usize {
    let variants = described["ProductionVariants"].as_array().into_iter().flatten();
    let wanted = variants.filter_map(|it| it["DesiredInstanceCount"].as_u64());
    usize::try_from(wanted.sum::<u64>()).unwrap_or(usize::MAX)
}

/// Deletes the endpoint, and returns when it is gone.
pub async fn delete(client: &Client) -> Result<(), EndpointError> {
    let name = json!({ "EndpointName": ENDPOINT });
    client.control("DeleteEndpoint", &name).await?;
    settled(client).await.map(|_| ())
}

async fn create(
    client: &Client,
    image: &str,
    model_data_url: &ModelDataUrl,
    n_instances: usize,
) -> Result<(), EndpointError> {
    let model = json!({
        "ModelName": ENDPOINT,
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {
            "Image": image, "Mode": "MultiModel", "ModelDataUrl": model_data_url,
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

/// Returns how many instances it shall have now: what it has already, if there may be no more.
async fn resize(client: &Client, n_instances: usize) -> Result<usize, EndpointError> {
    let described = describe(client).await?;
    let n_before = n_desired(&described);
    let variants = described["ProductionVariants"].as_array().cloned().unwrap_or_default();
    // One with several variants was made by somebody who knows what it shall be.
    let [variant] = &*variants else { return Ok(n_before) };
    if n_before == n_instances {
        return Ok(n_before);
    }
    let input = json!({
        "EndpointName": ENDPOINT,
        "DesiredWeightsAndCapacities": [
            { "VariantName": variant["VariantName"], "DesiredInstanceCount": n_instances },
        ],
    });
    let resized = client.control("UpdateEndpointWeightsAndCapacities", &input).await;
    match resized.map_err(|error| limit(error.into(), n_instances)) {
        Ok(_) => Ok(n_instances),
        // It serves as it is, and the cluster must run for those who want to delete the others.
        Err(error @ EndpointError::Limit { .. }) => {
            console::say(&format!("note: {error}; it keeps {n_before}"));
            Ok(n_before)
        }
        Err(error) => Err(error),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_said_with_what_to_do_about_it() {
        let refused = ClientError::Refused {
            operation: "CreateEndpoint".to_owned(),
            code: "ResourceLimitExceeded".to_owned(),
            message: "The account-level service limit".to_owned(),
        };
        let error = limit(refused.into(), 5).to_string();
        assert!(error.contains("5 instances") && error.contains("--max-instances"), "{error}");
    }
}
