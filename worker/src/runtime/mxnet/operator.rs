//! A node's operator and its attributes, with MXNet's defaults (1.9, `src/operator`).
//!
//! Known is what the classification networks of the gluon model zoo export, what the module API's model
//! zoo has, and plain arithmetic. What is not known is refused by name when a model is loaded.

mod read;

use super::{MxnetError, Node, attributes::Attributes};

/// An operator of one node.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::runtime) enum Operator {
    Convolution {
        stride: Vec<i64>,
        dilation: Vec<i64>,
        padding: Vec<i64>,
        groups: i64,
    },
    Deconvolution {
        stride: Vec<i64>,
        dilation: Vec<i64>,
        padding: Vec<i64>,
        adjust: Vec<i64>,
        groups: i64,
    },
    BatchNorm {
        eps: f64,
        fixes_gamma: bool,
        axis: i64,
    },
    Activation(Act),
    Pooling(Pool),
    FullyConnected {
        flattens: bool,
    },
    Flatten,
    Concat {
        dimension: i64,
    },
    /// Of all inputs.
    Sum,
    Binary(Binary),
    Scalar {
        operation: Binary,
        value: f64,
        is_reversed: bool,
    },
    Unary(Unary),
    /// Of the last axis, or the one that is given.
    Softmax {
        axis: i64,
        temperature: f64,
        is_log: bool,
    },
    /// `SoftmaxOutput` and its like: over all but the first axis, unless it says otherwise.
    SoftmaxOutput {
        axis: SoftmaxAxis,
    },
    Clip {
        min: f64,
        max: f64,
    },
    Reshape {
        shape: Vec<i64>,
    },
    Transpose {
        axes: Vec<i64>,
    },
    SwapAxis {
        first: i64,
        second: i64,
    },
    ExpandDims {
        axis: i64,
    },
    Squeeze {
        axes: Option<Vec<i64>>,
    },
    Reduce {
        kind: Reduce,
        axes: Option<Vec<i64>>,
        keeps: bool,
    },
    SliceAxis {
        axis: i64,
        begin: i64,
        end: Option<i64>,
    },
    /// Zeros around; the least first, as the framework wants it, from the last axis on.
    Pad {
        amounts: Vec<i64>,
        mode: PadMode,
        value: f64,
    },
    LocalResponse {
        alpha: f64,
        beta: f64,
        knorm: f64,
        size: i64,
    },
    L2Normalization {
        eps: f64,
        mode: L2Mode,
    },
    Cast {
        dtype: String,
    },
    /// What gives its first input: dropout and the like, which do nothing when nobody trains.
    Identity,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::runtime) enum Act {
    Relu,
    Sigmoid,
    Tanh,
    Softrelu,
    Softsign,
    Leaky {
        slope: f64,
    },
    /// The second input is the slope.
    Prelu,
    Elu {
        slope: f64,
    },
    Selu,
    Gelu,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Maximum,
    Minimum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Unary {
    Negate,
    Exp,
    Log,
    Sqrt,
    Square,
    Abs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum SoftmaxAxis {
    /// All but the first, as one.
    Rest,
    Second,
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Reduce {
    Mean,
    Sum,
    Max,
    Min,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum PadMode {
    Constant,
    Edge,
    Reflect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum L2Mode {
    Instance,
    Channel,
    Spatial,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::runtime) struct Pool {
    pub(in crate::runtime) kind: PoolKind,
    /// Over all of the picture, whatever the kernel says.
    pub(in crate::runtime) is_global: bool,
    pub(in crate::runtime) kernel: Vec<i64>,
    pub(in crate::runtime) stride: Vec<i64>,
    pub(in crate::runtime) padding: Vec<i64>,
    pub(in crate::runtime) convention: PoolConvention,
    pub(in crate::runtime) counts_padding: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum PoolKind {
    Max,
    Average,
    Sum,
}

/// What happens to a last window that is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum PoolConvention {
    /// It is left out.
    Valid,
    /// It is there.
    Full,
    /// As many windows as the stride divides.
    Same,
}

impl Operator {
    /// Reads a node's operator.
    pub(in crate::runtime) fn of(node: &Node, op: &str) -> Result<Self, MxnetError> {
        let it = Attributes { node: &node.name, values: &node.attributes };
        if let Some(found) = read::arithmetic(op, it)? {
            return Ok(found);
        }
        if let Some(found) = read::shaping(op, it)? {
            return Ok(found);
        }
        read::layer(op, it)?.ok_or_else(|| MxnetError::UnknownOperator {
            node: node.name.clone(),
            op: op.chars().take(80).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(op: &str, attributes: &[(&str, &str)]) -> Result<Operator, MxnetError> {
        let attributes = attributes.iter();
        let attributes = attributes.map(|(name, value)| ((*name).into(), (*value).into()));
        let node = Node {
            name: "n".to_owned(),
            op: Some(op.to_owned()),
            inputs: Vec::new(),
            attributes: attributes.collect(),
        };
        Operator::of(&node, op)
    }

    #[test]
    fn what_is_absent_has_mxnet_s_default() {
        assert_eq!(
            of("Convolution", &[("kernel", "(3, 3)"), ("num_filter", "64"), ("pad", "()")]),
            Ok(Operator::Convolution {
                stride: vec![1, 1],
                dilation: vec![1, 1],
                padding: vec![0, 0],
                groups: 1
            })
        );
        assert_eq!(
            of("BatchNorm", &[]),
            Ok(Operator::BatchNorm { eps: 1e-3, fixes_gamma: true, axis: 1 })
        );
        assert_eq!(of("Concat", &[]), Ok(Operator::Concat { dimension: 1 }));
        assert_eq!(of("LeakyReLU", &[]), Ok(Operator::Activation(Act::Leaky { slope: 0.25 })));
        let Ok(Operator::Pooling(pool)) = of("Pooling", &[("kernel", "(2,2)")]) else {
            panic!("expected a pool");
        };
        assert_eq!((pool.kind, pool.stride), (PoolKind::Max, vec![1, 1]));
        assert_eq!((pool.convention, pool.counts_padding), (PoolConvention::Valid, true));
    }

    #[test]
    fn what_is_not_known_names_its_node() {
        let error = of("RNN", &[]).unwrap_err().to_string();
        assert_eq!(error, "node `n` is of the operator `RNN`, which is not known here");
        let error = of("Convolution", &[("kernel", "(3,3)"), ("layout", "NHWC")]).unwrap_err();
        assert_eq!(error.to_string(), "node `n` has `layout` = `NHWC`, which is not understood");
        assert!(of("Convolution", &[("kernel", "(3,3,3,3)")]).is_err());
        assert!(of("Convolution", &[("kernel", "(3,3)"), ("stride", "(1,)")]).is_err());
    }

    #[test]
    fn padding_comes_from_the_last_axis_on() {
        let attributes = [("pad_width", "(0,0,0,0,1,2,3,4)"), ("mode", "constant")];
        assert_eq!(
            of("Pad", &attributes),
            Ok(Operator::Pad {
                amounts: vec![3, 4, 1, 2, 0, 0, 0, 0],
                mode: PadMode::Constant,
                value: 0.0
            })
        );
    }
}
