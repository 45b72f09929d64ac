mod formats;

use super::*;
use image::{
    ExtendedColorType, ImageEncoder,
    codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder},
};
use proptest::prelude::*;

const WIDTH: u32 = 23;
const HEIGHT: u32 = 17;

/// `(x*37 + y*91 + c*53 + x*y*7) % 256`: noise that any language can make.
fn noise() -> Rgb {
    let mut pixels = Vec::new();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let color = |c: u32| ((x * 37 + y * 91 + c * 53 + x * y * 7) % 256).to_le_bytes()[0];
            pixels.extend([color(0), color(1), color(2)]);
        }
    }
    Rgb { width: WIDTH, height: HEIGHT, pixels }
}

fn input(width: u32, height: u32, resize: Resize) -> ImageInput {
    let (mean, std) = ([0.0; 3], [1.0; 3]);
    ImageInput { width, height, resize, scale: 1.0, mean, std, exif_orientation: false }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("digits are text");
        u8::from_str_radix(pair, 16).expect("they are hexadecimal")
    };
    digits.chunks_exact(2).map(byte).collect()
}

fn png(pixels: &[u8], color: ExtendedColorType, width: u32, height: u32) -> Vec<u8> {
    let mut body = Vec::new();
    let encoder = PngEncoder::new(&mut body);
    encoder.write_image(pixels, width, height, color).expect("it can be written");
    body
}

fn jpeg(picture: &Rgb) -> Vec<u8> {
    let mut body = Vec::new();
    JpegEncoder::new_with_quality(&mut body, 95)
        .write_image(&picture.pixels, picture.width, picture.height, ExtendedColorType::Rgb8)
        .expect("it can be written");
    body
}

fn webp(picture: &Rgb) -> Vec<u8> {
    let mut body = Vec::new();
    WebPEncoder::new_lossless(&mut body)
        .write_image(&picture.pixels, picture.width, picture.height, ExtendedColorType::Rgb8)
        .expect("it can be written");
    body
}

#[track_caller]
fn refusal(body: &[u8]) -> String {
    match prepare(body, &input(4, 4, Resize::Bilinear)) {
        Err(RuntimeError::BadInput(why)) => why,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Each was made from `noise` as a `NumPy` array `a`, with Pillow 11.3 and with `OpenCV` 4.12.
const GOLDENS: [(Resize, &str); 2] = [
    // Image.fromarray(a).resize((6, 5), Image.BILINEAR)
    (
        Resize::BilinearAntialias,
        "77858b8085857b82857e8c727b84818c6b637c897d8a847a847f7b8484868d83888d80728c73877c
         8280807c88887390787c7d867781857f71668c75807f888879777d7a75808a6e837a866993698391
         7484797e81857d8d838f",
    ),
    // cv2.resize(a, (6, 5), interpolation=cv2.INTER_LINEAR)
    (
        Resize::Bilinear,
        "98af8f5c8492c53f6f84b9333f679ce02b4a6b756f7490787eaa7487bc9390c5ad99ce6e5c91c680
         b52a255a8f89bef32e63585287bc887d76598e76bf5f9494c1696580b5766b759f5d924b805c6f93
         999f94c9a9b753a66499",
    ),
];

#[test]
fn resizing_equals_pillow_and_opencv() {
    for (method, golden) in GOLDENS {
        let resized = resize(noise(), &input(6, 5, method)).unwrap();
        let differences =
            resized.pixels.iter().zip(unhex(golden)).map(|(ours, theirs)| ours.abs_diff(theirs));
        // All three round a fixed-point sum; they keep different numbers of bits in it.
        let largest = differences.max().unwrap();
        assert!(largest <= 1, "{method:?}: {largest}");
    }
}

#[test]
fn a_picture_of_the_right_size_is_not_touched() {
    let tensor = prepare(&webp(&noise()), &input(WIDTH, HEIGHT, Resize::Bilinear)).unwrap();
    assert_eq!(tensor.shape, [1, 3, 17, 23]);
    let Elements::Float32(values) = tensor.elements else { panic!("pictures become float32") };
    for (idx, rgb) in noise().pixels.chunks_exact(3).enumerate() {
        for (color, pixel) in rgb.iter().enumerate() {
            let difference = values[color * 17 * 23 + idx] - f32::from(*pixel);
            assert!(difference.abs() < 1e-6);
        }
    }
}

#[test]
fn values_are_scaled_and_normalized_by_color() {
    let settings = ImageInput {
        scale: 0.5,
        mean: [1.0, 2.0, 3.0],
        std: [1.0, 2.0, 4.0],
        ..input(1, 1, Resize::Bilinear)
    };
    let body = png(&[10, 20, 30], ExtendedColorType::Rgb8, 1, 1);
    let tensor = prepare(&body, &settings).unwrap();
    assert_eq!(tensor.elements, Elements::Float32(vec![4.0, 4.0, 3.0]));
}

#[test]
fn every_color_model_becomes_rgb_and_of_16_bits_the_upper_eight_stay() {
    use ExtendedColorType::{L8, L16, La8, La16, Rgb8, Rgb16, Rgba8, Rgba16};
    let big_endian = |values: &[u16]| -> Vec<u8> {
        // The encoder takes the machine's own order.
        values.iter().flat_map(|it| it.to_ne_bytes()).collect()
    };
    let [r, g, b] = [0x10FF, 0x20FF, 0x3000];
    for (color, pixel, expected) in [
        (L8, vec![7], [7, 7, 7]),
        (La8, vec![7, 0], [7, 7, 7]),
        (Rgb8, vec![1, 2, 3], [1, 2, 3]),
        (Rgba8, vec![1, 2, 3, 0], [1, 2, 3]),
        (L16, big_endian(&[r]), [0x10; 3]),
        (La16, big_endian(&[r, 0]), [0x10; 3]),
        (Rgb16, big_endian(&[r, g, b]), [0x10, 0x20, 0x30]),
        (Rgba16, big_endian(&[r, g, b, 0]), [0x10, 0x20, 0x30]),
    ] {
        let picture = decode::decode(&png(&pixel, color, 1, 1), false).unwrap();
        assert_eq!(picture.pixels, expected, "{color:?}");
    }
}

#[test]
fn jpegs_are_decoded_closely() {
    let pixels = (0..32_u8).flat_map(|row| [row; 32 * 3]).collect();
    let smooth = Rgb { width: 32, height: 32, pixels };
    let decoded = decode::decode(&jpeg(&smooth), false).unwrap();
    let differences = decoded.pixels.iter().zip(&smooth.pixels).map(|(a, b)| a.abs_diff(*b));
    assert!(differences.max().unwrap() <= 3);
}

#[test]
fn exif_turns_a_picture_only_on_request() {
    let body = jpeg(&noise());
    // An APP1 segment after the start marker: big-endian TIFF, one entry, orientation 6.
    let exif =
        b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let turned = [&body[..2], exif, &body[2..]].concat();
    let size = |exif_orientation| {
        let picture = decode::decode(&turned, exif_orientation).unwrap();
        (picture.width, picture.height)
    };
    assert_eq!(size(false), (WIDTH, HEIGHT));
    assert_eq!(size(true), (HEIGHT, WIDTH));
}

/// A PNG of one pixel whose header claims another size.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut body = png(&[1, 2, 3], ExtendedColorType::Rgb8, 1, 1);
    body[16..20].copy_from_slice(&width.to_be_bytes());
    body[20..24].copy_from_slice(&height.to_be_bytes());
    body
}

/// A JPEG whose frame header claims another size.
fn jpeg_claiming(width: u16, height: u16) -> Vec<u8> {
    let mut body = jpeg(&noise());
    let frame = body.windows(2).position(|it| it == [0xFF, 0xC0]).unwrap();
    body[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    body[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    body
}

/// A WebP with an extended header that claims another size: 24 bits each, less one.
fn webp_claiming(width: u32, height: u32) -> Vec<u8> {
    let plain = webp(&noise());
    let mut body = plain[..12].to_vec();
    body.extend_from_slice(b"VP8X\x0a\0\0\0\0\0\0\0");
    body.extend_from_slice(&(width - 1).to_le_bytes()[..3]);
    body.extend_from_slice(&(height - 1).to_le_bytes()[..3]);
    body.extend_from_slice(&plain[12..]);
    let riff_len = u32::try_from(body.len() - 8).expect("it is small");
    body[4..8].copy_from_slice(&riff_len.to_le_bytes());
    body
}

#[test]
fn headers_that_claim_too_much_are_refused_before_decoding() {
    for (body, expected) in [
        (
            png_claiming(100_000, 100_000),
            "a picture of 100000 x 100000 pixels is refused: a side is longer than 16384",
        ),
        (png_claiming(u32::MAX, 1), "a picture of 4294967295 x 1 pixels is refused"),
        (png_claiming(0, 1), "a picture of 0 x 1 pixels is refused: it has no pixels"),
        (png_claiming(16_384, 16_384), "it has more than 33554432 pixels"),
        (formats::png_of(5_792, 5_792, 16, 6, &[]), "decoded it takes more than 134217728 bytes"),
        (jpeg_claiming(65_535, 65_535), "a picture of 65535 x 65535 pixels is refused"),
        (webp_claiming(100_000, 100_000), "a picture of 100000 x 100000 pixels is refused"),
    ] {
        let why = refusal(&body);
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn truncated_pictures_are_refused_wherever_they_end() {
    let jpeg = jpeg(&noise());
    for len in 4..jpeg.len() {
        let why = refusal(&jpeg[..len]);
        assert_eq!(why, "the JPEG is truncated: its end marker is missing", "{len} bytes");
    }
    let png = png(&noise().pixels, ExtendedColorType::Rgb8, WIDTH, HEIGHT);
    let webp = webp(&noise());
    for len in 12..webp.len() {
        assert_eq!(refusal(&webp[..len]), "the WebP is truncated", "{len} bytes");
    }
    // The last 12 bytes are an empty chunk that no decoder asks for.
    for len in 8..png.len() - 12 {
        assert!(refusal(&png[..len]).starts_with("the PNG "), "{len} bytes");
    }
    assert_eq!(refusal(&png[..png.len() / 2]), "the PNG is truncated");
}

#[test]
fn what_follows_the_end_marker_of_a_jpeg_does_not_matter() {
    let twice = [jpeg(&noise()), b"\xff\xd8 another picture".to_vec()].concat();
    assert!(prepare(&twice, &input(4, 4, Resize::Bilinear)).is_ok());
}

/// Two frames of one pixel: `Image.save(…, "WEBP", lossless=True, save_all=True, …)` of Pillow.
const ANIMATED_WEBP: &str = "
    524946468a00000057454250565038580a00000002000000000000000000414e494d060000000000
    00000000414e4d462a0000000000000000000000000000000a0000025650384c110000002f000000
    0007508426f4a0ff8188e87f0000414e4d462c0000000000000000000000000000000a0000005650
    384c140000002f00000000079045560820000a9afec78888fe07";

/// The same as PNG.
const ANIMATED_PNG: &str = "
    89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de00000008616354
    4c0000000200000000f38d93700000001a6663544c00000000000000010000000100000000000000
    00000a03e80000957caae10000000c49444154789c63e0e4600700003600196eb52a2a0000001a66
    63544c0000000100000001000000010000000000000000000a03e800000e0f403500000010666441
    5400000002789c6338c1c80c00026100cd4c0d01980000000049454e44ae426082";

#[test]
fn pictures_that_cannot_have_one_exact_answer_are_refused() {
    let mut cmyk = jpeg(&noise());
    let frame = cmyk.windows(2).position(|it| it == [0xFF, 0xC0]).unwrap();
    cmyk[frame + 9] = 4;
    for (body, expected) in [
        (unhex(ANIMATED_WEBP), "animated WebPs are not served: send one picture"),
        (unhex(ANIMATED_PNG), "animated PNGs are not served: send one picture"),
        (cmyk, "the JPEG has four colors (CMYK), which is not served: send RGB or grey"),
        (b"GIF89a\x01\x00\x01\x00".to_vec(), "the body is not a JPEG, PNG or WebP picture"),
        (b"not a picture".to_vec(), "the body is not a JPEG, PNG or WebP picture"),
        (Vec::new(), "the body is not a JPEG, PNG or WebP picture"),
    ] {
        assert_eq!(refusal(&body), expected);
    }
}

#[test]
fn content_types_that_may_be_a_picture_are_taken() {
    for (content_type, is_taken) in [
        (None, true),
        (Some(""), true),
        (Some("image/jpeg"), true),
        (Some("Image/PNG; q=1"), true),
        (Some("application/x-image"), true),
        (Some("application/octet-stream"), true),
        (Some("application/json"), false),
        (Some("text/csv"), false),
    ] {
        assert_eq!(check_content_type(content_type).is_ok(), is_taken, "{content_type:?}");
    }
}

proptest! {
    #[test]
    fn damaged_pictures_never_panic(kind in 0..3, at: proptest::sample::Index, byte: u8, cut: bool) {
        let mut body = match kind {
            0 => jpeg(&noise()),
            1 => png(&noise().pixels, ExtendedColorType::Rgb8, WIDTH, HEIGHT),
            _ => webp(&noise()),
        };
        let at = at.index(body.len());
        body[at] = byte;
        body.truncate(if cut { at } else { body.len() });
        let _refused = prepare(&body, &input(8, 8, Resize::BilinearAntialias));
    }
}
