//! An MXNet network, computed node by node with LibTorch.

mod compute;
mod pool;

use super::{convert, message};
use crate::runtime::{
    RuntimeError,
    codec::Answer,
    mxnet::{Array, ArrayType, Graph, Node, Operator, Output, of_checkpoint},
};
use parking_lot::Mutex;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// A network with its parameters. Its invocations may overlap: nothing of it changes.
#[derive(Debug)]
pub(super) struct Network {
    steps: Vec<Step>,
    /// By node; `None` for what is computed. Locked while each is cloned, which copies no element: tensors
    /// may move between threads, but not be shared by them.
    constants: Mutex<Vec<Option<Tensor>>>,
    /// The node that an invocation gives.
    input: usize,
    heads: Vec<usize>,
}

/// One node to compute.
#[derive(Debug)]
struct Step {
    name: String,
    operator: Operator,
    inputs: Vec<usize>,
    node: usize,
    /// Nodes that nobody needs after it.
    done: Vec<usize>,
}

impl Network {
    /// Puts a graph and its parameters together. `input` names the variable that an invocation gives.
    pub(super) fn new(
        graph: &Graph,
        arrays: &HashMap<String, Array>,
        input: &str,
    ) -> Result<Self, RuntimeError> {
        let mut building = Building::new(graph, arrays, input);
        for head in &graph.heads {
            building.need(*head, "the answer")?;
        }
        building.finish()
    }

    /// Computes the answer to one input.
    pub(super) fn forward(&self, input: &Tensor) -> Result<Answer, RuntimeError> {
        let mut values = self.constants();
        // Parameters are in single precision, and MXNet casts what is bound to it.
        let input = input.f_to_kind(Kind::Float).map_err(|error| message::of_forward(&error))?;
        values[self.input] = Some(input);
        for step in &self.steps {
            let inputs: Option<Vec<&Tensor>> =
                step.inputs.iter().map(|node| values[*node].as_ref()).collect();
            let inputs = inputs.expect("every step stands after those that it needs");
            let output = compute::compute(&step.operator, &inputs)
                .map_err(|error| at(&step.name, &message::of_forward(&error)))?;
            for node in &step.done {
                values[*node] = None;
            }
            values[step.node] = Some(output);
        }
        let answers = self.heads.iter().map(|head| {
            let tensor = values[*head].as_ref().expect("a head is computed or constant");
            convert::tensor_answer(tensor.shallow_clone())
        });
        let mut answers = answers.collect::<Result<Vec<_>, _>>()?;
        let is_lone = answers.len() == 1;
        Ok(if is_lone { answers.remove(0) } else { Answer::List(answers) })
    }

    fn constants(&self) -> Vec<Option<Tensor>> {
        self.constants.lock().iter().map(|it| it.as_ref().map(Tensor::shallow_clone)).collect()
    }
}

/// Says at which node it failed.
fn at(node: &str, error: &RuntimeError) -> RuntimeError {
    let named = |text: &str| format!("at node `{node}`: {text}");
    match error {
        RuntimeError::BadInput(text) => RuntimeError::BadInput(named(text)),
        RuntimeError::Inference(text) => RuntimeError::Inference(named(text)),
        other => other.clone(),
    }
}

/// A network that is being put together: only what the answer needs.
struct Building<'a> {
    graph: &'a Graph,
    arrays: &'a HashMap<String, Array>,
    input: &'a str,
    input_node: Option<usize>,
    /// By node: what it is, if it is needed.
    needed: Vec<Option<Needed>>,
    /// Parameters that no node of the graph stands for, by the number after the last node.
    added: Vec<Tensor>,
}

enum Needed {
    Input,
    Constant(Tensor),
    Computed(Operator, Vec<usize>),
}

impl<'a> Building<'a> {
    fn new(graph: &'a Graph, arrays: &'a HashMap<String, Array>, input: &'a str) -> Self {
        let mut needed = Vec::new();
        needed.resize_with(graph.nodes.len(), || None);
        Self { graph, arrays, input, input_node: None, needed, added: Vec::new() }
    }

    /// Needs an output, and so whatever it is computed of. Without recursion: graphs are deep.
    fn need(&mut self, output: Output, by: &str) -> Result<(), RuntimeError> {
        let mut waiting = vec![(output, by.to_owned())];
        while let Some((Output { node, idx }, by)) = waiting.pop() {
            let found = &self.graph.nodes[node];
            if idx > 0 {
                let name = &found.name;
                return Err(bad(format!("`{by}` needs output {idx} of node `{name}`")));
            }
            if self.needed[node].is_some() {
                continue;
            }
            let needed = match &found.op {
                None => self.variable(node, found, &by)?,
                Some(op) => {
                    let operator = Operator::of(found, op).map_err(|it| of_checkpoint(&it))?;
                    let inputs = self.inputs(found, &operator)?;
                    let of_graph = inputs.iter().filter(|it| **it < self.graph.nodes.len());
                    waiting.extend(
                        of_graph.map(|it| (Output { node: *it, idx: 0 }, found.name.clone())),
                    );
                    if let Some(odd) = found.inputs.iter().take(inputs.len()).find(|it| it.idx > 0)
                    {
                        waiting.push((*odd, found.name.clone()));
                    }
                    Needed::Computed(operator, inputs)
                }
            };
            self.needed[node] = Some(needed);
        }
        Ok(())
    }

    fn variable(&mut self, node: usize, found: &Node, by: &str) -> Result<Needed, RuntimeError> {
        if found.name == self.input {
            self.input_node = Some(node);
            return Ok(Needed::Input);
        }
        let array = self.arrays.get(&found.name).ok_or_else(|| {
            bad(format!("node `{by}` needs `{}`, which is no parameter", found.name))
        })?;
        Ok(Needed::Constant(tensor(&found.name, array)?))
    }

    /// Which values an operator reads. Labels, which are for training alone, it does not.
    fn inputs(&mut self, node: &Node, operator: &Operator) -> Result<Vec<usize>, RuntimeError> {
        let mut inputs: Vec<usize> = node.inputs.iter().map(|it| it.node).collect();
        if let Some(n_read) = compute::n_read(operator) {
            inputs.truncate(n_read);
        }
        if matches!(operator, Operator::BatchNorm { .. }) {
            // Files before 1.0 leave out what is no argument: its parameters are named after the node.
            for name in compute::BATCH_NORM_STATES.iter().skip(inputs.len().saturating_sub(3)) {
                let name = format!("{}_{name}", node.name);
                let array = self.arrays.get(&name);
                let array = array.ok_or_else(|| {
                    bad(format!("node `{}` needs `{name}`, which is no parameter", node.name))
                })?;
                self.added.push(tensor(&name, array)?);
                inputs.push(self.graph.nodes.len() + self.added.len() - 1);
            }
        }
        if compute::is_enough(operator, inputs.len()) {
            return Ok(inputs);
        }
        Err(bad(format!("node `{}` has {} inputs, too few", node.name, inputs.len())))
    }

    fn finish(self) -> Result<Network, RuntimeError> {
        let Self { graph, input, input_node, needed, added, .. } = self;
        let missing = || bad(format!("its answer does not depend on an input `{input}`"));
        let input = input_node.ok_or_else(missing)?;
        let (mut steps, mut constants) = (Vec::new(), Vec::new());
        // Nodes stand after those that they need.
        for (node, needed) in needed.into_iter().enumerate() {
            constants.push(match needed {
                Some(Needed::Constant(tensor)) => Some(tensor),
                Some(Needed::Computed(operator, inputs)) => {
                    let name = graph.nodes[node].name.clone();
                    steps.push(Step { name, operator, inputs, node, done: Vec::new() });
                    None
                }
                Some(Needed::Input) | None => None,
            });
        }
        constants.extend(added.into_iter().map(Some));
        let heads: Vec<usize> = graph.heads.iter().map(|it| it.node).collect();
        note_last_use(&mut steps, &heads);
        Ok(Network { steps, constants: Mutex::new(constants), input, heads })
    }
}

/// Notes after which step each value is needed no more: networks are deep, and their pictures large.
fn note_last_use(steps: &mut [Step], heads: &[usize]) {
    let mut seen: std::collections::HashSet<usize> = heads.iter().copied().collect();
    for step in steps.iter_mut().rev() {
        step.done = step.inputs.iter().copied().filter(|it| seen.insert(*it)).collect();
    }
}

/// Copies a parameter, in the precision that it is computed with.
fn tensor(name: &str, array: &Array) -> Result<Tensor, RuntimeError> {
    let kind = match array.dtype {
        ArrayType::Float32 => Kind::Float,
        ArrayType::Float64 => Kind::Double,
        ArrayType::Float16 => Kind::Half,
        ArrayType::Bfloat16 => Kind::BFloat16,
        ArrayType::Uint8 => Kind::Uint8,
        ArrayType::Int8 => Kind::Int8,
        ArrayType::Int16 => Kind::Int16,
        ArrayType::Int32 => Kind::Int,
        ArrayType::Int64 => Kind::Int64,
        ArrayType::Bool => Kind::Bool,
    };
    let copied = Tensor::f_from_data_size(&array.bytes, &array.shape, kind)
        .and_then(|tensor| tensor.f_to_kind(Kind::Float))
        .and_then(|tensor| tensor.f_to_device(Device::Cpu));
    copied.map_err(|error| bad(format!("parameter `{name}`: {}", message::clean(&error))))
}

fn bad(text: String) -> RuntimeError {
    RuntimeError::BadArtifact(text)
}

#[cfg(test)]
mod tests;
