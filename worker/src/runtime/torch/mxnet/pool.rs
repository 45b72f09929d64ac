//! Pooling, with MXNet's windows: one that begins in the padding counts there, and LibTorch drops it.

use crate::runtime::mxnet::{Pool, PoolConvention, PoolKind};
use tch::{Kind, TchError, Tensor};

pub(super) fn pool(settings: &Pool, x: &Tensor) -> Result<Tensor, TchError> {
    let n_axes = x.size().len().saturating_sub(2);
    if settings.is_global {
        let axes: Vec<i64> = (2..x.size().len()).filter_map(|it| i64::try_from(it).ok()).collect();
        return match settings.kind {
            PoolKind::Max => x.f_amax(axes, true),
            PoolKind::Average => x.f_mean_dim(axes, true, None),
            PoolKind::Sum => x.f_sum_dim_intlist(axes, true, None),
        };
    }
    match (settings.kernel.len(), n_axes) {
        (2, 2) => flat(settings, x),
        (1, 1) => {
            // A row is a picture that is one pixel high.
            let widened = |it: &[i64], by: i64| vec![by, it[0]];
            let settings = Pool {
                kernel: widened(&settings.kernel, 1),
                stride: widened(&settings.stride, 1),
                padding: widened(&settings.padding, 0),
                ..settings.clone()
            };
            flat(&settings, &x.f_unsqueeze(2)?)?.f_squeeze_dim(2)
        }
        (n_kernel, _) => Err(TchError::Shape(format!(
            "a pool over {n_kernel} axes of an input of shape {:?}",
            x.size()
        ))),
    }
}

fn flat(settings: &Pool, x: &Tensor) -> Result<Tensor, TchError> {
    let Pool { kind, kernel, stride, padding, counts_padding, .. } = settings;
    if settings.convention == PoolConvention::Valid {
        return match kind {
            PoolKind::Max => x.f_max_pool2d(kernel, stride, padding, [1, 1], false),
            PoolKind::Average => {
                x.f_avg_pool2d(kernel, stride, padding, false, *counts_padding, None)
            }
            PoolKind::Sum => x.f_avg_pool2d(kernel, stride, padding, false, true, 1),
        };
    }
    let padded = |x: &Tensor, value: f64| x.f_pad(amounts(settings, x), "constant", value);
    let windows = |x: &Tensor| x.f_avg_pool2d(kernel, stride, [0, 0], false, true, 1);
    match kind {
        PoolKind::Max => {
            // What MXNet begins a maximum with.
            let padded = padded(x, f64::from(f32::MIN))?;
            padded.f_max_pool2d(kernel, stride, [0, 0], [1, 1], false)
        }
        PoolKind::Sum => windows(&padded(x, 0.0)?),
        PoolKind::Average => {
            let sums = windows(&padded(x, 0.0)?)?;
            // How much of each window lies on the picture, or on the padding that counts.
            let ones = Tensor::f_ones(&x.size()[2..], (Kind::Float, x.device()))?;
            let ones = ones.f_unsqueeze(0)?.f_unsqueeze(0)?;
            let ones = if *counts_padding {
                let around = [padding[1], padding[1], padding[0], padding[0]];
                let ones = ones.f_pad(around, "constant", 1.0)?;
                ones.f_pad(beyond(settings, x), "constant", 0.0)?
            } else {
                padded(&ones, 0.0)?
            };
            sums.f_div(&windows(&ones)?.f_clamp_min(1.0)?)
        }
    }
}

/// How much is put around a picture, so that the last window is whole: left, right, top, bottom.
fn amounts(settings: &Pool, x: &Tensor) -> [i64; 4] {
    let [_, right, _, bottom] = beyond(settings, x);
    let [top, left] = [settings.padding[0], settings.padding[1]];
    [left, left + right, top, top + bottom]
}

/// How far the last windows reach beyond the padding.
fn beyond(settings: &Pool, x: &Tensor) -> [i64; 4] {
    let size = x.size();
    let reach = |axis: usize| {
        let (kernel, stride) = (settings.kernel[axis], settings.stride[axis].max(1));
        let whole = size[axis + 2] + 2 * settings.padding[axis];
        let n_windows = match settings.convention {
            PoolConvention::Same => (whole + stride - 1) / stride,
            PoolConvention::Full | PoolConvention::Valid => {
                1 + ((whole - kernel).max(0) + stride - 1) / stride
            }
        };
        ((n_windows - 1) * stride + kernel - whole).max(0)
    };
    [0, reach(1), 0, reach(0)]
}
