//! Shapes of what a configuration asks for beside its variants: capture, asynchronous answers,
//! explanations, metrics. Stored and shown; `AsyncInferenceConfig` alone has an effect.

use super::{
    NO_MAX, NO_MIN, Shape,
    containers::PUBLISH_FREQUENCY,
    integer, list,
    names::{ANY_64, BOOLEAN, KMS_KEY_ID, S3_DESTINATION, URL},
    optional, required, text,
};

static PERCENTAGE: Shape = integer(0, 100);
static CAPTURE_MODE: Shape = Shape::Choice("Input Output InputAndOutput");
static CAPTURE_OPTION: Shape = Shape::Structure(&[required("CaptureMode", &CAPTURE_MODE)]);
static CAPTURE_OPTIONS: Shape = list(&CAPTURE_OPTION, 1, 32);
static CONTENT_TYPE: Shape =
    text(1, 256, r"[a-zA-Z0-9](-*[a-zA-Z0-9])*\/[a-zA-Z0-9](-*[a-zA-Z0-9.])*");
static CONTENT_TYPES: Shape = list(&CONTENT_TYPE, 1, 10);
static CAPTURE_CONTENT_TYPES: Shape = Shape::Structure(&[
    optional("CsvContentTypes", &CONTENT_TYPES),
    optional("JsonContentTypes", &CONTENT_TYPES),
]);
pub static DATA_CAPTURE: Shape = Shape::Structure(&[
    optional("EnableCapture", &BOOLEAN),
    required("InitialSamplingPercentage", &PERCENTAGE),
    required("DestinationS3Uri", &S3_DESTINATION),
    optional("KmsKeyId", &KMS_KEY_ID),
    required("CaptureOptions", &CAPTURE_OPTIONS),
    optional("CaptureContentTypeHeader", &CAPTURE_CONTENT_TYPES),
]);

static PER_INSTANCE: Shape = integer(1, 1000);
static ASYNC_CLIENT: Shape =
    Shape::Structure(&[optional("MaxConcurrentInvocationsPerInstance", &PER_INSTANCE)]);
static TOPIC_ARN: Shape =
    text(0, 2048, r"arn:aws[a-z\-]*:sns:[a-z0-9\-]*:[0-9]{12}:[a-zA-Z0-9_.-]+");
static TOPIC_TYPE: Shape = Shape::Choice("SUCCESS_NOTIFICATION_TOPIC ERROR_NOTIFICATION_TOPIC");
static TOPIC_TYPES: Shape = list(&TOPIC_TYPE, 0, 2);
static NOTIFICATION: Shape = Shape::Structure(&[
    optional("SuccessTopic", &TOPIC_ARN),
    optional("ErrorTopic", &TOPIC_ARN),
    optional("IncludeInferenceResponseIn", &TOPIC_TYPES),
]);
static ASYNC_OUTPUT: Shape = Shape::Structure(&[
    optional("KmsKeyId", &KMS_KEY_ID),
    optional("S3OutputPath", &S3_DESTINATION),
    optional("NotificationConfig", &NOTIFICATION),
    optional("S3FailurePath", &S3_DESTINATION),
]);
pub static ASYNC_INFERENCE: Shape = Shape::Structure(&[
    optional("ClientConfig", &ASYNC_CLIENT),
    required("OutputConfig", &ASYNC_OUTPUT),
]);

static AT_LEAST_ONE: Shape = integer(1, NO_MAX);
static AT_LEAST_ZERO: Shape = integer(0, NO_MAX);
static PAYLOAD_SIZE: Shape = integer(1, 25);
static LABEL_HEADERS: Shape = list(&ANY_64, 1, 16);
static FEATURE_HEADERS: Shape = list(&ANY_64, 1, 256);
static FEATURE_TYPE: Shape = Shape::Choice("numerical categorical text");
static FEATURE_TYPES: Shape = list(&FEATURE_TYPE, 1, 256);
static CLARIFY_INFERENCE: Shape = Shape::Structure(&[
    optional("FeaturesAttribute", &ANY_64),
    optional("ContentTemplate", &ANY_64),
    optional("MaxRecordCount", &AT_LEAST_ONE),
    optional("MaxPayloadInMB", &PAYLOAD_SIZE),
    optional("ProbabilityIndex", &AT_LEAST_ZERO),
    optional("LabelIndex", &AT_LEAST_ZERO),
    optional("ProbabilityAttribute", &ANY_64),
    optional("LabelAttribute", &ANY_64),
    optional("LabelHeaders", &LABEL_HEADERS),
    optional("FeatureHeaders", &FEATURE_HEADERS),
    optional("FeatureTypes", &FEATURE_TYPES),
]);
static MIME_TYPE: Shape =
    text(0, 255, r"[a-zA-Z0-9](-*[a-zA-Z0-9])*\/[a-zA-Z0-9](-*[a-zA-Z0-9+.])*");
static BASELINE: Shape = text(1, 4096, r"[\s\S]+");
static SHAP_BASELINE: Shape = Shape::Structure(&[
    optional("MimeType", &MIME_TYPE),
    optional("ShapBaseline", &BASELINE),
    optional("ShapBaselineUri", &URL),
]);
static SEED: Shape = integer(NO_MIN, NO_MAX);
static LANGUAGE: Shape = Shape::Choice(
    "af sq ar hy eu bn bg ca zh hr cs da nl en et fi fr de el gu he hi hu is id ga it kn ky lv lt \
     lb mk ml mr ne nb fa pl pt ro ru sa sr tn si sk sl es sv tl ta tt te tr uk ur yo lij xx",
);
static GRANULARITY: Shape = Shape::Choice("token sentence paragraph");
static CLARIFY_TEXT: Shape =
    Shape::Structure(&[required("Language", &LANGUAGE), required("Granularity", &GRANULARITY)]);
static SHAP: Shape = Shape::Structure(&[
    required("ShapBaselineConfig", &SHAP_BASELINE),
    optional("NumberOfSamples", &AT_LEAST_ONE),
    optional("UseLogit", &BOOLEAN),
    optional("Seed", &SEED),
    optional("TextConfig", &CLARIFY_TEXT),
]);
static CLARIFY: Shape = Shape::Structure(&[
    optional("EnableExplanations", &ANY_64),
    optional("InferenceConfig", &CLARIFY_INFERENCE),
    required("ShapConfig", &SHAP),
]);
pub static EXPLAINER: Shape = Shape::Structure(&[optional("ClarifyExplainerConfig", &CLARIFY)]);

pub static METRICS: Shape = Shape::Structure(&[
    optional("EnableEnhancedMetrics", &BOOLEAN),
    optional("EnableDetailedObservability", &BOOLEAN),
    optional("MetricPublishFrequencyInSeconds", &PUBLISH_FREQUENCY),
]);

static INVOCATIONS_PER_SECOND: Shape = integer(1, 10000);
static CROSS_REGION_PERCENT: Shape = integer(1, 100);
pub static CROSS_REGION_TRAFFIC: Shape = Shape::Structure(&[
    required("MaxInvocationsPerSecondPerInstance", &INVOCATIONS_PER_SECOND),
    required("MaxCrossRegionPercentPerEndpoint", &CROSS_REGION_PERCENT),
]);
