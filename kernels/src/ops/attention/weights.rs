//! The weights of attention themselves, for a person to look at: one query at a time, in plain code.

use super::{AttentionShape, Kv, Mask, row_width};
use crate::ShapeError;
use crate::layout::{KEYS_PER_BLOCK, KvShape, key_index, key_index_i8};
use half::{bf16, f16};

/// What query `token` of query head `head` gives each key: `weights[..kv_len]` becomes softmax(scale · q·kᵀ + mask),
/// zero for keys that it does not see. With a sink the weights add up to less than 1, else to 1; without a visible key
/// all are zero. The call is the one that [`attention`](super::attention) gets, without values.
///
/// The query is not rounded as the integer products round it, so that with an i8 cache these are the weights that
/// [`attention`](super::attention) approximates. Within 3e-5 of the exact softmax for scores of a few units, since
/// scores are sums in f32. It takes head_dim · kv_len multiply-adds, one by one.
///
/// # Errors
/// [`ShapeError`] as [`attention`](super::attention), for a token or a head that is not there, and for fewer than
/// `kv_len` weights.
#[allow(
    clippy::too_many_arguments,
    reason = "a call of attention, one of its queries, an output: a struct would only rename them"
)]
pub fn attention_weights(
    kv_shape: &KvShape,
    shape: &AttentionShape<'_>,
    q: &[f32],
    q_stride: usize,
    kv: Kv<'_>,
    token: usize,
    head: usize,
    weights: &mut [f32],
) -> Result<(), ShapeError> {
    let width = row_width(kv_shape, shape)?;
    kv.check(kv_shape)?;
    ShapeError::check_at_most("kv_len", kv_shape.capacity(), shape.kv_len)?;
    ShapeError::check_strided("q", shape.q_len, width, q_stride, q.len())?;
    ShapeError::check_at_least("queries", token.saturating_add(1), shape.q_len)?;
    ShapeError::check_at_least("query heads", head.saturating_add(1), shape.q_heads)?;
    ShapeError::check_at_least("weights", shape.kv_len, weights.len())?;
    if shape.mask != Mask::Full {
        ShapeError::check_at_most("q_len of causal attention", shape.kv_len, shape.q_len)?;
    }
    if !shape.sinks.is_empty() {
        ShapeError::check_eq("sinks", shape.q_heads, shape.sinks.len())?;
    }
    let group = shape.q_heads.checked_div(kv_shape.kv_heads()).unwrap_or(1);
    let row = Row {
        kv_shape,
        shape,
        q: q.get(token * q_stride + head * kv_shape.head_dim()..)
            .and_then(|q| q.get(..kv_shape.head_dim()))
            .unwrap_or_default(),
        kv_head: head.checked_div(group).unwrap_or(0),
        seen: shape.visible(token),
        sink: shape.sinks.get(head).copied(),
    };
    let weights = weights.get_mut(..shape.kv_len).unwrap_or_default();
    match kv {
        Kv::F32 { k, .. } => row.softmax(weights, |key, dim| row.float(k, key, dim)),
        Kv::F16 { k, .. } => row.softmax(weights, |key, dim| row.float(k, key, dim)),
        Kv::BF16 { k, .. } => row.softmax(weights, |key, dim| row.float(k, key, dim)),
        Kv::I8 { k, k_scales, .. } => row.softmax(weights, |key, dim| {
            let at = row.block(key) + key_index_i8(key, dim);
            let level = i32::from(element(k, at)) - 128;
            let scale = row.kv_head * row.kv_shape.capacity() + key;
            level as f32 * element(k_scales, scale)
        }),
    }
    Ok(())
}

/// One query and the keys that it meets.
struct Row<'a> {
    kv_shape: &'a KvShape,
    shape: &'a AttentionShape<'a>,
    q: &'a [f32],
    kv_head: usize,
    /// Keys up to the last that it sees.
    seen: usize,
    sink: Option<f32>,
}

impl Row<'_> {
    /// Where the block of a key begins.
    fn block(&self, key: usize) -> usize {
        let blocks = self.kv_head * (self.kv_shape.capacity() / KEYS_PER_BLOCK);
        (blocks + key / KEYS_PER_BLOCK) * self.kv_shape.block_len()
    }

    fn float<T: Copy + Default + IntoF32>(&self, k: &[T], key: usize, dim: usize) -> f32 {
        element(k, self.block(key) + key_index(key, dim)).into_f32()
    }

    fn sees(&self, key: usize) -> bool {
        match self.shape.mask {
            Mask::Full | Mask::Causal => key < self.seen,
            Mask::Window { len, keep } => {
                key < self.seen && (key.saturating_add(len) >= self.seen || key < keep)
            }
        }
    }

    fn softmax(&self, weights: &mut [f32], key_at: impl Fn(usize, usize) -> f32) {
        let mut highest = self.sink.unwrap_or(f32::NEG_INFINITY);
        for (key, weight) in weights.iter_mut().enumerate() {
            if !self.sees(key) {
                continue;
            }
            let terms = self.q.iter().enumerate();
            let dot: f32 = terms.map(|(dim, q)| q * key_at(key, dim)).sum();
            *weight = dot * self.shape.scale;
            if self.shape.soft_cap != 0.0 {
                *weight = self.shape.soft_cap * libm::tanhf(*weight / self.shape.soft_cap);
            }
            highest = highest.max(*weight);
        }
        let mut sum = self.sink.map_or(0.0, |sink| libm::expf(sink - highest));
        for (key, weight) in weights.iter_mut().enumerate() {
            *weight = match self.sees(key) {
                true => libm::expf(*weight - highest),
                false => 0.0,
            };
            sum += *weight;
        }
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
    }
}

/// The lengths were checked, so the default is never taken.
fn element<T: Copy + Default>(all: &[T], at: usize) -> T {
    all.get(at).copied().unwrap_or_default()
}

trait IntoF32 {
    fn into_f32(self) -> f32;
}

impl IntoF32 for f32 {
    fn into_f32(self) -> f32 {
        self
    }
}

impl IntoF32 for f16 {
    fn into_f32(self) -> f32 {
        self.to_f32()
    }
}

impl IntoF32 for bf16 {
    fn into_f32(self) -> f32 {
        self.to_f32()
    }
}
