//! Models: what runs, and where its data lies.

use super::{
    Context, Outcome,
    input::{Input, structure, structures, take_tags, text},
    listing::{self, Row},
};
use crate::control::{
    arn::ResourceKind,
    catalog::{Catalog, Change, Model, key},
    error::ControlError,
};
use serde_json::{Value, json};
use shared::address::ModelDataUrl;

const KIND: ResourceKind = ResourceKind::Model;

/// Keys and values of one container's environment together, bytes (API reference).
const MAX_ENVIRONMENT_BYTES: usize = 32 * 1024;

/// Where the data of one container lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelData {
    /// As the client wrote it.
    pub given: String,
    /// The same in canonical form.
    pub url: ModelDataUrl,
    /// Whether it is a prefix, below which models lie; else it is one object.
    pub is_multi_model: bool,
}

/// Returns where the data of a valid `CreateModel` input lies, so that its existence can be checked
/// before the model is created.
pub fn model_data_urls(
    input: &Input,
    own_hosts: &[String],
) -> Result<Vec<ModelData>, ControlError> {
    let urls = containers(input).filter(|container| container.contains_key("ModelDataUrl"));
    urls.map(|container| model_data(container, own_hosts)).collect()
}

fn model_data(container: &Input, own_hosts: &[String]) -> Result<ModelData, ControlError> {
    let given = text(container, "ModelDataUrl");
    let url = ModelDataUrl::parse_sagemaker(given, own_hosts).map_err(|error| {
        ControlError::validation(format!("Could not find model data at {given}: {error}."))
    })?;
    Ok(ModelData { given: given.to_owned(), url, is_multi_model: is_multi_model(container) })
}

/// The containers of a model, whichever way it names them.
pub(super) fn containers(input: &Input) -> impl Iterator<Item = &Input> + Clone {
    structure(input, "PrimaryContainer").into_iter().chain(structures(input, "Containers"))
}

pub(super) fn is_multi_model(container: &Input) -> bool {
    text(container, "Mode") == "MultiModel"
}

pub(super) fn create(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let mut input = input.clone();
    let tags = take_tags(&mut input)?;
    let name = text(&input, "ModelName").to_owned();
    check_containers(&input)?;
    for container in containers(&input) {
        check_container(container)?;
    }
    model_data_urls(&input, ctx.own_hosts)?;
    ctx.check_new(catalog, KIND, &name)?;

    let arn = ctx.arn(KIND, &name);
    let output = json!({ "ModelArn": arn });
    set_defaults(&mut input);
    let model = Model { name, arn, created: ctx.now, input, tags };
    Ok(Outcome::change(Change::PutModel(model), output))
}

/// Refuses a choice of containers that means nothing.
fn check_containers(input: &Input) -> Result<(), ControlError> {
    let has_primary = input.contains_key("PrimaryContainer");
    let n_others = structures(input, "Containers").count();
    if has_primary && n_others > 0 {
        return Err(ControlError::validation(
            "You must provide either PrimaryContainer or Containers, not both.",
        ));
    }
    if !has_primary && n_others == 0 {
        return Err(ControlError::validation(
            "You must provide a PrimaryContainer or at least one container in Containers.",
        ));
    }
    if containers(input).filter(|container| is_multi_model(container)).count() > 1 {
        return Err(ControlError::validation(
            "Only one container of a model can have the mode MultiModel.",
        ));
    }
    Ok(())
}

fn check_container(container: &Input) -> Result<(), ControlError> {
    if text(container, "Image").is_empty() && text(container, "ModelPackageName").is_empty() {
        return Err(ControlError::validation(
            "A container must have an Image or a ModelPackageName.",
        ));
    }
    let has_source = container.contains_key("ModelDataSource");
    if has_source && container.contains_key("ModelDataUrl") {
        return Err(ControlError::validation(
            "A container can have a ModelDataUrl or a ModelDataSource, not both.",
        ));
    }
    if is_multi_model(container) {
        if has_source {
            return Err(ControlError::validation(
                "ModelDataSource is not supported for a container with the mode MultiModel.",
            ));
        }
        if text(container, "ModelDataUrl").is_empty() {
            return Err(ControlError::validation(
                "A container with the mode MultiModel must have a ModelDataUrl: the S3 prefix below \
                 which its models lie.",
            ));
        }
    } else if container.contains_key("MultiModelConfig") {
        return Err(ControlError::validation(
            "MultiModelConfig is only supported for a container with the mode MultiModel.",
        ));
    }
    let environment = structure(container, "Environment").into_iter().flatten();
    let n_bytes: usize =
        environment.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if n_bytes > MAX_ENVIRONMENT_BYTES {
        return Err(ControlError::validation(format!(
            "The environment of a container has {n_bytes} bytes, more than {MAX_ENVIRONMENT_BYTES}."
        )));
    }
    Ok(())
}

/// Writes down what SageMaker shows of a model that did not say it.
fn set_defaults(input: &mut Input) {
    input.entry("EnableNetworkIsolation").or_insert(Value::Bool(false));
    let (mut primary, mut others) = (None, None);
    for (member, value) in input.iter_mut() {
        match &**member {
            "PrimaryContainer" => primary = value.as_object_mut(),
            "Containers" => others = value.as_array_mut(),
            _ => {}
        }
    }
    let others = others.into_iter().flatten().filter_map(Value::as_object_mut);
    for container in primary.into_iter().chain(others) {
        container.entry("Mode").or_insert_with(|| json!("SingleModel"));
    }
}

pub(super) fn describe(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let name = text(input, "ModelName");
    let model = catalog.model(name).ok_or_else(|| ctx.not_found(KIND, name))?;
    let mut output = model.input.clone();
    output.insert("ModelArn".to_owned(), json!(model.arn));
    output.insert("CreationTime".to_owned(), json!(model.created.seconds()));
    Ok(Outcome::read(Value::Object(output)))
}

pub(super) fn list(
    catalog: &Catalog,
    _: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let rows = catalog.models.iter().map(|(key, model)| Row {
        key,
        name: &model.name,
        created: model.created,
        changing: None,
        record: model,
    });
    let page = listing::page("ListModels", rows, input)?;
    Ok(Outcome::read(page.output("Models", |model| {
        json!({
            "ModelName": model.name,
            "ModelArn": model.arn,
            "CreationTime": model.created.seconds(),
        })
    })))
}

pub(super) fn delete(
    catalog: &Catalog,
    ctx: &Context<'_>,
    input: &Input,
) -> Result<Outcome, ControlError> {
    let name = text(input, "ModelName");
    let model = catalog.model(name).ok_or_else(|| ctx.not_found(KIND, name))?;
    Ok(Outcome::silent(Change::DeleteModel(key(&model.name))))
}
