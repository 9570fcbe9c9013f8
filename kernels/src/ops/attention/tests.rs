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
    bf16: [Vec<bf16>; 2],
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
            bf16: [vec![bf16::NAN; len + 1], vec![bf16::NAN; len + 1]],
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
            KvDtype::BF16 => {
                let [k, v] = &mut self.bf16;
                KvMut::BF16 {
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
        KvDtype::BF16 => bf16::from_f32(*x).to_f32(),
        KvDtype::I8 if amax > 1e-30 => (x * (127.0 / amax)).round_ties_even() * step,
        KvDtype::I8 => 0.0,
    };
    x.iter().map(round).collect()
}

const DTYPES: [KvDtype; 4] = [KvDtype::F32, KvDtype::F16, KvDtype::BF16, KvDtype::I8];

/// What an i8 cache is asked for: a query in levels of its largest element.
fn rounded_query(precision: Precision, x: &[f32]) -> Vec<f32> {
    let highest = match precision {
        Precision::Fast => 64.0,
        Precision::Accurate => 32_767.0,
    };
    let amax = x.iter().fold(0f32, |m, x| m.max(x.abs()));
    let level = |x: &f32| (x * (highest / amax)).round_ties_even() * (amax / highest);
    x.iter().map(level).collect()
}

#[derive(Clone, Debug)]
struct Case {
    dtype: KvDtype,
    head_dim: usize,
    kv_heads: usize,
    shape: AttentionShape<'static>,
    sinks: Vec<f32>,
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
        let mask = match random.index(3) {
            0 => Mask::Full,
            1 => Mask::Causal,
            _ => Mask::Window {
                len: 1 + random.index(limit),
                keep: [0, 0, 1, 5, 40][random.index(5)],
            },
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
        if mask != Mask::Full {
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
            soft_cap: [0.0, 0.0, 0.5 + 2.0 * spread][random.index(3)],
            sinks: &[],
            precision: [Precision::Fast, Precision::Accurate][random.index(2)],
        };
        let sinks = match random.index(3) {
            0 => (0..q_heads).map(|_| random.normal() * spread).collect(),
            _ => Vec::new(),
        };
        let dtype = DTYPES[random.index(4)];
        Self {
            dtype,
            head_dim,
            kv_heads,
            shape,
            sinks,
            capacity: kv_len + random.index(40),
            spread,
        }
    }

    fn shape(&self) -> AttentionShape<'_> {
        AttentionShape {
            sinks: &self.sinks,
            ..self.shape
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
        let q = match self.dtype {
            KvDtype::I8 => {
                let heads = q
                    .chunks(self.head_dim)
                    .map(|x| rounded_query(self.shape.precision, x));
                heads.collect::<Vec<_>>().concat()
            }
            _ => q.clone(),
        };
        reference::attention::attention(
            &self.shape(),
            self.kv_heads,
            self.head_dim,
            &q,
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
            &self.shape(),
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
        let mut tolerance =
            f64::from(v_max * (4e-6 + 2e-6 * self.spread * (self.head_dim as f32).sqrt() / 4.0));
        if self.dtype == KvDtype::I8 {
            // Half a level of the largest probability for every key, which the keys' number does not add up to: they
            // round up and down.
            let levels = match self.shape.precision {
                Precision::Fast => 127.0,
                Precision::Accurate => 32_767.0,
            };
            tolerance += f64::from(v_max) * (1.5 + (self.shape.kv_len as f64).sqrt()) / levels;
        }
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

/// The weights' sum of values is attention's output, and no weight is where the mask lets none be.
#[test]
fn weights_give_the_output() {
    let mut random = Rng(12);
    for _ in 0..if cfg!(miri) { 2 } else { 150 } {
        let mut case = Case::random(&mut random);
        // Sharper than that, a score's rounding moves its weight.
        case.spread = case.spread.min(5.0);
        let inputs = case.inputs(&mut random);
        let [q, k, v] = &inputs;
        // The query is not rounded, whatever the cache.
        let rows = |x: &[f32]| -> Vec<f32> {
            let heads = x.chunks(case.head_dim).map(|x| rounded(case.dtype, x));
            heads.collect::<Vec<_>>().concat()
        };
        let (k_rounded, v_rounded) = (rows(k), rows(v));
        let shape = case.shape();
        let mut expected = vec![0.0; q.len()];
        let (kv_heads, head_dim) = (case.kv_heads, case.head_dim);
        reference::attention::attention(
            &shape,
            kv_heads,
            head_dim,
            q,
            &k_rounded,
            &v_rounded,
            &mut expected,
        );
        let kv_shape = KvShape::new(kv_heads, head_dim, case.capacity).unwrap();
        let mut cache = Cache::poisoned(kv_shape, case.dtype);
        let (n, width) = (shape.kv_len, kv_heads * head_dim);
        let kv = cache.kv_mut();
        append(Backend::SCALAR, &kv_shape, kv, 0, n, k, v, width).unwrap();
        let row = shape.q_heads * head_dim;
        let v_max = v.iter().fold(0f32, |m, x| m.max(x.abs()));
        for token in [0, shape.q_len / 2, shape.q_len - 1] {
            for head in [0, shape.q_heads - 1] {
                let mut weights = vec![f32::NAN; n + 2];
                let kv = cache.kv_mut();
                attention_weights(
                    &kv_shape,
                    &shape,
                    q,
                    row,
                    kv.as_kv(),
                    token,
                    head,
                    &mut weights,
                )
                .unwrap();
                assert!(weights[n..].iter().all(|x| x.is_nan()));
                let weights = &weights[..n];
                let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
                let sinks = !shape.sinks.is_empty();
                assert!(sum < 1.0 + 1e-5 && (sinks || sum > 1.0 - 1e-5), "{sum}");
                for (key, weight) in weights.iter().enumerate() {
                    let seen = shape.visible(token);
                    let sees = match shape.mask {
                        Mask::Full => true,
                        Mask::Causal => key < seen,
                        Mask::Window { len, keep } => {
                            key < seen && (key + len >= seen || key < keep)
                        }
                    };
                    assert!(sees && *weight >= 0.0 || *weight == 0.0);
                }
                let kv_head = head / (shape.q_heads / kv_heads);
                for dim in 0..head_dim {
                    let value = |key: usize| v_rounded[(key * kv_heads + kv_head) * head_dim + dim];
                    let pairs = weights.iter().enumerate();
                    let got: f64 = pairs
                        .map(|(key, w)| f64::from(*w) * f64::from(value(key)))
                        .sum();
                    let want = expected[token * row + head * head_dim + dim];
                    let error = (got - want).abs();
                    assert!(
                        error < 2e-4 * f64::from(v_max),
                        "{got} for {want}: {case:?}"
                    );
                }
            }
        }
    }
}

/// A row's bits depend neither on the rows that share its tiles nor on how a prompt is cut: generation after a prompt
/// gives what one long prompt gives.
#[test]
fn rows_do_not_depend_on_their_number() {
    let mut random = Rng(2);
    for round in 0..if cfg!(miri) { 1 } else { 60 } {
        let mut case = Case::random(&mut random);
        if round % 4 == 3 && case.dtype != KvDtype::I8 {
            // References move in the middle of key blocks, whose size depends on the number of rows.
            case.shape.kv_len += 300;
            case.capacity += 300;
            case.spread = 100.0;
        }
        let [q, k, v] = case.inputs(&mut random);
        let row = case.shape.q_heads * case.head_dim;
        for backend in backends() {
            let all = case.computed(backend, &[q.clone(), k.clone(), v.clone()]);
            let mut first = 0;
            while first < case.shape.q_len {
                let len = (1 + random.index(9)).min(case.shape.q_len - first);
                let mut part = case.clone();
                part.shape.q_len = len;
                if case.shape.mask != Mask::Full {
                    part.shape.kv_len -= case.shape.q_len - first - len;
                }
                let width = case.kv_heads * case.head_dim * part.shape.kv_len;
                let inputs = [
                    &q[first * row..(first + len) * row],
                    &k[..width],
                    &v[..width],
                ]
                .map(<[f32]>::to_vec);
                let got = part.computed(backend, &inputs);
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                let want = &all[first * row..(first + len) * row];
                assert_eq!(
                    bits(&got),
                    bits(want),
                    "{} tokens {first}, {len}: {case:?}",
                    backend.name()
                );
                first += len;
            }
        }
    }
}

/// Conversion is exact, whether a tile converts as it loads or a whole block of keys before: a cache of 16-bit floats
/// gives the bits that an f32 cache of the same numbers gives.
#[test]
fn narrow_floats_are_their_values() {
    let mut random = Rng(4);
    for _ in 0..if cfg!(miri) { 1 } else { 60 } {
        let mut case = Case::random(&mut random);
        let [q, k, v] = case.inputs(&mut random);
        for dtype in [KvDtype::F16, KvDtype::BF16] {
            let inputs = [q.clone(), rounded(dtype, &k), rounded(dtype, &v)];
            for backend in backends() {
                let [narrow, wide] = [dtype, KvDtype::F32].map(|dtype| {
                    case.dtype = dtype;
                    let out = case.computed(backend, &inputs);
                    out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                });
                assert_eq!(narrow, wide, "{} {dtype:?}: {case:?}", backend.name());
            }
        }
    }
}

/// What was reserved for the longest call is enough for every shorter one.
#[test]
fn scratch_grows_with_the_queries() {
    for dtype in DTYPES {
        for (head_dim, capacity, group) in [
            (8, 16, 1),
            (32, 256, 1),
            (64, 2048, 1),
            (72, 80, 3),
            (256, 512, 8),
        ] {
            let kv = KvShape::new(1, head_dim, capacity).unwrap();
            let lens: Vec<_> = (1..=130)
                .map(|q_len| attention_scratch_len(&kv, dtype, group, q_len))
                .collect();
            assert!(
                lens.is_sorted(),
                "{dtype:?} {head_dim} {capacity}: {lens:?}"
            );
            assert_eq!(
                lens[96], lens[129],
                "{dtype:?}: independent of long prompts"
            );
        }
    }
}

/// The errors that [`Precision`] promises, the cache's rounding included.
#[test]
fn integer_products_are_as_accurate_as_documented() {
    let mut random = Rng(3);
    for (precision, bound) in [(Precision::Fast, 2.5e-2), (Precision::Accurate, 1e-2)] {
        // Inputs differ by a tenth.
        for (head_dim, kv_len) in [(64, 512), (64, 1024), (128, 512), (80, 300)].repeat(4) {
            if cfg!(miri) {
                continue;
            }
            let q_len = 16;
            let mut case = Case::random(&mut random);
            case = Case {
                dtype: KvDtype::I8,
                head_dim,
                kv_heads: 1,
                shape: AttentionShape {
                    q_heads: 1,
                    q_len,
                    kv_len,
                    mask: Mask::Causal,
                    scale: 1.0 / (head_dim as f32).sqrt(),
                    soft_cap: 0.0,
                    precision,
                    ..case.shape
                },
                sinks: Vec::new(),
                capacity: kv_len,
                spread: 1.0,
            };
            let inputs = case.inputs(&mut random);
            let exact = Case {
                dtype: KvDtype::F32,
                ..case.clone()
            }
            .expected(&inputs);
            for backend in backends() {
                let got = case.computed(backend, &inputs);
                let square = |x: f64| x * x;
                let error: f64 = got
                    .iter()
                    .zip(&exact)
                    .map(|(got, x)| square(f64::from(*got) - x))
                    .sum();
                let error = (error / exact.iter().map(|x| square(*x)).sum::<f64>()).sqrt();
                assert!(
                    error <= bound,
                    "{} {precision:?} {head_dim} {kv_len}: {error}",
                    backend.name()
                );
            }
        }
    }
}

/// Keys that draw nearly all attention to values of nearly nothing, as the first of a sequence often do: what is left
/// for the others is as precise as without them.
#[test]
fn keys_without_values_cost_no_precision() {
    let mut random = Rng(4);
    for precision in [Precision::Fast, Precision::Accurate] {
        for (q_len, magnitude) in [(1, 0.0), (3, 1e-4), (13, 0.0)] {
            let (head_dim, kv_len) = (32, if cfg!(miri) { 18 } else { 290 });
            let mut case = Case::random(&mut random);
            case = Case {
                dtype: KvDtype::I8,
                head_dim,
                kv_heads: 1,
                shape: AttentionShape {
                    q_heads: 1,
                    q_len,
                    kv_len,
                    mask: Mask::Causal,
                    scale: 1.0,
                    soft_cap: 0.0,
                    precision,
                    ..case.shape
                },
                sinks: Vec::new(),
                capacity: kv_len,
                spread: 0.2,
            };
            let [mut q, mut k, mut v] = case.inputs(&mut random);
            // The last element of every query meets only the keys 0 and 270.
            for q in q.chunks_mut(head_dim) {
                q[head_dim - 1] = 0.5;
            }
            for (key, k) in k.chunks_mut(head_dim).enumerate() {
                let first = key == 0 || key == 270;
                k.iter_mut()
                    .for_each(|x| *x *= if first { 0.0 } else { 1.0 });
                k[head_dim - 1] = if first { 24.0 } else { 0.0 };
            }
            for key in [0, 270] {
                for x in v.iter_mut().skip(key * head_dim).take(head_dim) {
                    *x *= magnitude;
                }
            }
            let inputs = [q, k, v];
            let expected = case.expected(&inputs);
            let largest = expected.iter().fold(0f64, |m, x| m.max(x.abs()));
            assert!(largest < 0.02, "the keys draw all attention: {largest}");
            let bound = largest
                * match precision {
                    Precision::Fast => 0.05,
                    Precision::Accurate => 0.001,
                };
            for backend in backends() {
                for (got, expected) in case.computed(backend, &inputs).iter().zip(&expected) {
                    let error = (f64::from(*got) - expected).abs();
                    assert!(error <= bound, "{}: {got} for {expected}", backend.name());
                }
            }
        }
    }
}

/// Values of any magnitude that an i8 cache takes, many in one block; what it does not take shows as NaN, and only to
/// rows that see it.
#[test]
fn values_of_all_magnitudes() {
    let mut random = Rng(5);
    for precision in [Precision::Fast, Precision::Accurate] {
        for magnitude in [1e-30, 1e-18, 1e-6, 1e6, 1e16] {
            let mut case = Case::random(&mut random);
            let kv_len = 40;
            case = Case {
                dtype: KvDtype::I8,
                head_dim: 16,
                kv_heads: 1,
                shape: AttentionShape {
                    q_heads: 1,
                    q_len: 9,
                    kv_len,
                    mask: Mask::Causal,
                    scale: 0.25,
                    soft_cap: 0.0,
                    precision,
                    ..case.shape
                },
                sinks: Vec::new(),
                capacity: kv_len,
                spread: 1.0,
            };
            let [q, k, mut v] = case.inputs(&mut random);
            for (key, v) in v.chunks_mut(16).enumerate() {
                let factor = if key % 3 == 0 { magnitude } else { 1.0 };
                v.iter_mut().for_each(|x| *x *= factor);
            }
            let mut inputs = [q, k, v];
            let expected = case.expected(&inputs);
            let largest = expected.iter().fold(0f64, |m, x| m.max(x.abs()));
            for backend in backends() {
                for (got, expected) in case.computed(backend, &inputs).iter().zip(&expected) {
                    let error = (f64::from(*got) - expected).abs();
                    assert!(
                        error <= 0.1 * largest,
                        "{} {magnitude}: {got} for {expected}",
                        backend.name()
                    );
                }
            }
            // The last rows see key 36.
            for bad in [f32::NAN, f32::INFINITY, 1e19] {
                inputs[2][36 * 16 + 5] = bad;
                for backend in backends() {
                    for (row, got) in case.computed(backend, &inputs).chunks(16).enumerate() {
                        let sees = row + 31 >= 36;
                        assert!(
                            got.iter().all(|x| x.is_finite() != sees),
                            "{} {bad} row {row}: {got:?}",
                            backend.name()
                        );
                    }
                }
            }
        }
    }
}
