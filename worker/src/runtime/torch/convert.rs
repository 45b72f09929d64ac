//! Between plain tensors and LibTorch's values.

use super::message;
use crate::runtime::{
    RuntimeError,
    codec::Answer,
    tensor::{Element, Elements, MAX_DIMENSIONS, TensorData, n_elements, with_elements},
};
use tch::{IValue, Kind, TchError, Tensor, kind};

/// How deep lists, tuples and dictionaries of an answer may lie in each other.
const MAX_DEPTH: usize = 16;

/// Copies data into a tensor that owns its memory alone: no other tensor is a view of it.
pub(super) fn to_tensor(data: &TensorData) -> Result<Tensor, RuntimeError> {
    debug_assert_eq!(n_elements(&data.shape), Some(data.elements.len()), "it was read so");
    let tensor = with_elements!(&data.elements, values => Tensor::f_from_slice(values));
    // In place: `reshape` would make a view, whose memory `empty` could not take away.
    let shaped = tensor.and_then(|mut it| it.f_resize_(&data.shape));
    shaped.map_err(|error| RuntimeError::BadInput(message::clean(&error)))
}

/// Gives a tensor's memory back while somebody still holds the tensor, who then has an empty one.
pub(super) fn empty(mut tensor: Tensor) {
    // It fails only without memory for an empty storage; then the old one stays.
    let _ = tch::no_grad(|| tensor.f_set_());
}

/// Copies what a module returned out of LibTorch's memory.
pub(super) fn to_answer(value: IValue) -> Result<Answer, RuntimeError> {
    nested(value, MAX_DEPTH)
}

/// The same of a single tensor.
pub(super) fn tensor_answer(tensor: Tensor) -> Result<Answer, RuntimeError> {
    to_data(tensor).map(Answer::Tensor)
}

fn nested(value: IValue, depth: usize) -> Result<Answer, RuntimeError> {
    let depth = depth.checked_sub(1).ok_or_else(|| {
        RuntimeError::Inference(format!("its answer is nested over {MAX_DEPTH} deep"))
    })?;
    match value {
        IValue::Tensor(tensor) => to_data(tensor).map(Answer::Tensor),
        IValue::TensorList(items) => {
            let items = items.into_iter().map(|it| to_data(it).map(Answer::Tensor));
            items.collect::<Result<_, _>>().map(Answer::List)
        }
        IValue::Tuple(items) | IValue::GenericList(items) => {
            let items = items.into_iter().map(|it| nested(it, depth));
            items.collect::<Result<_, _>>().map(Answer::List)
        }
        IValue::GenericDict(members) => {
            let members =
                members.into_iter().map(|(name, it)| Ok((key(name)?, nested(it, depth)?)));
            members.collect::<Result<_, RuntimeError>>().map(Answer::Object)
        }
        IValue::StringList(items) => {
            Ok(Answer::List(items.into_iter().map(Answer::Text).collect()))
        }
        IValue::String(text) => Ok(Answer::Text(text)),
        IValue::None => Ok(Answer::Null),
        IValue::Double(value) => Ok(scalar(value)),
        IValue::Int(value) => Ok(scalar(value)),
        IValue::Bool(value) => Ok(scalar(value)),
        IValue::DoubleList(values) => Ok(vector(values)),
        IValue::IntList(values) => Ok(vector(values)),
        IValue::BoolList(values) => Ok(vector(values)),
        IValue::Object(_) => Err(failed("an object")),
        IValue::Device(_) => Err(failed("a device")),
        _ => Err(failed("a value of an unknown kind")),
    }
}

fn key(name: IValue) -> Result<String, RuntimeError> {
    match name {
        IValue::String(name) => Ok(name),
        IValue::Int(number) => Ok(number.to_string()),
        _ => Err(failed("a dictionary whose keys are neither text nor integers")),
    }
}

fn scalar<T: Element>(value: T) -> Answer {
    Answer::Tensor(TensorData { shape: Vec::new(), elements: T::wrap(vec![value]) })
}

fn vector<T: Element>(values: Vec<T>) -> Answer {
    let n = i64::try_from(values.len()).unwrap_or(i64::MAX);
    Answer::Tensor(TensorData { shape: vec![n], elements: T::wrap(values) })
}

fn to_data(tensor: Tensor) -> Result<TensorData, RuntimeError> {
    if !tensor.defined() {
        return Err(failed("an undefined tensor"));
    }
    let unreadable = |error: TchError| RuntimeError::Inference(message::clean(&error));
    let kind = tensor.f_kind().map_err(unreadable)?;
    let tensor = match kind {
        // JSON and npy have readers for these everywhere only as float32.
        Kind::Half | Kind::BFloat16 => tensor.f_to_kind(Kind::Float).map_err(unreadable)?,
        _ => tensor,
    };
    let shape = shape_of(&tensor).map_err(unreadable)?;
    if shape.len() > MAX_DIMENSIONS {
        return Err(failed(&format!("a tensor of over {MAX_DIMENSIONS} dimensions")));
    }
    let n = n_elements(&shape).ok_or_else(|| failed("more than 16,777,216 elements"))?;
    let elements = match tensor.f_kind().map_err(unreadable)? {
        Kind::Float => copy::<f32>(&tensor, n),
        Kind::Double => copy::<f64>(&tensor, n),
        Kind::Int64 => copy::<i64>(&tensor, n),
        Kind::Int => copy::<i32>(&tensor, n),
        Kind::Int16 => copy::<i16>(&tensor, n),
        Kind::Int8 => copy::<i8>(&tensor, n),
        Kind::Uint8 => copy::<u8>(&tensor, n),
        Kind::Bool => copy::<bool>(&tensor, n),
        other => return Err(failed(&format!("a tensor of type {other:?}"))),
    };
    Ok(TensorData { shape, elements: elements.map_err(unreadable)? })
}

/// Returns a tensor's dimensions. `Tensor::size` would panic for a nested tensor, which has none.
fn shape_of(tensor: &Tensor) -> Result<Vec<i64>, TchError> {
    // A plain vector, whose own size is safe to ask for.
    let dimensions = tensor.f_internal_shape_as_tensor()?;
    let mut shape = vec![0; dimensions.numel()];
    dimensions.f_copy_data(&mut shape, dimensions.numel())?;
    Ok(shape)
}

fn copy<T: Element + kind::Element + Default>(
    tensor: &Tensor,
    n: usize,
) -> Result<Elements, TchError> {
    let mut values = vec![T::default(); n];
    tensor.f_copy_data(&mut values, n)?;
    Ok(T::wrap(values))
}

fn failed(what: &str) -> RuntimeError {
    RuntimeError::Inference(format!("its answer holds {what}, which cannot be sent"))
}
