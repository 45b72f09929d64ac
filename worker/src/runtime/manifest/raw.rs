//! From the text of `manifold.toml` to a checked [`Manifest`].

use super::{
    ClassFormat, Classification, FILE_NAME, HandlerSection, ImageInput, Input, Manifest, Output,
    Resize, RuntimeName, TensorInput, bad,
};
use crate::runtime::{
    RuntimeError,
    tensor::{DType, MAX_DIMENSIONS, n_elements},
};
use serde::Deserialize;
use std::{
    path::{Component, Path},
    time::Duration,
};

/// Pictures are prepared for networks: 8192 is ten times what those take. Width times height times
/// three colors has the bound of any tensor besides.
const MAX_SIDE: i64 = 8192;
/// A model that declares more than 16 TiB means something else.
const MAX_MEMORY_BYTES: i64 = 1 << 44;
/// More classes than anyone reads.
const MAX_TOP_K: i64 = 10_000;
/// `scale`, `mean`, `std` lie within this and its inverse, so that prepared values stay finite.
const MAX_FACTOR: f64 = 1e9;
/// Processes of one model: more than a machine has cores help none.
const MAX_WORKERS: i64 = 64;
/// Requests at once: more than a queue holds by default.
const MAX_BATCH: i64 = 1024;
/// Whoever waits a minute for others has waited as long as an invocation may.
const MAX_DELAY_MS: i64 = 60_000;
/// What file systems allow for one name, several times over.
const MAX_NAME_BYTES: usize = 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawManifest {
    model: RawModel,
    input: RawInput,
    output: RawOutput,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawModel {
    file: Option<String>,
    runtime: RuntimeName,
    memory_bytes: Option<i64>,
    handler: Option<String>,
    workers: Option<i64>,
    batch_size: Option<i64>,
    max_batch_delay_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum InputKind {
    #[default]
    Tensor,
    Image,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawInput {
    kind: InputKind,
    width: Option<i64>,
    height: Option<i64>,
    resize: Option<Resize>,
    scale: Option<f64>,
    mean: Option<[f64; 3]>,
    std: Option<[f64; 3]>,
    exif_orientation: Option<bool>,
    dtype: Option<DType>,
    shape: Option<Vec<i64>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OutputKind {
    #[default]
    Tensor,
    Classification,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawOutput {
    kind: OutputKind,
    top_k: Option<i64>,
    labels: Option<String>,
    format: Option<ClassFormat>,
    softmax: Option<bool>,
}

pub(super) fn parse(text: &str) -> Result<Manifest, RuntimeError> {
    let raw: RawManifest = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    let memory_bytes = raw.model.memory_bytes;
    Ok(Manifest {
        handler: handler(&raw.model)?,
        file: file_name("model.file", raw.model.file)?,
        runtime: raw.model.runtime,
        memory_bytes: memory_bytes
            .map(|value| within("model.memory_bytes", value, 0, MAX_MEMORY_BYTES))
            .transpose()?
            .map(i64::cast_unsigned),
        input: input(raw.input)?,
        output: output(raw.output)?,
    })
}

/// Names the line: the parser's own text says what is wrong, not always with which key.
fn syntax(text: &str, error: &toml::de::Error) -> RuntimeError {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = &text.as_bytes()[..start];
    let line_idx = before.split(|byte| *byte == b'\n').count() - 1;
    let line: String = text.lines().nth(line_idx).unwrap_or("").trim().chars().take(80).collect();
    let message = error.message();
    bad(format!("{FILE_NAME}, line {} (`{line}`): {message}", line_idx + 1))
}

fn wrong(key: &str, why: impl std::fmt::Display) -> RuntimeError {
    bad(format!("{FILE_NAME}: `{key}` {why}"))
}

fn within(key: &str, value: i64, min: i64, max: i64) -> Result<i64, RuntimeError> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(wrong(key, format_args!("is {value}, expected {min} to {max}")))
}

fn handler(raw: &RawModel) -> Result<HandlerSection, RuntimeError> {
    if raw.runtime != RuntimeName::Python {
        let foreign = [
            ("model.handler", raw.handler.is_some()),
            ("model.workers", raw.workers.is_some()),
            ("model.batch_size", raw.batch_size.is_some()),
            ("model.max_batch_delay_ms", raw.max_batch_delay_ms.is_some()),
        ];
        refuse_foreign(&foreign, "goes with `runtime = \"python\"` alone")?;
    }
    let bounded = |key, value: Option<i64>, min, max| {
        let value = value.map(|value| within(key, value, min, max)).transpose();
        value.map(|it| it.map(i64::cast_unsigned))
    };
    let number = |value: u64| usize::try_from(value).expect("a bounded number fits");
    let delay_ms = bounded("model.max_batch_delay_ms", raw.max_batch_delay_ms, 0, MAX_DELAY_MS)?;
    Ok(HandlerSection {
        name: raw.handler.clone(),
        n_processes: bounded("model.workers", raw.workers, 1, MAX_WORKERS)?.map(number),
        batch_size: bounded("model.batch_size", raw.batch_size, 1, MAX_BATCH)?.map(number),
        max_batch_delay: delay_ms.map(Duration::from_millis),
    })
}

fn input(raw: RawInput) -> Result<Input, RuntimeError> {
    match raw.kind {
        InputKind::Tensor => {
            let foreign = [
                ("input.width", raw.width.is_some()),
                ("input.height", raw.height.is_some()),
                ("input.resize", raw.resize.is_some()),
                ("input.scale", raw.scale.is_some()),
                ("input.mean", raw.mean.is_some()),
                ("input.std", raw.std.is_some()),
                ("input.exif_orientation", raw.exif_orientation.is_some()),
            ];
            refuse_foreign(&foreign, "goes with `kind = \"image\"` in [input] alone")?;
            Ok(Input::Tensor(TensorInput { dtype: raw.dtype, shape: shape(raw.shape)? }))
        }
        InputKind::Image => {
            let foreign =
                [("input.dtype", raw.dtype.is_some()), ("input.shape", raw.shape.is_some())];
            refuse_foreign(&foreign, "goes with `kind = \"tensor\"` in [input] alone")?;
            image(&raw).map(Input::Image)
        }
    }
}

fn image(raw: &RawInput) -> Result<ImageInput, RuntimeError> {
    let scale = raw.scale.unwrap_or(1.0 / 255.0);
    let mean = raw.mean.unwrap_or([0.0; 3]);
    let std = raw.std.unwrap_or([1.0; 3]);
    factor("input.scale", scale)?;
    std.iter().try_for_each(|value| factor("input.std", *value))?;
    if !mean.iter().all(|value| value.abs() <= MAX_FACTOR) {
        return Err(wrong("input.mean", "must be finite and at most 1e9 in size"));
    }
    let (width, height) = (side("input.width", raw.width)?, side("input.height", raw.height)?);
    if n_elements(&[3, height.into(), width.into()]).is_none() {
        let why = "times `input.height` times three colors is more than 16,777,216 elements";
        return Err(wrong("input.width", why));
    }
    Ok(ImageInput {
        width,
        height,
        resize: raw.resize.unwrap_or_default(),
        scale,
        mean,
        std,
        exif_orientation: raw.exif_orientation.unwrap_or(false),
    })
}

fn side(key: &str, value: Option<i64>) -> Result<u32, RuntimeError> {
    let value = value.ok_or_else(|| wrong(key, "is missing: `kind = \"image\"` needs it"))?;
    let value = within(key, value, 1, MAX_SIDE)?;
    Ok(u32::try_from(value).expect("8192 fits into 32 bits"))
}

/// Checks a number by which something is multiplied or divided.
fn factor(key: &str, value: f64) -> Result<(), RuntimeError> {
    // NaN is in no range.
    if (1.0 / MAX_FACTOR..=MAX_FACTOR).contains(&value.abs()) {
        return Ok(());
    }
    Err(wrong(key, format_args!("is {value}, expected a size between 1e-9 and 1e9")))
}

fn shape(raw: Option<Vec<i64>>) -> Result<Option<Vec<i64>>, RuntimeError> {
    let Some(shape) = raw else { return Ok(None) };
    if shape.len() > MAX_DIMENSIONS {
        return Err(wrong("input.shape", format_args!("has over {MAX_DIMENSIONS} dimensions")));
    }
    if let Some(odd) = shape.iter().find(|it| **it < 1 && **it != -1) {
        return Err(wrong("input.shape", format_args!("holds {odd}, expected -1 or 1 and more")));
    }
    // -1 counts as 1: so large is the input of the first forward.
    let smallest: Vec<i64> = shape.iter().map(|it| it.abs()).collect();
    if n_elements(&smallest).is_none() {
        return Err(wrong("input.shape", "stands for more than 16,777,216 elements"));
    }
    Ok(Some(shape))
}

fn output(raw: RawOutput) -> Result<Output, RuntimeError> {
    match raw.kind {
        OutputKind::Tensor => {
            let foreign = [
                ("output.top_k", raw.top_k.is_some()),
                ("output.labels", raw.labels.is_some()),
                ("output.format", raw.format.is_some()),
                ("output.softmax", raw.softmax.is_some()),
            ];
            refuse_foreign(&foreign, "goes with `kind = \"classification\"` in [output] alone")?;
            Ok(Output::Tensor)
        }
        OutputKind::Classification => {
            let top_k = within("output.top_k", raw.top_k.unwrap_or(5), 1, MAX_TOP_K)?;
            Ok(Output::Classification(Classification {
                top_k: usize::try_from(top_k).expect("10,000 fits into any usize"),
                labels: file_name("output.labels", raw.labels)?,
                format: raw.format.unwrap_or_default(),
                softmax: raw.softmax.unwrap_or(true),
            }))
        }
    }
}

fn refuse_foreign(keys: &[(&str, bool)], why: &str) -> Result<(), RuntimeError> {
    let foreign = keys.iter().find(|(_, is_given)| *is_given);
    foreign.map_or(Ok(()), |(key, _)| Err(wrong(key, why)))
}

/// Checks that a name stays inside the archive, whatever lies there.
fn file_name(key: &str, name: Option<String>) -> Result<Option<String>, RuntimeError> {
    let Some(name) = name else { return Ok(None) };
    let is_inside = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
    let is_plain = !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.contains('\0');
    if is_inside && is_plain {
        return Ok(Some(name));
    }
    let shown: String = name.chars().take(80).collect();
    Err(wrong(key, format_args!("is {shown:?}, expected the name of a file inside the archive")))
}
