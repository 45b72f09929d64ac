//! Endpoints: created, listed, deleted. What follows a change of state is the driver's to do.

use super::{
    Context, Outcome, configs, deployment,
    input::{Input, take_tags, text},
    instances,
    listing::{self, Row},
};
use crate::control::{
    arn::ResourceKind,
    catalog::{Catalog, Change, Endpoint, EndpointStatus},
    error::ControlError,
};
use serde_json::json;
use shared::id::EndpointName;

const KIND: ResourceKind = ResourceKind::Endpoint;

pub(super) fn create(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let mut input = input.clone();
    let tags = take_tags(&mut input)?;
    let name = EndpointName::try_from(text(&input, "EndpointName").to_owned());
    let name = name.map_err(|_| ControlError::internal())?;
    ctx.check_new(catalog, KIND, name.as_str())?;
    let config = configs::find(catalog, ctx, &input)?;
    let deployment = deployment::of_config(catalog, ctx, config)?;
    instances::check_limit(catalog, ctx, &deployment)?;

    let arn = ctx.arn(KIND, name.as_str());
    let output = json!({ "EndpointArn": arn });
    let endpoint = Endpoint {
        name,
        arn,
        created: ctx.now,
        modified: ctx.now,
        config_name: config.name.clone(),
        status: EndpointStatus::Creating,
        failure_reason: None,
        active: None,
        pending: Some(deployment),
        retired: Vec::new(),
        tags,
        input,
    };
    Ok(Outcome::change(Change::PutEndpoint(endpoint), output))
}

pub(super) fn list(
    catalog: &Catalog,
    _: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let rows = catalog.endpoints.iter().map(|(key, endpoint)| Row {
        key,
        name: endpoint.name.as_str(),
        created: endpoint.created,
        changing: Some((endpoint.modified, endpoint.status)),
        record: endpoint,
    });
    let page = listing::page("ListEndpoints", rows, input)?;
    Ok(Outcome::read(page.output("Endpoints", |endpoint| {
        json!({
            "EndpointName": endpoint.name.as_str(),
            "EndpointArn": endpoint.arn,
            "CreationTime": endpoint.created.seconds(),
            "LastModifiedTime": endpoint.modified.seconds(),
            "EndpointStatus": endpoint.status.as_str(),
        })
    })))
}

/// SageMaker refuses this while an endpoint is being created or updated, for up to half an hour when
/// an instance does not come up. Here it is allowed: nothing is half done that the driver could not
/// take down. All deployments stay recorded until it has.
pub(super) fn delete(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let endpoint = find(catalog, ctx, input)?;
    if endpoint.status == EndpointStatus::Deleting {
        return Err(ControlError::in_progress(&endpoint.arn));
    }
    Ok(Outcome::silent(Change::PutEndpoint(Endpoint {
        status: EndpointStatus::Deleting,
        modified: ctx.now,
        ..endpoint.clone()
    })))
}

/// Returns the endpoint that an input names.
pub(super) fn find<'a>(
    catalog: &'a Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<&'a Endpoint, ControlError> {
    let name = text(input, "EndpointName");
    Ok(catalog.endpoint(name).ok_or_else(|| ctx.not_found(KIND, name))?)
}
