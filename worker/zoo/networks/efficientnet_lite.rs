//! EfficientNet-Lite 0 to 2: EfficientNet-B0 without squeeze-and-excite, with `ReLU6`, and with a
//! stem and head that do not grow with the network.
//!
//! Names of the weights are those of the published files. Paddings are computed for one picture
//! size, as TensorFlow's "same" has it: where the total is odd, right and bottom get one more.

use super::Network;
use crate::catalogue::LiteSize;
use anyhow::Context;
use std::{fs, path::Path};
use tch::{
    Device, Tensor,
    nn::{self, Module, ModuleT},
};

const N_CLASSES: i64 = 1000;
const STEM_CHANNELS: i64 = 32;
const HEAD_CHANNELS: i64 = 1280;
/// Widths are multiples of this.
const CHANNEL_STEP: i64 = 8;
const BATCH_NORM_EPSILON: f64 = 1e-3;

/// A run of equal blocks, as in EfficientNet-B0. Only the first block of a run has the stride.
#[derive(Clone, Copy, Debug)]
struct Stage {
    repeats: i64,
    kernel: i64,
    stride: i64,
    expansion: i64,
    channels: i64,
}

const STAGES: [Stage; 7] = [
    Stage { repeats: 1, kernel: 3, stride: 1, expansion: 1, channels: 16 },
    Stage { repeats: 2, kernel: 3, stride: 2, expansion: 6, channels: 24 },
    Stage { repeats: 2, kernel: 5, stride: 2, expansion: 6, channels: 40 },
    Stage { repeats: 3, kernel: 3, stride: 2, expansion: 6, channels: 80 },
    Stage { repeats: 3, kernel: 5, stride: 1, expansion: 6, channels: 112 },
    Stage { repeats: 4, kernel: 5, stride: 2, expansion: 6, channels: 192 },
    Stage { repeats: 1, kernel: 3, stride: 1, expansion: 6, channels: 320 },
];

/// Growth in tenths, so that all arithmetic is in whole numbers.
#[derive(Clone, Copy, Debug)]
struct Scale {
    width_tenths: i64,
    depth_tenths: i64,
}

pub(super) fn build(size: LiteSize, weights: &Path) -> anyhow::Result<Network> {
    let file = weights.join(size.weights_name()).with_extension("safetensors");
    let mut store = nn::VarStore::new(Device::Cpu);
    let network = network(&store.root(), scale(size), size.image_side());
    store.load(&file).with_context(|| format!("cannot load weights from {}", file.display()))?;
    store.freeze();
    let licence = fs::read(file.with_extension("LICENSE"))
        .with_context(|| format!("cannot read the licence beside {}", file.display()))?;
    Ok(Network {
        input_shape: vec![1, 3, size.image_side(), size.image_side()],
        forward: Box::new(move |images| network.forward_t(images, false)),
        licence: Some(licence),
    })
}

fn scale(size: LiteSize) -> Scale {
    match size {
        LiteSize::Lite0 => Scale { width_tenths: 10, depth_tenths: 10 },
        LiteSize::Lite1 => Scale { width_tenths: 10, depth_tenths: 11 },
        LiteSize::Lite2 => Scale { width_tenths: 11, depth_tenths: 12 },
    }
}

fn network(root: &nn::Path<'_>, scale: Scale, image_side: i64) -> nn::SequentialT {
    let stem = Convolution { stride: 2, ..Convolution::new(3, STEM_CHANNELS, 3) };
    let mut network = nn::seq_t()
        .add(stem.build(&(root / "_conv_stem"), image_side))
        .add(batch_norm(&(root / "_bn0"), STEM_CHANNELS))
        .add_fn(Tensor::relu6);
    let mut side = strided(image_side, 2);
    let mut channels = STEM_CHANNELS;
    for (idx, block) in blocks(scale).into_iter().enumerate() {
        network = network.add(block.build(&(root / "_blocks" / idx), channels, side));
        side = strided(side, block.stride);
        channels = block.channels;
    }
    network
        .add(Convolution::new(channels, HEAD_CHANNELS, 1).build(&(root / "_conv_head"), side))
        .add(batch_norm(&(root / "_bn1"), HEAD_CHANNELS))
        .add_fn(|xs| xs.relu6().adaptive_avg_pool2d([1, 1]).flatten(1, -1))
        .add(nn::linear(root / "_fc", HEAD_CHANNELS, N_CLASSES, nn::LinearConfig::default()))
}

/// One inverted residual block: widen, filter each channel, narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    kernel: i64,
    stride: i64,
    expansion: i64,
    channels: i64,
}

fn blocks(scale: Scale) -> Vec<Block> {
    let last = STAGES.len() - 1;
    let mut blocks = Vec::new();
    for (idx, stage) in STAGES.into_iter().enumerate() {
        let is_fixed = idx == 0 || idx == last;
        let repeats =
            if is_fixed { stage.repeats } else { (stage.repeats * scale.depth_tenths + 9) / 10 };
        for repeat in 0..repeats {
            blocks.push(Block {
                kernel: stage.kernel,
                stride: if repeat == 0 { stage.stride } else { 1 },
                expansion: stage.expansion,
                channels: widened(stage.channels, scale),
            });
        }
    }
    blocks
}

/// Rounds to the nearest step, but never down by more than a tenth.
fn widened(channels: i64, scale: Scale) -> i64 {
    let exact_tenths = channels * scale.width_tenths;
    let step_tenths = CHANNEL_STEP * 10;
    let nearest = (exact_tenths + step_tenths / 2) / step_tenths * CHANNEL_STEP;
    let nearest = nearest.max(CHANNEL_STEP);
    if nearest * 100 < 9 * exact_tenths { nearest + CHANNEL_STEP } else { nearest }
}

impl Block {
    fn build(self, path: &nn::Path<'_>, n_in: i64, side: i64) -> impl ModuleT + use<> {
        let n_wide = n_in * self.expansion;
        let mut layers = nn::seq_t();
        if self.expansion != 1 {
            layers = layers
                .add(Convolution::new(n_in, n_wide, 1).build(&(path / "_expand_conv"), side))
                .add(batch_norm(&(path / "_bn0"), n_wide))
                .add_fn(Tensor::relu6);
        }
        let depthwise = Convolution {
            stride: self.stride,
            groups: n_wide,
            ..Convolution::new(n_wide, n_wide, self.kernel)
        };
        let project = Convolution::new(n_wide, self.channels, 1);
        layers = layers
            .add(depthwise.build(&(path / "_depthwise_conv"), side))
            .add(batch_norm(&(path / "_bn1"), n_wide))
            .add_fn(Tensor::relu6)
            .add(project.build(&(path / "_project_conv"), strided(side, self.stride)))
            .add(batch_norm(&(path / "_bn2"), self.channels));
        let has_shortcut = self.stride == 1 && n_in == self.channels;
        nn::func_t(move |xs, train| {
            let ys = xs.apply_t(&layers, train);
            if has_shortcut { ys + xs } else { ys }
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Convolution {
    n_in: i64,
    n_out: i64,
    kernel: i64,
    stride: i64,
    groups: i64,
}

impl Convolution {
    fn new(n_in: i64, n_out: i64, kernel: i64) -> Self {
        Self { n_in, n_out, kernel, stride: 1, groups: 1 }
    }

    fn build(self, path: &nn::Path<'_>, side: i64) -> nn::Func<'static> {
        let (before, after) = same_padding(side, self.kernel, self.stride);
        let is_even = before == after;
        let config = nn::ConvConfig {
            stride: self.stride,
            groups: self.groups,
            padding: if is_even { before } else { 0 },
            bias: false,
            ..nn::ConvConfig::default()
        };
        let convolution = nn::conv2d(path, self.n_in, self.n_out, self.kernel, config);
        nn::func(move |xs| {
            if is_even {
                convolution.forward(xs)
            } else {
                convolution.forward(&xs.constant_pad_nd([before, after, before, after]))
            }
        })
    }
}

fn batch_norm(path: &nn::Path<'_>, n_channels: i64) -> nn::BatchNorm {
    let config = nn::BatchNormConfig { eps: BATCH_NORM_EPSILON, ..nn::BatchNormConfig::default() };
    nn::batch_norm2d(path, n_channels, config)
}

/// How many rows to add before and after, so that the output has `side / stride` rows, rounded up.
fn same_padding(side: i64, kernel: i64, stride: i64) -> (i64, i64) {
    let total = ((strided(side, stride) - 1) * stride + kernel - side).max(0);
    (total / 2, total - total / 2)
}

fn strided(side: i64, stride: i64) -> i64 {
    (side + stride - 1) / stride
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::alone;

    const LITE0: Scale = Scale { width_tenths: 10, depth_tenths: 10 };

    #[test]
    fn padding_is_that_of_tensorflow() {
        for (side, kernel, stride, expected) in [
            (224, 3, 2, (0, 1)),
            (225, 3, 2, (1, 1)),
            (112, 3, 1, (1, 1)),
            (56, 5, 2, (1, 2)),
            (65, 5, 2, (2, 2)),
            (14, 5, 1, (2, 2)),
            (7, 1, 1, (0, 0)),
            (8, 1, 2, (0, 0)),
        ] {
            assert_eq!(same_padding(side, kernel, stride), expected, "{side} {kernel} {stride}");
        }
    }

    #[test]
    fn widths_grow_in_steps_and_never_shrink_by_more_than_a_tenth() {
        let lite2 = scale(LiteSize::Lite2);
        let widths = STAGES.map(|it| widened(it.channels, lite2));
        assert_eq!(widths, [16, 24, 48, 88, 120, 208, 352]);
        assert_eq!(STAGES.map(|it| widened(it.channels, LITE0)), STAGES.map(|it| it.channels));
    }

    #[test]
    fn depth_grows_but_for_the_first_and_last_stage() {
        let n_blocks =
            [LiteSize::Lite0, LiteSize::Lite1, LiteSize::Lite2].map(|it| blocks(scale(it)).len());
        assert_eq!(n_blocks, [16, 21, 21]);
    }

    /// The numbers of parameters that the networks' authors publish: 4.7, 5.4 and 6.1 million.
    #[test]
    fn networks_have_as_many_parameters_as_the_published_ones() {
        let _alone = alone();
        let n_parameters = [LiteSize::Lite0, LiteSize::Lite1, LiteSize::Lite2].map(|size| {
            let store = nn::VarStore::new(Device::Cpu);
            let _network = network(&store.root(), scale(size), size.image_side());
            let n_items: usize = store.trainable_variables().iter().map(Tensor::numel).sum();
            (n_items + 50_000) / 100_000
        });
        assert_eq!(n_parameters, [47, 54, 61]);
    }
}
