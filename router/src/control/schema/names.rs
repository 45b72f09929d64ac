//! Shapes that many inputs share: names, tags, where things lie, and how lists are asked for.

use super::{NO_MAX, Shape, Text, integer, list, required, text};

pub static MODEL_NAME: Shape = text(0, 63, r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?");
/// Endpoints, their configurations, and variants.
pub static NAME: Shape = text(0, 63, "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}");
/// Any text: a member without a pattern, or one whose pattern allows all but line ends.
pub static ANY_64: Shape = text(1, 64, ".*");
pub static ANY_2048: Shape = text(1, 2048, ".*");

pub static BOOLEAN: Shape = Shape::Boolean;
pub static TIMESTAMP: Shape = Shape::Timestamp;
pub static WEIGHT: Shape = Shape::Weight;
pub static SECONDS_TO_HOUR: Shape = integer(0, 3600);

pub static ROLE_ARN: Shape =
    text(20, 2048, r"arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+");
pub static KMS_KEY_ID: Shape = text(0, 2048, "[a-zA-Z0-9:/_-]*");
pub static S3_DESTINATION: Shape = text(0, 512, "(https|s3)://([^/])/?(.*)");
pub static URL: Shape = text(0, 1024, "(https|s3)://([^/]+)/?(.*)");

static NETWORK_ID: Shape = text(0, 32, "[-0-9a-zA-Z]+");
static SECURITY_GROUPS: Shape = list(&NETWORK_ID, 1, 5);
static SUBNETS: Shape = list(&NETWORK_ID, 1, 16);
pub static VPC_CONFIG: Shape = Shape::Structure(&[
    required("SecurityGroupIds", &SECURITY_GROUPS),
    required("Subnets", &SUBNETS),
]);

const TAG_PATTERN: &str = r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)";
static TAG_KEY: Shape = text(1, 128, TAG_PATTERN);
static TAG_VALUE: Shape = text(0, 256, TAG_PATTERN);
static TAG: Shape = Shape::Structure(&[required("Key", &TAG_KEY), required("Value", &TAG_VALUE)]);
pub static TAGS: Shape = list(&TAG, 0, 50);
pub static TAG_KEYS: Shape = list(&TAG_KEY, 1, 50);
pub static RESOURCE_ARN: Shape = text(0, 256, "arn:aws[a-z-]*:sagemaker:[a-z0-9-]*:[0-9]{12}:.+");

pub static NEXT_TOKEN: Shape = text(0, 8192, ".*");
pub static MAX_RESULTS: Shape = integer(1, 100);
pub static MAX_TAG_RESULTS: Shape = integer(50, NO_MAX);
pub static NAME_CONTAINS: Shape = text(0, 63, "[a-zA-Z0-9-]+");
pub static SORT_ORDER: Shape = Shape::Choice("Ascending Descending");
pub static SORT_BY: Shape = Shape::Choice("Name CreationTime");
pub static ENDPOINT_SORT_BY: Shape = Shape::Choice("Name CreationTime Status");
pub static ENDPOINT_STATUS: Shape = Shape::Choice(
    "OutOfService Creating Updating SystemUpdating RollingBack InService Deleting Failed \
     UpdateRollbackFailed",
);

pub static ENVIRONMENT_KEY: Text = Text::new(0, 1024, "[a-zA-Z_][a-zA-Z0-9_]*");
pub static ENVIRONMENT_VALUE: Text = Text::new(0, 1024, r"[\S\s]*");
