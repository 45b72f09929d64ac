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

/// Returns the best of `offers` by `Accept`: the highest `q`, then the first named. The first offer
/// stands where everything is welcome.
pub fn answer_format(accept: Option<&str>, offers: &[Format]) -> Result<Format, RuntimeError> {
    let Some(accept) = accept.filter(|it| !it.trim().is_empty()) else {
        return Ok(offers[0]);
    };
    let mut best: Option<(f32, Format)> = None;
    for choice in accept.split(',').take(MAX_CHOICES) {
        let quality = quality(choice);
        let range = essence(choice);
        let offer = offers.iter().find(|it| is_in_range(it.content_type(), &range));
        if let Some(offer) = offer
            && quality > best.map_or(0.0, |(quality, _)| quality)
        {
            best = Some((quality, *offer));
        }
    }
    best.map(|(_, format)| format).ok_or_else(|| {
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
    given.map_or(1.0, |(_, value)| value.trim().parse().unwrap_or(0.0))
}

fn is_in_range(content_type: &str, range: &str) -> bool {
    let whole = content_type.split_once('/').map(|(kind, _)| kind);
    range == content_type
        || range == "*/*"
        || range.strip_suffix("/*").is_some_and(|kind| Some(kind) == whole)
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
