//! JSON: nested lists of numbers, read in one pass into one flat buffer.

use super::Answer;
use crate::runtime::{
    RuntimeError,
    tensor::{
        DType, Element, MAX_DIMENSIONS, MAX_ELEMENTS, TensorData, for_dtype, n_elements,
        with_elements,
    },
};
use serde::{
    Serialize, Serializer,
    de::{DeserializeSeed, Deserializer, SeqAccess, Visitor},
    ser::{Error as _, SerializeMap, SerializeSeq},
};
use std::fmt;

/// Reads a number or nested lists of numbers, all lists of one level equally long.
pub fn decode(body: &[u8], dtype: DType) -> Result<TensorData, RuntimeError> {
    for_dtype!(dtype, T => decode_as::<T>(body))
}

fn decode_as<T: Element>(body: &[u8]) -> Result<TensorData, RuntimeError> {
    // Eight bytes a number is a fair guess; the vector grows where it is wrong.
    let values = Vec::with_capacity(body.len() / 8);
    let mut sink = Sink::<T> { values, shape: Vec::new(), leaf_depth: None };
    let mut reader = serde_json::Deserializer::from_slice(body);
    let level = Level { sink: &mut sink, depth: 0 };
    let read = level.deserialize(&mut reader).and_then(|()| reader.end());
    read.map_err(|error| RuntimeError::BadInput(explain(body, &error)))?;
    let shape = sink.shape.into_iter().map(|n| i64::try_from(n).unwrap_or(i64::MAX)).collect();
    Ok(TensorData { shape, elements: T::wrap(sink.values) })
}

/// Where the numbers go, and what is known of the shape so far.
#[derive(Debug)]
struct Sink<T> {
    values: Vec<T>,
    /// The length of the lists at each depth, known once one of them has ended.
    shape: Vec<usize>,
    /// The depth at which numbers lie, known once one was seen (or an empty list).
    leaf_depth: Option<usize>,
}

/// Reads one value at one depth.
struct Level<'a, T> {
    sink: &'a mut Sink<T>,
    depth: usize,
}

impl<T: Element> Level<'_, T> {
    fn push<E: serde::de::Error>(
        self,
        value: Option<T>,
        shown: impl fmt::Display,
    ) -> Result<(), E> {
        let dtype = T::DTYPE.as_str();
        let value = value.ok_or_else(|| E::custom(format_args!("{shown} is not a {dtype}")))?;
        if *self.sink.leaf_depth.get_or_insert(self.depth) != self.depth {
            return Err(E::custom("ragged: a number beside a list"));
        }
        if self.sink.values.len() >= MAX_ELEMENTS {
            return Err(E::custom(format_args!("more than {MAX_ELEMENTS} elements")));
        }
        self.sink.values.push(value);
        Ok(())
    }

    /// Checks a list as it begins, and makes room for its length at its depth.
    fn open<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth >= MAX_DIMENSIONS {
            return Err(E::custom(format_args!("lists nested over {MAX_DIMENSIONS} deep")));
        }
        if self.sink.leaf_depth.is_some_and(|leaf| self.depth >= leaf) {
            return Err(E::custom("ragged: a list beside a number"));
        }
        Ok(())
    }

    fn close<E: serde::de::Error>(&mut self, len: usize) -> Result<(), E> {
        if len == 0 {
            self.sink.leaf_depth.get_or_insert(self.depth + 1);
        }
        // Inner lists end first: their entries are there already when an outer one ends.
        if self.sink.shape.len() <= self.depth {
            self.sink.shape.resize(self.depth + 1, usize::MAX);
        }
        let known = &mut self.sink.shape[self.depth];
        if *known == usize::MAX {
            *known = len;
        }
        if *known != len {
            return Err(E::custom(format_args!("ragged: a list of {len} beside one of {known}")));
        }
        Ok(())
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Level<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Level<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nested lists of numbers")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.push(T::from_f64(value), format_args!("{value:?}"))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.push(T::from_i64(value), value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "integers this large are refused or rounded"
        )]
        let large = || T::from_f64(value as f64);
        self.push(i64::try_from(value).map_or_else(|_| large(), T::from_i64), value)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.push(T::from_i64(value.into()), value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.open()?;
        let mut len = 0;
        let depth = self.depth + 1;
        while items.next_element_seed(Level { sink: self.sink, depth })?.is_some() {
            len += 1;
        }
        self.close(len)
    }
}

/// Python writes NaN and infinities as literals that JSON does not have: says so.
fn explain(body: &[u8], error: &serde_json::Error) -> String {
    let is_literal = error.is_syntax() && {
        let lines = body.split(|byte| *byte == b'\n');
        let line = lines.into_iter().nth(error.line().saturating_sub(1)).unwrap_or_default();
        // The column is of the byte at which the parser stopped, within the literal.
        let start = error.column().saturating_sub(3).min(line.len());
        let near = &line[start..line.len().min(start + 12)];
        [&b"NaN"[..], b"Infinity"].iter().any(|it| near.windows(it.len()).any(|part| part == *it))
    };
    if is_literal {
        let (line, column) = (error.line(), error.column());
        return format!(
            "JSON has no NaN and no Infinity (line {line} column {column}): \
             send application/x-npy or text/csv instead"
        );
    }
    format!("the body is not JSON with nested lists of numbers: {error}")
}

/// Writes lists of numbers on one line. NaN and infinities are an error: JSON cannot say them.
pub fn encode(answer: &Answer) -> Result<Vec<u8>, RuntimeError> {
    let mut body = Vec::with_capacity(capacity(answer));
    serde_json::to_writer(&mut body, answer).map_err(|error| {
        RuntimeError::Inference(format!("the answer cannot be written as JSON: {error}"))
    })?;
    Ok(body)
}

/// Guesses 12 bytes for a number.
fn capacity(answer: &Answer) -> usize {
    match answer {
        Answer::Tensor(tensor) => 16 + 12 * tensor.elements.len(),
        _ => 256,
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tensor(tensor) => {
                // Shapes with a zero in them can stand for more lists than there is memory.
                if n_elements(&tensor.shape) != Some(tensor.elements.len()) {
                    let shape = &tensor.shape;
                    return Err(S::Error::custom(format_args!("its shape {shape:?} is too large")));
                }
                with_elements!(&tensor.elements, values => {
                    Nested { shape: &tensor.shape, values }.serialize(serializer)
                })
            }
            Self::Text(text) => serializer.serialize_str(text),
            Self::Null => serializer.serialize_unit(),
            Self::List(items) => items.serialize(serializer),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, member) in members {
                    map.serialize_entry(name, member)?;
                }
                map.end()
            }
        }
    }
}

/// A part of a tensor: its remaining dimensions.
struct Nested<'a, T> {
    shape: &'a [i64],
    values: &'a [T],
}

impl<T: Element + Serialize> Serialize for Nested<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [n, inner @ ..] = self.shape else {
            return scalar(self.values[0])?.serialize(serializer);
        };
        let n = usize::try_from(*n).map_err(S::Error::custom)?;
        let mut list = serializer.serialize_seq(Some(n))?;
        if inner.is_empty() {
            for value in self.values {
                list.serialize_element(&scalar(*value)?)?;
            }
            return list.end();
        }
        let size = self.values.len().checked_div(n).unwrap_or(0);
        for idx in 0..n {
            let values = &self.values[idx * size..(idx + 1) * size];
            list.serialize_element(&Nested { shape: inner, values })?;
        }
        list.end()
    }
}

fn scalar<T: Element, E: serde::ser::Error>(value: T) -> Result<T, E> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(E::custom(format_args!("it holds {value}; ask for application/x-npy or text/csv")))
}
