//! MXNet's operators by LibTorch's, one to a few each.

use super::pool;
use crate::runtime::mxnet::{Act, Binary, L2Mode, Operator, PadMode, Reduce, SoftmaxAxis, Unary};
use tch::{Kind, TchError, Tensor};

/// The last two inputs of a `BatchNorm`.
pub(super) const BATCH_NORM_STATES: [&str; 2] = ["moving_mean", "moving_var"];

/// How many inputs an operator reads; `None`: all that there are.
pub(super) fn n_read(operator: &Operator) -> Option<usize> {
    match operator {
        Operator::Convolution { .. }
        | Operator::Deconvolution { .. }
        | Operator::FullyConnected { .. } => Some(3),
        Operator::BatchNorm { .. } => Some(5),
        Operator::Activation(Act::Prelu) | Operator::Binary(_) => Some(2),
        Operator::Concat { .. } | Operator::Sum => None,
        _ => Some(1),
    }
}

/// Whether so many inputs are enough for it.
pub(super) fn is_enough(operator: &Operator, n_inputs: usize) -> bool {
    match operator {
        // A bias may be absent.
        Operator::Convolution { .. }
        | Operator::Deconvolution { .. }
        | Operator::FullyConnected { .. } => n_inputs >= 2,
        Operator::Concat { .. } | Operator::Sum => n_inputs >= 1,
        other => n_read(other).is_some_and(|n_read| n_inputs == n_read),
    }
}

/// Computes one node.
pub(super) fn compute(operator: &Operator, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
    let x = inputs[0];
    match operator {
        Operator::Convolution { stride, dilation, padding, groups } => x.f_convolution(
            inputs[1],
            inputs.get(2).copied(),
            stride,
            padding,
            dilation,
            false,
            vec![0; stride.len()],
            *groups,
        ),
        Operator::Deconvolution { stride, dilation, padding, adjust, groups } => x.f_convolution(
            inputs[1],
            inputs.get(2).copied(),
            stride,
            padding,
            dilation,
            true,
            adjust,
            *groups,
        ),
        Operator::BatchNorm { eps, fixes_gamma, axis } => {
            batch_norm(inputs, *eps, *fixes_gamma, *axis)
        }
        Operator::Activation(act) => activation(act, inputs),
        Operator::Pooling(settings) => pool::pool(settings, x),
        Operator::FullyConnected { flattens } => {
            let flat = if *flattens { flatten(x)? } else { x.shallow_clone() };
            flat.f_linear(inputs[1], inputs.get(2).copied())
        }
        Operator::Concat { dimension } => Tensor::f_cat(inputs, *dimension),
        Operator::Sum => inputs[1..].iter().try_fold(x.shallow_clone(), |sum, it| sum.f_add(it)),
        Operator::Binary(operation) => binary(*operation, x, inputs[1]),
        Operator::Scalar { operation, value, is_reversed } => {
            scalar(*operation, x, *value, *is_reversed)
        }
        Operator::Unary(operation) => unary(*operation, x),
        Operator::Softmax { axis, temperature, is_log } => softmax(x, *axis, *temperature, *is_log),
        Operator::SoftmaxOutput { axis } => softmax_output(x, *axis),
        Operator::Clip { min, max } => x.f_clamp(*min, *max),
        Operator::LocalResponse { alpha, beta, knorm, size } => {
            local_response(x, [*alpha, *beta, *knorm], *size)
        }
        Operator::L2Normalization { eps, mode } => l2(x, *eps, *mode),
        Operator::Cast { dtype } => cast(x, dtype),
        Operator::Identity => Ok(x.shallow_clone()),
        shaping => reshaped(shaping, x),
    }
}

/// Operators that move elements.
fn reshaped(operator: &Operator, x: &Tensor) -> Result<Tensor, TchError> {
    match operator {
        Operator::Flatten => flatten(x),
        Operator::Reshape { shape } => x.f_reshape(new_shape(&x.size(), shape)?),
        Operator::Transpose { axes } if axes.is_empty() => {
            let reversed: Vec<i64> = (0..x.size().len()).rev().map(number).collect();
            x.f_permute(reversed)
        }
        Operator::Transpose { axes } => x.f_permute(axes),
        Operator::SwapAxis { first, second } => x.f_transpose(*first, *second),
        Operator::ExpandDims { axis } => x.f_unsqueeze(*axis),
        Operator::Squeeze { axes: None } => x.f_squeeze(),
        Operator::Squeeze { axes: Some(axes) } => {
            // From the last on: one that goes moves those after it.
            let n_axes = number(x.size().len());
            let mut axes: Vec<i64> = axes.iter().map(|it| it.rem_euclid(n_axes.max(1))).collect();
            axes.sort_unstable_by(|a, b| b.cmp(a));
            axes.iter().try_fold(x.shallow_clone(), |x, axis| x.f_squeeze_dim(*axis))
        }
        Operator::Reduce { kind, axes, keeps } => reduce(*kind, x, axes.as_deref(), *keeps),
        Operator::SliceAxis { axis, begin, end } => x.f_slice(*axis, *begin, *end, 1),
        Operator::Pad { amounts, mode, value } => match mode {
            PadMode::Constant => x.f_pad(amounts, "constant", *value),
            // The framework pads the last axes alone in these ways.
            PadMode::Edge => x.f_pad(inner(amounts), "replicate", None),
            PadMode::Reflect => x.f_pad(inner(amounts), "reflect", None),
        },
        _ => unreachable!("the others are computed"),
    }
}

/// Without what is nothing at the end: the outer axes.
fn inner(amounts: &[i64]) -> &[i64] {
    let n_used = amounts.iter().rposition(|it| *it != 0).map_or(0, |last| last + 1);
    &amounts[..n_used.next_multiple_of(2)]
}

fn flatten(x: &Tensor) -> Result<Tensor, TchError> {
    let n_rows = x.size().first().copied().unwrap_or(1);
    x.f_reshape([n_rows, -1])
}

fn batch_norm(
    inputs: &[&Tensor],
    eps: f64,
    fixes_gamma: bool,
    axis: i64,
) -> Result<Tensor, TchError> {
    let [x, gamma, beta, mean, variance] = inputs else {
        return Err(TchError::Shape("a BatchNorm has five inputs".to_owned()));
    };
    // A fixed gamma is one, whatever the file says.
    let gamma = (!fixes_gamma).then_some(*gamma);
    let norm = |x: &Tensor| {
        x.f_batch_norm(gamma, Some(*beta), Some(*mean), Some(*variance), false, 0.0, eps, false)
    };
    if axis == 1 { norm(x) } else { norm(&x.f_transpose(1, axis)?)?.f_transpose(1, axis) }
}

fn activation(act: &Act, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
    let x = inputs[0];
    match act {
        Act::Relu => x.f_relu(),
        Act::Sigmoid => x.f_sigmoid(),
        Act::Tanh => x.f_tanh(),
        Act::Softrelu => x.f_softplus(),
        Act::Softsign => x.f_div(&x.f_abs()?.f_add_scalar(1.0)?),
        Act::Leaky { slope } => x.f_relu()?.f_add(&x.f_clamp_max(0.0)?.f_mul_scalar(*slope)?),
        Act::Prelu => x.f_prelu(inputs[1]),
        Act::Elu { slope } => {
            x.f_relu()?.f_add(&x.f_clamp_max(0.0)?.f_expm1()?.f_mul_scalar(*slope)?)
        }
        Act::Selu => x.f_selu(),
        Act::Gelu => x.f_gelu("none"),
    }
}

fn binary(operation: Binary, x: &Tensor, y: &Tensor) -> Result<Tensor, TchError> {
    match operation {
        Binary::Add => x.f_add(y),
        Binary::Subtract => x.f_sub(y),
        Binary::Multiply => x.f_mul(y),
        Binary::Divide => x.f_div(y),
        Binary::Power => x.f_pow(y),
        Binary::Maximum => x.f_maximum(y),
        Binary::Minimum => x.f_minimum(y),
    }
}

fn scalar(operation: Binary, x: &Tensor, y: f64, is_reversed: bool) -> Result<Tensor, TchError> {
    match (operation, is_reversed) {
        (Binary::Add, _) => x.f_add_scalar(y),
        (Binary::Subtract, false) => x.f_sub_scalar(y),
        (Binary::Subtract, true) => x.f_neg()?.f_add_scalar(y),
        (Binary::Multiply, _) => x.f_mul_scalar(y),
        (Binary::Divide, false) => x.f_div_scalar(y),
        (Binary::Divide, true) => x.f_reciprocal()?.f_mul_scalar(y),
        (Binary::Power, _) => x.f_pow_tensor_scalar(y),
        (Binary::Maximum, _) => x.f_clamp_min(y),
        (Binary::Minimum, _) => x.f_clamp_max(y),
    }
}

fn unary(operation: Unary, x: &Tensor) -> Result<Tensor, TchError> {
    match operation {
        Unary::Negate => x.f_neg(),
        Unary::Exp => x.f_exp(),
        Unary::Log => x.f_log(),
        Unary::Sqrt => x.f_sqrt(),
        Unary::Square => x.f_square(),
        Unary::Abs => x.f_abs(),
    }
}

fn softmax(x: &Tensor, axis: i64, temperature: f64, is_log: bool) -> Result<Tensor, TchError> {
    let x = x.f_div_scalar(temperature)?;
    if is_log { x.f_log_softmax(axis, None) } else { x.f_softmax(axis, None) }
}

fn softmax_output(x: &Tensor, axis: SoftmaxAxis) -> Result<Tensor, TchError> {
    match axis {
        SoftmaxAxis::Second => x.f_softmax(1, None),
        SoftmaxAxis::Last => x.f_softmax(-1, None),
        SoftmaxAxis::Rest => flatten(x)?.f_softmax(1, None)?.f_reshape(x.size()),
    }
}

fn reduce(kind: Reduce, x: &Tensor, axes: Option<&[i64]>, keeps: bool) -> Result<Tensor, TchError> {
    let all: Vec<i64> = (0..x.size().len()).map(number).collect();
    let axes = axes.unwrap_or(&all);
    match kind {
        Reduce::Mean => x.f_mean_dim(axes, keeps, None),
        Reduce::Sum => x.f_sum_dim_intlist(axes, keeps, None),
        Reduce::Max => x.f_amax(axes, keeps),
        Reduce::Min => x.f_amin(axes, keeps),
    }
}

fn local_response(
    x: &Tensor,
    [alpha, beta, knorm]: [f64; 3],
    size: i64,
) -> Result<Tensor, TchError> {
    let (window, padding) = ([size, 1, 1], [size / 2, 0, 0]);
    let squares = x.f_square()?.f_unsqueeze(1)?;
    let mean = squares.f_avg_pool3d(window, [1, 1, 1], padding, false, true, None)?;
    let scale = mean.f_squeeze_dim(1)?.f_mul_scalar(alpha)?.f_add_scalar(knorm)?;
    x.f_div(&scale.f_pow_tensor_scalar(beta)?)
}

fn l2(x: &Tensor, eps: f64, mode: L2Mode) -> Result<Tensor, TchError> {
    let n_axes = x.size().len();
    let axes: Vec<i64> = match mode {
        L2Mode::Instance => (1..n_axes).map(number).collect(),
        L2Mode::Channel => vec![1],
        L2Mode::Spatial => (2..n_axes).map(number).collect(),
    };
    let squares = x.f_square()?.f_sum_dim_intlist(axes, true, None)?;
    x.f_div(&squares.f_add_scalar(eps)?.f_sqrt()?)
}

fn cast(x: &Tensor, dtype: &str) -> Result<Tensor, TchError> {
    let kind = match dtype {
        // Half precision is for graphics cards: here it would lose digits and time.
        "float32" | "float16" => Kind::Float,
        "float64" => Kind::Double,
        "uint8" => Kind::Uint8,
        "int8" => Kind::Int8,
        "int32" => Kind::Int,
        "int64" => Kind::Int64,
        "bool" => Kind::Bool,
        other => return Err(TchError::Kind(format!("no cast to {other}"))),
    };
    x.f_to_kind(kind)
}

/// MXNet's own words in a new shape: 0 keeps an axis, -1 is what is left, -2 all axes that follow, -3 two
/// axes as one, -4 one axis as the two numbers that follow.
fn new_shape(old: &[i64], wanted: &[i64]) -> Result<Vec<i64>, TchError> {
    let wrong = || TchError::Shape(format!("shape {old:?} does not become {wanted:?}"));
    let (mut shape, mut old_axes, mut words) = (Vec::new(), old.iter().copied(), wanted.iter());
    while let Some(word) = words.next() {
        match *word {
            0 => shape.push(old_axes.next().ok_or_else(wrong)?),
            -2 => shape.extend(old_axes.by_ref()),
            -3 => {
                let two = old_axes.next().zip(old_axes.next()).ok_or_else(wrong)?;
                shape.push(two.0.checked_mul(two.1).ok_or_else(wrong)?);
            }
            -4 => {
                let axis = old_axes.next().ok_or_else(wrong)?;
                let (first, second) = words.next().zip(words.next()).ok_or_else(wrong)?;
                shape.extend(split(axis, *first, *second).ok_or_else(wrong)?);
            }
            number => {
                // It takes the place of an axis.
                old_axes.next();
                shape.push(number);
            }
        }
    }
    Ok(shape)
}

fn split(axis: i64, first: i64, second: i64) -> Option<[i64; 2]> {
    match (first, second) {
        (-1, second) => Some([axis.checked_div(second)?, second]),
        (first, -1) => Some([first, axis.checked_div(first)?]),
        both => Some(both.into()),
    }
}

fn number(axis: usize) -> i64 {
    i64::try_from(axis).expect("tensors have few axes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mxnet_s_words_in_a_shape_are_understood() {
        for (old, wanted, expected) in [
            (&[2, 3, 4][..], &[0, -1][..], &[2, -1][..]),
            (&[2, 3, 4], &[6, 1, -1], &[6, 1, -1]),
            (&[2, 3, 4], &[-2], &[2, 3, 4]),
            (&[2, 3, 4], &[2, -2], &[2, 3, 4]),
            (&[2, 3, 4], &[-3, 4], &[6, 4]),
            (&[2, 3, 4], &[-4, 1, 2, -2], &[1, 2, 3, 4]),
            (&[2, 3, 4], &[2, -4, -1, 3, -2], &[2, 1, 3, 4]),
        ] {
            assert_eq!(new_shape(old, wanted).unwrap(), expected);
        }
        assert!(new_shape(&[2], &[0, 0]).is_err());
        assert!(new_shape(&[2], &[-4, 0, -1]).is_err());
    }
}
