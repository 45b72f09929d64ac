//! Names that cross the wire, parsed once at the edge.
//!
//! Validity is in the type, so nobody checks again; serde goes through `TryFrom` too.

use serde::{Deserialize, Serialize};
use std::fmt;

/// SageMaker's bound for endpoint, variant and instance names (API model of 2017-07-24).
const MAX_NAME_CHARS: usize = 63;

/// SageMaker's bound for a target model (API model of 2017-05-13).
const MAX_TARGET_MODEL_CHARS: usize = 1024;

/// What a name must do, in the words of SageMaker's own validation.
pub const NAME_CONSTRAINT: &str =
    "satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9])*";

/// What printable text must do, in the same words.
pub const PRINTABLE_CONSTRAINT: &str = r"satisfy regular expression pattern: \A\S[\p{Print}]*\z";

/// The same for what must not be empty.
pub const NOT_EMPTY_CONSTRAINT: &str = "have length greater than or equal to 1";

/// Why a name was refused. The text fits into a client's error message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} `{value}`: {}", flaw.reason)]
pub struct InvalidName {
    kind: &'static str,
    value: String,
    flaw: Flaw,
}

impl InvalidName {
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What the value must do, in SageMaker's words; `None` if only we forbid it.
    pub fn constraint(&self) -> Option<&'static str> {
        self.flaw.constraint
    }
}

/// What is wrong with a value: in our words, and in SageMaker's if its API model forbids it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flaw {
    reason: &'static str,
    constraint: Option<&'static str>,
}

impl Flaw {
    const fn of_sagemaker(reason: &'static str, constraint: &'static str) -> Self {
        Self { reason, constraint: Some(constraint) }
    }

    const fn ours(reason: &'static str) -> Self {
        Self { reason, constraint: None }
    }
}

const EMPTY: Flaw = Flaw::of_sagemaker("it is empty", NOT_EMPTY_CONSTRAINT);

/// Defines a name type: `[a-zA-Z0-9](-*[a-zA-Z0-9])*`, at most 63 characters.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(value: String) -> Result<Self, InvalidName> {
                match name_flaw(&value) {
                    None => Ok(Self(value)),
                    Some(flaw) => Err(InvalidName { kind: $kind, value, flaw }),
                }
            }
        }

        name_conversions!($name);
    };
}

/// What every name offers once it is valid.
macro_rules! name_conversions {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::try_from(value.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name that a client invokes.
    EndpointName, "endpoint name"
}

name! {
    /// A weighted part of an endpoint, with its own artifact prefix and limits.
    VariantName, "variant name"
}

name! {
    /// One running worker, as the router knows it. It survives a restart of the worker.
    InstanceId, "instance id"
}

name! {
    /// The instances of one variant of one deployment of an endpoint. Never used again for another.
    FleetId, "fleet id"
}

/// The artifact an invocation asks for, relative to its variant's prefix.
///
/// At most 1024 printable characters of UTF-8, the first not a blank. Never absolute, never with
/// an empty part or a climbing `..`, so that joining it to an S3 prefix or a folder cannot leave
/// either.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetModel(String);

name_conversions!(TargetModel);

impl TryFrom<String> for TargetModel {
    type Error = InvalidName;

    fn try_from(value: String) -> Result<Self, InvalidName> {
        match target_model_flaw(&value) {
            None => Ok(Self(value)),
            Some(flaw) => Err(InvalidName { kind: "target model", value, flaw }),
        }
    }
}

fn name_flaw(value: &str) -> Option<Flaw> {
    if value.is_empty() {
        return Some(EMPTY);
    }
    if value.len() > MAX_NAME_CHARS {
        let constraint = "have length less than or equal to 63";
        return Some(Flaw::of_sagemaker("it is longer than 63 characters", constraint));
    }
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !value.bytes().all(is_legal) || value.starts_with('-') || value.ends_with('-') {
        let reason = "only letters, digits and inner hyphens are allowed";
        return Some(Flaw::of_sagemaker(reason, NAME_CONSTRAINT));
    }
    None
}

fn target_model_flaw(value: &str) -> Option<Flaw> {
    let Some(first) = value.chars().next() else {
        return Some(EMPTY);
    };
    // Characters are counted only where there may be too many.
    if value.len() > MAX_TARGET_MODEL_CHARS && value.chars().count() > MAX_TARGET_MODEL_CHARS {
        let constraint = "have length less than or equal to 1024";
        return Some(Flaw::of_sagemaker("it is longer than 1024 characters", constraint));
    }
    if first.is_whitespace() || value.chars().any(char::is_control) {
        let reason = "only printable characters are allowed, the first not a blank";
        return Some(Flaw::of_sagemaker(reason, PRINTABLE_CONSTRAINT));
    }
    if value.starts_with('/') {
        return Some(Flaw::ours("it must be relative to the endpoint's prefix"));
    }
    if !value.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return None;
    }
    if value.split('/').any(|part| part == "..") {
        return Some(Flaw::ours("it must not climb with `..`"));
    }
    Some(Flaw::ours("it must not have empty or `.` parts"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_target_model(value: &str, valid: bool) {
        assert_eq!(value.parse::<TargetModel>().is_ok(), valid, "{value:?}");
    }

    #[test]
    fn target_models_may_nest_and_be_unicode() {
        check_target_model("a.tar.gz", true);
        check_target_model("tenant_a/v3/model.tar.gz", true);
        check_target_model("modèle d'été.tar.gz", true);
        check_target_model("a..b/...", true);
        check_target_model(&"x".repeat(1024), true);
    }

    #[test]
    fn target_models_that_could_leave_their_prefix_are_refused() {
        for value in
            ["", "/etc/passwd", "../x", "a/../b", "a/..", "a//b", "a/", "./a", " a", "a\nb"]
        {
            check_target_model(value, false);
        }
        check_target_model(&"x".repeat(1025), false);
    }

    #[test]
    fn names_follow_sagemakers_pattern() {
        for valid in ["demo", "A1", "a--b", &"x".repeat(63)] {
            assert!(valid.parse::<EndpointName>().is_ok(), "{valid}");
        }
        for invalid in ["", "-a", "a-", "a_b", "a.b", "é", &"x".repeat(64)] {
            assert!(invalid.parse::<EndpointName>().is_err(), "{invalid}");
        }
    }

    proptest! {
        #[test]
        fn a_valid_target_model_joins_below_any_folder(value in "\\PC{0,40}") {
            if let Ok(target_model) = value.parse::<TargetModel>() {
                let joined = std::path::Path::new("/root/prefix").join(target_model.as_str());
                prop_assert!(joined.starts_with("/root/prefix"));
                prop_assert!(!joined.components().any(|it| it == std::path::Component::ParentDir));
            }
        }
    }
}
