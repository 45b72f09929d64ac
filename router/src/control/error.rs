//! Errors of the control plane: their names, and SageMaker's exact words for them. Clients search
//! these texts (reference, section 2.3), so a changed letter is a changed interface.

use super::arn::ResourceKind;
use serde_json::{Value, json};
use std::fmt;

/// What names the exception in a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Also for what does not exist: SageMaker has no other code for it.
    Validation,
    ResourceLimitExceeded,
    ResourceInUse,
    Serialization,
    UnknownOperation,
    InternalFailure,
    /// Clients try again.
    Unavailable,
}

impl ErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "ValidationException",
            Self::ResourceLimitExceeded => "ResourceLimitExceeded",
            Self::ResourceInUse => "ResourceInUse",
            Self::Serialization => "SerializationException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::InternalFailure => "InternalFailure",
            Self::Unavailable => "ServiceUnavailable",
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::Validation
            | Self::ResourceLimitExceeded
            | Self::ResourceInUse
            | Self::Serialization
            | Self::UnknownOperation => 400,
            Self::InternalFailure => 500,
            Self::Unavailable => 503,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an operation of the control plane was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ControlError {
    pub code: ErrorCode,
    pub message: String,
}

/// A limit that a request would exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limit<'a> {
    /// `ml.m5.large for endpoint usage`.
    pub name: &'a str,
    /// `Instances`.
    pub unit: &'a str,
    pub limit: u64,
    pub utilization: u64,
    pub delta: u64,
}

impl ControlError {
    pub fn validation(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::Validation, message: message.into() }
    }

    /// Joins what is wrong with an input: `2 validation errors detected: …; …`.
    pub fn violations(violations: &[String]) -> Self {
        let noun = if violations.len() == 1 { "error" } else { "errors" };
        let (n, joined) = (violations.len(), violations.join("; "));
        Self::validation(format!("{n} validation {noun} detected: {joined}"))
    }

    pub fn not_found(kind: ResourceKind, arn: &str) -> Self {
        Self::validation(format!("Could not find {kind} \"{arn}\"."))
    }

    pub fn already_exists(kind: ResourceKind, arn: &str) -> Self {
        Self::validation(format!("Cannot create already existing {kind} \"{arn}\"."))
    }

    /// Also the answer to a second `DeleteEndpoint`.
    pub fn in_progress(arn: &str) -> Self {
        Self::validation(format!("Cannot update in-progress endpoint \"{arn}\"."))
    }

    /// Only `DeleteEndpoint` is left to an endpoint that failed.
    pub fn failed(arn: &str, status: &str) -> Self {
        Self::validation(format!(
            "Cannot update endpoint \"{arn}\" with status \"{status}\": only an endpoint with \
             status \"InService\" can be updated."
        ))
    }

    pub fn config_in_use() -> Self {
        let message = "Cannot update endpoint with the currently in use endpoint configuration.";
        Self::validation(message)
    }

    /// Nothing lies where a model's data should be.
    pub fn no_model_data(url: &str) -> Self {
        Self::validation(format!("Could not find model data at {url}."))
    }

    pub fn limit_exceeded(limit: Limit<'_>) -> Self {
        let Limit { name, unit, limit, utilization, delta } = limit;
        let message = format!(
            "The account-level service limit '{name}' is {limit} {unit}, with current utilization \
             of {utilization} {unit} and a request delta of {delta} {unit}. Please use AWS Service \
             Quotas to request an increase for this quota. If AWS Service Quotas is not available, \
             contact AWS support to request an increase for this quota."
        );
        Self { code: ErrorCode::ResourceLimitExceeded, message }
    }

    /// The body is not what the protocol can read.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::Serialization, message: message.into() }
    }

    pub fn unknown_operation() -> Self {
        let message = "The requested operation is not supported.".to_owned();
        Self { code: ErrorCode::UnknownOperation, message }
    }

    pub fn internal() -> Self {
        let message = "An internal failure occurred. Please try again.".to_owned();
        Self { code: ErrorCode::InternalFailure, message }
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::Unavailable, message: message.into() }
    }

    /// The body of the answer. boto3 reads the code from the body alone on this protocol.
    pub fn body(&self) -> Value {
        json!({ "__type": self.code.as_str(), "message": self.message })
    }
}

/// Says what is wrong with one member, in SageMaker's words.
pub fn violation(value: &str, path: &str, constraint: &str) -> String {
    format!("Value {value} at '{path}' failed to satisfy constraint: {constraint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: &ControlError, code: &str, message: &str) {
        assert_eq!(error.body(), json!({ "__type": code, "message": message }));
    }

    #[test]
    fn texts_are_those_that_clients_search() {
        let (arn, kind) = ("arn:x", ResourceKind::EndpointConfig);
        let validation = "ValidationException";
        check(
            &ControlError::not_found(ResourceKind::Endpoint, arn),
            validation,
            "Could not find endpoint \"arn:x\".",
        );
        check(
            &ControlError::not_found(kind, arn),
            validation,
            "Could not find endpoint configuration \"arn:x\".",
        );
        check(
            &ControlError::already_exists(ResourceKind::Model, arn),
            validation,
            "Cannot create already existing model \"arn:x\".",
        );
        check(
            &ControlError::in_progress(arn),
            validation,
            "Cannot update in-progress endpoint \"arn:x\".",
        );
        check(
            &ControlError::no_model_data("s3://b/p/"),
            validation,
            "Could not find model data at s3://b/p/.",
        );
    }

    #[test]
    fn limits_say_how_much_is_used_and_asked_for() {
        let error = ControlError::limit_exceeded(Limit {
            name: "ml.g5.xlarge for endpoint usage",
            unit: "Instances",
            limit: 8,
            utilization: 7,
            delta: 2,
        });
        assert_eq!(error.code.as_str(), "ResourceLimitExceeded");
        assert!(error.message.starts_with(
            "The account-level service limit 'ml.g5.xlarge for endpoint usage' is 8 Instances, with \
             current utilization of 7 Instances and a request delta of 2 Instances. Please use AWS \
             Service Quotas to request an increase for this quota."
        ));
    }

    #[test]
    fn violations_are_counted_and_joined() {
        let one = violation("'x'", "a.b", "Member must not be null");
        let error = ControlError::violations(std::slice::from_ref(&one));
        assert_eq!(error.message, format!("1 validation error detected: {one}"));
        let error = ControlError::violations(&[one.clone(), one.clone()]);
        assert_eq!(error.message, format!("2 validation errors detected: {one}; {one}"));
    }

    #[test]
    fn internal_failures_alone_are_the_servers_fault() {
        assert_eq!(ControlError::internal().code.status(), 500);
        assert_eq!(ControlError::unknown_operation().code.status(), 400);
        assert_eq!(ControlError::serialization("").code.as_str(), "SerializationException");
    }
}
