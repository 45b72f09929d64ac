//! Which files of an archive make a checkpoint, and what they say of its input and answer.
//!
//! Without a `manifold.toml` a checkpoint is served as AWS' example of a multi-model container serves it:
//! the whole picture resized to the input's size, as OpenCV resizes, without mean or scale, and the five
//! most probable classes named by `synset.txt`.

use super::{Graph, MxnetError, params};
use crate::runtime::{
    RuntimeError,
    archive::existing_file,
    image::{ImageInput, Resize},
    manifest::{ClassFormat, Classification, Input, Manifest, Output, TensorInput},
    tensor::n_elements,
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

const SYMBOL_SUFFIX: &str = "-symbol.json";
const SHAPES_SUFFIX: &str = "-shapes.json";
const PARAMS_SUFFIX: &str = ".params";
/// The names of classes, a line each.
const LABELS: &str = "synset.txt";
/// What an input is called if no file says.
const DEFAULT_INPUT: &str = "data";
/// ResNet-152 has 700 kB.
const MAX_SYMBOL_BYTES: u64 = 64 << 20;
const MAX_SHAPES_BYTES: u64 = 64 << 10;

/// A checkpoint on disk.
#[derive(Clone, Debug)]
pub(in crate::runtime) struct Checkpoint {
    /// The archive's folder.
    pub(in crate::runtime) artifact: PathBuf,
    pub(in crate::runtime) manifest: Manifest,
    /// The variable that an invocation gives.
    pub(in crate::runtime) input_name: String,
    /// Of tensors, where the manifest takes pictures: its input takes both.
    pub(in crate::runtime) tensor_input: TensorInput,
    symbol: PathBuf,
    params: PathBuf,
    params_bytes: u64,
}

/// An entry of `*-shapes.json`.
#[derive(Debug, Deserialize)]
struct Shape {
    name: String,
    shape: Vec<i64>,
}

impl Checkpoint {
    /// Whether an archive with these names in its root holds one.
    pub(in crate::runtime) fn is_there(names: &[String]) -> bool {
        names.iter().any(|it| it.ends_with(SYMBOL_SUFFIX))
    }

    /// Finds the files of a checkpoint; the first symbol file names the others.
    pub(in crate::runtime) fn find(
        artifact: &Path,
        names: &[String],
        manifest: Option<Manifest>,
    ) -> Result<Self, RuntimeError> {
        let symbol = names.iter().find(|it| it.ends_with(SYMBOL_SUFFIX));
        let symbol = symbol.ok_or_else(|| bad(format!("there is no `*{SYMBOL_SUFFIX}`")))?;
        let prefix = symbol.strip_suffix(SYMBOL_SUFFIX).unwrap_or(symbol);
        let params = names.iter().find(|it| is_params(it, prefix)).ok_or_else(|| {
            bad(format!("there is no `{prefix}-0000{PARAMS_SUFFIX}` beside `{symbol}`"))
        })?;
        let shape = input_shape(artifact, &format!("{prefix}{SHAPES_SUFFIX}"), names)?;
        let input_name = shape.as_ref().map_or(DEFAULT_INPUT, |it| &it.name).to_owned();
        let shape = shape.map(|it| it.shape);
        let has_labels = names.iter().any(|it| it == LABELS);
        let params = existing_file(artifact, params)?;
        Ok(Self {
            artifact: artifact.to_owned(),
            manifest: manifest.unwrap_or_else(|| example(shape.as_deref(), has_labels)),
            tensor_input: TensorInput { dtype: None, shape: shape.map(any_batch) },
            input_name,
            symbol: existing_file(artifact, symbol)?,
            params_bytes: fs::metadata(&params).map_err(|it| unreadable(&it))?.len(),
            params,
        })
    }

    /// Returns how many bytes a load takes at its peak: the parameters as they are read and as tensors.
    pub(in crate::runtime) fn estimate(&self) -> u64 {
        const SMALLEST: u64 = 1 << 20;
        let guess = self.params_bytes.saturating_mul(2).saturating_add(SMALLEST);
        let guess = guess.saturating_add(self.manifest.input.first_bytes());
        guess.max(self.manifest.memory_bytes.unwrap_or(0))
    }

    /// Reads the graph.
    pub(in crate::runtime) fn graph(&self) -> Result<Graph, RuntimeError> {
        let text = read(&self.symbol, MAX_SYMBOL_BYTES)?;
        Graph::parse(&text).map_err(|it| of_checkpoint(&it))
    }

    /// Reads the parameters.
    pub(in crate::runtime) fn arrays(
        &self,
    ) -> Result<HashMap<String, params::Array>, RuntimeError> {
        let file = File::open(&self.params).map_err(|it| unreadable(&it))?;
        params::read(BufReader::new(file), self.params_bytes).map_err(|it| of_checkpoint(&it))
    }
}

/// `prefix-0000.params`, or another epoch's.
fn is_params(name: &str, prefix: &str) -> bool {
    let epoch = name.strip_suffix(PARAMS_SUFFIX).and_then(|it| it.strip_prefix(prefix));
    let digits = epoch.and_then(|it| it.strip_prefix('-'));
    digits.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads the shape of the only input, if a file tells it.
fn input_shape(
    artifact: &Path,
    name: &str,
    names: &[String],
) -> Result<Option<Shape>, RuntimeError> {
    if !names.iter().any(|it| it == name) {
        return Ok(None);
    }
    let text = read(&existing_file(artifact, name)?, MAX_SHAPES_BYTES)?;
    let shapes: Result<Vec<Shape>, _> = serde_json::from_slice(&text);
    let shapes = shapes.map_err(|error| bad(format!("`{name}` cannot be read: {error}")))?;
    let [shape] = <[Shape; 1]>::try_from(shapes)
        .map_err(|it| bad(format!("`{name}` has {} inputs, expected one", it.len())))?;
    let is_right = !shape.shape.is_empty() && n_elements(&shape.shape).is_some();
    is_right.then_some(Some(shape)).ok_or_else(|| bad(format!("`{name}` has no right shape")))
}

/// What AWS' example does with a checkpoint.
fn example(shape: Option<&[i64]>, has_labels: bool) -> Manifest {
    let side = |it: i64| u32::try_from(it).ok().filter(|it| *it > 0);
    let input = match shape {
        Some([_, 3, height, width])
            if let (Some(height), Some(width)) = (side(*height), side(*width)) =>
        {
            Input::Image(ImageInput {
                width,
                height,
                resize: Resize::Bilinear,
                scale: 1.0,
                mean: [0.0; 3],
                std: [1.0; 3],
                exif_orientation: false,
            })
        }
        shape => Input::Tensor(TensorInput {
            dtype: None,
            shape: shape.map(|it| any_batch(it.to_vec())),
        }),
    };
    let classes = Classification {
        top_k: 5,
        labels: Some(LABELS.to_owned()),
        format: ClassFormat::Strings,
        softmax: false,
    };
    let output = if has_labels { Output::Classification(classes) } else { Output::Tensor };
    Manifest { input, output, ..Manifest::default() }
}

/// As many rows as a client sends.
fn any_batch(mut shape: Vec<i64>) -> Vec<i64> {
    if let Some(batch) = shape.first_mut() {
        *batch = -1;
    }
    shape
}

fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, RuntimeError> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|it| unreadable(&it))?;
    file.take(max_bytes + 1).read_to_end(&mut text).map_err(|it| unreadable(&it))?;
    if text.len() as u64 > max_bytes {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(bad(format!("`{name}` is larger than {max_bytes} bytes")));
    }
    Ok(text)
}

fn unreadable(error: &std::io::Error) -> RuntimeError {
    bad(format!("its files cannot be read: {error}"))
}

pub(in crate::runtime) fn of_checkpoint(error: &MxnetError) -> RuntimeError {
    bad(error.to_string())
}

fn bad(text: String) -> RuntimeError {
    RuntimeError::BadArtifact(text)
}
