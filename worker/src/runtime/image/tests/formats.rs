//! What decoders can do and encoders here cannot: pictures made byte by byte.

use super::*;
use crate::memory::allocator::measure;
use flate2::{Compression, Crc, write::ZlibEncoder};
use std::io::Write as _;

/// Grey; and the number of a PNG with a palette.
const GREY: u8 = 0;
const PALETTE: u8 = 3;

fn png_chunk(kind: &str, content: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind.as_bytes());
    crc.update(content);
    let len = u32::try_from(content.len()).expect("it is small").to_be_bytes();
    [&len[..], kind.as_bytes(), content, &crc.sum().to_be_bytes()].concat()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

/// A PNG's signature and header, these chunks, and an end.
pub(super) fn png_of(width: u32, height: u32, bits: u8, color: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    interlaced_png_of(width, height, [bits, color, 0], chunks)
}

fn interlaced_png_of(
    width: u32,
    height: u32,
    [bits, color, interlace]: [u8; 3],
    chunks: &[Vec<u8>],
) -> Vec<u8> {
    let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [&size[..], &[bits, color, 0, 0, interlace]].concat();
    let no_data = if chunks.is_empty() { png_chunk("IDAT", &[]) } else { Vec::new() };
    let middle = [chunks.concat(), no_data].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &png_chunk("IHDR", &header), &middle, &png_chunk("IEND", &[])]
        .concat()
}

fn data(rows: &[u8]) -> Vec<u8> {
    png_chunk("IDAT", &deflated(rows))
}

#[track_caller]
fn check(body: &[u8], expected: &[u8]) {
    let picture = decode::decode(body, false).expect("it can be decoded");
    assert_eq!(picture.pixels, expected);
}

#[test]
fn a_palette_is_looked_up_and_its_transparency_dropped() {
    let palette = png_chunk("PLTE", &[1, 2, 3, 4, 5, 6]);
    let transparency = png_chunk("tRNS", &[0, 128]);
    // One filter byte, then the indices: eight bits, and four.
    for (bits, row) in [(8, vec![0, 1, 0]), (4, vec![0, 0x10])] {
        let plain = png_of(2, 1, bits, PALETTE, &[palette.clone(), data(&row)]);
        check(&plain, &[4, 5, 6, 1, 2, 3]);
        let chunks = [palette.clone(), transparency.clone(), data(&row)];
        check(&png_of(2, 1, bits, PALETTE, &chunks), &[4, 5, 6, 1, 2, 3]);
    }
}

#[test]
fn one_bit_grey_is_black_and_white() {
    let body = png_of(3, 1, 1, GREY, &[data(&[0, 0b1010_0000])]);
    check(&body, &[255, 255, 255, 0, 0, 0, 255, 255, 255]);
}

#[test]
fn an_interlaced_png_is_put_in_order() {
    // Adam7 of two by two: the first pixel, its right neighbor, then the row below.
    let passes = [0, 10, 0, 20, 0, 30, 40];
    let body = interlaced_png_of(2, 2, [8, GREY, 1], &[data(&passes)]);
    check(&body, &[10, 10, 10, 20, 20, 20, 30, 30, 30, 40, 40, 40]);
}

#[test]
fn color_profiles_are_skipped_and_bombs_among_them_never_inflated() {
    let profile = |n_bytes: usize| {
        let content = [&b"name\0\0"[..], &deflated(&vec![0; n_bytes])].concat();
        png_of(1, 1, 8, GREY, &[png_chunk("iCCP", &content), data(&[0, 7])])
    };
    check(&profile(3_000_000), &[7, 7, 7]);
    let bomb = profile(64 << 20);
    let ((), measured) = measure(|| check(&bomb, &[7, 7, 7]));
    assert!(measured.peak_bytes < 32 << 20, "{measured:?}");
}

#[test]
fn a_grey_jpeg_is_repeated() {
    let mut body = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut body, 100);
    encoder.write_image(&[77; 64], 8, 8, ExtendedColorType::L8).unwrap();
    check(&body, &[77; 192]);
}

#[test]
fn a_progressive_jpeg_is_decoded() {
    // One grey block with nothing but its mean: 72 steps of 8, an eighth each, above 128.
    let mut body = b"\xff\xd8\xff\xdb\x00\x43\x00".to_vec();
    body.extend([8; 64]);
    // Start of a progressive frame, 8 by 8, one color.
    body.extend(b"\xff\xc2\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00");
    // A table of one code, `0`: a difference of seven bits.
    body.extend(b"\xff\xc4\x00\x14\x00\x01");
    body.extend([0; 15]);
    body.push(7);
    // The scan of the means: `0` and 1001000.
    body.extend(b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00\x48\xff\xd9");
    check(&body, &[200; 192]);
}

#[test]
fn the_alpha_of_a_webp_is_dropped() {
    let mut body = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut body);
    encoder.write_image(&[1, 2, 3, 128, 4, 5, 6, 255], 2, 1, ExtendedColorType::Rgba8).unwrap();
    check(&body, &[1, 2, 3, 4, 5, 6]);
}

/// A WebP in the extended format with an EXIF chunk that claims a length, and has another.
fn webp_with_exif(claimed: u32, content: &[u8]) -> Vec<u8> {
    let plain = webp(&noise());
    let mut body = plain[..12].to_vec();
    body.extend_from_slice(b"VP8X\x0a\0\0\0\x08\0\0\0");
    body.extend_from_slice(&(WIDTH - 1).to_le_bytes()[..3]);
    body.extend_from_slice(&(HEIGHT - 1).to_le_bytes()[..3]);
    body.extend_from_slice(&plain[12..]);
    body.extend_from_slice(b"EXIF");
    body.extend_from_slice(&claimed.to_le_bytes());
    body.extend_from_slice(content);
    let riff_len = u32::try_from(body.len() - 8).expect("it is small");
    body[4..8].copy_from_slice(&riff_len.to_le_bytes());
    body
}

/// Big-endian TIFF with one entry: orientation 6.
const TURNED: &[u8] = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

#[test]
fn a_webp_whose_exif_claims_4_gib_is_refused_and_not_allocated() {
    let len = u32::try_from(TURNED.len()).unwrap();
    let good = webp_with_exif(len, TURNED);
    let size = |picture: Rgb| (picture.width, picture.height);
    assert_eq!(decode::decode(&good, false).map(size), Ok((WIDTH, HEIGHT)));
    assert_eq!(decode::decode(&good, true).map(size), Ok((HEIGHT, WIDTH)));
    for claimed in [len + 1, 0xFFFF_FFF0, u32::MAX] {
        let why = decode::decode(&webp_with_exif(claimed, TURNED), true).unwrap_err().to_string();
        assert!(why.ends_with("a chunk of the WebP ends beyond it"), "{why}");
    }
    // Not even behind the end, where the decoder would look for one more chunk.
    let mut tailed = good;
    tailed.extend_from_slice(b"EXIF\xf0\xff\xff\xff");
    assert_eq!(decode::decode(&tailed, true).map(size), Ok((HEIGHT, WIDTH)));
}

#[test]
fn a_tiny_body_that_claims_a_huge_picture_takes_no_memory() {
    let body = png_of(5_792, 5_792, 16, 6, &[]);
    let (refused, measured) = measure(|| decode::decode(&body, false));
    assert!(refused.is_err());
    assert!(measured.peak_bytes < 8 << 20, "{measured:?}");
}
