//! What a container is started with, as SageMaker's platform would start it (developer guide, "Build your
//! own container for multi-model endpoints", and "How containers serve requests").

use crate::cli::ContainerArgs;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

/// Where a container finds its models.
pub(super) const MODELS: &str = "/opt/ml/models";
/// Where it listens within.
pub(super) const PORT: u16 = 8080;
/// Ports that it may take besides: as many as SageMaker gives.
const SAFE_PORT_RANGE: &str = "9000-9999";
/// What an image must say to serve many models.
const MULTI_MODEL_LABEL: &str = "com.amazonaws.sagemaker.capabilities.multi-models";
const DATA_LABEL: &str = "manifold.data";
const INSTANCE_LABEL: &str = "manifold.instance";

/// Whose a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The folder of the cluster.
    pub(super) data: PathBuf,
    /// `None`: all of that cluster.
    pub(super) instance: Option<String>,
}

impl Owner {
    /// Labels that tell its containers from all others.
    pub(super) fn labels(&self) -> HashMap<String, String> {
        let data = (DATA_LABEL.to_owned(), self.data.display().to_string());
        let instance = self.instance.clone().map(|it| (INSTANCE_LABEL.to_owned(), it));
        std::iter::once(data).chain(instance).collect()
    }
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerSpec {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    /// As `NAME=value`.
    pub(super) environment: Vec<String>,
    pub(super) labels: HashMap<String, String>,
    pub(super) port: u16,
    /// On this machine, and within.
    pub(super) models: (PathBuf, &'static Path),
    pub(super) memory_bytes: u64,
}

pub(super) fn container(
    args: &ContainerArgs,
    owner: &Owner,
    given: &BTreeMap<String, String>,
) -> ContainerSpec {
    ContainerSpec {
        // The process's number, because another cluster may have an instance of this name.
        name: format!("manifold-{}-{}", args.instance, std::process::id()),
        image: args.image.clone(),
        command: vec!["serve".to_owned()],
        environment: environment(given),
        labels: owner.labels(),
        port: PORT,
        models: (args.models.clone(), Path::new(MODELS)),
        memory_bytes: args.memory_bytes,
    }
}

/// The model's own variables, and the platform's, which win.
fn environment(given: &BTreeMap<String, String>) -> Vec<String> {
    let port = PORT.to_string();
    let ours = [
        ("SAGEMAKER_MULTI_MODEL", "true"),
        ("SAGEMAKER_BIND_TO_PORT", &port),
        ("SAGEMAKER_SAFE_PORT_RANGE", SAFE_PORT_RANGE),
    ];
    let is_ours = |name: &str| ours.iter().any(|(it, _)| *it == name);
    let theirs = given.iter().map(|(name, value)| (&**name, &**value));
    let theirs = theirs.filter(|(name, _)| !is_ours(name));
    theirs.chain(ours).map(|(name, value)| format!("{name}={value}")).collect()
}

/// An image's name that no engine could be asked about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of an image: [host[:port]/]path[:tag][@digest]")]
pub(super) struct InvalidName(String);

/// Names become parts of URLs of the engine.
pub(super) fn check_name(image: &str) -> Result<(), InvalidName> {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "._-/:@".contains(it);
    let parts_are_names =
        image.split('/').all(|it| it.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let is_name = image.chars().all(is_plain) && parts_are_names;
    if is_name { Ok(()) } else { Err(InvalidName(image.to_owned())) }
}

/// An image that does not say that it serves many models.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the image {image} cannot serve a multi-model endpoint: it has no label {MULTI_MODEL_LABEL}=true (`LABEL {MULTI_MODEL_LABEL}=true` in its Dockerfile)"
)]
pub(super) struct NotMultiModel {
    image: String,
}

pub(super) fn check_labels(
    image: &str,
    labels: &HashMap<String, String>,
) -> Result<(), NotMultiModel> {
    let said = labels.get(MULTI_MODEL_LABEL).map(String::as_str);
    if said == Some("true") { Ok(()) } else { Err(NotMultiModel { image: image.to_owned() }) }
}

/// Keeps the last line that something was said in, of what comes piece by piece: what fits in a reason.
pub(super) fn note_last(last: &mut String, said: &[u8]) {
    const MAX_CHARS: usize = 200;
    let text = String::from_utf8_lossy(said);
    let printable = |it: &char| !it.is_control();
    let mut lines = text.lines().rev().filter(|it| !it.trim().is_empty());
    if let Some(line) = lines.next() {
        *last = line.chars().filter(printable).take(MAX_CHARS).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_s_variables_win_over_the_model_s() {
        let given =
            [("SAGEMAKER_BIND_TO_PORT", "1"), ("OWN", "a=b"), ("SAGEMAKER_PROGRAM", "x.py")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let all = environment(&given.into());
        assert_eq!(
            all,
            [
                "OWN=a=b",
                "SAGEMAKER_PROGRAM=x.py",
                "SAGEMAKER_MULTI_MODEL=true",
                "SAGEMAKER_BIND_TO_PORT=8080",
                "SAGEMAKER_SAFE_PORT_RANGE=9000-9999",
            ]
        );
    }

    #[test]
    fn only_images_that_say_so_serve_many_models() {
        let said = |value: &str| HashMap::from([(MULTI_MODEL_LABEL.to_owned(), value.to_owned())]);
        assert_eq!(check_labels("own", &said("true")), Ok(()));
        for labels in [said("false"), HashMap::new()] {
            let error = check_labels("own", &labels).unwrap_err().to_string();
            assert!(
                error.contains("image own") && error.contains("LABEL com.amazonaws"),
                "{error}"
            );
        }
    }

    #[test]
    fn names_that_lead_elsewhere_at_the_engine_are_none() {
        for name in ["own", "own:1", "host.example:5000/team/own_image:1.0-b", "own@sha256:0a1b"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "/own", "own/", "own/../x", "a//b", "own?x", "own#x", "own x", ".own", "ö"]
        {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_last_line_that_says_something_is_kept() {
        let mut last = String::new();
        for said in [&b"one\ntwo\n"[..], b"\x1b[31mno such \xff weights\r\n\n", b"\n"] {
            note_last(&mut last, said);
        }
        assert_eq!(last, "[31mno such \u{fffd} weights");
    }

    #[test]
    fn containers_of_one_instance_are_told_from_those_of_its_cluster() {
        let all = Owner { data: "/data".into(), instance: None };
        let one = Owner { instance: Some("demo-0".to_owned()), ..all.clone() };
        assert_eq!(all.labels().len(), 1);
        assert_eq!(one.labels().len(), 2);
        assert!(all.labels().iter().all(|(name, value)| one.labels().get(name) == Some(value)));
    }
}
