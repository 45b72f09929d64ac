//! TorchScript modules and MXNet networks, by LibTorch. Only this file and those below it name `tch`.
//!
//! `tch` has two of almost everything: `f_…` functions return errors, the others panic. Only the
//! `f_…` ones and those that return `Result` are used here.

mod convert;
mod message;
mod mxnet;

use super::{
    Footprint, Model, ModelInput, ModelOutput, RuntimeError,
    archive::TorchScript,
    classes::Classes,
    codec::{self, Answer, Format},
    image,
    manifest::{Input, Manifest, Output, TensorInput},
    mxnet::Checkpoint,
    tensor::{TensorData, n_elements},
};
use crate::memory::allocator::{Measured, measure};
use mxnet::Network;
use std::{
    path::Path,
    sync::{
        Once,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};
use tch::{CModule, Device, IValue, Tensor};

/// Forwards until a graph runs at steady speed: one is profiled, the next compiles what was learnt.
const N_WARM_UP: u32 = 2;

/// A model in memory. Its invocations may overlap.
#[derive(Debug)]
pub(super) struct TorchModel {
    net: Net,
    input: Input,
    /// What takes pictures and tensors takes the latter so.
    tensor_input: Option<TensorInput>,
    output: Postprocess,
    cost: Cost,
}

/// What computes.
#[derive(Debug)]
enum Net {
    Script(CModule),
    Mxnet(Network),
}

/// What happens to what the module returns.
#[derive(Debug)]
enum Postprocess {
    Tensor,
    Classification(Classes),
}

/// The measured bytes of a model, as they become known.
#[derive(Debug, Default)]
struct Cost {
    resident_bytes: AtomicU64,
    workspace_bytes: AtomicU64,
    n_forwards: AtomicU32,
}

/// Prepares a compute slot's thread: one intra-op thread each, because two that compete for a core
/// are ten times slower than one.
pub fn prepare_thread() {
    static ONCE: Once = Once::new();
    // LibTorch allows this one only before its first use.
    ONCE.call_once(|| tch::set_num_interop_threads(1));
    tch::set_num_threads(1);
}

impl TorchModel {
    /// Loads a module and runs it on an empty input, if the manifest says what that is.
    pub(super) fn load(found: &TorchScript) -> Result<Self, RuntimeError> {
        Self::measured(|| {
            let net = Net::Script(open_module(found)?);
            Self::new(net, &found.manifest, &found.artifact)
        })
    }

    /// Loads a checkpoint and runs it likewise.
    pub(super) fn load_checkpoint(found: &Checkpoint) -> Result<Self, RuntimeError> {
        Self::measured(|| {
            let network = Network::new(&found.graph()?, &found.arrays()?, &found.input_name)?;
            let model = Self::new(Net::Mxnet(network), &found.manifest, &found.artifact)?;
            Ok(Self { tensor_input: Some(found.tensor_input.clone()), ..model })
        })
    }

    fn measured(open: impl FnOnce() -> Result<Self, RuntimeError>) -> Result<Self, RuntimeError> {
        let (model, measured) = measure(open);
        let model = model?;
        model.cost.resident_bytes.store(measured.retained_bytes, Ordering::Relaxed);
        model.warm_up()?;
        Ok(model)
    }

    fn new(net: Net, manifest: &Manifest, artifact: &Path) -> Result<Self, RuntimeError> {
        let output = match &manifest.output {
            Output::Tensor => Postprocess::Tensor,
            Output::Classification(settings) => {
                Postprocess::Classification(Classes::open(artifact, settings)?)
            }
        };
        let (input, cost) = (manifest.input.clone(), Cost::default());
        Ok(Self { net, input, tensor_input: None, output, cost })
    }

    /// Forwards until the speed is steady, so that no client waits for a compiler; and so that a
    /// manifest that does not go with its model is found now.
    fn warm_up(&self) -> Result<(), RuntimeError> {
        let Some(shape) = self.input.first_shape() else { return Ok(()) };
        for _ in 0..N_WARM_UP {
            let (answer, measured) = measure(|| {
                let answer = self.forward(empty_input(&self.input, &shape))?;
                self.output.check(&answer)
            });
            answer.map_err(|error| {
                let why = message::without_kind(&error);
                let text =
                    format!("a first forward with an input of shape {shape:?} failed: {why}");
                RuntimeError::BadArtifact(text)
            })?;
            self.cost.note(measured, 0);
        }
        Ok(())
    }

    fn read(&self, input: &ModelInput) -> Result<TensorData, RuntimeError> {
        let content_type = input.content_type.as_deref();
        let tensor =
            |expected| codec::decode(codec::input_format(content_type)?, &input.body, expected);
        match (&self.input, &self.tensor_input) {
            (Input::Tensor(expected), _) => tensor(expected),
            (Input::Image(_), Some(expected)) if is_tensor(content_type) => tensor(expected),
            (Input::Image(picture), _) => {
                image::check_content_type(content_type)?;
                image::prepare(&input.body, picture)
            }
        }
    }

    fn forward(&self, input: TensorData) -> Result<Answer, RuntimeError> {
        let tensor = convert::to_tensor(&input)?;
        // The copy is enough; what came may be large.
        drop(input);
        match &self.net {
            Net::Script(module) => forward_module(module, tensor),
            Net::Mxnet(network) => tch::no_grad(|| network.forward(&tensor)),
        }
    }
}

impl Model for TorchModel {
    fn footprint(&self) -> Footprint {
        Footprint {
            resident_bytes: self.cost.resident_bytes.load(Ordering::Relaxed),
            workspace_bytes: self.cost.workspace_bytes.load(Ordering::Relaxed),
        }
    }

    fn invoke(&self, input: &ModelInput) -> Result<ModelOutput, RuntimeError> {
        // First, because a client that cannot read the answer need not wait for it.
        let format = self.output.format(input.accept.as_deref())?;
        let (body, measured) =
            measure(|| self.output.write(format, &self.forward(self.read(input)?)?));
        // What failed is not counted: a body of 60 bytes can claim to be a huge picture, and the
        // workspace never shrinks again.
        let body = body?;
        self.cost.note(measured, body.capacity() as u64);
        Ok(ModelOutput::new(format.content_type(), body.into()))
    }
}

impl Postprocess {
    fn format(&self, accept: Option<&str>) -> Result<Format, RuntimeError> {
        match self {
            Self::Tensor => codec::answer_format(accept, &Format::ALL),
            Self::Classification(_) => codec::answer_format(accept, &[Format::Json]),
        }
    }

    /// Checks what must be so for any input. (A `NaN` need not come again.)
    fn check(&self, answer: &Answer) -> Result<(), RuntimeError> {
        match self {
            Self::Tensor => Ok(()),
            Self::Classification(classes) => {
                classes.check_shape(&lone_tensor(answer)?.shape).map(drop)
            }
        }
    }

    fn write(&self, format: Format, answer: &Answer) -> Result<Vec<u8>, RuntimeError> {
        match self {
            Self::Tensor => codec::encode(format, answer),
            Self::Classification(classes) => classes.answer(lone_tensor(answer)?),
        }
    }
}

impl Cost {
    /// Adds what one forward cost; `answer_bytes` of what it left behind belong to its answer.
    fn note(&self, measured: Measured, answer_bytes: u64) {
        let kept = measured.retained_bytes.saturating_sub(answer_bytes);
        self.workspace_bytes.fetch_max(measured.peak_bytes.saturating_sub(kept), Ordering::Relaxed);
        // Only the first forwards leave something behind that stays (the compiled graph); later
        // differences are what other threads allocate and free.
        if self.n_forwards.fetch_add(1, Ordering::Relaxed) < N_WARM_UP {
            self.resident_bytes.fetch_add(kept, Ordering::Relaxed);
        }
    }
}

fn open_module(found: &TorchScript) -> Result<CModule, RuntimeError> {
    let name = found.file.file_name().unwrap_or_default().to_string_lossy();
    let bad = |error| {
        let why = message::clean(&error);
        RuntimeError::BadArtifact(format!("`{name}` is not a TorchScript module: {why}"))
    };
    let mut module = CModule::load_on_device(&found.file, Device::Cpu).map_err(bad)?;
    module.f_set_eval().map_err(bad)?;
    check_forward(&module, &name)?;
    Ok(module)
}

fn forward_module(module: &CModule, input: Tensor) -> Result<Answer, RuntimeError> {
    let kept = input.shallow_clone();
    let output = tch::no_grad(|| module.forward_is(&[IValue::Tensor(input)]));
    let output = output.map_err(|error| {
        // `tch` forgets the arguments of a call that throws: they would leak whole.
        convert::empty(kept);
        message::of_forward(&error)
    });
    convert::to_answer(output?)
}

/// Whether a body says that it is a tensor.
fn is_tensor(content_type: Option<&str>) -> bool {
    content_type.is_some() && codec::input_format(content_type).is_ok()
}

/// Calls `forward` without arguments: the refusal tells a missing method from a missing argument.
fn check_forward(module: &CModule, name: &str) -> Result<(), RuntimeError> {
    let called = tch::no_grad(|| module.forward_is::<IValue>(&[]));
    match called.map_err(|error| message::clean(&error)) {
        Err(why) if why.contains("is not defined") => {
            let text = format!("the module in `{name}` has no method `forward`");
            Err(RuntimeError::BadArtifact(text))
        }
        _ => Ok(()),
    }
}

/// Returns an input of zeros (a grey picture) for the first forward.
fn empty_input(input: &Input, shape: &[i64]) -> TensorData {
    match input {
        Input::Image(picture) => image::grey(picture),
        Input::Tensor(TensorInput { dtype, .. }) => {
            let n_elements = n_elements(shape).expect("the manifest's shape was checked");
            let elements = dtype.unwrap_or_default().zeros(n_elements);
            TensorData { shape: shape.to_vec(), elements }
        }
    }
}

fn lone_tensor(answer: &Answer) -> Result<&TensorData, RuntimeError> {
    match answer {
        Answer::Tensor(tensor) => Ok(tensor),
        _ => Err(RuntimeError::Inference(
            "the model does not classify: its output is not one tensor".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;
