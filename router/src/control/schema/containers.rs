//! Shapes of a model's containers.

use super::{
    NO_MAX, NO_MIN, Shape, Text, integer, list,
    names::{ANY_2048, BOOLEAN, ENVIRONMENT_KEY, ENVIRONMENT_VALUE, NAME, URL},
    optional, required, text,
};

static IMAGE: Shape = text(0, 255, r"[\S]+");
static INFERENCE_SPECIFICATION_NAME: Shape = text(1, 63, "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}");
static ACCESS_MODE: Shape = Shape::Choice("Platform Vpc");
static REPOSITORY_AUTH: Shape =
    Shape::Structure(&[required("RepositoryCredentialsProviderArn", &ANY_2048)]);
static IMAGE_CONFIG: Shape = Shape::Structure(&[
    required("RepositoryAccessMode", &ACCESS_MODE),
    optional("RepositoryAuthConfig", &REPOSITORY_AUTH),
]);
static MODE: Shape = Shape::Choice("SingleModel MultiModel");
static CACHE_SETTING: Shape = Shape::Choice("Enabled Disabled");
static MULTI_MODEL: Shape = Shape::Structure(&[optional("ModelCacheSetting", &CACHE_SETTING)]);
/// The model package's name or ARN. The API model forbids a hyphen at its end by looking behind.
static VERSIONED_ARN_OR_NAME: Shape = Shape::Text(Text::looking_around(
    1,
    176,
    r"(arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z\-]*\/)?([a-zA-Z0-9]([a-zA-Z0-9-]){0,62})(?<!-)(\/[0-9]{1,9})?",
    r"(arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z\-]*/)?[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(/[0-9]{1,9})?",
));
static ENVIRONMENT: Shape =
    Shape::Map { key: &ENVIRONMENT_KEY, value: &ENVIRONMENT_VALUE, max: 100 };

static S3_DATA_TYPE: Shape = Shape::Choice("S3Prefix S3Object");
static COMPRESSION: Shape = Shape::Choice("None Gzip");
static MODEL_ACCESS: Shape = Shape::Structure(&[required("AcceptEula", &BOOLEAN)]);
static HUB_CONTENT_ARN: Shape = text(0, 255, ".*");
static HUB_ACCESS: Shape = Shape::Structure(&[required("HubContentArn", &HUB_CONTENT_ARN)]);
/// The API model has no bound; this is S3's for what it describes.
static ETAG: Shape = text(0, 1024, r"[\s\S]*");
static S3_DATA_SOURCE: Shape = Shape::Structure(&[
    required("S3Uri", &URL),
    required("S3DataType", &S3_DATA_TYPE),
    required("CompressionType", &COMPRESSION),
    optional("ModelAccessConfig", &MODEL_ACCESS),
    optional("HubAccessConfig", &HUB_ACCESS),
    optional("ManifestS3Uri", &URL),
    optional("ETag", &ETAG),
    optional("ManifestEtag", &ETAG),
]);
static DATA_SOURCE: Shape = Shape::Structure(&[optional("S3DataSource", &S3_DATA_SOURCE)]);
static CHANNEL_NAME: Shape = text(1, 64, r"[A-Za-z0-9\.\-_]+");
static ADDITIONAL_DATA_SOURCE: Shape = Shape::Structure(&[
    required("ChannelName", &CHANNEL_NAME),
    required("S3DataSource", &S3_DATA_SOURCE),
]);
static ADDITIONAL_DATA_SOURCES: Shape = list(&ADDITIONAL_DATA_SOURCE, 0, 5);

/// The API model forbids `..` by looking ahead: here every dot is followed by something else.
static METRICS_PATH: Shape = Shape::Text(Text::looking_around(
    0,
    256,
    r"/(?!.*\.\.)[a-zA-Z0-9/_.\-]+",
    r"/(\.?[a-zA-Z0-9/_\-])+\.?|/\.",
));
pub static PUBLISH_FREQUENCY: Shape = integer(NO_MIN, NO_MAX);
static METRICS_ENDPOINT: Shape = Shape::Structure(&[
    required("MetricsEndpointPath", &METRICS_PATH),
    optional("MetricPublishFrequencyInSeconds", &PUBLISH_FREQUENCY),
]);
static METRICS_ENDPOINTS: Shape = list(&METRICS_ENDPOINT, 0, 1);
static CONTAINER_METRICS: Shape =
    Shape::Structure(&[optional("MetricsEndpoints", &METRICS_ENDPOINTS)]);

pub static CONTAINER: Shape = Shape::Structure(&[
    optional("ContainerHostname", &NAME),
    optional("Image", &IMAGE),
    optional("ImageConfig", &IMAGE_CONFIG),
    optional("Mode", &MODE),
    optional("ModelDataUrl", &URL),
    optional("ModelDataSource", &DATA_SOURCE),
    optional("AdditionalModelDataSources", &ADDITIONAL_DATA_SOURCES),
    optional("Environment", &ENVIRONMENT),
    optional("ModelPackageName", &VERSIONED_ARN_OR_NAME),
    optional("InferenceSpecificationName", &INFERENCE_SPECIFICATION_NAME),
    optional("MultiModelConfig", &MULTI_MODEL),
    optional("ContainerMetricsConfig", &CONTAINER_METRICS),
]);
pub static CONTAINERS: Shape = list(&CONTAINER, 0, 15);

static EXECUTION_MODE: Shape = Shape::Choice("Serial Direct");
pub static INFERENCE_EXECUTION: Shape = Shape::Structure(&[required("Mode", &EXECUTION_MODE)]);
