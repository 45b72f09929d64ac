//! MXNet checkpoints: a graph, its parameters, and what is known of its input.
//!
//! ```text
//! checkpoint.rs  which files of an archive they are, and what they say of input and answer
//! symbol.rs      *-symbol.json: nodes and what they are computed of
//! params.rs      *-0000.params: arrays by name
//! attributes.rs  a node's attributes as values
//! operator.rs    a node's operator with its attributes, typed
//! ```
//!
//! `runtime/torch/mxnet.rs` computes them with LibTorch.

mod attributes;
mod checkpoint;
mod operator;
mod params;
mod symbol;

pub(super) use checkpoint::{Checkpoint, of_checkpoint};
pub(super) use operator::{
    Act, Binary, L2Mode, Operator, PadMode, Pool, PoolConvention, PoolKind, Reduce, SoftmaxAxis,
    Unary,
};
#[cfg(test)]
pub(super) use params::read as read_arrays;
pub(super) use params::{Array, ArrayType};
pub(super) use symbol::{Graph, Node, Output};

/// Why a checkpoint is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MxnetError {
    #[error("the parameters cannot be read: {0}")]
    Params(String),
    #[error("the symbol file cannot be read: {0}")]
    Symbol(String),
    #[error("node `{node}` has `{name}` = `{value}`, which is not understood")]
    Attribute { node: String, name: String, value: String },
    #[error("node `{node}` is of the operator `{op}`, which is not known here")]
    UnknownOperator { node: String, op: String },
}
