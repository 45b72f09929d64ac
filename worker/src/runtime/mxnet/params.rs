//! `*-0000.params`: the arrays of an MXNet checkpoint.
//!
//! ```text
//! u64 0x112, u64 0
//! u64 n, n arrays
//! u64 m (0 or n), m names: u64 length, bytes
//! ```
//!
//! An array begins with a number that says its version; the oldest, V0, has its count of dimensions
//! there. Little-endian, without alignment or checksum (MXNet 1.9, `src/ndarray/ndarray.cc`,
//! `NDArray::Save`). The file is hostile until it is read: each length is held against what is left of
//! it before anything is kept for it.

use super::MxnetError;
use std::{
    collections::HashMap,
    io::{Read, Take},
};

const MAGIC: u64 = 0x112;
/// The versions' numbers; each but V0.
const V1: u32 = 0xF993_FAC8;
const V2: u32 = 0xF993_FAC9;
const V3: u32 = 0xF993_FACA;

/// The most arrays: ResNet-152 has 932.
const MAX_ARRAYS: u64 = 100_000;
const MAX_DIMENSIONS: i64 = 32;
const MAX_NAME_BYTES: u64 = 1024;
/// Bytes that are read of an array at once: what it claims is kept only as it comes.
const PIECE_BYTES: usize = 1 << 20;

/// A dense array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Array {
    pub(in crate::runtime) dtype: ArrayType,
    pub(in crate::runtime) shape: Vec<i64>,
    /// Elements in row-major order, little-endian.
    pub(in crate::runtime) bytes: Vec<u8>,
}

/// A type of element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum ArrayType {
    Float32,
    Float64,
    Float16,
    Uint8,
    Int32,
    Int8,
    Int64,
    Bool,
    Int16,
    Bfloat16,
}

impl ArrayType {
    fn of_code(code: i32) -> Result<Self, MxnetError> {
        Ok(match code {
            0 => Self::Float32,
            1 => Self::Float64,
            2 => Self::Float16,
            3 => Self::Uint8,
            4 => Self::Int32,
            5 => Self::Int8,
            6 => Self::Int64,
            7 => Self::Bool,
            8 => Self::Int16,
            12 => Self::Bfloat16,
            other => {
                return Err(flaw(format!("an array has elements of the unknown type {other}")));
            }
        })
    }

    fn size_bytes(self) -> u64 {
        match self {
            Self::Uint8 | Self::Int8 | Self::Bool => 1,
            Self::Float16 | Self::Int16 | Self::Bfloat16 => 2,
            Self::Float32 | Self::Int32 => 4,
            Self::Float64 | Self::Int64 => 8,
        }
    }
}

/// Reads all arrays by name, `arg:` and `aux:` taken off. An array without a shape has no value.
pub(in crate::runtime) fn read(
    file: impl Read,
    file_bytes: u64,
) -> Result<HashMap<String, Array>, MxnetError> {
    let mut file = file.take(file_bytes);
    if (read_u64(&mut file)?, read_u64(&mut file)?) != (MAGIC, 0) {
        return Err(flaw("it does not begin as a list of arrays does".to_owned()));
    }
    let n_arrays = bounded(read_u64(&mut file)?, MAX_ARRAYS, "arrays")?;
    let arrays: Vec<Option<Array>> =
        (0..n_arrays).map(|_| read_array(&mut file)).collect::<Result<_, _>>()?;
    let n_names = bounded(read_u64(&mut file)?, MAX_ARRAYS, "names")?;
    if n_names != n_arrays {
        return Err(flaw(format!("it has {n_names} names for {n_arrays} arrays")));
    }
    let mut named = HashMap::new();
    for array in arrays {
        let name = read_name(&mut file)?;
        let Some(array) = array else { continue };
        if named.insert(name.clone(), array).is_some() {
            return Err(flaw(format!("it has two arrays of the name `{name}`")));
        }
    }
    if file.limit() > 0 {
        return Err(flaw(format!("{} bytes follow its last name", file.limit())));
    }
    Ok(named)
}

fn read_name(file: &mut Take<impl Read>) -> Result<String, MxnetError> {
    let n_bytes = bounded(read_u64(file)?, MAX_NAME_BYTES, "bytes of a name")?;
    let name = read_bytes(file, n_bytes)?;
    let name = String::from_utf8(name).map_err(|_| flaw("a name is not UTF-8".to_owned()))?;
    let plain = name.strip_prefix("arg:").or_else(|| name.strip_prefix("aux:"));
    Ok(plain.unwrap_or(&name).to_owned())
}

fn read_array(file: &mut Take<impl Read>) -> Result<Option<Array>, MxnetError> {
    let shape = match read_u32(file)? {
        version @ (V2 | V3) => {
            // Undefined is dense, too.
            let storage = read_i32(file)?;
            if storage > 0 {
                let kind = if storage == 1 { "row_sparse" } else { "csr" };
                return Err(flaw(format!("an array is sparse ({kind}), which is not served")));
            }
            let shape = read_shape(file)?;
            let has_value = if version == V2 {
                !shape.is_empty()
            } else {
                shape.iter().all(|dimension| *dimension >= 0)
            };
            has_value.then_some(shape)
        }
        V1 => Some(read_shape(file)?).filter(|shape| !shape.is_empty()),
        n_dimensions => read_old_shape(file, n_dimensions)?,
    };
    let Some(shape) = shape else { return Ok(None) };
    // On which device it was.
    let _ = (read_i32(file)?, read_i32(file)?);
    let dtype = ArrayType::of_code(read_i32(file)?)?;
    let n_bytes = shape.iter().try_fold(dtype.size_bytes(), |bytes, dimension| {
        bytes.checked_mul(u64::try_from(*dimension).ok()?)
    });
    let n_bytes = n_bytes.ok_or_else(|| flaw(format!("an array has the shape {shape:?}")))?;
    Ok(Some(Array { dtype, bytes: read_bytes(file, n_bytes)?, shape }))
}

/// A count of dimensions and each; -1 of them: unknown.
fn read_shape(file: &mut Take<impl Read>) -> Result<Vec<i64>, MxnetError> {
    let n_dimensions = i64::from(read_i32(file)?);
    if n_dimensions == -1 {
        return Ok(vec![-1]);
    }
    if !(0..=MAX_DIMENSIONS).contains(&n_dimensions) {
        return Err(flaw(format!("an array has {n_dimensions} dimensions")));
    }
    (0..n_dimensions).map(|_| Ok(read_u64(file)?.cast_signed())).collect()
}

/// V0: dimensions of 32 bits, whose count stands where later versions have their number.
fn read_old_shape(
    file: &mut Take<impl Read>,
    n_dimensions: u32,
) -> Result<Option<Vec<i64>>, MxnetError> {
    if i64::from(n_dimensions) > MAX_DIMENSIONS {
        return Err(flaw(format!("an array begins with the unknown number {n_dimensions:#x}")));
    }
    if n_dimensions == 0 {
        return Ok(None);
    }
    let shape: Result<_, MxnetError> =
        (0..n_dimensions).map(|_| Ok(i64::from(read_u32(file)?))).collect();
    shape.map(Some)
}

fn bounded(number: u64, most: u64, what: &str) -> Result<u64, MxnetError> {
    if number <= most {
        return Ok(number);
    }
    Err(flaw(format!("it has {number} {what}, more than {most}")))
}

fn read_bytes(file: &mut Take<impl Read>, n_bytes: u64) -> Result<Vec<u8>, MxnetError> {
    if n_bytes > file.limit() {
        let left = file.limit();
        return Err(flaw(format!("it is truncated: {n_bytes} bytes should follow, {left} do")));
    }
    let size = usize::try_from(n_bytes).map_err(|_| flaw(format!("{n_bytes} bytes")))?;
    let mut bytes = Vec::with_capacity(size.min(PIECE_BYTES));
    let n_read =
        file.by_ref().take(n_bytes).read_to_end(&mut bytes).map_err(|it| unreadable(&it))?;
    if n_read < size {
        return Err(flaw("it is shorter than its folder says".to_owned()));
    }
    Ok(bytes)
}

fn read_fixed<const N: usize>(file: &mut Take<impl Read>) -> Result<[u8; N], MxnetError> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(|it| unreadable(&it))?;
    Ok(bytes)
}

fn read_u64(file: &mut Take<impl Read>) -> Result<u64, MxnetError> {
    read_fixed(file).map(u64::from_le_bytes)
}

fn read_u32(file: &mut Take<impl Read>) -> Result<u32, MxnetError> {
    read_fixed(file).map(u32::from_le_bytes)
}

fn read_i32(file: &mut Take<impl Read>) -> Result<i32, MxnetError> {
    read_fixed(file).map(i32::from_le_bytes)
}

fn unreadable(error: &std::io::Error) -> MxnetError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => flaw("it is truncated".to_owned()),
        _ => flaw(error.to_string()),
    }
}

fn flaw(what: String) -> MxnetError {
    MxnetError::Params(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(arrays: &[Vec<u8>], names: &[&str]) -> Vec<u8> {
        let mut file = Vec::new();
        for number in [MAGIC, 0, arrays.len() as u64] {
            file.extend(number.to_le_bytes());
        }
        file.extend(arrays.concat());
        file.extend((names.len() as u64).to_le_bytes());
        for name in names {
            file.extend((name.len() as u64).to_le_bytes());
            file.extend(name.as_bytes());
        }
        file
    }

    fn numbers(numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
    }

    /// Two elements, 1.0 and 2.0.
    fn array(version: &str) -> Vec<u8> {
        let head = match version {
            "V0" => numbers(&[1, 2]),
            "V1" => numbers(&[V1, 1, 2, 0]),
            "V2" => numbers(&[V2, 0, 1, 2, 0]),
            "V3" => numbers(&[V3, 0, 1, 2, 0]),
            _ => unreachable!("there are four"),
        };
        [head, numbers(&[1, 0, 0]), 1_f32.to_le_bytes().to_vec(), 2_f32.to_le_bytes().to_vec()]
            .concat()
    }

    fn parsed(file: &[u8]) -> Result<HashMap<String, Array>, MxnetError> {
        read(file, file.len() as u64)
    }

    #[track_caller]
    fn refused(file: &[u8], expected: &str) {
        let why = parsed(file).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }

    #[test]
    fn every_version_is_read() {
        let arrays = ["V0", "V1", "V2", "V3"].map(array);
        let read = parsed(&file(&arrays, &["arg:a", "aux:b", "c", "arg:d"])).unwrap();
        for name in ["a", "b", "c", "d"] {
            let array = &read[name];
            assert_eq!((array.dtype, &*array.shape), (ArrayType::Float32, &[2][..]), "{name}");
            assert_eq!(array.bytes, [1_f32.to_le_bytes(), 2_f32.to_le_bytes()].concat());
        }
    }

    #[test]
    fn an_array_without_a_shape_has_no_value() {
        let none = numbers(&[V2, 0, 0]);
        let unknown = numbers(&[V3, 0, u32::MAX]);
        let scalar = [numbers(&[V3, 0, 0, 1, 0, 0]), 7_f32.to_le_bytes().to_vec()].concat();
        let read = parsed(&file(&[none, unknown, scalar], &["a", "b", "c"])).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read["c"].shape, [0_i64; 0]);
    }

    #[test]
    fn flaws_are_named() {
        refused(b"", "it is truncated");
        refused(&[1; 64], "does not begin as a list of arrays does");
        refused(&file(&[array("V2")], &[]), "0 names for 1 arrays");
        refused(&file(&[array("V2"), array("V2")], &["a", "a"]), "two arrays of the name `a`");
        refused(&file(&[numbers(&[V2, 1, 0])], &["a"]), "sparse (row_sparse)");
        refused(&file(&[numbers(&[V2, 2, 0])], &["a"]), "sparse (csr)");
        refused(&file(&[numbers(&[0xdead_beef])], &["a"]), "unknown number 0xdeadbeef");
        refused(&file(&[numbers(&[V1, 1, 2, 0, 1, 0, 77])], &["a"]), "unknown type 77");
        refused(&file(&[numbers(&[V1, 1, 0, 1 << 20, 1, 0, 0])], &["a"]), "it is truncated: ");
        refused(&file(&[numbers(&[V1, 2, 0, 1 << 31, 0, 1 << 31, 1, 0, 0])], &["a"]), "the shape");
        let mut long = file(&[array("V2")], &["a"]);
        long.push(0);
        refused(&long, "1 bytes follow its last name");
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic_or_keep_more_than_it_has(
            damage in prop::collection::vec((0..400_usize, any::<u8>()), 0..6),
            cut in 0..400_usize,
        ) {
            let mut bytes = file(&["V0", "V1", "V2", "V3"].map(array), &["a", "b", "c", "d"]);
            for (at, byte) in damage {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            if let Ok(arrays) = parsed(&bytes) {
                let kept: usize = arrays.values().map(|it| it.bytes.len()).sum();
                prop_assert!(kept <= bytes.len());
            }
        }
    }
}
