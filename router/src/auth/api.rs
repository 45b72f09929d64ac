//! The APIs that a request may be signed for, and what differs between them.

/// An API of ours. Two share the scope `sagemaker` and differ in the shape of their errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `InvokeEndpoint` and its kin: REST.
    Runtime,
    /// `CreateModel` and its kin: JSON 1.1.
    Control,
    Sts,
    Iam,
    S3,
}

/// How an API names and words its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `…Exception`, in JSON.
    Json,
    /// The query protocol of STS and IAM, in XML.
    Query,
    S3,
}

impl Api {
    /// What the credential scope must name.
    pub fn service(self) -> &'static str {
        match self {
            Self::Runtime | Self::Control => "sagemaker",
            Self::Sts => "sts",
            Self::Iam => "iam",
            Self::S3 => "s3",
        }
    }

    pub fn family(self) -> Family {
        match self {
            Self::Runtime | Self::Control => Family::Json,
            Self::Sts | Self::Iam => Family::Query,
            Self::S3 => Family::S3,
        }
    }
}
