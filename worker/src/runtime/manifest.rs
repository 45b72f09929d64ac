//! What an archive says of itself: `manifold.toml`.
//!
//! Everything in it is optional; an unknown key, a value out of bounds or a key that does not go
//! with its `kind` is refused by name, because a typo would otherwise change answers silently.

mod raw;

use super::{
    RuntimeError,
    tensor::{DType, n_elements},
};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::Path,
    time::Duration,
};

pub(crate) const FILE_NAME: &str = "manifold.toml";

/// The largest manifest: some hundred times what all keys together need.
const MAX_BYTES: u64 = 64 << 10;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    /// Relative to the archive's root, and surely inside.
    pub(crate) file: Option<String>,
    pub(crate) runtime: RuntimeName,
    pub(crate) handler: HandlerSection,
    /// What the first load reserves at least.
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) input: Input,
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuntimeName {
    #[default]
    TorchScript,
    Python,
    Mxnet,
    Echo,
}

/// What it says of a handler; the worker's configuration fills what is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HandlerSection {
    /// `[path/]module[.py][:function]`.
    pub(crate) name: Option<String>,
    pub(crate) n_processes: Option<usize>,
    pub(crate) batch_size: Option<usize>,
    pub(crate) max_batch_delay: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    Tensor(TensorInput),
    Image(ImageInput),
}

/// What is known of a tensor input: nothing, if the manifest is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorInput {
    /// When given, arrays of another type are refused. Text is read as `float32` without it.
    pub dtype: Option<DType>,
    /// -1 is any.
    pub shape: Option<Vec<i64>>,
}

/// How a picture becomes a tensor: `value = (pixel * scale - mean) / std`.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageInput {
    pub width: u32,
    pub height: u32,
    pub resize: Resize,
    pub scale: f64,
    pub mean: [f64; 3],
    pub std: [f64; 3],
    pub exif_orientation: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// A triangle filter as wide as the reduction, as Pillow's `BILINEAR`.
    #[default]
    BilinearAntialias,
    /// Two by two pixels around half-pixel centers, as `OpenCV`'s `INTER_LINEAR`.
    Bilinear,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Output {
    #[default]
    Tensor,
    Classification(Classification),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Classification {
    pub(crate) top_k: usize,
    /// Relative to the archive's root, and surely inside.
    pub(crate) labels: Option<String>,
    pub(crate) format: ClassFormat,
    /// Whether the model gives logits.
    pub(crate) softmax: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClassFormat {
    #[default]
    Strings,
    Objects,
}

impl Default for Input {
    fn default() -> Self {
        Self::Tensor(TensorInput::default())
    }
}

impl Input {
    /// Returns the shape of the first forward's input, where the manifest says enough: -1 is 1.
    pub(crate) fn first_shape(&self) -> Option<Vec<i64>> {
        match self {
            Self::Image(it) => Some(vec![1, 3, it.height.into(), it.width.into()]),
            Self::Tensor(it) => Some(it.shape.as_ref()?.iter().map(|n| n.abs()).collect()),
        }
    }

    /// Returns how many bytes the first forward's input takes: as plain values and as a tensor.
    pub(crate) fn first_bytes(&self) -> u64 {
        let dtype = match self {
            Self::Image(_) => DType::Float32,
            Self::Tensor(it) => it.dtype.unwrap_or_default(),
        };
        let n_elements = self.first_shape().and_then(|shape| n_elements(&shape)).unwrap_or(0);
        2 * (n_elements * dtype.size_bytes()) as u64
    }
}

impl Manifest {
    /// Reads the manifest in the folder `artifact`; `None` if there is none.
    pub(crate) fn read(artifact: &Path) -> Result<Option<Self>, RuntimeError> {
        let unreadable = |error| bad(format!("{FILE_NAME} cannot be read: {error}"));
        let path = artifact.join(FILE_NAME);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            // To open a named pipe would wait for whoever writes into it.
            Ok(_) => return Err(bad(format!("{FILE_NAME} is not a file"))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        }
        let file = File::open(path).map_err(unreadable)?;
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(bad(format!("{FILE_NAME} is larger than {MAX_BYTES} bytes")));
        }
        let text = String::from_utf8(text);
        let text = text.map_err(|_| bad(format!("{FILE_NAME} is not UTF-8")))?;
        text.parse().map(Some)
    }
}

impl std::str::FromStr for Manifest {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        raw::parse(text)
    }
}

fn bad(text: String) -> RuntimeError {
    RuntimeError::BadArtifact(text)
}

#[cfg(test)]
mod tests;
