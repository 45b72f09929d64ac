//! What an invocation costs beside its forward: codecs, pictures, and the hop to a compute slot.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use std::{hint::black_box, time::Duration};
use tokio::time::Instant;
use worker::{
    compute::{Compute, ComputeLimits},
    runtime::{
        DType, Elements, TensorData, TensorInput,
        codec::{self, Answer, Format},
        image::{ImageInput, Resize, prepare},
    },
};

/// The smallest real invocation (16 numbers) and a picture sent as numbers.
const SIZES: [usize; 2] = [16, 3 * 224 * 224];

fn codecs(criterion: &mut Criterion) {
    for n in SIZES {
        let values = (0..n).map(|idx| f32::from(u16::try_from(idx % 999).unwrap_or(0)) / 7.0);
        let elements = Elements::Float32(values.collect());
        let shape = vec![1, i64::try_from(n).expect("it is small")];
        let answer = Answer::Tensor(TensorData { shape, elements });
        let input = TensorInput { dtype: Some(DType::Float32), shape: Some(vec![-1, -1]) };
        let mut group = criterion.benchmark_group("codec");
        group.throughput(Throughput::Elements(n as u64));
        for format in Format::ALL {
            let body = codec::encode(format, &answer).expect("it can be written");
            group.bench_function(BenchmarkId::new(format!("decode {format:?}"), n), |bench| {
                bench.iter(|| codec::decode(format, black_box(&body), &input));
            });
            group.bench_function(BenchmarkId::new(format!("encode {format:?}"), n), |bench| {
                bench.iter(|| codec::encode(format, black_box(&answer)));
            });
        }
        group.finish();
    }
}

/// A JPEG of 500 x 375 pixels and some 40 KB: a photograph as the web has them.
fn photograph() -> Vec<u8> {
    let (width, height) = (500_u32, 375_u32);
    let pixel = |x: u32, y: u32| {
        let texture = (x * 7 + y * 13) % 17 + (x * y) % 11;
        [x / 2 + texture, y / 2 + texture, (x + y) / 4 + texture].map(|it| it.to_le_bytes()[0])
    };
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y)));
    let pixels: Vec<u8> = pixels.collect();
    let mut body = Vec::new();
    JpegEncoder::new_with_quality(&mut body, 75)
        .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
        .expect("it can be written");
    body
}

fn pictures(criterion: &mut Criterion) {
    let body = photograph();
    let mut group = criterion.benchmark_group(format!("picture of {} bytes", body.len()));
    for resize in [Resize::BilinearAntialias, Resize::Bilinear] {
        let (mean, std) = ([127.0; 3], [128.0; 3]);
        let (width, height, scale) = (224, 224, 1.0);
        let input = ImageInput { width, height, resize, scale, mean, std, exif_orientation: false };
        group.bench_function(format!("{resize:?}"), |bench| {
            bench.iter(|| prepare(black_box(&body), &input));
        });
    }
    group.finish();
}

/// From a task to a slot and back.
fn hop(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it starts");
    let limits = ComputeLimits { n_slots: 1, n_queued_invocations: 8, n_queued_loads: 8 };
    let compute = Compute::new(limits, || {}).expect("a thread can start");
    criterion.bench_function("hop to a compute slot", |bench| {
        bench.iter(|| {
            let deadline = Instant::now() + Duration::from_secs(1);
            runtime.block_on(compute.invoke(deadline, || black_box(1)))
        });
    });
}

criterion_group!(benches, codecs, pictures, hop);
criterion_main!(benches);
