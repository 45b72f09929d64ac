//! Tensors in and out, by `Content-Type` and `Accept`.
//!
//! The formats are those of SageMaker's `PyTorch` container: JSON, CSV, npy; text becomes `float32`,
//! arrays keep their type, unless the manifest says otherwise. Bodies come from strangers: nothing
//! here may panic, recurse without bound or allocate more than in proportion to the body.

pub mod json;
pub mod csv;
pub mod npy;

use super::{
    RuntimeError,
    manifest::TensorInput,
    tensor::{DType, TensorData, check_shape},
};
use std::cmp::Reverse;

/// `Accept` headers longer than this many choices are somebody's experiment.
const MAX_CHOICES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
    Npy,
}

/// What a model answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Tensor(TensorData),
    Text(String),
    Null,
    List(Vec<Answer>),
    Object(Vec<(String, Answer)>),
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::Npy];

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Npy => "application/x-npy",
        }
    }
}

/// Returns the format of a tensor body; JSON if nobody says.
pub fn input_format(content_type: Option<&str>) -> Result<Format, RuntimeError> {
    let Some(given) = content_type.filter(|it| !it.trim().is_empty()) else {
        return Ok(Format::Json);
    };
    let essence = essence(given);
    Format::ALL.into_iter().find(|it| it.content_type() == essence).ok_or_else(|| {
        let why = "this model takes application/json, text/csv or application/x-npy";
        RuntimeError::UnsupportedMediaType(given.to_owned(), why)
    })
}

/// Returns the media type alone: no parameters, lower case.
pub(crate) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns the best of `offers` by `Accept`: the highest `q`, then the first named, then the first
/// offered. An offer's `q` is that of the most specific range that covers it (RFC 9110, 12.5.1), so
/// that `text/csv;q=0, */*` refuses CSV.
pub fn answer_format(accept: Option<&str>, offers: &[Format]) -> Result<Format, RuntimeError> {
    let Some(accept) = accept.filter(|it| !it.trim().is_empty()) else {
        return Ok(offers[0]);
    };
    let choices: Vec<(String, f32)> =
        accept.split(',').take(MAX_CHOICES).map(|it| (essence(it), quality(it))).collect();
    let wanted = offers.iter().filter_map(|offer| {
        let covering = choices.iter().enumerate().filter_map(|(nth, (range, quality))| {
            Some((specificity(offer.content_type(), range)?, nth, *quality))
        });
        // Of two equally specific ranges the first counts.
        let (_, nth, quality) = covering.max_by_key(|(level, nth, _)| (*level, Reverse(*nth)))?;
        (quality > 0.0).then_some((quality, nth, *offer))
    });
    // `min_by` gives the first of equals: the first offered.
    let best = wanted.min_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    best.map(|(_, _, format)| format).ok_or_else(|| {
        let why = match offers {
            [Format::Json] => "this model answers application/json alone",
            _ => "this model answers application/json, text/csv or application/x-npy",
        };
        RuntimeError::NotAcceptable(accept.to_owned(), why)
    })
}

/// Returns the weight of one choice; none if it cannot be read.
fn quality(choice: &str) -> f32 {
    let parameters = choice.split(';').skip(1);
    let given = parameters
        .filter_map(|it| it.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    let quality = given.map_or(Some(1.0), |(_, value)| value.trim().parse().ok());
    quality.filter(|it| (0.0..=1.0).contains(it)).unwrap_or(0.0)
}

/// Returns how closely `range` describes `content_type`; `None` if it does not cover it.
fn specificity(content_type: &str, range: &str) -> Option<u8> {
    let whole = content_type.split_once('/').map(|(kind, _)| kind);
    if range == content_type {
        return Some(2);
    }
    if range == "*/*" {
        return Some(0);
    }
    range.strip_suffix("/*").filter(|kind| Some(*kind) == whole).map(|_| 1)
}

/// Reads a tensor and holds it against what the manifest says.
pub fn decode(
    format: Format,
    body: &[u8],
    input: &TensorInput,
) -> Result<TensorData, RuntimeError> {
    let text_dtype = input.dtype.unwrap_or_default();
    let tensor = match format {
        Format::Json => json::decode(body, text_dtype)?,
        Format::Csv => csv::decode(body, text_dtype, input.shape.as_deref())?,
        Format::Npy => npy::decode(body)?,
    };
    check_dtype(input.dtype, tensor.elements.dtype())?;
    if let Some(shape) = &input.shape {
        check_shape(shape, &tensor.shape)?;
    }
    Ok(tensor)
}

fn check_dtype(expected: Option<DType>, actual: DType) -> Result<(), RuntimeError> {
    match expected {
        Some(expected) if expected != actual => {
            let (actual, expected) = (actual.as_str(), expected.as_str());
            let text = format!("the array is {actual}, the model takes {expected}");
            Err(RuntimeError::BadInput(text))
        }
        _ => Ok(()),
    }
}

/// Writes what the model answered.
pub fn encode(format: Format, answer: &Answer) -> Result<Vec<u8>, RuntimeError> {
    let tensor = || match answer {
        Answer::Tensor(tensor) => Ok(tensor),
        _ => Err(RuntimeError::NotAcceptable(
            format.content_type().to_owned(),
            "this model's answer is not one tensor: only application/json can carry it",
        )),
    };
    match format {
        Format::Json => json::encode(answer),
        Format::Csv => csv::encode(tensor()?),
        Format::Npy => tensor().map(npy::encode),
    }
}

#[cfg(test)]
mod tests;
