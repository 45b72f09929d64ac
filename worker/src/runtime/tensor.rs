//! Tensors as plain values: what codecs read and write, without an inference library.

use super::RuntimeError;
use serde::Deserialize;
use std::fmt;

/// The most elements of one tensor, in or out: 64 MiB as `float32`, far beyond what a body of
/// 25 MiB can hold as text.
pub(crate) const MAX_ELEMENTS: usize = 1 << 24;

/// The most dimensions of a tensor (`NumPy`'s own limit was 32 for decades).
pub(crate) const MAX_DIMENSIONS: usize = 32;

/// A dense tensor in row-major order. `elements.len()` is the product of `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorData {
    pub shape: Vec<i64>,
    pub elements: Elements,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    #[default]
    Float32,
    Float64,
    Int64,
    Int32,
    Int16,
    Int8,
    Uint8,
    Bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Int16(Vec<i16>),
    Int8(Vec<i8>),
    Uint8(Vec<u8>),
    Bool(Vec<bool>),
}

/// Runs `$body` with `$t` as the Rust type of a [`DType`].
macro_rules! for_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::runtime::tensor::DType::Float32 => {
                type $t = f32;
                $body
            }
            $crate::runtime::tensor::DType::Float64 => {
                type $t = f64;
                $body
            }
            $crate::runtime::tensor::DType::Int64 => {
                type $t = i64;
                $body
            }
            $crate::runtime::tensor::DType::Int32 => {
                type $t = i32;
                $body
            }
            $crate::runtime::tensor::DType::Int16 => {
                type $t = i16;
                $body
            }
            $crate::runtime::tensor::DType::Int8 => {
                type $t = i8;
                $body
            }
            $crate::runtime::tensor::DType::Uint8 => {
                type $t = u8;
                $body
            }
            $crate::runtime::tensor::DType::Bool => {
                type $t = bool;
                $body
            }
        }
    };
}
pub(crate) use for_dtype;

/// Runs `$body` with `$values` as the slice of elements, whatever its type.
macro_rules! with_elements {
    ($elements:expr, $values:ident => $body:expr) => {
        match $elements {
            $crate::runtime::tensor::Elements::Float32($values) => $body,
            $crate::runtime::tensor::Elements::Float64($values) => $body,
            $crate::runtime::tensor::Elements::Int64($values) => $body,
            $crate::runtime::tensor::Elements::Int32($values) => $body,
            $crate::runtime::tensor::Elements::Int16($values) => $body,
            $crate::runtime::tensor::Elements::Int8($values) => $body,
            $crate::runtime::tensor::Elements::Uint8($values) => $body,
            $crate::runtime::tensor::Elements::Bool($values) => $body,
        }
    };
}
pub(crate) use with_elements;

/// A type of element. Conversions give `None` where a value does not fit.
pub(crate) trait Element: Copy + fmt::Display + 'static {
    const DTYPE: DType;

    fn from_f64(value: f64) -> Option<Self>;
    fn from_i64(value: i64) -> Option<Self>;
    /// Whether JSON can say it.
    fn is_finite(self) -> bool;
    fn read_le(bytes: &[u8]) -> Option<Self>;
    fn write_le(self, out: &mut Vec<u8>);
    fn wrap(values: Vec<Self>) -> Elements;
}

macro_rules! float_element {
    ($t:ty, $variant:ident) => {
        impl Element for $t {
            const DTYPE: DType = DType::$variant;

            #[expect(
                clippy::allow_attributes,
                reason = "one of the two types needs the next attribute"
            )]
            #[allow(clippy::cast_possible_truncation, reason = "infinity is refused below")]
            fn from_f64(value: f64) -> Option<Self> {
                let value = value as $t;
                value.is_finite().then_some(value)
            }

            #[expect(clippy::cast_precision_loss, reason = "the nearest float is meant")]
            fn from_i64(value: i64) -> Option<Self> {
                Some(value as $t)
            }

            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }

            fn read_le(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$t>::from_le_bytes)
            }

            fn write_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn wrap(values: Vec<Self>) -> Elements {
                Elements::$variant(values)
            }
        }
    };
}

macro_rules! int_element {
    ($t:ty, $variant:ident) => {
        impl Element for $t {
            const DTYPE: DType = DType::$variant;

            /// Takes whole numbers alone: many JSON writers give 1 as `1.0`.
            #[expect(clippy::cast_possible_truncation, reason = "2^53 and more is refused")]
            fn from_f64(value: f64) -> Option<Self> {
                const EXACT: f64 = 9_007_199_254_740_992.0;
                let is_whole = value.fract() == 0.0 && value.abs() < EXACT;
                is_whole.then_some(value as i64).and_then(Self::from_i64)
            }

            fn from_i64(value: i64) -> Option<Self> {
                value.try_into().ok()
            }

            fn is_finite(self) -> bool {
                true
            }

            fn read_le(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$t>::from_le_bytes)
            }

            fn write_le(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn wrap(values: Vec<Self>) -> Elements {
                Elements::$variant(values)
            }
        }
    };
}

float_element!(f32, Float32);
float_element!(f64, Float64);
int_element!(i64, Int64);
int_element!(i32, Int32);
int_element!(i16, Int16);
int_element!(i8, Int8);
int_element!(u8, Uint8);

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn from_f64(value: f64) -> Option<Self> {
        <u8 as Element>::from_f64(value).and_then(|value| Self::from_i64(value.into()))
    }

    fn from_i64(value: i64) -> Option<Self> {
        matches!(value, 0 | 1).then_some(value == 1)
    }

    fn is_finite(self) -> bool {
        true
    }

    fn read_le(bytes: &[u8]) -> Option<Self> {
        bytes.first().map(|byte| *byte != 0)
    }

    fn write_le(self, out: &mut Vec<u8>) {
        out.push(self.into());
    }

    fn wrap(values: Vec<Self>) -> Elements {
        Elements::Bool(values)
    }
}

impl DType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Float64 => "float64",
            Self::Int64 => "int64",
            Self::Int32 => "int32",
            Self::Int16 => "int16",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Bool => "bool",
        }
    }

    pub(crate) fn size_bytes(self) -> usize {
        for_dtype!(self, T => size_of::<T>())
    }

    pub(crate) fn zeros(self, n_elements: usize) -> Elements {
        for_dtype!(self, T => T::wrap(vec![T::default(); n_elements]))
    }
}

impl Elements {
    pub fn dtype(&self) -> DType {
        match self {
            Self::Float32(_) => DType::Float32,
            Self::Float64(_) => DType::Float64,
            Self::Int64(_) => DType::Int64,
            Self::Int32(_) => DType::Int32,
            Self::Int16(_) => DType::Int16,
            Self::Int8(_) => DType::Int8,
            Self::Uint8(_) => DType::Uint8,
            Self::Bool(_) => DType::Bool,
        }
    }

    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        with_elements!(self, values => values.len())
    }
}

/// Returns the product of `shape`, or `None` for a negative dimension or too many elements.
///
/// A zero makes the product zero, but hides nothing: as nested lists, `[2^24, 2^24, 0]` is 2^48
/// empty ones. So the other dimensions have to keep the bound by themselves.
pub(crate) fn n_elements(shape: &[i64]) -> Option<usize> {
    let mut n_lists = 1_usize;
    for dimension in shape {
        let dimension = usize::try_from(*dimension).ok()?;
        n_lists = n_lists.checked_mul(dimension.max(1)).filter(|it| *it <= MAX_ELEMENTS)?;
    }
    Some(if shape.contains(&0) { 0 } else { n_lists })
}

/// Checks `actual` against a shape in which -1 stands for any.
pub(crate) fn check_shape(expected: &[i64], actual: &[i64]) -> Result<(), RuntimeError> {
    let fits = expected.len() == actual.len()
        && expected.iter().zip(actual).all(|(want, have)| *want == -1 || want == have);
    if fits {
        return Ok(());
    }
    let text = format!("the shape is {actual:?}, the model takes {expected:?} (-1 is any)");
    Err(RuntimeError::BadInput(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_compared_dimension_by_dimension() {
        for (expected, actual, fits) in [
            (&[-1, 16][..], &[1, 16][..], true),
            (&[-1, 16], &[0, 16], true),
            (&[], &[], true),
            (&[-1, 16], &[16], false),
            (&[-1, 16], &[1, 17], false),
            (&[2, 16], &[1, 16], false),
        ] {
            assert_eq!(check_shape(expected, actual).is_ok(), fits, "{expected:?} {actual:?}");
        }
    }

    #[test]
    fn products_of_hostile_shapes_are_refused() {
        for (shape, n) in [
            (&[][..], Some(1)),
            (&[2, 3], Some(6)),
            (&[0, 3], Some(0)),
            (&[-1], None),
            (&[i64::MAX, i64::MAX], None),
            (&[0, i64::MAX], None),
            (&[1 << 24, 0], Some(0)),
            (&[1 << 24, 1 << 24, 0], None),
            (&[0, 1 << 24, 1 << 24], None),
            (&[1 << 24, 1], Some(1 << 24)),
            (&[1 << 24, 2], None),
            (&[1 << 20, 1 << 20, 1 << 20, 1 << 20], None),
        ] {
            assert_eq!(n_elements(shape), n, "{shape:?}");
        }
    }

    #[test]
    fn values_that_do_not_fit_their_type_are_refused() {
        assert_eq!(<f32 as Element>::from_f64(1e39), None);
        assert_eq!(<f64 as Element>::from_f64(1e39), Some(1e39));
        assert_eq!(<i64 as Element>::from_f64(3.0), Some(3));
        assert_eq!(<i64 as Element>::from_f64(3.5), None);
        assert_eq!(<i64 as Element>::from_f64(1e300), None);
        assert_eq!(<u8 as Element>::from_i64(-1), None);
        assert_eq!(<i8 as Element>::from_i64(128), None);
        assert_eq!(<bool as Element>::from_i64(2), None);
        assert_eq!(<bool as Element>::from_f64(1.0), Some(true));
    }
}
