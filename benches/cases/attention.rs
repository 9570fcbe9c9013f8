//! Fused attention: many queries (prefill), one query (decode), one query of eight heads that share keys and values.

use crate::case::{Bound, Case, Outcome, Problem, Unit, Workload};
use crate::cases::{typed, typed_mut};
use crate::data::{Buffer, Rng};
use crate::probe::Arithmetic;
use crate::verdict::{Verdict, spread};
use attentive_kernels::Backend;
use attentive_kernels::layout::{KvDtype, KvShape};
use attentive_kernels::ops::attention::{
    AttentionShape, Kv, KvMut, Mask, Precision, append, attention, attention_scratch_len,
};

/// Element types of a cache, with how an i8 cache is multiplied.
const KINDS: [(KvDtype, Precision); 5] = [
    (KvDtype::F32, Precision::Fast),
    (KvDtype::F16, Precision::Fast),
    (KvDtype::BF16, Precision::Fast),
    (KvDtype::I8, Precision::Fast),
    (KvDtype::I8, Precision::Accurate),
];
/// Heads of published models that are no power of two.
const ODD_HEAD_DIMS: [usize; 4] = [48, 80, 96, 112];

#[derive(Clone, Copy)]
struct Shape {
    dtype: KvDtype,
    precision: Precision,
    mask: Mask,
    head_dim: usize,
    /// Query heads on one key-value head.
    group: usize,
    q_len: usize,
    kv_len: usize,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        for mask in [Mask::Full, Mask::Causal] {
            for head_dim in [64, 128] {
                cases.extend([128, 512, 2048].map(|n| prefill(kind, mask, head_dim, n)));
            }
            cases.extend(ODD_HEAD_DIMS.map(|head_dim| prefill(kind, mask, head_dim, 512)));
        }
    }
    for kind in KINDS {
        for head_dim in [64, 128] {
            cases.extend([1024, 8192].map(|n| decode(kind, head_dim, n)));
        }
        cases.extend(ODD_HEAD_DIMS.map(|head_dim| decode(kind, head_dim, 1024)));
    }
    for kind in KINDS {
        cases.extend([64, 128].map(|head_dim| decode_gqa8(kind, head_dim, 1024)));
    }
    for kind in KINDS {
        cases.extend([64, 128].map(|head_dim| chunk(kind, head_dim, 128, 1024)));
    }
    cases
}

fn prefill(
    (dtype, precision): (KvDtype, Precision),
    mask: Mask,
    head_dim: usize,
    n: usize,
) -> Case {
    let shape = Shape {
        dtype,
        precision,
        mask,
        head_dim,
        group: 1,
        q_len: n,
        kv_len: n,
    };
    let kind = match mask {
        Mask::Full => "full",
        _ => "causal",
    };
    let name = format!(
        "attn-prefill/{}/{kind}/d{head_dim}/n{n}",
        short(dtype, precision)
    );
    case(name, Unit::Gflops, shape)
}

fn decode((dtype, precision): (KvDtype, Precision), head_dim: usize, n: usize) -> Case {
    let shape = Shape {
        dtype,
        precision,
        mask: Mask::Causal,
        head_dim,
        group: 1,
        q_len: 1,
        kv_len: n,
    };
    case(
        format!("attn-decode/{}/d{head_dim}/n{n}", short(dtype, precision)),
        Unit::Gbytes,
        shape,
    )
}

fn decode_gqa8((dtype, precision): (KvDtype, Precision), head_dim: usize, n: usize) -> Case {
    let shape = Shape {
        dtype,
        precision,
        mask: Mask::Causal,
        head_dim,
        group: 8,
        q_len: 1,
        kv_len: n,
    };
    case(
        format!(
            "attn-decode-gqa8/{}/d{head_dim}/n{n}",
            short(dtype, precision)
        ),
        Unit::Gflops,
        shape,
    )
}

/// The last `q_len` tokens of a prompt whose others are in the cache.
fn chunk(
    (dtype, precision): (KvDtype, Precision),
    head_dim: usize,
    q_len: usize,
    n: usize,
) -> Case {
    let shape = Shape {
        dtype,
        precision,
        mask: Mask::Causal,
        head_dim,
        group: 1,
        q_len,
        kv_len: n,
    };
    case(
        format!(
            "attn-chunk/{}/causal/d{head_dim}/q{q_len}/n{n}",
            short(dtype, precision)
        ),
        Unit::Gflops,
        shape,
    )
}

fn short(dtype: KvDtype, precision: Precision) -> &'static str {
    match dtype {
        KvDtype::F32 => "f32",
        KvDtype::F16 => "f16",
        KvDtype::BF16 => "bf16",
        KvDtype::I8 if precision == Precision::Accurate => "i8-accurate",
        KvDtype::I8 => "i8",
    }
}

fn case(name: String, unit: Unit, shape: Shape) -> Case {
    let (work, bound) = match unit {
        Unit::Gbytes => (shape.kv_bytes() as f64, Bound::Reading),
        _ => (shape.operations(), Bound::Arithmetic(Arithmetic::F32)),
    };
    Case {
        name,
        unit,
        work,
        bound,
        bound_work: work,
        bytes: shape.kv_bytes() + 2 * 4 * shape.q_len * shape.group * shape.head_dim,
        prepare: Box::new(move |backend, rng| Ok(Box::new(Attention::new(shape, backend, rng)?))),
    }
}

impl Shape {
    /// Keys that query `i` sees.
    fn visible(&self, i: usize) -> usize {
        match self.mask {
            Mask::Full => self.kv_len,
            _ => self.kv_len - self.q_len + i + 1,
        }
    }

    /// Two products of head_dim multiply-adds for each visible key, by the convention of the tables: of the square that
    /// the causal diagonal halves, one half.
    fn operations(&self) -> f64 {
        let hidden = match self.mask {
            Mask::Full => 0,
            _ => self.q_len * self.q_len / 2,
        };
        let pairs = self.q_len * self.kv_len - hidden;
        (4 * self.group * pairs * self.head_dim) as f64
    }

    /// Bytes of keys and values without the scales of i8: what is counted, so that they do not flatter the figure.
    fn kv_bytes(&self) -> usize {
        2 * self.kv_len * self.head_dim * element_bytes(self.dtype)
    }

    /// Of the whole output's norm. i8: keys, values and what the kernel quantizes itself (queries, probabilities).
    fn tolerance(&self) -> f64 {
        match self.dtype {
            KvDtype::F32 => 1e-5,
            KvDtype::F16 => 2e-3,
            KvDtype::BF16 => 1e-2,
            KvDtype::I8 if self.precision == Precision::Accurate => 1e-2,
            KvDtype::I8 => 2.5e-2,
        }
    }
}

fn element_bytes(dtype: KvDtype) -> usize {
    match dtype {
        KvDtype::F32 => 4,
        KvDtype::F16 | KvDtype::BF16 => 2,
        KvDtype::I8 => 1,
    }
}

struct Attention {
    shape: Shape,
    kv_shape: KvShape,
    call: AttentionShape<'static>,
    backend: Backend,
    /// (q_len, group, head_dim)
    q: Buffer<f32>,
    /// (kv_len, head_dim) before packing: what the check computes with.
    k: Vec<f32>,
    v: Vec<f32>,
    cache: Cache,
    out: Buffer<f32>,
    scratch: Buffer<f32>,
}

impl Attention {
    fn new(shape: Shape, backend: Backend, rng: &mut Rng) -> Outcome<Self> {
        let kv_shape = KvShape::new(1, shape.head_dim, shape.kv_len)?;
        let call = AttentionShape {
            precision: shape.precision,
            ..AttentionShape::new(
                &kv_shape,
                shape.group,
                shape.q_len,
                shape.kv_len,
                shape.mask,
            )
        };
        let q_elements = shape.q_len * shape.group * shape.head_dim;
        let k = rng.normals(shape.kv_len * shape.head_dim, 1.0);
        let v = rng.normals(shape.kv_len * shape.head_dim, 1.0);
        let mut cache = Cache::new(&kv_shape, shape.dtype, rng);
        append(
            backend,
            &kv_shape,
            cache.for_writing()?,
            0,
            shape.kv_len,
            &k,
            &v,
            shape.head_dim,
        )?;
        let scratch_len = attention_scratch_len(&kv_shape, shape.dtype, shape.group, shape.q_len);
        Ok(Self {
            shape,
            kv_shape,
            call,
            backend,
            q: Buffer::copied_anywhere(&rng.normals(q_elements, 1.0), rng),
            k,
            v,
            cache,
            out: Buffer::anywhere(q_elements, rng),
            scratch: Buffer::at_line(scratch_len, rng),
        })
    }

    /// One row in f64, from the inputs before any rounding.
    fn reference(&self, q: &[f32], keys: usize) -> Vec<f64> {
        let head_dim = self.shape.head_dim;
        let dot = |k: &[f32]| -> f64 {
            q.iter()
                .zip(k)
                .map(|(&q, &k)| f64::from(q) * f64::from(k))
                .sum()
        };
        let scale = f64::from(self.call.scale);
        let scores: Vec<f64> = self
            .k
            .chunks_exact(head_dim)
            .take(keys)
            .map(|k| scale * dot(k))
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        let mut out = vec![0.0; head_dim];
        for (score, v) in scores.iter().zip(self.v.chunks_exact(head_dim)) {
            let weight = (score - max).exp();
            sum += weight;
            out.iter_mut()
                .zip(v)
                .for_each(|(out, &v)| *out += weight * f64::from(v));
        }
        out.iter_mut().for_each(|out| *out /= sum);
        out
    }
}

/// Rows that are compared. The error of a single row, of 48 numbers say, scatters by a tenth of what many rows have.
const ROWS_CHECKED: usize = 17;

impl Workload for Attention {
    fn run(&mut self) -> Outcome {
        let stride = self.shape.group * self.shape.head_dim;
        attention(
            self.backend,
            &self.kv_shape,
            &self.call,
            &self.q,
            stride,
            self.cache.for_reading()?,
            &mut self.out,
            stride,
            &mut self.scratch,
        )?;
        Ok(())
    }

    fn check(&mut self) -> Outcome {
        let head_dim = self.shape.head_dim;
        let rows = self.shape.q_len * self.shape.group;
        let mut rng = Rng::new(rows as u64);
        let mut verdict = Verdict::default();
        for round in 0..ROWS_CHECKED.div_ceil(rows) {
            if round > 0 {
                self.q.copy_from_slice(&rng.normals(rows * head_dim, 1.0));
            }
            self.out.fill(f32::NAN);
            self.run()?;
            for row in spread(rows, ROWS_CHECKED) {
                let token = row / self.shape.group;
                let at = row * head_dim;
                let expected = self.reference(&self.q[at..][..head_dim], self.shape.visible(token));
                verdict.row(
                    &format!("round {round}, query row {row}"),
                    &self.out[at..][..head_dim],
                    &expected,
                );
            }
        }
        verdict.judge(self.shape.tolerance())
    }

    fn problem(&self) -> Option<Problem<'_>> {
        Some(Problem::Attention {
            kv: short(self.shape.dtype, self.shape.precision),
            causal: matches!(self.shape.mask, Mask::Causal),
            head_dim: self.shape.head_dim,
            group: self.shape.group,
            q: &self.q,
            k: &self.k,
            v: &self.v,
            out: &self.out,
        })
    }

    fn streams(&self) -> Vec<&[u8]> {
        vec![&self.cache.k, &self.cache.v]
    }

    fn scratch_bytes(&self) -> usize {
        size_of_val(&*self.scratch)
    }
}

/// Keys and values in bytes, each part at a cache line as the arena has it.
struct Cache {
    dtype: KvDtype,
    k: Buffer<u8>,
    v: Buffer<u8>,
    k_scales: Buffer<f32>,
    v_scales: Buffer<f32>,
}

impl Cache {
    fn new(shape: &KvShape, dtype: KvDtype, rng: &mut Rng) -> Self {
        let bytes = shape.len() * element_bytes(dtype);
        let scales = shape.scales_len(dtype);
        Self {
            dtype,
            k: Buffer::at_line(bytes, rng),
            v: Buffer::at_line(bytes, rng),
            k_scales: Buffer::at_line(scales, rng),
            v_scales: Buffer::at_line(scales, rng),
        }
    }

    fn for_reading(&self) -> Outcome<Kv<'_>> {
        let (k, v) = (&*self.k, &*self.v);
        Ok(match self.dtype {
            KvDtype::F32 => Kv::F32 {
                k: typed(k)?,
                v: typed(v)?,
            },
            KvDtype::F16 => Kv::F16 {
                k: typed(k)?,
                v: typed(v)?,
            },
            KvDtype::BF16 => Kv::BF16 {
                k: typed(k)?,
                v: typed(v)?,
            },
            KvDtype::I8 => Kv::I8 {
                k,
                k_scales: &self.k_scales,
                v: typed(v)?,
                v_scales: &self.v_scales,
            },
        })
    }

    fn for_writing(&mut self) -> Outcome<KvMut<'_>> {
        let (k, v) = (&mut *self.k, &mut *self.v);
        Ok(match self.dtype {
            KvDtype::F32 => KvMut::F32 {
                k: typed_mut(k)?,
                v: typed_mut(v)?,
            },
            KvDtype::F16 => KvMut::F16 {
                k: typed_mut(k)?,
                v: typed_mut(v)?,
            },
            KvDtype::BF16 => KvMut::BF16 {
                k: typed_mut(k)?,
                v: typed_mut(v)?,
            },
            KvDtype::I8 => KvMut::I8 {
                k,
                k_scales: &mut self.k_scales,
                v: typed_mut(v)?,
                v_scales: &mut self.v_scales,
            },
        })
    }
}
