//! Where an endpoint puts what comes of asynchronous invocations: its `AsyncInferenceConfig`.

use crate::objects::ObjectAddress;
use serde_json::Value;
use shared::address::ModelDataUrl;

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
    /// Reads an `AsyncInferenceConfig` as clients write it. `None` if it names no output path, or a
    /// path that no object can lie below.
    pub fn of_config(config: &Value) -> Option<Self> {
        let outputs = config.get("OutputConfig")?;
        let failure = outputs.get("S3FailurePath").filter(|it| !it.is_null());
        let client = config.get("ClientConfig");
        let concurrent = client.and_then(|it| it.get("MaxConcurrentInvocationsPerInstance"));
        Some(Self {
            output: Folder::parse(outputs.get("S3OutputPath")?.as_str()?)?,
            failure: match failure {
                Some(url) => Some(Folder::parse(url.as_str()?)?),
                None => None,
            },
            max_concurrent_per_instance: concurrent
                .and_then(|it| usize::try_from(it.as_u64()?).ok())
                .filter(|concurrent| *concurrent > 0),
        })
    }
}

impl Folder {
    /// Parses `s3://bucket`, `s3://bucket/prefix/`, or the same as an https URL of Amazon's S3.
    ///
    /// `None` also for what some client of S3 would put elsewhere: empty parts, `.` and `..`.
    pub fn parse(url: &str) -> Option<Self> {
        let folder = if url.ends_with('/') { url.to_owned() } else { format!("{url}/") };
        let (bucket, prefix) = s3_parts(&folder, &[])?;
        let prefix = prefix.strip_suffix('/').unwrap_or(&prefix).to_owned();
        (prefix.is_empty() || is_clean(&prefix)).then_some(Self { bucket, prefix })
    }

    /// Returns the address of an object within, below a folder of its own if one is named.
    pub fn object(&self, folder: Option<&str>, name: &str) -> ObjectAddress {
        let folder = bare(folder.unwrap_or_default());
        let parts = [self.prefix.as_str(), folder, name];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        ObjectAddress { bucket: self.bucket.clone(), key: parts.join("/") }
    }
}

/// A folder below another, without the slashes at its ends.
pub fn bare(folder: &str) -> &str {
    let folder = folder.strip_prefix('/').unwrap_or(folder);
    folder.strip_suffix('/').unwrap_or(folder)
}

/// Whether every part of a path is a name of its own.
pub fn is_clean(path: &str) -> bool {
    !path.contains(char::is_control) && !path.split('/').any(|part| ["", ".", ".."].contains(&part))
}

/// Returns the object that a URL of S3 names, in any of the forms that SageMaker's clients write.
pub fn s3_object(url: &str, own_hosts: &[String]) -> Option<ObjectAddress> {
    let (bucket, key) = s3_parts(url, own_hosts)?;
    (!key.is_empty()).then_some(ObjectAddress { bucket, key })
}

fn s3_parts(url: &str, own_hosts: &[String]) -> Option<(String, String)> {
    let canonical = String::from(ModelDataUrl::parse_sagemaker(url, own_hosts).ok()?);
    let (bucket, key) = canonical.strip_prefix("s3://")?.split_once('/')?;
    Some((bucket.to_owned(), key.to_owned()))
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
    fn https_urls_of_s3_are_folders_and_objects_too() {
        for url in
            ["https://s3.us-west-2.amazonaws.com/bkt/a/b", "https://bkt.s3.amazonaws.com/a/b/"]
        {
            assert_eq!(Folder::parse(url), Folder::parse("s3://bkt/a/b"), "{url}");
        }
        assert_eq!(Folder::parse("https://s3.amazonaws.com/bkt").unwrap().prefix, "");
        assert_eq!(Folder::parse("https://example.com/bkt/a"), None);
        let own = ["127.0.0.1:8443".to_owned()];
        for url in ["s3://bkt/a b", "https://127.0.0.1:8443/bkt/a%20b"] {
            assert_eq!(s3_object(url, &own).unwrap().to_string(), "s3://bkt/a b", "{url}");
        }
        assert_eq!(s3_object("s3://bkt/", &own), None);
    }

    #[test]
    fn paths_whose_parts_are_no_names_are_refused() {
        for prefix in ["a//b", "/a", "a/../b", "..", "./a", "a/.", "a//", "a\u{7}b"] {
            let url = format!("s3://bkt/{prefix}");
            assert_eq!(Folder::parse(&url), None, "{url:?}");
            for name in ["S3OutputPath", "S3FailurePath"] {
                let mut outputs = json!({ "S3OutputPath": "s3://bkt/o" });
                outputs[name] = url.clone().into();
                let config = json!({ "OutputConfig": outputs });
                assert_eq!(AsyncOutput::of_config(&config), None, "{name} {url:?}");
            }
        }
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
