//! Fused attention: `out = softmax(scale · q·kᵀ + mask) · v`, without ever storing the scores of all keys.
//!
//! # The algorithm
//! A *row* is one query of one head. The query heads that share a key-value head lie in one list of rows, token by
//! token, so that grouped heads (Ainslie et al. 2023, "GQA") read the cache once. Rows are taken in blocks, keys in
//! blocks; for every key block the probabilities relative to a running reference m are summed and multiplied into the
//! output (the online softmax of Milakov and Gimelshein 2018, tiled as in Dao et al. 2022, "FlashAttention").
//!
//! Two things differ from the textbook. The reference is not the running maximum: any m serves as long as nothing
//! overflows or vanishes, so it starts at 0 and a cold path moves it when a score passes m + 60 or a row's first score
//! lies below m − 60 (in units of log₂). Thus no pass searches for maxima, and the output is hardly ever rescaled. And
//! the exponential runs in registers at the end of each tile of scores (six rows by sixteen keys where there are many
//! rows, one by 64 where there is one), which are never stored.
//!
//! A cache of bytes is multiplied in integers, both times ([`Precision`]); there, scores and probabilities of a block
//! of 128 keys are stored, because probabilities are rounded relative to their block's largest.
//!
//! Whatever the number of rows and however a prompt is cut: a row's bits are the same.

mod append;
mod bytes;
mod call;
mod float;
mod heads;
mod plan;
mod seldom;
mod tile;
mod values;
mod walk;
mod weights;
mod width;

#[cfg(test)]
mod tests;

pub use append::{append, append_linked};
pub use plan::attention_scratch_len;
pub use weights::attention_weights;

use crate::backend::compiled_here;
use crate::isa::{Isa, Kernel};
use crate::kinds::not_linked;
use crate::layout::{KvDtype, KvShape};
use crate::{Backend, Everything, Linked, ShapeError};
use bytes::{Bytes, Cache, WIDENED_LEN};
use call::Call;
use core::marker::PhantomData;
use float::{Element, FloatRows, Floats};
use half::{bf16, f16};
use plan::Plan;
use walk::walk;
use width::{Accurate, Fast, Width};

/// The keys that a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mask {
    /// All `kv_len` keys: bidirectional attention (a shorter sequence is a smaller `kv_len`), or attention to another
    /// sequence.
    Full,
    /// The queries are the last `q_len` of the `kv_len` positions: query i sees keys `0..=kv_len − q_len + i`.
    Causal,
    /// As [`Causal`](Self::Causal), but a query sees of the keys before it only the nearest and the first: its own and
    /// the `len − 1` before it (sliding window, Beltagy et al. 2020), and keys `0..keep` (which keep a stream stable
    /// that was trained without a window: "attention sinks", Xiao et al. 2023).
    Window {
        /// Keys of the window, at least 1: the query's own is one of them.
        len: usize,
        /// First keys that stay visible.
        keep: usize,
    },
}

/// How an i8 cache is multiplied. Float caches have no use for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Precision {
    /// Products of bytes: queries have 129 levels, probabilities 128. With inputs of unit variance the output's
    /// relative error, the cache's own rounding included, is at most 2.5e-2.
    #[default]
    Fast,
    /// Products of 16-bit words: at most 1e-2, which is the cache's own rounding.
    Accurate,
}

/// Shape of one attention call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape<'a> {
    /// Query heads: a multiple of the key-value heads. Heads h·group..(h+1)·group share key-value head h.
    pub q_heads: usize,
    /// Queries.
    pub q_len: usize,
    /// Keys, at most the cache's capacity.
    pub kv_len: usize,
    /// Which of them a query sees.
    pub mask: Mask,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores s become `soft_cap · tanh(s / soft_cap)`; 0 for no cap.
    pub soft_cap: f32,
    /// One score a query head that takes part in the softmax without a value (a learned attention sink, as in gpt-oss);
    /// empty for none.
    pub sinks: &'a [f32],
    /// How an i8 cache is multiplied.
    pub precision: Precision,
}

impl AttentionShape<'_> {
    /// With the usual scale 1 / √head_dim (Vaswani et al. 2017, equation 1), neither cap nor sinks, the default
    /// precision.
    pub fn new(kv: &KvShape, q_heads: usize, q_len: usize, kv_len: usize, mask: Mask) -> Self {
        let scale = 1.0 / libm::sqrtf(kv.head_dim() as f32);
        Self {
            q_heads,
            q_len,
            kv_len,
            mask,
            scale,
            soft_cap: 0.0,
            sinks: &[],
            precision: Precision::default(),
        }
    }

    /// Keys that query `token` sees. (Wraps for causal shapes with q_len > kv_len, which the entry rejects.)
    #[inline]
    fn visible(&self, token: usize) -> usize {
        match self.mask {
            Mask::Full => self.kv_len,
            Mask::Causal | Mask::Window { .. } => self
                .kv_len
                .wrapping_sub(self.q_len)
                .wrapping_add(token)
                .wrapping_add(1),
        }
    }
}

/// A layer's keys and values; the slices are laid out as [`KvShape`] says.
#[derive(Clone, Copy, Debug)]
pub enum Kv<'a> {
    /// 32-bit floats.
    F32 {
        /// Keys.
        k: &'a [f32],
        /// Values.
        v: &'a [f32],
    },
    /// 16-bit floats.
    F16 {
        /// Keys.
        k: &'a [f16],
        /// Values.
        v: &'a [f16],
    },
    /// bfloat16.
    BF16 {
        /// Keys.
        k: &'a [bf16],
        /// Values.
        v: &'a [bf16],
    },
    /// Bytes: key = `k_scale · (k − 128)`, value = `v_scale · v`.
    I8 {
        /// Keys.
        k: &'a [u8],
        /// Scales of the keys.
        k_scales: &'a [f32],
        /// Values.
        v: &'a [i8],
        /// Scales of the values: at least 0, below 2⁵⁰ (and whatever they are where no key was appended).
        v_scales: &'a [f32],
    },
}

/// A layer's keys and values for writing; see [`Kv`].
#[derive(Debug)]
pub enum KvMut<'a> {
    /// 32-bit floats.
    F32 {
        /// Keys.
        k: &'a mut [f32],
        /// Values.
        v: &'a mut [f32],
    },
    /// 16-bit floats.
    F16 {
        /// Keys.
        k: &'a mut [f16],
        /// Values.
        v: &'a mut [f16],
    },
    /// bfloat16.
    BF16 {
        /// Keys.
        k: &'a mut [bf16],
        /// Values.
        v: &'a mut [bf16],
    },
    /// Bytes with scales.
    I8 {
        /// Keys.
        k: &'a mut [u8],
        /// Scales of the keys.
        k_scales: &'a mut [f32],
        /// Values.
        v: &'a mut [i8],
        /// Scales of the values.
        v_scales: &'a mut [f32],
    },
}

impl KvMut<'_> {
    /// For reading.
    pub fn as_kv(&self) -> Kv<'_> {
        match self {
            Self::F32 { k, v } => Kv::F32 { k, v },
            Self::F16 { k, v } => Kv::F16 { k, v },
            Self::BF16 { k, v } => Kv::BF16 { k, v },
            Self::I8 {
                k,
                k_scales,
                v,
                v_scales,
            } => Kv::I8 {
                k,
                k_scales,
                v,
                v_scales,
            },
        }
    }
}

impl Kv<'_> {
    /// Element type.
    pub const fn dtype(&self) -> KvDtype {
        match self {
            Self::F32 { .. } => KvDtype::F32,
            Self::F16 { .. } => KvDtype::F16,
            Self::BF16 { .. } => KvDtype::BF16,
            Self::I8 { .. } => KvDtype::I8,
        }
    }

    fn check(&self, shape: &KvShape) -> Result<(), ShapeError> {
        let (k_len, v_len, k_scales, v_scales) = match self {
            Kv::F32 { k, v } => (k.len(), v.len(), 0, 0),
            Kv::F16 { k, v } => (k.len(), v.len(), 0, 0),
            Kv::BF16 { k, v } => (k.len(), v.len(), 0, 0),
            Kv::I8 {
                k,
                k_scales,
                v,
                v_scales,
            } => (k.len(), v.len(), k_scales.len(), v_scales.len()),
        };
        let scales = shape.scales_len(self.dtype());
        ShapeError::check_eq("keys", shape.len(), k_len)?;
        ShapeError::check_eq("values", shape.len(), v_len)?;
        ShapeError::check_eq("key scales", scales, k_scales)?;
        ShapeError::check_eq("value scales", scales, v_scales)
    }
}

/// Attention of `q_len` queries to the first `kv_len` keys of a cache.
///
/// `q` and `out` are `(q_len, q_heads, head_dim)`, tokens `q_stride` and `out_stride` elements apart (so that queries
/// can be read in the middle of a fused projection). `scratch` has at least [`attention_scratch_len`] elements.
///
/// Without keys (`kv_len` 0) the output is zero. A NaN or infinite input gives NaN or infinite outputs, in its own rows
/// and, where it lies in a key or a value, also in the up to five rows that share a tile with a row that sees it.
///
/// Accuracy: relative error 1e-6 · √kv_len of the largest |v| or better with f32; the cache's own rounding dominates
/// with f16 (4.9e-4) and i8 (amax / 254 per key and value).
///
/// # Errors
/// [`ShapeError`] if a slice is too short (or the cache not exactly of its shape), if `q_heads` is no multiple of the
/// key-value heads, if `kv_len` exceeds the capacity, or if `mask` is causal and `q_len` exceeds `kv_len`.
#[allow(
    clippy::too_many_arguments,
    reason = "two strided matrices, a cache and scratch: a struct would only rename them"
)]
pub fn attention(
    backend: Backend,
    kv_shape: &KvShape,
    shape: &AttentionShape<'_>,
    q: &[f32],
    q_stride: usize,
    kv: Kv<'_>,
    out: &mut [f32],
    out_stride: usize,
    scratch: &mut [f32],
) -> Result<(), ShapeError> {
    attention_linked::<Everything>(
        backend, kv_shape, shape, q, q_stride, kv, out, out_stride, scratch,
    )
}

/// As [`attention`], for the caches of `L` alone: the code for others is not linked.
///
/// # Errors
/// Those of [`attention`], and a cache that is not one of `L`'s.
#[allow(
    clippy::too_many_arguments,
    reason = "two strided matrices, a cache and scratch: a struct would only rename them"
)]
pub fn attention_linked<L: Linked>(
    backend: Backend,
    kv_shape: &KvShape,
    shape: &AttentionShape<'_>,
    q: &[f32],
    q_stride: usize,
    kv: Kv<'_>,
    out: &mut [f32],
    out_stride: usize,
    scratch: &mut [f32],
) -> Result<(), ShapeError> {
    let width = row_width(kv_shape, shape)?;
    kv.check(kv_shape)?;
    ShapeError::check_at_most("kv_len", kv_shape.capacity(), shape.kv_len)?;
    if shape.mask != Mask::Full {
        ShapeError::check_at_most("q_len of causal attention", shape.kv_len, shape.q_len)?;
    }
    if let Mask::Window { len, .. } = shape.mask {
        ShapeError::check_at_least("window", 1, len)?;
    }
    if !shape.sinks.is_empty() {
        ShapeError::check_eq("sinks", shape.q_heads, shape.sinks.len())?;
    }
    if shape.q_len == 0 {
        return Ok(());
    }
    ShapeError::check_strided("q", shape.q_len, width, q_stride, q.len())?;
    ShapeError::check_strided("out", shape.q_len, width, out_stride, out.len())?;
    let group = shape.q_heads.checked_div(kv_shape.kv_heads()).unwrap_or(1);
    let plan = Plan::new(kv_shape, kv.dtype(), shape.q_len * group);
    ShapeError::check_at_least("scratch", plan.len(), scratch.len())?;
    if shape.kv_len == 0 {
        for row in out.chunks_mut(out_stride.max(1)) {
            row.iter_mut().take(width).for_each(|x| *x = 0.0);
        }
        return Ok(());
    }
    let call = Call {
        kv: kv_shape,
        shape,
        group,
        q,
        q_stride,
        out,
        out_stride,
    };
    let attend = Attend {
        call,
        plan,
        scratch,
    };
    let links = |dtype| L::KINDS.has_kv(dtype, Precision::Fast);
    let done = match kv {
        Kv::F32 { k, v } if links(KvDtype::F32) => {
            attend_f32(backend, AttendFloats { attend, k, v })
        }
        Kv::F16 { k, v } if links(KvDtype::F16) => {
            attend_f16(backend, AttendFloats { attend, k, v })
        }
        Kv::BF16 { k, v } if links(KvDtype::BF16) => {
            attend_bf16(backend, AttendFloats { attend, k, v })
        }
        Kv::I8 {
            k,
            k_scales,
            v,
            v_scales,
        } => {
            let cache = Cache {
                k,
                k_scales,
                v,
                v_scales,
            };
            let links = |precision| L::KINDS.has_kv(KvDtype::I8, precision);
            match shape.precision {
                Precision::Fast if links(Precision::Fast) => {
                    attend_fast(backend, AttendBytes::new(attend, cache))
                }
                Precision::Accurate if links(Precision::Accurate) => {
                    attend_accurate(backend, AttendBytes::new(attend, cache))
                }
                _ => return Err(not_linked()),
            }
        }
        _ => return Err(not_linked()),
    };
    // The checks above leave nothing that could end early; if one were wrong, this is an error and not a panic.
    done.ok_or(ShapeError {
        what: "attention (internal)",
        need: 0,
        have: 0,
    })
}

compiled_here! {
    attend_f32(AttendFloats<'_, f32>) -> Option<()>;
    attend_f16(AttendFloats<'_, f16>) -> Option<()>;
    attend_bf16(AttendFloats<'_, bf16>) -> Option<()>;
    attend_fast(AttendBytes<'_, Fast>) -> Option<()>;
    attend_accurate(AttendBytes<'_, Accurate>) -> Option<()>;
}

/// A checked call.
struct Attend<'a> {
    call: Call<'a>,
    plan: Plan,
    scratch: &'a mut [f32],
}

struct AttendFloats<'a, E> {
    attend: Attend<'a>,
    k: &'a [E],
    v: &'a [E],
}

struct AttendBytes<'a, W> {
    attend: Attend<'a>,
    cache: Cache<'a>,
    width: PhantomData<W>,
}

impl<'a, W> AttendBytes<'a, W> {
    fn new(attend: Attend<'a>, cache: Cache<'a>) -> Self {
        Self {
            attend,
            cache,
            width: PhantomData,
        }
    }
}

/// Runs `$rows::<I, R>(range)` with row groups of the size that suits so many rows: a tile's rows share the loads of
/// keys and values, and all bits are the same whatever the size.
macro_rules! in_groups {
    ($isa:ty, $rows:expr, $call:ident, $main:expr) => {{
        let rows: usize = $rows;
        if !<$isa>::VECTORS {
            // A row at a time: nothing is shared where lanes are no registers, and the code is half as long.
            $call!(1, (0, rows))
        } else {
            match rows {
                1 => $call!(1, (0, rows)),
                2 => $call!(2, (0, rows)),
                3 | 4 | 7 | 8 => $call!(4, (0, rows)),
                _ if $main == 4 => $call!(4, (0, rows)),
                _ => {
                    // One or two rows more than sixes are, with a six, two fours.
                    let fours = match rows % 6 {
                        rest @ 1..=2 => 6 + rest,
                        rest @ 3..=4 => rest,
                        _ => 0,
                    };
                    $call!(4, (0, fours))?;
                    $call!(6, (fours, rows))
                }
            }
        }
    }};
}

impl<E: Element> Kernel for AttendFloats<'_, E> {
    type Output = Option<()>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Option<()> {
        let Self { attend, k, v } = self;
        let Attend {
            mut call,
            plan,
            scratch,
        } = attend;
        macro_rules! groups {
            ($rows:literal, $range:expr) => {{
                let (state, widened) = plan.cut_floats(scratch)?;
                let plan = &plan;
                let mut method = Floats::<E, $rows> {
                    k,
                    v,
                    rows: FloatRows { plan, state },
                    widened,
                };
                walk(isa, &mut call, plan, &mut method, $range)
            }};
        }
        in_groups!(I, call.shape.q_len * call.group, groups, 6)
    }
}

/// Aligned to cache lines: vectors that straddle two take twice as long.
#[repr(align(64))]
struct Lines<T>(T);

impl<W: Width> Kernel for AttendBytes<'_, W> {
    type Output = Option<()>;

    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Option<()> {
        let Self { attend, cache, .. } = self;
        let Attend {
            mut call,
            plan,
            scratch,
        } = attend;
        let mut room;
        let widened: &mut [_] = if W::WIDENS && I::VECTORS {
            room = Lines([Default::default(); WIDENED_LEN]);
            &mut room.0
        } else {
            &mut []
        };
        macro_rules! groups {
            ($rows:literal, $range:expr) => {{
                let mut method = Bytes::<W, $rows> {
                    plan: &plan,
                    cache,
                    state: plan.cut_bytes(scratch)?,
                    widened: &mut *widened,
                };
                walk(isa, &mut call, &plan, &mut method, $range)
            }};
        }
        in_groups!(
            I,
            call.shape.q_len * call.group,
            groups,
            if I::DOT4 { 6 } else { 4 }
        )
    }
}

/// Elements of one token's queries.
fn row_width(kv_shape: &KvShape, shape: &AttentionShape<'_>) -> Result<usize, ShapeError> {
    let kv_heads = kv_shape.kv_heads();
    let error = ShapeError {
        what: "q_heads (a multiple of kv_heads)",
        need: kv_heads,
        have: shape.q_heads,
    };
    if shape.q_heads == 0 || shape.q_heads.checked_rem(kv_heads) != Some(0) {
        return Err(error);
    }
    shape.q_heads.checked_mul(kv_shape.head_dim()).ok_or(error)
}
