//! Where an endpoint puts what comes of asynchronous invocations: its `AsyncInferenceConfig`.

use crate::objects::ObjectAddress;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsyncOutput {
    pub output: Folder,
    pub failure: Option<Folder>,
    /// `None`: the router's default.
    pub max_concurrent_per_instance: Option<usize>,
}

/// A bucket and a prefix in it, without slashes at its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub bucket: String,
    pub prefix: String,
}

impl AsyncOutput {
    /// Reads an `AsyncInferenceConfig` as clients write it. `None` if it names no output path.
    pub fn of_config(config: &Value) -> Option<Self> {
        let outputs = config.get("OutputConfig")?;
        let folder = |name| Folder::parse(outputs.get(name)?.as_str()?);
        let client = config.get("ClientConfig");
        let concurrent = client.and_then(|it| it.get("MaxConcurrentInvocationsPerInstance"));
        Some(Self {
            output: folder("S3OutputPath")?,
            failure: folder("S3FailurePath"),
            max_concurrent_per_instance: concurrent
                .and_then(|it| usize::try_from(it.as_u64()?).ok())
                .filter(|concurrent| *concurrent > 0),
        })
    }
}

impl Folder {
    /// Parses `s3://bucket` or `s3://bucket/prefix/`.
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/').to_owned();
        (!bucket.is_empty()).then(|| Self { bucket: bucket.to_owned(), prefix })
    }

    /// Returns the address of an object within, below a folder of its own if one is named.
    pub fn object(&self, folder: Option<&str>, name: &str) -> ObjectAddress {
        let folder = folder.unwrap_or_default().trim_matches('/');
        let parts = [self.prefix.as_str(), folder, name];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        ObjectAddress { bucket: self.bucket.clone(), key: parts.join("/") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn outputs_lie_below_their_prefix() {
        let at =
            |url: &str, folder| Folder::parse(url).unwrap().object(folder, "id.out").to_string();
        assert_eq!(at("s3://bkt/a/b/", None), "s3://bkt/a/b/id.out");
        assert_eq!(at("s3://bkt", None), "s3://bkt/id.out");
        assert_eq!(at("s3://bkt/a", Some("/x/")), "s3://bkt/a/x/id.out");
        assert_eq!(Folder::parse("file:///etc"), None);
        assert_eq!(Folder::parse("s3://"), None);
    }

    #[test]
    fn a_configuration_without_an_output_path_takes_no_jobs() {
        let config = json!({
            "ClientConfig": { "MaxConcurrentInvocationsPerInstance": 3 },
            "OutputConfig": { "S3OutputPath": "s3://bkt/o", "S3FailurePath": "s3://bkt/f" },
        });
        let output = AsyncOutput::of_config(&config).unwrap();
        assert_eq!(output.failure.unwrap().prefix, "f");
        assert_eq!(output.max_concurrent_per_instance, Some(3));
        assert_eq!(AsyncOutput::of_config(&json!({ "OutputConfig": {} })), None);
        assert_eq!(AsyncOutput::of_config(&json!({})), None);
    }
}
