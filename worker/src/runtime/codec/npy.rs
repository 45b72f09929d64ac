//! npy: `NumPy`'s array file, versions 1 to 3.
//!
//! The libraries for it trust the header (they allocate what it claims and multiply its dimensions
//! unchecked), and their parser of Python literals recurses; so this reads the one form that `NumPy`
//! writes: a flat dictionary with three keys. Pickled objects are never read.

mod header;

use crate::runtime::{
    RuntimeError,
    tensor::{DType, Element, TensorData, for_dtype, n_elements, with_elements},
};
use header::Header;

const MAGIC: &[u8] = b"\x93NUMPY";
/// `NumPy` itself refuses longer headers unless told to trust them.
const MAX_HEADER_BYTES: usize = 10_000;
/// `NumPy` aligns data to this.
const ALIGNMENT: usize = 64;

/// Reads an array of any byte and memory order.
pub fn decode(body: &[u8]) -> Result<TensorData, RuntimeError> {
    let (header, data) = split(body)?;
    let header: Header = header::parse(header)?;
    let n = n_elements(&header.shape)
        .ok_or_else(|| bad(format!("the array's shape {:?} is too large", header.shape)))?;
    // At most 2^24 elements of 8 bytes.
    let n_bytes = n * header.dtype.size_bytes();
    if data.len() != n_bytes {
        let (shape, dtype) = (&header.shape, header.dtype.as_str());
        let held = data.len();
        return Err(bad(format!(
            "the array's header says {shape:?} of {dtype}, {n_bytes} bytes, but {held} follow"
        )));
    }
    for_dtype!(header.dtype, T => Ok(elements::<T>(&header, data)))
}

/// Separates the header's text from the data.
fn split(body: &[u8]) -> Result<(&[u8], &[u8]), RuntimeError> {
    let not_npy = || bad("the body is not an npy array".to_owned());
    let rest = body.strip_prefix(MAGIC).ok_or_else(not_npy)?;
    let (len, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => {
            let len = u32::from_le_bytes([*a, *b, *c, *d]);
            (usize::try_from(len).unwrap_or(usize::MAX), rest)
        }
        [] | [1..=3, ..] => return Err(not_npy()),
        [version, ..] => return Err(bad(format!("npy version {version} is not known here"))),
    };
    if len > MAX_HEADER_BYTES {
        return Err(bad(format!("the array's header has {len} bytes, over {MAX_HEADER_BYTES}")));
    }
    rest.split_at_checked(len).ok_or_else(|| bad("the array's header is cut short".to_owned()))
}

fn elements<T: Element>(header: &Header, data: &[u8]) -> TensorData {
    let size = T::DTYPE.size_bytes();
    let read = |bytes: &[u8]| T::read_le(bytes).expect("chunks have the type's size");
    let values: Vec<T> = if header.is_big_endian {
        let flip = |bytes: &[u8]| {
            let mut flipped = [0_u8; 8];
            let flipped = &mut flipped[..size];
            flipped.copy_from_slice(bytes);
            flipped.reverse();
            read(flipped)
        };
        data.chunks_exact(size).map(flip).collect()
    } else {
        data.chunks_exact(size).map(read).collect()
    };
    let values = if header.is_fortran_order { row_major(&header.shape, &values) } else { values };
    TensorData { shape: header.shape.clone(), elements: T::wrap(values) }
}

/// Reorders values whose *first* dimension runs fastest.
fn row_major<T: Copy>(shape: &[i64], values: &[T]) -> Vec<T> {
    let shape: Vec<usize> = shape.iter().map(|it| usize::try_from(*it).unwrap_or(0)).collect();
    let strides: Vec<usize> = shape
        .iter()
        .scan(1, |stride, n| {
            let own = *stride;
            *stride *= n;
            Some(own)
        })
        .collect();
    let mut index = vec![0; shape.len()];
    let mut offset = 0;
    let mut reordered = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        reordered.push(values[offset]);
        // Counts the index up, last dimension first.
        for dimension in (0..shape.len()).rev() {
            index[dimension] += 1;
            offset += strides[dimension];
            if index[dimension] < shape[dimension] {
                break;
            }
            offset -= index[dimension] * strides[dimension];
            index[dimension] = 0;
        }
    }
    reordered
}

/// Writes version 1, little-endian, row-major.
pub fn encode(tensor: &TensorData) -> Vec<u8> {
    let header = header::render(tensor.elements.dtype(), &tensor.shape);
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
    let header_len = u16::try_from(header.len() + padding + 1).unwrap_or(u16::MAX);
    let n_bytes = tensor.elements.len() * tensor.elements.dtype().size_bytes();
    let mut body = Vec::with_capacity(unpadded + padding + n_bytes);
    body.extend_from_slice(MAGIC);
    body.extend_from_slice(&[1, 0]);
    body.extend_from_slice(&header_len.to_le_bytes());
    body.extend_from_slice(header.as_bytes());
    body.extend(std::iter::repeat_n(b' ', padding));
    body.push(b'\n');
    with_elements!(&tensor.elements, values => {
        for value in values {
            value.write_le(&mut body);
        }
    });
    body
}

fn type_code(dtype: DType) -> &'static str {
    match dtype {
        DType::Float32 => "f4",
        DType::Float64 => "f8",
        DType::Int64 => "i8",
        DType::Int32 => "i4",
        DType::Int16 => "i2",
        DType::Int8 => "i1",
        DType::Uint8 => "u1",
        DType::Bool => "b1",
    }
}

fn bad(text: String) -> RuntimeError {
    RuntimeError::BadInput(text)
}
