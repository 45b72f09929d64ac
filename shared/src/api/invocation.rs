//! Headers of an invocation, from the client through the router to the worker and back.
//!
//! Names are lower case, as HTTP libraries compare them. Those of SageMaker are from the API model
//! of 2017-05-13 (`InvokeEndpoint`).

/// What the client asks for: the artifact relative to the variant's prefix.
pub const TARGET_MODEL: &str = "x-amzn-sagemaker-target-model";
pub const TARGET_VARIANT: &str = "x-amzn-sagemaker-target-variant";
pub const CUSTOM_ATTRIBUTES: &str = "x-amzn-sagemaker-custom-attributes";
pub const INFERENCE_ID: &str = "x-amzn-sagemaker-inference-id";
pub const SESSION_ID: &str = "x-amzn-sagemaker-session-id";
pub const NEW_SESSION_ID: &str = "x-amzn-sagemaker-new-session-id";
pub const CLOSED_SESSION_ID: &str = "x-amzn-sagemaker-closed-session-id";
pub const TARGET_CONTAINER_HOSTNAME: &str = "x-amzn-sagemaker-target-container-hostname";
pub const ENABLE_EXPLANATIONS: &str = "x-amzn-sagemaker-enable-explanations";
pub const INFERENCE_COMPONENT: &str = "x-amzn-sagemaker-inference-component";
pub const PREFIX_AWARE_ID: &str = "x-amzn-sagemaker-prefix-aware-id";

/// Which variant answered; the router sets it.
pub const INVOKED_VARIANT: &str = "x-amzn-invoked-production-variant";
/// The id of this invocation; the router sets it, also on every error.
pub const REQUEST_ID: &str = "x-amzn-requestid";
/// Milliseconds until a stock client (botocore ≥ 1.44) tries again.
pub const RETRY_AFTER_MS: &str = "x-amz-retry-after";

/// Router → worker: the artifact's whole address.
pub const ARTIFACT: &str = "x-manifold-artifact";
/// Router → worker: how long the worker may take until the head of its answer, milliseconds.
pub const DEADLINE_MS: &str = "x-manifold-deadline-ms";
/// Router → worker: [`CACHE_DISABLED`] if the model shall leave memory and disk after the invocation
/// (SageMaker's `ModelCacheSetting`).
pub const CACHE_SETTING: &str = "x-manifold-cache-setting";
pub const CACHE_DISABLED: &str = "disabled";
/// Router → worker: [`SERVE_STALE`] if a model whose object was deleted shall go on being served.
pub const ON_DELETED: &str = "x-manifold-on-deleted";
pub const SERVE_STALE: &str = "serve-stale";
/// Joins the logs of router and worker: the request id.
pub const INVOCATION_ID: &str = "x-manifold-invocation-id";

/// Worker → router → client: `hit` or `miss`.
pub const CACHE: &str = "x-manifold-cache";
/// Worker → router → client, after a miss: how long the invocation waited for the load.
pub const LOAD_MS: &str = "x-manifold-load-ms";
/// Router → client: the instance that answered.
pub const INSTANCE: &str = "x-manifold-instance";
/// Worker → router, on every error of the worker itself: an [`ErrorKind`](super::error::ErrorKind).
pub const ERROR_KIND: &str = "x-manifold-error";
