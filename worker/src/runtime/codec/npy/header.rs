//! The header of an npy array: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.

use super::{bad, type_code};
use crate::runtime::{
    RuntimeError,
    tensor::{DType, MAX_DIMENSIONS},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dtype: DType,
    pub(super) is_big_endian: bool,
    pub(super) is_fortran_order: bool,
    pub(super) shape: Vec<i64>,
}

const DTYPES: [DType; 8] = [
    DType::Float32,
    DType::Float64,
    DType::Int64,
    DType::Int32,
    DType::Int16,
    DType::Int8,
    DType::Uint8,
    DType::Bool,
];

pub(super) fn render(dtype: DType, shape: &[i64]) -> String {
    let order = if dtype.size_bytes() == 1 { '|' } else { '<' };
    let code = type_code(dtype);
    let dimensions: Vec<String> = shape.iter().map(i64::to_string).collect();
    // Python writes a tuple of one as `(3,)`.
    let dimensions = dimensions.join(", ") + if shape.len() == 1 { "," } else { "" };
    format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({dimensions}), }}")
}

pub(super) fn parse(text: &[u8]) -> Result<Header, RuntimeError> {
    let text = std::str::from_utf8(text)
        .map_err(|_| bad("the array's header is not text".to_owned()))?
        .trim();
    let members = text.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
    let mut rest = members.ok_or_else(|| malformed(text))?.trim_start();
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    while !rest.is_empty() {
        let (key, after) = quoted(rest).ok_or_else(|| malformed(text))?;
        let value = after.trim_start().strip_prefix(':').ok_or_else(|| malformed(text))?;
        let value = value.trim_start();
        rest = match key {
            "descr" => take(&mut descr, quoted(value)),
            "fortran_order" => take(&mut fortran_order, boolean(value)),
            "shape" => take(&mut shape, tuple(value)),
            _ => None,
        }
        .ok_or_else(|| unusual(text, key, value))?
        .trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    let (Some(descr), Some(is_fortran_order), Some(shape)) = (descr, fortran_order, shape) else {
        return Err(malformed(text));
    };
    let (dtype, is_big_endian) = element_type(descr)?;
    Ok(Header { dtype, is_big_endian, is_fortran_order, shape })
}

/// Stores a value once, and passes on what follows it.
fn take<'a, T>(slot: &mut Option<T>, parsed: Option<(T, &'a str)>) -> Option<&'a str> {
    let (value, rest) = parsed?;
    slot.replace(value).is_none().then_some(rest)
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|it| matches!(it, '\'' | '"'))?;
    text[1..].split_once(quote)
}

fn boolean(text: &str) -> Option<(bool, &str)> {
    let no = text.strip_prefix("False").map(|rest| (false, rest));
    no.or_else(|| text.strip_prefix("True").map(|rest| (true, rest)))
}

fn tuple(text: &str) -> Option<(Vec<i64>, &str)> {
    let (inside, rest) = text.strip_prefix('(')?.split_once(')')?;
    let inside = inside.trim();
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    if inside.is_empty() {
        return Some((Vec::new(), rest));
    }
    // Python 2 wrote `3L`.
    let dimension = |text: &str| text.trim().trim_end_matches('L').parse().ok();
    let shape: Option<Vec<i64>> = inside.split(',').map(dimension).collect();
    shape.filter(|it| it.len() <= MAX_DIMENSIONS && it.iter().all(|n| *n >= 0)).zip(Some(rest))
}

fn element_type(descr: &str) -> Result<(DType, bool), RuntimeError> {
    let (order, code) = descr.split_at_checked(1).unwrap_or(("", descr));
    if code.starts_with('O') {
        return Err(bad("the array holds pickled objects, which are never read here".to_owned()));
    }
    let dtype = DTYPES.into_iter().find(|it| type_code(*it) == code);
    match (dtype, order) {
        (Some(dtype), "<" | "=" | "|") => Ok((dtype, false)),
        (Some(dtype), ">") => Ok((dtype, true)),
        _ => {
            let shown: String = descr.chars().take(32).collect();
            let known = DTYPES.map(DType::as_str).join(", ");
            Err(bad(format!("arrays of type {shown:?} are not served: send {known}")))
        }
    }
}

fn unusual(text: &str, key: &str, value: &str) -> RuntimeError {
    match key {
        "descr" if value.starts_with('[') => {
            bad("structured arrays are not served: send an array of numbers".to_owned())
        }
        _ => malformed(text),
    }
}

fn malformed(text: &str) -> RuntimeError {
    let shown: String = text.chars().take(80).collect();
    bad(format!("the array's header is malformed: {shown:?}"))
}
