//! `*-symbol.json`: the graph of an MXNet checkpoint, from 0.8 to 1.9.
//!
//! Nodes stand in an order in which each has its inputs before it, so no graph has a cycle.

use super::MxnetError;
use serde::Deserialize;
use std::collections::HashMap;

/// The most nodes: ResNet-152 has 1,500.
const MAX_NODES: usize = 50_000;
/// The most inputs of all nodes together.
const MAX_EDGES: usize = 500_000;
/// The operator of a node that is no operator: a parameter or an input.
const VARIABLE: &str = "null";

/// A graph: what is computed of what.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::runtime) struct Graph {
    pub(in crate::runtime) nodes: Vec<Node>,
    /// What it answers.
    pub(in crate::runtime) heads: Vec<Output>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::runtime) struct Node {
    pub(in crate::runtime) name: String,
    /// `None`: a variable.
    pub(in crate::runtime) op: Option<String>,
    pub(in crate::runtime) inputs: Vec<Output>,
    pub(in crate::runtime) attributes: HashMap<String, String>,
}

/// One of a node's outputs. Most have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::runtime) struct Output {
    pub(in crate::runtime) node: usize,
    pub(in crate::runtime) idx: usize,
}

#[derive(Deserialize)]
struct RawGraph {
    nodes: Vec<RawNode>,
    heads: Vec<Vec<i64>>,
}

#[derive(Deserialize)]
struct RawNode {
    op: String,
    name: String,
    #[serde(default)]
    inputs: Vec<Vec<i64>>,
    /// Since 1.0.
    #[serde(default)]
    attrs: HashMap<String, String>,
    /// From 0.9 to 1.1; in 0.8 it has what a user said beside `param`.
    #[serde(default)]
    attr: HashMap<String, String>,
    /// In 0.8.
    #[serde(default)]
    param: HashMap<String, String>,
}

impl Graph {
    /// Reads the file's text.
    pub(in crate::runtime) fn parse(text: &[u8]) -> Result<Self, MxnetError> {
        let raw: RawGraph =
            serde_json::from_slice(text).map_err(|error| flaw(error.to_string()))?;
        let n_nodes = raw.nodes.len();
        let n_edges: usize = raw.nodes.iter().map(|it| it.inputs.len()).sum();
        if n_nodes > MAX_NODES || n_edges > MAX_EDGES {
            return Err(flaw(format!("it has {n_nodes} nodes with {n_edges} inputs")));
        }
        if raw.heads.is_empty() {
            return Err(flaw("it has no heads: it answers nothing".to_owned()));
        }
        let heads = raw.heads.iter().map(|it| output(it, n_nodes, "a head"));
        let heads = heads.collect::<Result<_, _>>()?;
        let nodes = raw.nodes.into_iter().enumerate().map(|(idx, it)| node(idx, it));
        Ok(Self { heads, nodes: nodes.collect::<Result<_, _>>()? })
    }
}

fn node(idx: usize, raw: RawNode) -> Result<Node, MxnetError> {
    let RawNode { op, name, inputs, attrs, attr, param } = raw;
    let inputs = inputs.iter().map(|it| output(it, idx, &format!("an input of node `{name}`")));
    let inputs = inputs.collect::<Result<_, _>>()?;
    let is_variable = op == VARIABLE;
    // Variables repeat their operator's attributes, which mean nothing there.
    let attributes = if is_variable {
        HashMap::new()
    } else {
        attr.into_iter().chain(attrs).chain(param).collect()
    };
    Ok(Node { name, op: (!is_variable).then_some(op), inputs, attributes })
}

/// `[node, output]`, and a version that means nothing. The node is one of the first `n_nodes`.
fn output(raw: &[i64], n_nodes: usize, what: &str) -> Result<Output, MxnetError> {
    let [node, idx, ..] = raw else {
        return Err(flaw(format!("{what} does not say of which node it is")));
    };
    let (Ok(node), Ok(idx)) = (usize::try_from(*node), usize::try_from(*idx)) else {
        return Err(flaw(format!("{what} is of node {node}")));
    };
    if node >= n_nodes {
        return Err(flaw(format!("{what} is of node {node}, which is not before it")));
    }
    Ok(Output { node, idx })
}

fn flaw(what: String) -> MxnetError {
    MxnetError::Symbol(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NEW: &str = r#"{"nodes": [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "w", "attrs": {"num_filter": "8"}, "inputs": []},
        {"op": "Convolution", "name": "conv", "attrs": {"kernel": "(3, 3)"}, "inputs": [[0, 0, 0], [1, 0, 0]]}
    ], "arg_nodes": [0, 1], "node_row_ptr": [0, 1, 2, 3], "heads": [[2, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}}"#;

    const OLD: &str = r#"{"nodes": [
        {"op": "null", "param": {}, "name": "data", "inputs": [], "backward_source_id": -1},
        {"op": "Convolution", "param": {"kernel": "(3,3)"}, "attr": {"lr_mult": "2"}, "name": "conv",
         "inputs": [[0, 0]], "backward_source_id": -1}
    ], "arg_nodes": [0], "heads": [[1, 0]]}"#;

    #[test]
    fn old_and_new_files_are_read() {
        let graph = Graph::parse(NEW.as_bytes()).unwrap();
        assert_eq!(graph.heads, [Output { node: 2, idx: 0 }]);
        assert_eq!(graph.nodes[1].op, None);
        assert!(graph.nodes[1].attributes.is_empty());
        assert_eq!(graph.nodes[2].attributes["kernel"], "(3, 3)");

        let graph = Graph::parse(OLD.as_bytes()).unwrap();
        assert_eq!(graph.nodes[1].op.as_deref(), Some("Convolution"));
        assert_eq!(graph.nodes[1].attributes["kernel"], "(3,3)");
    }

    #[test]
    fn a_node_never_needs_one_that_comes_later() {
        for (inputs, why) in [
            ("[[1, 0]]", "an input of node `b` is of node 1, which is not before it"),
            ("[[-1, 0]]", "an input of node `b` is of node -1"),
            ("[[0]]", "an input of node `b` does not say of which node it is"),
        ] {
            let text = format!(
                r#"{{"nodes": [{{"op": "null", "name": "a"}}, {{"op": "x", "name": "b", "inputs": {inputs}}}], "heads": [[1, 0]]}}"#
            );
            let error = Graph::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.ends_with(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(damage in prop::collection::vec((0..600_usize, any::<u8>()), 0..8)) {
            let mut text = NEW.as_bytes().to_vec();
            for (at, byte) in damage {
                let at = at % text.len();
                text[at] = byte;
            }
            let _ = Graph::parse(&text);
        }
    }
}
