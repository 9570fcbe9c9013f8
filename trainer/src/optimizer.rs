//! AdamW over plain vectors, gradient clipping, and the learning rate's course.
//!
//! One pass over each tensor; burn's own optimizer is a chain of a dozen tensor operations, and its state is harder to
//! save bit for bit.

use crate::task::Training;

/// Moments of the gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    /// Running mean of each gradient.
    pub mean: Vec<Vec<f32>>,
    /// Running mean of each squared gradient.
    pub square: Vec<Vec<f32>>,
}

/// Constants of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepSize {
    /// Number of the step, from 1.
    pub number: u64,
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of decayed tensors.
    pub weight_decay: f32,
    /// β₁ and β₂.
    pub betas: [f32; 2],
}

/// Added to the root of the second moment.
const EPSILON: f32 = 1e-8;

impl Adam {
    /// No moments yet, for tensors of these lengths.
    pub fn new(zeros: Vec<Vec<f32>>) -> Self {
        Self {
            mean: zeros.clone(),
            square: zeros,
        }
    }

    /// One step (Loshchilov and Hutter 2019, algorithm 2); tensor i decays where `decayed(i)`.
    pub fn step(
        &mut self,
        tensors: &mut [Vec<f32>],
        gradients: &[Vec<f32>],
        size: StepSize,
        decayed: impl Fn(usize) -> bool,
    ) {
        let [beta1, beta2] = size.betas;
        let number = i32::try_from(size.number).unwrap_or(i32::MAX);
        let bias1 = 1.0 - beta1.powi(number);
        let bias2 = (1.0 - beta2.powi(number)).sqrt();
        let rate = size.learning_rate * bias2 / bias1;
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for (index, ((tensor, gradient), (mean, square))) in
            tensors.iter_mut().zip(gradients).zip(moments).enumerate()
        {
            let keep = match decayed(index) {
                true => 1.0 - size.learning_rate * size.weight_decay,
                false => 1.0,
            };
            let state = mean.iter_mut().zip(square);
            for ((x, g), (m, v)) in tensor.iter_mut().zip(gradient).zip(state) {
                *m = beta1 * *m + (1.0 - beta1) * g;
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *x = *x * keep - rate * *m / (v.sqrt() + EPSILON * bias2);
            }
        }
    }
}

/// Scales the gradients by `factor`, then so that their norm is at most `most`; returns the norm before that.
pub fn clip(gradients: &mut [Vec<f32>], factor: f32, most: f32) -> f32 {
    let square = |gradient: &Vec<f32>| {
        let sum = gradient.iter().map(|g| f64::from(g * factor).powi(2));
        sum.sum::<f64>()
    };
    let norm = gradients.iter().map(square).sum::<f64>().sqrt() as f32;
    let scale = if norm > most {
        factor * most / norm
    } else {
        factor
    };
    for gradient in gradients {
        for g in gradient {
            *g *= scale;
        }
    }
    norm
}

impl Training {
    /// Learning rate when the share `done` (0..=1) of the run lies behind: a linear rise, then half a cosine
    /// (Loshchilov and Hutter 2017).
    pub fn learning_rate_at(&self, done: f64) -> f32 {
        let warmup = f64::from(self.warmup_share);
        let most = f64::from(self.learning_rate);
        let least = most * f64::from(self.final_share);
        if done < warmup {
            return (most * (done / warmup).max(0.01)) as f32;
        }
        let rest = ((done - warmup) / (1.0 - warmup).max(1e-9)).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * rest).cos());
        (least + (most - least) * cosine) as f32
    }
}
