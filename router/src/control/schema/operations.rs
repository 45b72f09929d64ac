//! The inputs of the operations, one each.

use super::{
    Shape,
    containers::{CONTAINER, CONTAINERS, INFERENCE_EXECUTION},
    deployments::{DEPLOYMENT, PRODUCTION_VARIANTS, VARIANT_PROPERTIES, WEIGHTS_AND_CAPACITIES},
    monitoring::{ASYNC_INFERENCE, CROSS_REGION_TRAFFIC, DATA_CAPTURE, EXPLAINER, METRICS},
    names::{
        BOOLEAN, ENDPOINT_SORT_BY, ENDPOINT_STATUS, KMS_KEY_ID, MAX_RESULTS, MAX_TAG_RESULTS,
        MODEL_NAME, NAME, NAME_CONTAINS, NEXT_TOKEN, RESOURCE_ARN, ROLE_ARN, SORT_BY, SORT_ORDER,
        TAG_KEYS, TAGS, TIMESTAMP, VPC_CONFIG,
    },
    optional, required,
};

pub static CREATE_MODEL: Shape = Shape::Structure(&[
    required("ModelName", &MODEL_NAME),
    optional("PrimaryContainer", &CONTAINER),
    optional("Containers", &CONTAINERS),
    optional("InferenceExecutionConfig", &INFERENCE_EXECUTION),
    optional("ExecutionRoleArn", &ROLE_ARN),
    optional("Tags", &TAGS),
    optional("VpcConfig", &VPC_CONFIG),
    optional("EnableNetworkIsolation", &BOOLEAN),
]);

/// Of `DescribeModel` and `DeleteModel`.
pub static NAME_MODEL: Shape = Shape::Structure(&[required("ModelName", &MODEL_NAME)]);

/// Of `ListModels` and `ListEndpointConfigs`.
pub static LIST: Shape = Shape::Structure(&[
    optional("SortBy", &SORT_BY),
    optional("SortOrder", &SORT_ORDER),
    optional("NextToken", &NEXT_TOKEN),
    optional("MaxResults", &MAX_RESULTS),
    optional("NameContains", &NAME_CONTAINS),
    optional("CreationTimeBefore", &TIMESTAMP),
    optional("CreationTimeAfter", &TIMESTAMP),
]);

pub static CREATE_ENDPOINT_CONFIG: Shape = Shape::Structure(&[
    required("EndpointConfigName", &NAME),
    required("ProductionVariants", &PRODUCTION_VARIANTS),
    optional("DataCaptureConfig", &DATA_CAPTURE),
    optional("Tags", &TAGS),
    optional("KmsKeyId", &KMS_KEY_ID),
    optional("AsyncInferenceConfig", &ASYNC_INFERENCE),
    optional("ExplainerConfig", &EXPLAINER),
    optional("ShadowProductionVariants", &PRODUCTION_VARIANTS),
    optional("ExecutionRoleArn", &ROLE_ARN),
    optional("VpcConfig", &VPC_CONFIG),
    optional("EnableNetworkIsolation", &BOOLEAN),
    optional("MetricsConfig", &METRICS),
    optional("CrossRegionTrafficConfig", &CROSS_REGION_TRAFFIC),
]);

/// Of `DescribeEndpointConfig` and `DeleteEndpointConfig`.
pub static NAME_ENDPOINT_CONFIG: Shape = Shape::Structure(&[required("EndpointConfigName", &NAME)]);

pub static CREATE_ENDPOINT: Shape = Shape::Structure(&[
    required("EndpointName", &NAME),
    required("EndpointConfigName", &NAME),
    optional("DeploymentConfig", &DEPLOYMENT),
    optional("Tags", &TAGS),
]);

/// Of `DescribeEndpoint` and `DeleteEndpoint`.
pub static NAME_ENDPOINT: Shape = Shape::Structure(&[required("EndpointName", &NAME)]);

pub static LIST_ENDPOINTS: Shape = Shape::Structure(&[
    optional("SortBy", &ENDPOINT_SORT_BY),
    optional("SortOrder", &SORT_ORDER),
    optional("NextToken", &NEXT_TOKEN),
    optional("MaxResults", &MAX_RESULTS),
    optional("NameContains", &NAME_CONTAINS),
    optional("CreationTimeBefore", &TIMESTAMP),
    optional("CreationTimeAfter", &TIMESTAMP),
    optional("LastModifiedTimeBefore", &TIMESTAMP),
    optional("LastModifiedTimeAfter", &TIMESTAMP),
    optional("StatusEquals", &ENDPOINT_STATUS),
]);

pub static UPDATE_ENDPOINT: Shape = Shape::Structure(&[
    required("EndpointName", &NAME),
    required("EndpointConfigName", &NAME),
    optional("RetainAllVariantProperties", &BOOLEAN),
    optional("ExcludeRetainedVariantProperties", &VARIANT_PROPERTIES),
    optional("DeploymentConfig", &DEPLOYMENT),
    optional("RetainDeploymentConfig", &BOOLEAN),
]);

pub static UPDATE_WEIGHTS_AND_CAPACITIES: Shape = Shape::Structure(&[
    required("EndpointName", &NAME),
    required("DesiredWeightsAndCapacities", &WEIGHTS_AND_CAPACITIES),
]);

pub static ADD_TAGS: Shape =
    Shape::Structure(&[required("ResourceArn", &RESOURCE_ARN), required("Tags", &TAGS)]);

pub static LIST_TAGS: Shape = Shape::Structure(&[
    required("ResourceArn", &RESOURCE_ARN),
    optional("NextToken", &NEXT_TOKEN),
    optional("MaxResults", &MAX_TAG_RESULTS),
]);

pub static DELETE_TAGS: Shape =
    Shape::Structure(&[required("ResourceArn", &RESOURCE_ARN), required("TagKeys", &TAG_KEYS)]);
