//! Parses what `InvokeEndpoint` says outside its body, by the constraints of SageMaker's API model
//! (2017-05-13). Stock clients check lengths at most, so every constraint is checked here.

use crate::headers;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use shared::{
    address::InvalidAddress,
    api::invocation as wire,
    id::{
        EndpointName, InvalidName, NAME_CONSTRAINT, NOT_EMPTY_CONSTRAINT, PRINTABLE_CONSTRAINT,
        TargetModel, VariantName,
    },
};
use std::str::FromStr;

/// Everything but the body.
#[derive(Debug)]
pub struct Asked {
    /// `None` is right for an endpoint with one model.
    pub target_model: Option<TargetModel>,
    pub target_variant: Option<VariantName>,
    /// The headers that models may see, verbatim.
    pub forwarded: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    #[error("target model header is missing")]
    NoTargetModel,
    #[error("endpoint serves one model, and a target model is named")]
    NotMultiModel,
    #[error("target model has no valid address")]
    Address(#[from] InvalidAddress),
    /// It breaks a rule that is ours alone.
    #[error("1 validation error detected: {0}")]
    Name(InvalidName),
    #[error(
        "1 validation error detected: Value{} at '{member}' failed to satisfy constraint: \
         Member must {constraint}", shown(value.as_deref())
    )]
    Member { member: &'static str, value: Option<String>, constraint: &'static str },
}

impl InvalidRequest {
    fn of_name(error: InvalidName, member: &'static str) -> Self {
        match error.constraint() {
            Some(constraint) => {
                Self::Member { member, value: Some(error.value().to_owned()), constraint }
            }
            None => Self::Name(error),
        }
    }
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" '{value}'"))
}

/// What a header may hold.
struct Rule {
    header: &'static str,
    member: &'static str,
    max_chars: usize,
    too_long: &'static str,
    chars: Chars,
    /// Whether models may see it.
    is_forwarded: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Chars {
    Any,
    Ascii,
    /// `\A\S[\p{Print}]*\z`, so not empty.
    Printable,
    /// `[a-zA-Z0-9](-*[a-zA-Z0-9])*`
    Name,
    /// A name, or `NEW_SESSION`.
    Session,
}

/// A bound and how its violation is worded.
type MaxChars = (usize, &'static str);

const TO_63: MaxChars = (63, "have length less than or equal to 63");
const TO_64: MaxChars = (64, "have length less than or equal to 64");
const TO_256: MaxChars = (256, "have length less than or equal to 256");
const TO_1024: MaxChars = (1024, "have length less than or equal to 1024");

/// Room for what clients commonly send to models.
const N_FORWARDED: usize = 4;

/// Every header of the operation but the target model and variant, which are names of ours.
const RULES: [Rule; 9] = [
    seen("content-type", "contentType", TO_1024, Chars::Ascii),
    seen("accept", "accept", TO_1024, Chars::Ascii),
    seen(wire::CUSTOM_ATTRIBUTES, "customAttributes", TO_1024, Chars::Ascii),
    seen(wire::INFERENCE_ID, "inferenceId", TO_64, Chars::Printable),
    seen(wire::SESSION_ID, "sessionId", TO_256, Chars::Session),
    unseen(wire::TARGET_CONTAINER_HOSTNAME, "targetContainerHostname", TO_63, Chars::Name),
    unseen(wire::INFERENCE_COMPONENT, "inferenceComponentName", TO_63, Chars::Name),
    unseen(wire::ENABLE_EXPLANATIONS, "enableExplanations", TO_64, Chars::Any),
    unseen(wire::PREFIX_AWARE_ID, "prefixAwareId", TO_64, Chars::Printable),
];

/// A header that models see.
const fn seen(
    header: &'static str,
    member: &'static str,
    (max_chars, too_long): MaxChars,
    chars: Chars,
) -> Rule {
    Rule { header, member, max_chars, too_long, chars, is_forwarded: true }
}

/// A header that is for the service alone.
const fn unseen(
    header: &'static str,
    member: &'static str,
    max_chars: MaxChars,
    chars: Chars,
) -> Rule {
    Rule { is_forwarded: false, ..seen(header, member, max_chars, chars) }
}

/// Parses the endpoint's name as it stands in the path, percent-encoded.
pub fn endpoint_name(segment: &str) -> Result<EndpointName, InvalidRequest> {
    name(&percent_decode_str(segment).decode_utf8_lossy(), "endpointName")
}

/// Parses and checks every header of the operation. All others are ignored, and not forwarded.
pub fn parse(request: &HeaderMap) -> Result<Asked, InvalidRequest> {
    let mut forwarded = Vec::with_capacity(N_FORWARDED);
    let mut target_model = None;
    if let Some(model) = request.get(&headers::TARGET_MODEL) {
        target_model = Some(name(text(model, "targetModel")?, "targetModel")?);
        forwarded.push((headers::TARGET_MODEL.clone(), model.clone()));
    }
    let mut target_variant = None;
    if let Some(variant) = request.get(&headers::TARGET_VARIANT) {
        target_variant = Some(name(text(variant, "targetVariant")?, "targetVariant")?);
        forwarded.push((headers::TARGET_VARIANT.clone(), variant.clone()));
    }
    for (name, value) in request {
        let Some(rule) = RULES.iter().find(|rule| rule.header == name.as_str()) else {
            continue;
        };
        rule.check(text(value, rule.member)?)?;
        if rule.is_forwarded {
            // What comes twice counts as it came last.
            forwarded.retain(|(it, _)| it != name);
            forwarded.push((name.clone(), value.clone()));
        }
    }
    Ok(Asked { target_model, target_variant, forwarded })
}

/// Whether models may see a header.
pub fn is_forwarded(name: &HeaderName) -> bool {
    let mut rules = RULES.iter().filter(|rule| rule.is_forwarded);
    let is_target = *name == headers::TARGET_MODEL || *name == headers::TARGET_VARIANT;
    is_target || rules.any(|rule| rule.header == name.as_str())
}

fn name<N: FromStr<Err = InvalidName>>(
    value: &str,
    member: &'static str,
) -> Result<N, InvalidRequest> {
    value.parse().map_err(|error| InvalidRequest::of_name(error, member))
}

fn text<'a>(value: &'a HeaderValue, member: &'static str) -> Result<&'a str, InvalidRequest> {
    let constraint = "be valid UTF-8";
    std::str::from_utf8(value.as_bytes()).map_err(|_| InvalidRequest::Member {
        member,
        value: None,
        constraint,
    })
}

impl Rule {
    fn check(&self, value: &str) -> Result<(), InvalidRequest> {
        let Some(constraint) = self.flaw(value) else {
            return Ok(());
        };
        Err(InvalidRequest::Member {
            member: self.member,
            value: Some(value.to_owned()),
            constraint,
        })
    }

    /// Returns the constraint that `value` fails to satisfy.
    fn flaw(&self, value: &str) -> Option<&'static str> {
        // Characters are counted only where there may be too many.
        if value.len() > self.max_chars && value.chars().count() > self.max_chars {
            return Some(self.too_long);
        }
        match self.chars {
            Chars::Any if value.is_empty() => Some(NOT_EMPTY_CONSTRAINT),
            Chars::Ascii if !value.is_ascii() => {
                Some(r"satisfy regular expression pattern: \p{ASCII}*")
            }
            Chars::Printable if !is_printable(value) => Some(PRINTABLE_CONSTRAINT),
            Chars::Name if !is_name(value) => Some(NAME_CONSTRAINT),
            Chars::Session if value != "NEW_SESSION" && !is_name(value) => Some(
                "satisfy regular expression pattern: ^(NEW_SESSION)$|^[a-zA-Z0-9](-*[a-zA-Z0-9])*$",
            ),
            _ => None,
        }
    }
}

fn is_printable(value: &str) -> bool {
    value.starts_with(|first: char| !first.is_whitespace()) && !value.chars().any(char::is_control)
}

fn is_name(value: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !value.is_empty()
        && value.bytes().all(legal)
        && !value.starts_with('-')
        && !value.ends_with('-')
}

#[cfg(test)]
mod tests;
