//! The header names of the wire as values, so that no invocation parses a name.

use actix_web::http::header::HeaderName;
use shared::{api::invocation as wire, token};

pub static TARGET_MODEL: HeaderName = HeaderName::from_static(wire::TARGET_MODEL);
pub static TARGET_VARIANT: HeaderName = HeaderName::from_static(wire::TARGET_VARIANT);
pub static CUSTOM_ATTRIBUTES: HeaderName = HeaderName::from_static(wire::CUSTOM_ATTRIBUTES);
pub static SESSION_ID: HeaderName = HeaderName::from_static(wire::SESSION_ID);
pub static NEW_SESSION_ID: HeaderName = HeaderName::from_static(wire::NEW_SESSION_ID);
pub static CLOSED_SESSION_ID: HeaderName = HeaderName::from_static(wire::CLOSED_SESSION_ID);

/// Where `Accept` and `Content-Type` of the model are, if those of HTTP are the operation's own.
pub static MODEL_ACCEPT: HeaderName = HeaderName::from_static("x-amzn-sagemaker-accept");
pub static MODEL_CONTENT_TYPE: HeaderName =
    HeaderName::from_static("x-amzn-sagemaker-content-type");

/// Those of asynchronous invocations.
pub static INPUT_LOCATION: HeaderName = HeaderName::from_static("x-amzn-sagemaker-inputlocation");
pub static OUTPUT_LOCATION: HeaderName = HeaderName::from_static("x-amzn-sagemaker-outputlocation");
pub static FAILURE_LOCATION: HeaderName =
    HeaderName::from_static("x-amzn-sagemaker-failurelocation");

pub static INVOKED_VARIANT: HeaderName = HeaderName::from_static(wire::INVOKED_VARIANT);
pub static REQUEST_ID: HeaderName = HeaderName::from_static(wire::REQUEST_ID);
pub static RETRY_AFTER_MS: HeaderName = HeaderName::from_static(wire::RETRY_AFTER_MS);
/// The operation of the control plane that is meant.
pub static TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// The name of an error, for every SDK of the runtime API.
pub static ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

pub static CLUSTER_TOKEN: HeaderName = HeaderName::from_static(token::HEADER);
pub static ARTIFACT: HeaderName = HeaderName::from_static(wire::ARTIFACT);
pub static DEADLINE_MS: HeaderName = HeaderName::from_static(wire::DEADLINE_MS);
pub static CACHE_SETTING: HeaderName = HeaderName::from_static(wire::CACHE_SETTING);
pub static ON_DELETED: HeaderName = HeaderName::from_static(wire::ON_DELETED);
pub static INVOCATION_ID: HeaderName = HeaderName::from_static(wire::INVOCATION_ID);
pub static CACHE: HeaderName = HeaderName::from_static(wire::CACHE);
pub static LOAD_MS: HeaderName = HeaderName::from_static(wire::LOAD_MS);
pub static INSTANCE: HeaderName = HeaderName::from_static(wire::INSTANCE);
pub static ERROR_KIND: HeaderName = HeaderName::from_static(wire::ERROR_KIND);
