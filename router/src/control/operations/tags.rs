//! Tags of models, endpoint configurations and endpoints.

use super::{
    Context, Outcome,
    input::{Input, MAX_TAGS, check_tag_key, take_tags, text},
    listing::invalid_token,
};
use crate::control::{
    arn::{self, ResourceKind},
    catalog::{Catalog, Change, Endpoint, EndpointConfig, Model, Tag},
    error::ControlError,
};
use serde_json::{Value, json};

/// Adds tags, or changes those that have the same keys.
pub(super) fn add(
    catalog: &Catalog,
    _: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let added = take_tags(&mut input.clone())?;
    let (kind, key, mut tags) = find(catalog, input)?;
    for tag in added {
        match tags.iter_mut().find(|old| old.key == tag.key) {
            Some(old) => *old = tag,
            None => tags.push(tag),
        }
    }
    if tags.len() > MAX_TAGS {
        let message = format!(
            "The request would give the resource {} tags, more than {MAX_TAGS}.",
            tags.len()
        );
        return Err(ControlError::validation(message));
    }
    let output = json!({ "Tags": tags });
    Ok(Outcome::change(put(catalog, kind, &key, tags)?, output))
}

/// One page has them all: its least size is the number of tags that a resource may have.
pub(super) fn list(
    catalog: &Catalog,
    _: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let (_, _, tags) = find(catalog, input)?;
    if !text(input, "NextToken").is_empty() {
        return Err(invalid_token());
    }
    Ok(Outcome::read(json!({ "Tags": tags })))
}

/// Deletes tags. Those that are not there are gone already.
pub(super) fn delete(
    catalog: &Catalog,
    _: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let keys = input.get("TagKeys").and_then(Value::as_array).into_iter().flatten();
    let keys: Vec<&str> = keys.filter_map(Value::as_str).collect();
    for key in &keys {
        check_tag_key(key)?;
    }
    let (kind, key, mut tags) = find(catalog, input)?;
    tags.retain(|tag| !keys.contains(&&*tag.key));
    Ok(Outcome::silent(put(catalog, kind, &key, tags)?))
}

/// Returns the resource that an input names: its kind, its key, its tags.
fn find(
    catalog: &Catalog,
    input: &Input,
) -> Result<(ResourceKind, String, Vec<Tag>), ControlError> {
    let wanted = text(input, "ResourceArn");
    let (kind, key) = arn::parse(wanted).ok_or_else(|| unsupported(wanted))?;
    let found = match kind {
        ResourceKind::Model => catalog.models.get(&key).map(|it| (&it.arn, &it.tags)),
        ResourceKind::EndpointConfig => catalog.configs.get(&key).map(|it| (&it.arn, &it.tags)),
        ResourceKind::Endpoint => catalog.endpoints.get(&key).map(|it| (&it.arn, &it.tags)),
    };
    // Another account's or region's resource of the same name is another one.
    let found = found.filter(|(arn, _)| arn::is_same(arn, wanted));
    let (_, tags) = found.ok_or_else(|| ControlError::not_found(kind, wanted))?;
    Ok((kind, key, tags.clone()))
}

fn unsupported(arn: &str) -> ControlError {
    ControlError::validation(format!("Could not find resource \"{arn}\"."))
}

/// Returns the change that gives a resource these tags.
fn put(
    catalog: &Catalog,
    kind: ResourceKind,
    key: &str,
    tags: Vec<Tag>,
) -> Result<Change, ControlError> {
    let change = match kind {
        ResourceKind::Model => {
            let record = catalog.models.get(key).map(|it| (**it).clone());
            record.map(|record| Change::PutModel(Model { tags, ..record }))
        }
        ResourceKind::EndpointConfig => {
            let record = catalog.configs.get(key).map(|it| (**it).clone());
            record.map(|it| Change::PutConfig(EndpointConfig { tags, ..it }))
        }
        ResourceKind::Endpoint => {
            let record = catalog.endpoints.get(key).map(|it| (**it).clone());
            record.map(|it| Change::PutEndpoint(Endpoint { tags, ..it }))
        }
    };
    change.ok_or_else(ControlError::internal)
}
