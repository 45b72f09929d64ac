//! Names of resources over all of AWS: `arn:aws:sagemaker:REGION:ACCOUNT:endpoint/NAME`.

use std::fmt;

/// The resources of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    Model,
    EndpointConfig,
    Endpoint,
}

impl ResourceKind {
    const ALL: [Self; 3] = [Self::Model, Self::EndpointConfig, Self::Endpoint];

    /// What stands before the name in an ARN.
    fn segment(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::EndpointConfig => "endpoint-config",
            Self::Endpoint => "endpoint",
        }
    }
}

/// SageMaker's words for it in its errors.
impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::EndpointConfig => "endpoint configuration",
            Self::Endpoint => "endpoint",
        })
    }
}

/// Returns a resource's ARN. SageMaker lower-cases the name in it, and keeps its case elsewhere.
pub fn arn(region: &str, account_id: &str, kind: ResourceKind, name: &str) -> String {
    let partition = partition(region);
    let (segment, name) = (kind.segment(), name.to_ascii_lowercase());
    format!("arn:{partition}:sagemaker:{region}:{account_id}:{segment}/{name}")
}

/// Reads what an ARN names: its kind, and its name in lower case, as the catalog's keys are.
/// `None` if it names no resource that the catalog has.
pub fn parse(arn: &str) -> Option<(ResourceKind, String)> {
    let resource = arn.splitn(6, ':').nth(5)?;
    let (segment, name) = resource.split_once('/')?;
    let kind = ResourceKind::ALL.into_iter().find(|kind| kind.segment() == segment)?;
    Some((kind, name.to_ascii_lowercase()))
}

/// Whether two ARNs name the same resource: the name in them has no case.
pub fn is_same(left: &str, right: &str) -> bool {
    let split = |arn: &str| {
        let (head, name) = arn.split_once('/').unwrap_or((arn, ""));
        (head.to_owned(), name.to_ascii_lowercase())
    };
    split(left) == split(right)
}

fn partition(region: &str) -> &'static str {
    if region.starts_with("cn-") {
        "aws-cn"
    } else if region.starts_with("us-gov-") {
        "aws-us-gov"
    } else {
        "aws"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_lower_the_name_and_know_their_partition() {
        let arn = |region| arn(region, "123456789012", ResourceKind::EndpointConfig, "My-Config");
        assert_eq!(
            arn("eu-west-1"),
            "arn:aws:sagemaker:eu-west-1:123456789012:endpoint-config/my-config"
        );
        assert!(arn("cn-north-1").starts_with("arn:aws-cn:sagemaker:cn-north-1:"));
        assert!(arn("us-gov-west-1").starts_with("arn:aws-us-gov:"));
    }

    #[test]
    fn what_arns_name_is_read_back() {
        for kind in ResourceKind::ALL {
            let arn = arn("us-east-1", "123456789012", kind, "Demo");
            assert_eq!(parse(&arn), Some((kind, "demo".to_owned())));
        }
        assert!(is_same("arn:a:endpoint/Demo", "arn:a:endpoint/demo"));
        assert!(!is_same("arn:a:endpoint/demo", "arn:b:endpoint/demo"));
        for other in ["", "arn:aws:sagemaker:r:1:app/x", "arn:aws:sagemaker:r:1:endpoint"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
