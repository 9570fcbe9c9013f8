//! Every backend against the naive oracle.

mod exhaustive;

use super::*;
use crate::reference;
use crate::testing::{Rng, backends};
use std::{vec, vec::Vec};

/// A cache's memory, one element off its allocation's alignment.
struct Cache {
    dtype: KvDtype,
    f32: [Vec<f32>; 2],
    f16: [Vec<f16>; 2],
    k: Vec<u8>,
    v: Vec<i8>,
    scales: [Vec<f32>; 2],
}

impl Cache {
    /// Filled with what must never be read into a result.
    fn poisoned(shape: KvShape, dtype: KvDtype) -> Self {
        let len = shape.len();
        let scales = shape.scales_len(KvDtype::I8);
        Self {
            dtype,
            f32: [vec![f32::NAN; len + 1], vec![f32::NAN; len + 1]],
            f16: [vec![f16::NAN; len + 1], vec![f16::NAN; len + 1]],
            k: vec![7; len + 1],
            v: vec![7; len + 1],
            scales: [vec![f32::NAN; scales + 1], vec![f32::NAN; scales + 1]],
        }
    }

    fn kv_mut(&mut self) -> KvMut<'_> {
        let [k_scales, v_scales] = &mut self.scales;
        match self.dtype {
            KvDtype::F32 => {
                let [k, v] = &mut self.f32;
                KvMut::F32 {
                    k: &mut k[1..],
                    v: &mut v[1..],
                }
            }
            KvDtype::F16 => {
                let [k, v] = &mut self.f16;
                KvMut::F16 {
                    k: &mut k[1..],
                    v: &mut v[1..],
                }
            }
            KvDtype::I8 => KvMut::I8 {
                k: &mut self.k[1..],
                k_scales: &mut k_scales[1..],
                v: &mut self.v[1..],
                v_scales: &mut v_scales[1..],
            },
        }
    }
}

/// What a cache of this type remembers of one head's vector.
fn rounded(dtype: KvDtype, x: &[f32]) -> Vec<f32> {
    let amax = x.iter().fold(0f32, |m, x| m.max(x.abs()));
    let step = amax / 127.0;
    let round = |x: &f32| match dtype {
        KvDtype::F32 => *x,
        KvDtype::F16 => f16::from_f32(*x).to_f32(),
        KvDtype::I8 if amax > 1e-30 => (x * (127.0 / amax)).round_ties_even() * step,
        KvDtype::I8 => 0.0,
    };
    x.iter().map(round).collect()
}

#[derive(Clone, Debug)]
struct Case {
    dtype: KvDtype,
    head_dim: usize,
    kv_heads: usize,
    shape: AttentionShape,
    capacity: usize,
    /// Standard deviation of the scores, about.
    spread: f32,
}

impl Case {
    fn random(random: &mut Rng) -> Self {
        let limit = if cfg!(miri) { 20 } else { 130 };
        let head_dim = 8 * random.index(if cfg!(miri) { 4 } else { 32 }) + 8;
        let kv_heads = 1 + random.index(3);
        let q_heads = kv_heads * [1, 1, 2, 3, 8][random.index(5)];
        let mask = if random.index(2) == 0 {
            Mask::Full
        } else {
            Mask::Causal
        };
        let kv_len = 1
            + random.index(limit)
            + if random.index(8) == 0 && !cfg!(miri) {
                400
            } else {
                0
            };
        let q_limit = [4, limit][random.index(2)];
        let mut q_len = 1 + random.index(q_limit);
        if mask == Mask::Causal {
            q_len = q_len.min(kv_len);
        }
        let spread = [0.1, 1.0, 5.0, 100.0][random.index(4)];
        let scale = 1.0 / (head_dim as f32).sqrt();
        let shape = AttentionShape {
            q_heads,
            q_len,
            kv_len,
            mask,
            scale,
        };
        let dtype = [KvDtype::F32, KvDtype::F16, KvDtype::I8][random.index(3)];
        Self {
            dtype,
            head_dim,
            kv_heads,
            shape,
            capacity: kv_len + random.index(40),
            spread,
        }
    }

    fn inputs(&self, random: &mut Rng) -> [Vec<f32>; 3] {
        let Self {
            kv_heads,
            head_dim,
            shape,
            spread,
            ..
        } = self;
        let mut floats = |len, scale| {
            (0..len)
                .map(|_| random.normal() * scale)
                .collect::<Vec<f32>>()
        };
        let kv_len = shape.kv_len * kv_heads * head_dim;
        [
            floats(shape.q_len * shape.q_heads * head_dim, *spread),
            floats(kv_len, 1.0),
            floats(kv_len, 1.0),
        ]
    }

    /// The oracle's output for what the cache remembers.
    fn expected(&self, [q, k, v]: &[Vec<f32>; 3]) -> Vec<f64> {
        let [k, v] = [k, v].map(|x| {
            let heads = x.chunks(self.head_dim).map(|x| rounded(self.dtype, x));
            heads.collect::<Vec<_>>().concat()
        });
        let mut out = vec![0.0; q.len()];
        reference::attention::attention(
            &self.shape,
            self.kv_heads,
            self.head_dim,
            q,
            &k,
            &v,
            &mut out,
        );
        out
    }

    /// Appends in two pieces, attends with strides and one element of misalignment.
    fn computed(&self, backend: Backend, [q, k, v]: &[Vec<f32>; 3]) -> Vec<f32> {
        let kv_shape = KvShape::new(self.kv_heads, self.head_dim, self.capacity).unwrap();
        let mut cache = Cache::poisoned(kv_shape, self.dtype);
        let width = self.kv_heads * self.head_dim;
        let first = self.shape.kv_len / 3;
        for (slot, n) in [(0, first), (first, self.shape.kv_len - first)] {
            let (k, v) = (&k[slot * width..], &v[slot * width..]);
            append(backend, &kv_shape, cache.kv_mut(), slot, n, k, v, width).unwrap();
        }
        let row = self.shape.q_heads * self.head_dim;
        let (q_stride, out_stride) = (row + 3, row + 5);
        let mut strided = vec![f32::NAN; 1 + self.shape.q_len * q_stride];
        for (to, from) in strided[1..].chunks_mut(q_stride).zip(q.chunks(row)) {
            to[..row].copy_from_slice(from);
        }
        let mut out = vec![f32::NAN; 1 + self.shape.q_len * out_stride];
        let len =
            attention_scratch_len(&kv_shape, self.dtype, self.shape.q_heads, self.shape.q_len);
        let mut scratch = vec![f32::NAN; len + 1];
        attention(
            backend,
            &kv_shape,
            &self.shape,
            &strided[1..],
            q_stride,
            cache.kv_mut().as_kv(),
            &mut out[1..],
            out_stride,
            &mut scratch[1..],
        )
        .unwrap();
        let rows = out[1..].chunks(out_stride).take(self.shape.q_len);
        for row_and_gap in rows.clone() {
            assert!(
                row_and_gap[row..].iter().all(|x| x.is_nan()),
                "wrote between the rows"
            );
        }
        rows.flat_map(|x| x[..row].to_vec()).collect()
    }

    fn check(&self, random: &mut Rng) {
        let inputs = self.inputs(random);
        let expected = self.expected(&inputs);
        // A score of size s carries an error of s·ε·√head_dim or so, which the exponential makes relative.
        let v_max = inputs[2].iter().fold(0f32, |m, x| m.max(x.abs()));
        let tolerance =
            f64::from(v_max * (4e-6 + 2e-6 * self.spread * (self.head_dim as f32).sqrt() / 4.0));
        for backend in backends() {
            let got = self.computed(backend, &inputs);
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let error = (f64::from(*got) - expected).abs();
                assert!(
                    error <= tolerance,
                    "{} element {i}: {got} for {expected}, tolerance {tolerance:e}: {self:?}",
                    backend.name()
                );
            }
        }
    }
}

#[test]
fn equals_the_oracle() {
    let mut random = Rng(1);
    for _ in 0..if cfg!(miri) { 2 } else { 300 } {
        Case::random(&mut random).check(&mut random);
    }
}
