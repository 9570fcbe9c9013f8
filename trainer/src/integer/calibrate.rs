//! How large the activations of a model are, from real data.

use crate::batches::Batch;
use crate::network::{Network, Point};
use crate::params::Params;
use anyhow::{Context, Result};
use attentive::kernels::Backend;
use attentive::{Position, Role, RotaryStyle};
use std::collections::HashMap;

/// Activations that share a scale. A layer's number is that in a weights file: a source's follow the decoder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Site {
    /// The residual stream, everywhere.
    Stream,
    /// What goes into a product.
    Input(Role, Option<usize>),
    /// What a norm gives, by the role of its gain.
    Normed(Role, Option<usize>),
    /// Queries, rotated where the model rotates them; `cross` to the source.
    Query { layer: usize, cross: bool },
    /// Keys.
    Key { layer: usize, cross: bool },
    /// Values.
    Value { layer: usize, cross: bool },
    /// The rows of an up projection that its function does not bend.
    Linear(usize),
}

/// Values of a site: all of them counted, some of them kept.
#[derive(Clone, Debug)]
struct Values {
    seen: usize,
    /// One of so many is kept.
    every: usize,
    kept: Vec<f32>,
    most: f32,
}

/// Values that a site keeps at most.
const KEPT: usize = 1 << 15;

impl Default for Values {
    fn default() -> Self {
        Self {
            seen: 0,
            every: 1,
            kept: Vec::new(),
            most: 0.0,
        }
    }
}

impl Values {
    fn add(&mut self, x: f32) {
        let x = x.abs();
        self.most = self.most.max(x);
        if self.seen.is_multiple_of(self.every) {
            self.kept.push(x);
        }
        self.seen += 1;
        if self.kept.len() >= KEPT {
            let mut index = 0;
            self.kept.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
    }

    /// The step of the least mean square error when values are rounded to `levels` steps either way.
    fn step(&self, levels: f32) -> f32 {
        let error = |most: f32| -> f64 {
            let step = most / levels;
            let error = |x: &f32| {
                let rounded = (x / step).round().min(levels) * step;
                f64::from(x - rounded).powi(2)
            };
            self.kept.iter().map(error).sum()
        };
        let candidates = (0..40).map(|i| self.most * 0.97f32.powi(i));
        let best = candidates.min_by(|a, b| error(*a).total_cmp(&error(*b)));
        best.unwrap_or(self.most).max(1e-6) / levels
    }
}

/// The activations of a model on some batches.
#[derive(Debug, Default)]
pub struct Calibration(HashMap<Site, Values>);

impl Calibration {
    /// Runs the batches.
    ///
    /// # Errors
    /// Those of [`Network::observed`].
    pub fn new(params: &Params, batches: &[Batch]) -> Result<Self> {
        let mut out = Self::default();
        let network = Network::new(params, Backend::detect(), false);
        for batch in batches {
            network.observed(batch, &mut |point, layer, x| {
                out.see(params, batch, point, layer, x);
            })?;
        }
        Ok(out)
    }

    /// The step of a site for i8.
    ///
    /// # Errors
    /// When no batch came by there.
    pub(super) fn step(&self, site: Site) -> Result<f64> {
        let values = self.values(site)?;
        Ok(f64::from(match site {
            // A clipped score is the greatest or the least of its row, which the others are measured against: on
            // `austen-small` clipping at the least square costs 1.9 % of the bits.
            Site::Query { .. } | Site::Key { .. } => values.most.max(1e-6) / 127.0,
            _ => values.step(127.0),
        }))
    }

    /// The greatest magnitude at a site.
    ///
    /// # Errors
    /// As [`Calibration::step`].
    pub(super) fn most(&self, site: Site) -> Result<f64> {
        Ok(f64::from(self.values(site)?.most))
    }

    fn values(&self, site: Site) -> Result<&Values> {
        let values = self.0.get(&site);
        values.with_context(|| format!("nothing was seen of {site:?}: calibrate on more data"))
    }

    fn add<'x>(&mut self, site: Site, x: impl IntoIterator<Item = &'x f32>) {
        let values = self.0.entry(site).or_default();
        for x in x {
            values.add(*x);
        }
    }

    fn see(
        &mut self,
        params: &Params,
        batch: &Batch,
        point: Point,
        layer: Option<usize>,
        x: &[f32],
    ) {
        let config = &params.config;
        let number = layer.unwrap_or(0);
        let norms = [
            Role::AttnNormGain,
            Role::CrossNormGain,
            Role::FfnNormGain,
            Role::FinalNormGain,
            Role::SourceNormGain,
        ];
        match point {
            Point::Input(role) if norms.contains(&role) => self.add(Site::Stream, x),
            Point::Output(role) if norms.contains(&role) => self.add(Site::Normed(role, layer), x),
            Point::Input(role) => self.add(Site::Input(role, layer), x),
            Point::Output(Role::QkvWeight) => {
                let lens = match number >= config.layers {
                    true => &batch.source_lens,
                    false => &batch.lens,
                };
                let positions = lens.iter().flat_map(|len| 0..*len);
                for (row, position) in x.chunks_exact(config.qkv_dim()).zip(positions) {
                    let (queries, rest) = row.split_at(config.q_dim());
                    let (keys, values) = rest.split_at(config.kv_dim());
                    let cross = false;
                    let layer = number;
                    let queries = rotated(&config.position, config.head_dim, queries, position);
                    self.add(Site::Query { layer, cross }, &queries);
                    let keys = rotated(&config.position, config.head_dim, keys, position);
                    self.add(Site::Key { layer, cross }, &keys);
                    self.add(Site::Value { layer, cross }, values);
                }
            }
            Point::Output(Role::CrossQWeight) => {
                let (layer, cross) = (number, true);
                self.add(Site::Query { layer, cross }, x);
            }
            Point::Output(Role::CrossKvWeight) => {
                let (layer, cross) = (number, true);
                for row in x.chunks_exact(2 * config.kv_dim()) {
                    let (keys, values) = row.split_at(config.kv_dim());
                    self.add(Site::Key { layer, cross }, keys);
                    self.add(Site::Value { layer, cross }, values);
                }
            }
            Point::Output(Role::UpWeight) => {
                let linear = config.up_dim() - config.hidden_dim;
                for row in x.chunks_exact(config.up_dim()) {
                    // Without a gate, ReLU's input.
                    self.add(Site::Linear(number), &row[linear..]);
                }
            }
            Point::Output(_) => {}
        }
    }
}

/// The heads of a token, rotated where the model rotates them.
fn rotated(position: &Position, head_dim: usize, x: &[f32], at: usize) -> Vec<f32> {
    let mut out = x.to_vec();
    let Position::Rotary { style, base } = *position else {
        return out;
    };
    let pairs = head_dim / 2;
    for head in out.chunks_exact_mut(head_dim) {
        for pair in 0..pairs {
            let (i, j) = match style {
                RotaryStyle::Half => (pair, pair + pairs),
                RotaryStyle::Interleaved => (2 * pair, 2 * pair + 1),
            };
            let (sin, cos) = angle(base, head_dim, pair, at).sin_cos();
            let (a, b) = (f64::from(head[i]), f64::from(head[j]));
            (head[i], head[j]) = ((a * cos - b * sin) as f32, (a * sin + b * cos) as f32);
        }
    }
    out
}

/// The angle of a pair at a position: position · base^(−2·pair/head_dim).
pub(super) fn angle(base: f32, head_dim: usize, pair: usize, at: usize) -> f64 {
    let exponent = -2.0 * pair as f64 / head_dim as f64;
    at as f64 * f64::from(base).powf(exponent)
}
