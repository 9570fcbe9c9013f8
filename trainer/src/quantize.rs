//! From floats to integers: calibration, fine-tuning against the rounding, and what it costs.

use crate::batches::{Batch, Samples};
use crate::network::{Network, Point};
use crate::optimizer::{Adam, StepSize, clip};
use crate::package::{self, Formats, Scales, scales};
use crate::parallel;
use crate::params::{Params, name, shapes};
use crate::progress::{Progress, clock};
use crate::task::Training;
use anyhow::Result;
use attentive::TensorKind;
use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::kernels::pack::{quantize_above, scale_index};
use half::f16;
use std::time::{Duration, Instant};

/// Mean square of each column of every matrix' input over some sequences; `None` for a tensor that multiplies nothing.
///
/// # Errors
/// Those of [`Network::observed`].
pub fn importance(params: &Params, batches: &[Batch]) -> Result<Vec<Option<Vec<f32>>>> {
    let network = Network::new(params, Backend::detect(), false);
    let mut sums: Vec<Option<Vec<f64>>> = vec![None; params.tensors.len()];
    let mut rows: Vec<usize> = vec![0; sums.len()];
    for batch in batches {
        network.observed(batch, &mut |point, layer, x| {
            let Point::Input(role) = point else {
                return;
            };
            let index = params.config.tensor_index(role, layer);
            let Some((shape, sum, rows)) = index.and_then(|index| {
                let shape = params.config.tensor(index)?;
                Some((shape, sums.get_mut(index)?, rows.get_mut(index)?))
            }) else {
                return;
            };
            if shape.kind == TensorKind::Vector {
                return;
            }
            *rows += x.len() / shape.cols;
            let sum = sum.get_or_insert_with(|| vec![0.0; shape.cols]);
            for row in x.chunks_exact(shape.cols) {
                for (sum, x) in sum.iter_mut().zip(row) {
                    *sum += f64::from(*x) * f64::from(*x);
                }
            }
        })?;
    }
    let mean = |(sum, rows): (Option<Vec<f64>>, usize)| {
        let mean = |sum: Vec<f64>| sum.iter().map(|s| (s / rows as f64) as f32).collect();
        sum.map(mean)
    };
    Ok(sums.into_iter().zip(rows).map(mean).collect())
}

/// The weights that a file with these formats and scales holds: exactly what the kernels' packer rounds to.
pub fn fake_quantized(params: &Params, formats: Formats, scales: &Scales) -> Params {
    let mut out = params.clone();
    for ((shape, tensor), scales) in shapes(&params.config).zip(&mut out.tensors).zip(scales) {
        let format = formats.of(&shape);
        let (lowest, highest) = match format {
            WeightFormat::F32 => continue,
            WeightFormat::F16 => {
                for x in tensor {
                    *x = f16::from_f32(*x).to_f32();
                }
                continue;
            }
            WeightFormat::I8Row | WeightFormat::I8Group32 => (-127, 127),
            WeightFormat::I4Group32 => (-8, 7),
            WeightFormat::U4Group32 => (0, 15),
        };
        for (row, values) in tensor.chunks_exact_mut(shape.cols).enumerate() {
            for (col, x) in values.iter_mut().enumerate() {
                let at = scale_index(format, row, col, shape.cols);
                let (scale, minimum) = package::parameters(format, scales, at);
                let level = quantize_above(*x, minimum, scale, lowest, highest);
                *x = f32::from(level) * scale.to_f32() + minimum.to_f32();
            }
        }
    }
    out
}

/// Numbers that weights are rounded to.
pub trait Grid {
    /// Scales of all tensors.
    type Scales;

    /// The best for these weights.
    ///
    /// # Errors
    /// When a weight is not finite or too large.
    fn scales(&self, params: &Params) -> Result<Self::Scales>;

    /// The weights, rounded.
    fn rounded(&self, params: &Params, scales: &Self::Scales) -> Params;
}

/// The numbers that a file with these formats can have.
#[derive(Clone, Copy, Debug)]
pub struct FileGrid<'a> {
    /// Formats.
    pub formats: Formats,
    /// Of each column of each tensor, where it is known.
    pub importance: &'a [Option<Vec<f32>>],
}

impl Grid for FileGrid<'_> {
    type Scales = Scales;

    fn scales(&self, params: &Params) -> Result<Scales> {
        scales(params, self.formats, self.importance)
    }

    fn rounded(&self, params: &Params, scales: &Scales) -> Params {
        fake_quantized(params, self.formats, scales)
    }
}

/// How long and how fast weights are fine-tuned.
#[derive(Clone, Copy, Debug)]
pub struct FineTuning {
    /// Steps of the optimizer.
    pub steps: u64,
    /// Largest learning rate; it falls to zero by half a cosine.
    pub learning_rate: f32,
}

/// Steps between two choices of the scales; the last quarter of the steps keeps them.
const RESCALE_EVERY: u64 = 50;

/// Quantization-aware fine-tuning: the loss is that of the rounded weights, the gradient is applied to the floats as if
/// there were no rounding (the straight-through estimator, Bengio et al. 2013; w + (q(w) − w) with the difference
/// detached). Returns the floats and the scales that they were tuned for.
///
/// # Errors
/// Those of a training step.
pub fn fine_tune<G: Grid>(
    mut params: Params,
    grid: &G,
    samples: &mut dyn Samples,
    training: &Training,
    tuning: FineTuning,
) -> Result<(Params, G::Scales)> {
    let threads = parallel::threads();
    let mut adam = Adam::new(params.zeros());
    let mut chosen = grid.scales(&params)?;
    let progress = Progress::new();
    let start = Instant::now();
    let config = params.config;
    let decayed = |index| {
        let shape = config.tensor(index);
        shape.is_some_and(|shape| shape.kind == TensorKind::Matrix)
    };
    for step in 0..tuning.steps {
        if step > 0 && step.is_multiple_of(RESCALE_EVERY) && step < tuning.steps * 3 / 4 {
            chosen = grid.scales(&params)?;
        }
        let rounded = grid.rounded(&params, &chosen);
        let micro = samples.step(step, training.batch, training.micro_batch)?;
        let targets: usize = micro.iter().map(|batch| batch.targets.len()).sum();
        let count = targets as f32;
        let (loss, mut gradients) = parallel::gradients(&rounded, &micro, threads)?;
        clip(&mut gradients, 1.0 / count, training.clip);
        let done = step as f64 / tuning.steps as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        let size = StepSize {
            number: step + 1,
            learning_rate: tuning.learning_rate * cosine as f32,
            weight_decay: 0.0,
            betas: training.betas,
        };
        adam.step(&mut params.tensors, &gradients, size, decayed);
        let spent = start.elapsed().as_secs_f64();
        let left = spent / (step + 1) as f64 * (tuning.steps - step - 1) as f64;
        let speed = (step + 1) as f64 * training.batch as f64 / spent;
        let left = Duration::from_secs_f64(left);
        let loss = loss / f64::from(count);
        progress.step(done, loss, speed, left);
        if (step + 1).is_multiple_of(100) {
            progress.line(&format!(
                "fine-tuning step {:>5}  training loss {loss:.3}  {speed:.0} sequences/s  {} left",
                step + 1,
                clock(left)
            ));
        }
    }
    progress.end();
    Ok((params, chosen))
}

/// Relative error √(Σ(w − q)² / Σw²) and bytes of each tensor, as lines of a table.
pub fn error_table(params: &Params, rounded: &Params, formats: Formats) -> Vec<String> {
    let mut out = vec![format!(
        "{:<28} {:<10} {:>12} {:>9}",
        "tensor", "format", "error", "elements"
    )];
    let tensors = params.tensors.iter().zip(&rounded.tensors);
    for (shape, (values, rounded)) in shapes(&params.config).zip(tensors) {
        let square = |x: f64| x * x;
        let error: f64 = values
            .iter()
            .zip(rounded)
            .map(|(w, q)| square(f64::from(w - q)))
            .sum();
        let norm: f64 = values.iter().map(|w| square(f64::from(*w))).sum();
        out.push(format!(
            "{:<28} {:<10} {:>11.4}% {:>9}",
            name(&shape),
            format!("{:?}", formats.of(&shape)),
            100.0 * (error / norm.max(f64::MIN_POSITIVE)).sqrt(),
            values.len()
        ));
    }
    out
}
