//! From the names and attributes of operators to what they mean. Absent attributes have MXNet's defaults.

use super::{
    Act, Binary, L2Mode, Operator, PadMode, Pool, PoolConvention, PoolKind, Reduce, SoftmaxAxis,
    Unary,
};
use crate::runtime::mxnet::{MxnetError, attributes::Attributes};

/// The largest kernel, stride and padding: beyond any picture, and far from where numbers overflow.
const MAX_EXTENT: i64 = 65_536;

/// Layers with parameters, and what goes with them.
pub(super) fn layer(op: &str, it: Attributes<'_>) -> Result<Option<Operator>, MxnetError> {
    Ok(Some(match op {
        "Convolution" | "Convolution_v1" => convolution(it)?,
        "Deconvolution" => deconvolution(it)?,
        "BatchNorm" | "BatchNorm_v1" | "CuDNNBatchNorm" => Operator::BatchNorm {
            eps: it.number("eps", 1e-3)?,
            fixes_gamma: it.is_set("fix_gamma", true)?,
            axis: it.integer("axis", 1)?,
        },
        "Activation" => Operator::Activation(activation(it)?),
        "relu" => Operator::Activation(Act::Relu),
        "sigmoid" | "LogisticRegressionOutput" => Operator::Activation(Act::Sigmoid),
        "tanh" => Operator::Activation(Act::Tanh),
        "softsign" => Operator::Activation(Act::Softsign),
        "LeakyReLU" => Operator::Activation(leaky(it)?),
        "Pooling" | "Pooling_v1" => Operator::Pooling(pool(it)?),
        "FullyConnected" => Operator::FullyConnected { flattens: it.is_set("flatten", true)? },
        "LinearRegressionOutput"
        | "MAERegressionOutput"
        | "Dropout"
        | "_copy"
        | "identity"
        | "BlockGrad"
        | "stop_gradient"
        | "MakeLoss"
        | "make_loss" => Operator::Identity,
        _ => return norm(op, it),
    }))
}

/// What relates numbers to those around them.
fn norm(op: &str, it: Attributes<'_>) -> Result<Option<Operator>, MxnetError> {
    Ok(Some(match op {
        "LRN" => Operator::LocalResponse {
            alpha: it.number("alpha", 1e-4)?,
            beta: it.number("beta", 0.75)?,
            knorm: it.number("knorm", 2.0)?,
            size: it.integer("nsize", 5)?,
        },
        "L2Normalization" => Operator::L2Normalization {
            eps: it.number("eps", 1e-10)?,
            mode: match it.text("mode").unwrap_or("instance") {
                "instance" => L2Mode::Instance,
                "channel" => L2Mode::Channel,
                "spatial" => L2Mode::Spatial,
                other => return Err(it.wrong("mode", other)),
            },
        },
        "SoftmaxOutput" | "Softmax" => Operator::SoftmaxOutput {
            axis: if it.is_set("multi_output", false)? {
                SoftmaxAxis::Second
            } else if it.is_set("preserve_shape", false)? {
                SoftmaxAxis::Last
            } else {
                SoftmaxAxis::Rest
            },
        },
        "SoftmaxActivation" => Operator::SoftmaxOutput {
            axis: match it.text("mode").unwrap_or("instance") {
                "channel" => SoftmaxAxis::Second,
                _ => SoftmaxAxis::Rest,
            },
        },
        "softmax" | "log_softmax" => Operator::Softmax {
            axis: it.integer("axis", -1)?,
            temperature: it.number("temperature", 1.0)?,
            is_log: op == "log_softmax",
        },
        _ => return Ok(None),
    }))
}

/// Operators of single elements.
pub(super) fn arithmetic(op: &str, it: Attributes<'_>) -> Result<Option<Operator>, MxnetError> {
    let scalar = |operation, is_reversed| {
        Ok(Operator::Scalar { operation, value: it.number("scalar", 1.0)?, is_reversed })
    };
    Ok(Some(match op {
        "add_n" | "ElementWiseSum" | "_sum" => Operator::Sum,
        "elemwise_add" | "_Plus" | "_plus" | "_add" | "broadcast_add" | "broadcast_plus" => {
            Operator::Binary(Binary::Add)
        }
        "elemwise_sub" | "_Minus" | "_minus" | "_sub" | "broadcast_sub" | "broadcast_minus" => {
            Operator::Binary(Binary::Subtract)
        }
        "elemwise_mul" | "_Mul" | "_mul" | "broadcast_mul" => Operator::Binary(Binary::Multiply),
        "elemwise_div" | "_Div" | "_div" | "broadcast_div" => Operator::Binary(Binary::Divide),
        "broadcast_power" | "_power" | "_Power" => Operator::Binary(Binary::Power),
        "broadcast_maximum" | "_maximum" | "_Maximum" => Operator::Binary(Binary::Maximum),
        "broadcast_minimum" | "_minimum" | "_Minimum" => Operator::Binary(Binary::Minimum),
        "_plus_scalar" | "_PlusScalar" => scalar(Binary::Add, false)?,
        "_minus_scalar" | "_MinusScalar" => scalar(Binary::Subtract, false)?,
        "_rminus_scalar" | "_RMinusScalar" => scalar(Binary::Subtract, true)?,
        "_mul_scalar" | "_MulScalar" => scalar(Binary::Multiply, false)?,
        "_div_scalar" | "_DivScalar" => scalar(Binary::Divide, false)?,
        "_rdiv_scalar" | "_RDivScalar" => scalar(Binary::Divide, true)?,
        "_power_scalar" | "_PowerScalar" => scalar(Binary::Power, false)?,
        "_maximum_scalar" | "_MaximumScalar" => scalar(Binary::Maximum, false)?,
        "_minimum_scalar" | "_MinimumScalar" => scalar(Binary::Minimum, false)?,
        "negative" => Operator::Unary(Unary::Negate),
        "exp" => Operator::Unary(Unary::Exp),
        "log" => Operator::Unary(Unary::Log),
        "sqrt" => Operator::Unary(Unary::Sqrt),
        "square" => Operator::Unary(Unary::Square),
        "abs" => Operator::Unary(Unary::Abs),
        "clip" => Operator::Clip {
            min: it.number("a_min", f64::from(f32::MIN))?,
            max: it.number("a_max", f64::from(f32::MAX))?,
        },
        "Cast" | "cast" => {
            Operator::Cast { dtype: it.text("dtype").unwrap_or("float32").to_owned() }
        }
        _ => return Ok(None),
    }))
}

/// Operators that move elements.
pub(super) fn shaping(op: &str, it: Attributes<'_>) -> Result<Option<Operator>, MxnetError> {
    let reduce = |kind| {
        Ok(Operator::Reduce {
            kind,
            axes: it.integers("axis")?,
            keeps: it.is_set("keepdims", false)?,
        })
    };
    Ok(Some(match op {
        "Flatten" | "flatten" => Operator::Flatten,
        "Concat" | "concat" => Operator::Concat { dimension: it.integer("dim", 1)? },
        "Reshape" | "reshape" => {
            let shape = it.integers("shape")?.or(it.integers("target_shape")?);
            Operator::Reshape { shape: shape.ok_or_else(|| it.wrong("shape", "()"))? }
        }
        "transpose" => Operator::Transpose { axes: it.integers("axes")?.unwrap_or_default() },
        "SwapAxis" | "swapaxes" => {
            Operator::SwapAxis { first: it.integer("dim1", 0)?, second: it.integer("dim2", 0)? }
        }
        "expand_dims" => Operator::ExpandDims { axis: it.integer("axis", 0)? },
        "squeeze" => Operator::Squeeze { axes: it.integers("axis")? },
        "mean" => reduce(Reduce::Mean)?,
        "sum" | "sum_axis" => reduce(Reduce::Sum)?,
        "max" | "max_axis" => reduce(Reduce::Max)?,
        "min" | "min_axis" => reduce(Reduce::Min)?,
        "slice_axis" => Operator::SliceAxis {
            axis: it.integer("axis", 0)?,
            begin: it.integer("begin", 0)?,
            end: it.text("end").map(|_| it.integer("end", 0)).transpose()?,
        },
        "Pad" | "pad" => pad(it)?,
        _ => return Ok(None),
    }))
}

/// As many numbers as the kernel has axes, all of them `default` if absent.
fn by_axis(
    it: Attributes<'_>,
    name: &str,
    n_axes: usize,
    default: i64,
) -> Result<Vec<i64>, MxnetError> {
    let numbers = it.integers(name)?.unwrap_or_else(|| vec![default; n_axes]);
    let is_right =
        numbers.len() == n_axes && numbers.iter().all(|it| (0..=MAX_EXTENT).contains(it));
    is_right.then_some(numbers).ok_or_else(|| it.wrong(name, it.text(name).unwrap_or("")))
}

fn kernel(it: Attributes<'_>) -> Result<Vec<i64>, MxnetError> {
    let kernel = it.integers("kernel")?.ok_or_else(|| it.wrong("kernel", "()"))?;
    let is_right =
        (1..=3).contains(&kernel.len()) && kernel.iter().all(|it| (1..=MAX_EXTENT).contains(it));
    is_right.then_some(kernel).ok_or_else(|| it.wrong("kernel", it.text("kernel").unwrap_or("")))
}

/// Channels come second; the other layouts are for graphics cards.
fn channels_first(it: Attributes<'_>) -> Result<(), MxnetError> {
    match it.text("layout") {
        None | Some("NCHW" | "NCW" | "NCDHW") => Ok(()),
        Some(other) => Err(it.wrong("layout", other)),
    }
}

fn convolution(it: Attributes<'_>) -> Result<Operator, MxnetError> {
    channels_first(it)?;
    let n_axes = kernel(it)?.len();
    Ok(Operator::Convolution {
        stride: by_axis(it, "stride", n_axes, 1)?,
        dilation: by_axis(it, "dilate", n_axes, 1)?,
        padding: by_axis(it, "pad", n_axes, 0)?,
        groups: it.integer("num_group", 1)?,
    })
}

fn deconvolution(it: Attributes<'_>) -> Result<Operator, MxnetError> {
    channels_first(it)?;
    let n_axes = kernel(it)?.len();
    if it.integers("target_shape")?.is_some() {
        return Err(it.wrong("target_shape", it.text("target_shape").unwrap_or("")));
    }
    Ok(Operator::Deconvolution {
        stride: by_axis(it, "stride", n_axes, 1)?,
        dilation: by_axis(it, "dilate", n_axes, 1)?,
        padding: by_axis(it, "pad", n_axes, 0)?,
        adjust: by_axis(it, "adj", n_axes, 0)?,
        groups: it.integer("num_group", 1)?,
    })
}

fn activation(it: Attributes<'_>) -> Result<Act, MxnetError> {
    let kind = it.text("act_type").unwrap_or("");
    Ok(match kind {
        "relu" => Act::Relu,
        "sigmoid" => Act::Sigmoid,
        "tanh" => Act::Tanh,
        "softrelu" => Act::Softrelu,
        "softsign" => Act::Softsign,
        other => return Err(it.wrong("act_type", other)),
    })
}

fn leaky(it: Attributes<'_>) -> Result<Act, MxnetError> {
    let slope = it.number("slope", 0.25)?;
    Ok(match it.text("act_type").unwrap_or("leaky") {
        "leaky" => Act::Leaky { slope },
        "prelu" => Act::Prelu,
        "elu" => Act::Elu { slope },
        "selu" => Act::Selu,
        "gelu" => Act::Gelu,
        "rrelu" => {
            let bounds = (it.number("lower_bound", 0.125)?, it.number("upper_bound", 0.334)?);
            Act::Leaky { slope: f64::midpoint(bounds.0, bounds.1) }
        }
        other => return Err(it.wrong("act_type", other)),
    })
}

fn pool(it: Attributes<'_>) -> Result<Pool, MxnetError> {
    channels_first(it)?;
    let is_global = it.is_set("global_pool", false)?;
    // A global one needs no kernel.
    let kernel = if is_global { vec![1, 1] } else { kernel(it)? };
    let n_axes = kernel.len();
    Ok(Pool {
        kind: match it.text("pool_type").unwrap_or("max") {
            "max" => PoolKind::Max,
            "avg" => PoolKind::Average,
            "sum" => PoolKind::Sum,
            other => return Err(it.wrong("pool_type", other)),
        },
        is_global,
        stride: if is_global { vec![1; n_axes] } else { by_axis(it, "stride", n_axes, 1)? },
        padding: if is_global { vec![0; n_axes] } else { by_axis(it, "pad", n_axes, 0)? },
        convention: match it.text("pooling_convention").unwrap_or("valid") {
            "valid" => PoolConvention::Valid,
            "full" => PoolConvention::Full,
            "same" => PoolConvention::Same,
            other => return Err(it.wrong("pooling_convention", other)),
        },
        counts_padding: it.is_set("count_include_pad", true)?,
        kernel,
    })
}

/// `pad_width` has two numbers for each axis, from the first on; the framework wants them from the last.
fn pad(it: Attributes<'_>) -> Result<Operator, MxnetError> {
    let width = it.integers("pad_width")?.unwrap_or_default();
    if width.is_empty() || width.len() % 2 != 0 {
        return Err(it.wrong("pad_width", it.text("pad_width").unwrap_or("")));
    }
    let amounts = width.chunks_exact(2).rev().flatten().copied().collect();
    let mode = match it.text("mode").unwrap_or("") {
        "constant" => PadMode::Constant,
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        other => return Err(it.wrong("mode", other)),
    };
    Ok(Operator::Pad { amounts, mode, value: it.number("constant_value", 0.0)? })
}
