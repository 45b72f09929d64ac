//! Shapes of variants, and of how an endpoint changes.

use super::{
    NO_MAX, Shape, Text, integer, list,
    names::{BOOLEAN, KMS_KEY_ID, MODEL_NAME, NAME, S3_DESTINATION, SECONDS_TO_HOUR, WEIGHT},
    optional, required, text,
};

/// Every instance type of the API model. Which of them runs a model is the launcher's to say.
static INSTANCE_TYPE: Shape = Shape::Choice(include_str!("../instance_types.txt"));
static AT_LEAST_ONE: Shape = integer(1, NO_MAX);
static AT_LEAST_ZERO: Shape = integer(0, NO_MAX);
static MINUTE_TO_HOUR: Shape = integer(60, 3600);
static FIVE_MINUTES_TO_HOUR: Shape = integer(300, 3600);

static POOL_PRIORITY: Shape = integer(1, 5);
static INSTANCE_POOL: Shape = Shape::Structure(&[
    required("InstanceType", &INSTANCE_TYPE),
    optional("ModelNameOverride", &MODEL_NAME),
    required("Priority", &POOL_PRIORITY),
]);
static INSTANCE_POOLS: Shape = list(&INSTANCE_POOL, 1, 5);

static ACCELERATOR_TYPE: Shape = Shape::Choice(
    "ml.eia1.medium ml.eia1.large ml.eia1.xlarge ml.eia2.medium ml.eia2.large ml.eia2.xlarge",
);
static CORE_DUMP: Shape = Shape::Structure(&[
    required("DestinationS3Uri", &S3_DESTINATION),
    optional("KmsKeyId", &KMS_KEY_ID),
]);
static MEMORY_SIZE: Shape = integer(1024, 6144);
static CONCURRENCY: Shape = integer(1, 200);
static SERVERLESS: Shape = Shape::Structure(&[
    required("MemorySizeInMB", &MEMORY_SIZE),
    required("MaxConcurrency", &CONCURRENCY),
    optional("ProvisionedConcurrency", &CONCURRENCY),
]);
static SERVERLESS_UPDATE: Shape = Shape::Structure(&[
    optional("MaxConcurrency", &CONCURRENCY),
    optional("ProvisionedConcurrency", &CONCURRENCY),
]);
static VOLUME_SIZE: Shape = integer(1, 512);

static SCALING_STATUS: Shape = Shape::Choice("ENABLED DISABLED");
static SCALE_IN_STRATEGY: Shape = Shape::Choice("IDLE_RELEASE CONSOLIDATION");
static STEP_SIZE: Shape = integer(1, 100);
static COOLDOWN: Shape = integer(5, 1440);
static SCALE_IN_POLICY: Shape = Shape::Structure(&[
    required("Strategy", &SCALE_IN_STRATEGY),
    optional("MaximumStepSize", &STEP_SIZE),
    optional("CooldownInMinutes", &COOLDOWN),
]);
static MANAGED_SCALING: Shape = Shape::Structure(&[
    optional("Status", &SCALING_STATUS),
    optional("MinInstanceCount", &AT_LEAST_ZERO),
    optional("MaxInstanceCount", &AT_LEAST_ONE),
    optional("ScaleInPolicy", &SCALE_IN_POLICY),
]);

static ROUTING_STRATEGY: Shape =
    Shape::Choice("LEAST_OUTSTANDING_REQUESTS RANDOM PREFIX_AWARE KV_AWARE");
static PREFIX_LENGTH: Shape = integer(1024, 65536);
static CONCURRENCY_THRESHOLD: Shape = integer(1, 1024);
static PREFIX_AWARE: Shape = Shape::Structure(&[
    optional("PrefixLength", &PREFIX_LENGTH),
    optional("ConcurrencyThreshold", &CONCURRENCY_THRESHOLD),
]);
static ROUTING: Shape = Shape::Structure(&[
    required("RoutingStrategy", &ROUTING_STRATEGY),
    optional("PrefixAwareRoutingConfig", &PREFIX_AWARE),
]);

static AMI_VERSION: Shape = Shape::Choice(
    "al2-ami-sagemaker-inference-gpu-2 al2-ami-sagemaker-inference-gpu-2-1 \
     al2-ami-sagemaker-inference-gpu-3-1 al2-ami-sagemaker-inference-neuron-2 \
     al2023-ami-sagemaker-inference-gpu-4-1",
);
static RESERVATION_PREFERENCE: Shape = Shape::Choice("capacity-reservations-only");
static RESERVATION_ARN: Shape =
    text(20, 258, r"arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z0-9\-]{1,14}/.*");
static CAPACITY_RESERVATION: Shape = Shape::Structure(&[
    optional("CapacityReservationPreference", &RESERVATION_PREFERENCE),
    optional("MlReservationArn", &RESERVATION_ARN),
]);
static PARTITION_TYPE: Shape = text(0, 32, r"mig-[0-9]+g\.[0-9]+gb([+-][a-z0-9.]+)*");
static PARTITION_TYPES: Shape = list(&PARTITION_TYPE, 0, 32);
static PARTITION_LAYOUT: Shape =
    Shape::Structure(&[optional("AcceleratorPartitionTypes", &PARTITION_TYPES)]);
static PARTITION_LAYOUTS: Shape = list(&PARTITION_LAYOUT, 1, 32);

static PRODUCTION_VARIANT: Shape = Shape::Structure(&[
    required("VariantName", &NAME),
    optional("ModelName", &MODEL_NAME),
    optional("InitialInstanceCount", &AT_LEAST_ONE),
    optional("InstanceType", &INSTANCE_TYPE),
    optional("InstancePools", &INSTANCE_POOLS),
    optional("VariantInstanceProvisionTimeoutInSeconds", &FIVE_MINUTES_TO_HOUR),
    optional("InitialVariantWeight", &WEIGHT),
    optional("AcceleratorType", &ACCELERATOR_TYPE),
    optional("CoreDumpConfig", &CORE_DUMP),
    optional("ServerlessConfig", &SERVERLESS),
    optional("VolumeSizeInGB", &VOLUME_SIZE),
    optional("ModelDataDownloadTimeoutInSeconds", &MINUTE_TO_HOUR),
    optional("ContainerStartupHealthCheckTimeoutInSeconds", &MINUTE_TO_HOUR),
    optional("EnableSSMAccess", &BOOLEAN),
    optional("ManagedInstanceScaling", &MANAGED_SCALING),
    optional("RoutingConfig", &ROUTING),
    optional("InferenceAmiVersion", &AMI_VERSION),
    optional("CapacityReservationConfig", &CAPACITY_RESERVATION),
    optional("AcceleratorPartitionLayouts", &PARTITION_LAYOUTS),
]);
pub static PRODUCTION_VARIANTS: Shape = list(&PRODUCTION_VARIANT, 1, 10);

static WEIGHT_AND_CAPACITY: Shape = Shape::Structure(&[
    required("VariantName", &NAME),
    optional("DesiredWeight", &WEIGHT),
    optional("DesiredInstanceCount", &AT_LEAST_ZERO),
    optional("ServerlessUpdateConfig", &SERVERLESS_UPDATE),
]);
/// The API model has no maximum; an endpoint has no more variants than this.
pub static WEIGHTS_AND_CAPACITIES: Shape = list(&WEIGHT_AND_CAPACITY, 1, 10);

static PROPERTY_TYPE: Shape = Shape::Choice("DesiredInstanceCount DesiredWeight DataCaptureConfig");
static VARIANT_PROPERTY: Shape =
    Shape::Structure(&[required("VariantPropertyType", &PROPERTY_TYPE)]);
pub static VARIANT_PROPERTIES: Shape = list(&VARIANT_PROPERTY, 0, 3);

static CAPACITY_TYPE: Shape = Shape::Choice("INSTANCE_COUNT CAPACITY_PERCENT");
static CAPACITY_SIZE: Shape =
    Shape::Structure(&[required("Type", &CAPACITY_TYPE), required("Value", &AT_LEAST_ONE)]);
static TRAFFIC_TYPE: Shape = Shape::Choice("ALL_AT_ONCE CANARY LINEAR");
static TRAFFIC_ROUTING: Shape = Shape::Structure(&[
    required("Type", &TRAFFIC_TYPE),
    required("WaitIntervalInSeconds", &SECONDS_TO_HOUR),
    optional("CanarySize", &CAPACITY_SIZE),
    optional("LinearStepSize", &CAPACITY_SIZE),
]);
static EXECUTION_TIMEOUT: Shape = integer(600, 28800);
static BLUE_GREEN: Shape = Shape::Structure(&[
    required("TrafficRoutingConfiguration", &TRAFFIC_ROUTING),
    optional("TerminationWaitInSeconds", &SECONDS_TO_HOUR),
    optional("MaximumExecutionTimeoutInSeconds", &EXECUTION_TIMEOUT),
]);
static ROLLING: Shape = Shape::Structure(&[
    required("MaximumBatchSize", &CAPACITY_SIZE),
    required("WaitIntervalInSeconds", &SECONDS_TO_HOUR),
    optional("MaximumExecutionTimeoutInSeconds", &EXECUTION_TIMEOUT),
    optional("RollbackMaximumBatchSize", &CAPACITY_SIZE),
]);
/// Not blank, which the API model says by looking ahead.
static ALARM_NAME: Shape = Shape::Text(Text::looking_around(1, 255, r"(?!\s*$).+", r".*[^\s].*"));
static ALARM: Shape = Shape::Structure(&[optional("AlarmName", &ALARM_NAME)]);
static ALARMS: Shape = list(&ALARM, 1, 10);
static AUTO_ROLLBACK: Shape = Shape::Structure(&[optional("Alarms", &ALARMS)]);
pub static DEPLOYMENT: Shape = Shape::Structure(&[
    optional("BlueGreenUpdatePolicy", &BLUE_GREEN),
    optional("RollingUpdatePolicy", &ROLLING),
    optional("AutoRollbackConfiguration", &AUTO_ROLLBACK),
]);
