//! From a picture's bytes to the tensor that a network takes: decode, resize, normalize.

mod decode;
mod jpeg;
mod webp;

use super::{
    RuntimeError, codec,
    tensor::{Elements, TensorData},
};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

pub use super::manifest::{ImageInput, Resize};

/// Pixels in rows, three bytes each: red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rgb {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixels: Vec<u8>,
}

/// Refuses content types that cannot be a picture. Which kind of picture it is, its bytes say.
pub fn check_content_type(content_type: Option<&str>) -> Result<(), RuntimeError> {
    let Some(given) = content_type else { return Ok(()) };
    let essence = codec::essence(given);
    let may_be_picture = essence.is_empty()
        || essence.starts_with("image/")
        // AWS's own example sends the first.
        || ["application/x-image", "application/octet-stream"].contains(&essence.as_str());
    if may_be_picture {
        return Ok(());
    }
    let why = "this model takes pictures: image/jpeg, image/png or image/webp";
    Err(RuntimeError::UnsupportedMediaType(given.to_owned(), why))
}

/// Turns a JPEG, PNG or WebP into a `float32` tensor of shape `[1, 3, height, width]`.
pub fn prepare(body: &[u8], input: &ImageInput) -> Result<TensorData, RuntimeError> {
    let picture = decode::decode(body, input.exif_orientation)?;
    Ok(normalize(&resize(picture, input)?, input))
}

/// Returns the tensor of an evenly grey picture, for the first forward.
pub(crate) fn grey(input: &ImageInput) -> TensorData {
    let (width, height) = (input.width, input.height);
    normalize(&Rgb { width, height, pixels: vec![128; n_bytes(width, height)] }, input)
}

/// Three bytes a pixel, for sides that the manifest allows.
fn n_bytes(width: u32, height: u32) -> usize {
    width as usize * height as usize * 3
}

fn resize(picture: Rgb, input: &ImageInput) -> Result<Rgb, RuntimeError> {
    let (width, height) = (input.width, input.height);
    if (picture.width, picture.height) == (width, height) {
        return Ok(picture);
    }
    let algorithm = match input.resize {
        Resize::BilinearAntialias => ResizeAlg::Convolution(FilterType::Bilinear),
        Resize::Bilinear => ResizeAlg::Interpolation(FilterType::Bilinear),
    };
    let failed = |error: String| RuntimeError::BadInput(format!("picture not resized: {error}"));
    let source =
        images::ImageRef::new(picture.width, picture.height, &picture.pixels, PixelType::U8x3)
            .map_err(|error| failed(error.to_string()))?;
    let mut target = images::Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(algorithm);
    Resizer::new()
        .resize(&source, &mut target, &options)
        .map_err(|error| failed(error.to_string()))?;
    Ok(Rgb { width, height, pixels: target.into_vec() })
}

/// One plane per color, by a table of the 256 values that a pixel can have.
fn normalize(picture: &Rgb, input: &ImageInput) -> TensorData {
    let n_pixels = picture.pixels.len() / 3;
    let mut values = Vec::with_capacity(picture.pixels.len());
    for color in 0..3 {
        let table = table(input, color);
        let plane = picture.pixels.chunks_exact(3).map(|rgb| table[usize::from(rgb[color])]);
        values.extend(plane);
    }
    debug_assert_eq!(values.len(), 3 * n_pixels);
    let shape = vec![1, 3, i64::from(picture.height), i64::from(picture.width)];
    TensorData { shape, elements: Elements::Float32(values) }
}

fn table(input: &ImageInput, color: usize) -> [f32; 256] {
    let (mean, std) = (input.mean[color], input.std[color]);
    std::array::from_fn(|pixel| {
        let pixel = f64::from(u8::try_from(pixel).unwrap_or(u8::MAX));
        #[expect(clippy::cast_possible_truncation, reason = "float32 is what the model takes")]
        let value = ((pixel * input.scale - mean) / std) as f32;
        value
    })
}

#[cfg(test)]
mod tests;
