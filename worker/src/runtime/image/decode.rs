//! From JPEG, PNG or WebP to RGB, 8 bits a color.
//!
//! Colors become RGB as Pillow's `convert("RGB")` has it: grey is repeated, a palette is looked up,
//! alpha is dropped without blending. Of 16 bits the upper eight are kept, as Pillow keeps them of
//! colors; 16-bit grey is where it differs, by clipping at 255. What a picture would need is checked
//! against its header before a pixel is decoded.

use super::{Rgb, jpeg, webp};
use crate::runtime::RuntimeError;
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits, RgbImage,
    codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder},
    metadata::Orientation,
};
use std::io::Cursor;

/// Longest side: what WebP can hold, and more than any camera's.
const MAX_SIDE: u32 = 16_384;
/// Most pixels: a camera's 32 megapixels.
const MAX_PIXELS: u64 = 1 << 25;
/// Most bytes of a decoded picture: as many pixels with alpha, half as many with 16 bits too. With
/// the copy as RGB beside it (96 MiB) this bounds what one body can claim of an instance's memory;
/// a progressive JPEG takes 192 MiB of coefficients instead.
const MAX_DECODED_BYTES: u64 = 128 << 20;
/// What the PNG decoder may allocate beside the picture: its color profile, inflated, and texts.
/// Profiles of monitors and cameras have some hundred kB, those of printers three MB.
const MAX_PNG_EXTRA_BYTES: u64 = 8 << 20;

/// The picture's width and height must be known before its decoder is made, which may allocate.
type Size = (u32, u32);

pub(super) fn decode(body: &[u8], exif_orientation: bool) -> Result<Rgb, RuntimeError> {
    match image::guess_format(body) {
        Ok(ImageFormat::Jpeg) => {
            jpeg::check(body).map_err(|why| bad(format!("the JPEG {why}")))?;
            let decoder = JpegDecoder::new(Cursor::new(body)).map_err(|it| broken("JPEG", &it))?;
            picture(decoder, exif_orientation).map_err(|it| it.of("JPEG"))
        }
        Ok(ImageFormat::Png) => {
            let size = png_size(body).ok_or_else(|| bad("the PNG is truncated".to_owned()))?;
            check_size(size)?;
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(MAX_PNG_EXTRA_BYTES);
            let decoder = PngDecoder::with_limits(Cursor::new(body), limits);
            let decoder = decoder.map_err(|it| broken("PNG", &it))?;
            if decoder.is_apng().map_err(|it| broken("PNG", &it))? {
                return Err(bad("animated PNGs are not served: send one picture".to_owned()));
            }
            picture(decoder, exif_orientation).map_err(|it| it.of("PNG"))
        }
        Ok(ImageFormat::WebP) => {
            let body = webp::check(body)?;
            let decoder = WebPDecoder::new(Cursor::new(body)).map_err(|it| broken("WebP", &it))?;
            picture(decoder, exif_orientation).map_err(|it| it.of("WebP"))
        }
        _ => Err(bad("the body is not a JPEG, PNG or WebP picture".to_owned())),
    }
}

/// Why a picture was not decoded: by our bounds, or by its decoder.
enum Failure {
    Refused(RuntimeError),
    Broken(ImageError),
}

impl Failure {
    fn of(self, format: &str) -> RuntimeError {
        match self {
            Self::Refused(error) => error,
            Self::Broken(error) => broken(format, &error),
        }
    }
}

fn picture(mut decoder: impl ImageDecoder, exif_orientation: bool) -> Result<Rgb, Failure> {
    let size = decoder.dimensions();
    check_size(size).map_err(Failure::Refused)?;
    // The decoders' own limits do nothing here: they allocate what they are asked to fill.
    if decoder.total_bytes() > MAX_DECODED_BYTES {
        let why = format!("decoded it takes more than {MAX_DECODED_BYTES} bytes");
        return Err(Failure::Refused(refused(size, &why)));
    }
    let orientation = if exif_orientation {
        decoder.orientation().map_err(Failure::Broken)?
    } else {
        Orientation::NoTransforms
    };
    let picture = rgb(DynamicImage::from_decoder(decoder).map_err(Failure::Broken)?);
    Ok(if orientation == Orientation::NoTransforms { picture } else { turn(picture, orientation) })
}

/// Turns a picture when it is RGB already, because this takes a copy of it.
fn turn(Rgb { width, height, pixels }: Rgb, orientation: Orientation) -> Rgb {
    let picture = RgbImage::from_raw(width, height, pixels).expect("there are width x height");
    let mut picture = DynamicImage::ImageRgb8(picture);
    picture.apply_orientation(orientation);
    rgb(picture)
}

pub(super) fn check_size((width, height): Size) -> Result<(), RuntimeError> {
    let n_pixels = u64::from(width) * u64::from(height);
    let why = if width == 0 || height == 0 {
        "it has no pixels".to_owned()
    } else if width > MAX_SIDE || height > MAX_SIDE {
        format!("a side is longer than {MAX_SIDE}")
    } else if n_pixels > MAX_PIXELS {
        format!("it has more than {MAX_PIXELS} pixels")
    } else {
        return Ok(());
    };
    Err(refused((width, height), &why))
}

fn refused((width, height): Size, why: &str) -> RuntimeError {
    bad(format!("a picture of {width} x {height} pixels is refused: {why}"))
}

/// Reads width and height where every PNG has them: in its first chunk, behind the signature.
fn png_size(body: &[u8]) -> Option<Size> {
    let side = |at: usize| {
        let bytes = body.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    Some((side(16)?, side(20)?))
}

fn rgb(picture: DynamicImage) -> Rgb {
    let (width, height) = (picture.width(), picture.height());
    let pixels = match picture {
        DynamicImage::ImageRgb8(picture) => picture.into_raw(),
        DynamicImage::ImageLuma8(picture) => grey(picture.as_raw(), 1, |it| it),
        DynamicImage::ImageLumaA8(picture) => grey(picture.as_raw(), 2, |it| it),
        DynamicImage::ImageLuma16(picture) => grey(picture.as_raw(), 1, upper),
        DynamicImage::ImageLumaA16(picture) => grey(picture.as_raw(), 2, upper),
        DynamicImage::ImageRgba8(picture) => {
            picture.as_raw().chunks_exact(4).flat_map(|it| [it[0], it[1], it[2]]).collect()
        }
        DynamicImage::ImageRgb16(picture) => picture.as_raw().iter().map(|it| upper(*it)).collect(),
        DynamicImage::ImageRgba16(picture) => {
            let pixels = picture.as_raw().chunks_exact(4);
            pixels.flat_map(|it| [upper(it[0]), upper(it[1]), upper(it[2])]).collect()
        }
        // Floating-point pictures are in none of the three formats.
        other => other.into_rgb8().into_raw(),
    };
    Rgb { width, height, pixels }
}

/// Repeats the first of every `n_channels` values.
fn grey<T: Copy>(values: &[T], n_channels: usize, to_byte: impl Fn(T) -> u8) -> Vec<u8> {
    values.chunks_exact(n_channels).flat_map(|it| [to_byte(it[0]); 3]).collect()
}

fn upper(value: u16) -> u8 {
    value.to_be_bytes()[0]
}

fn broken(format: &str, error: &ImageError) -> RuntimeError {
    let is_cut = matches!(error, ImageError::IoError(error)
        if error.kind() == std::io::ErrorKind::UnexpectedEof);
    if is_cut {
        return bad(format!("the {format} is truncated"));
    }
    bad(format!("the {format} cannot be decoded: {error}"))
}

pub(super) fn bad(text: String) -> RuntimeError {
    RuntimeError::BadInput(text)
}
