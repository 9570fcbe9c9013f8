//! Writing keys and values into the cache.

use super::{KvMut, Precision};
use crate::isa::{Isa, Kernel};
use crate::kinds::not_linked;
use crate::layout::{
    KEYS_PER_BLOCK, KvDtype, KvShape, key_index, key_index_i8, value_index, value_index_i8,
};
use crate::ops::levels::{amax, scale_and_factor};
use crate::{Backend, Everything, Linked, ShapeError};
use core::cmp::Ordering;
use half::{bf16, f16};

/// Writes `n` tokens' keys and values into slots `slot..slot + n` of the cache, modulo its capacity.
///
/// `k` and `v` are `(n, kv_heads, head_dim)`, tokens `stride` elements apart, so that both can lie in the middle of a
/// fused projection. f16 and bf16 round to nearest even; i8 takes a scale of amax / 127 for every key and value of
/// every head, and counts values of magnitudes above 1e17 as infinite.
///
/// # Errors
/// [`ShapeError`] if a slice is too short, if the cache is not of its shape, or if `n` exceeds the capacity.
#[allow(
    clippy::too_many_arguments,
    reason = "two strided matrices and a place: a struct would only rename them"
)]
pub fn append(
    backend: Backend,
    shape: &KvShape,
    kv: KvMut<'_>,
    slot: usize,
    n: usize,
    k: &[f32],
    v: &[f32],
    stride: usize,
) -> Result<(), ShapeError> {
    append_linked::<Everything>(backend, shape, kv, slot, n, k, v, stride)
}

/// As [`append`], for the caches of `L` alone: the code for others is not linked.
///
/// # Errors
/// Those of [`append`], and a cache that is not one of `L`'s.
#[allow(
    clippy::too_many_arguments,
    reason = "two strided matrices and a place: a struct would only rename them"
)]
pub fn append_linked<L: Linked>(
    backend: Backend,
    shape: &KvShape,
    mut kv: KvMut<'_>,
    slot: usize,
    n: usize,
    k: &[f32],
    v: &[f32],
    stride: usize,
) -> Result<(), ShapeError> {
    let links = |precision| L::KINDS.has_kv(kv.as_kv().dtype(), precision);
    if !links(Precision::Fast) && !links(Precision::Accurate) {
        return Err(not_linked());
    }
    let width = shape.kv_heads() * shape.head_dim();
    kv.as_kv().check(shape)?;
    ShapeError::check_at_most("appended keys", shape.capacity(), n)?;
    ShapeError::check_strided("k", n, width, stride, k.len())?;
    ShapeError::check_strided("v", n, width, stride, v.len())?;
    for token in 0..n {
        // `slot` may be any position of a ring; the capacity is never 0.
        let slot = slot
            .wrapping_add(token)
            .checked_rem(shape.capacity())
            .unwrap_or(0);
        let place = Place {
            shape: *shape,
            slot,
        };
        let at = token * stride;
        let done = match (k.get(at..), v.get(at..)) {
            (Some(k), Some(v)) => place.write::<L>(backend, &mut kv, k, v),
            _ => None,
        };
        done.ok_or(ShapeError {
            what: "append (internal)",
            need: 0,
            have: token,
        })?;
    }
    Ok(())
}

/// Scales of values are below this: the logarithms of the products of a scale and a probability, and 2⁻⁸⁰ for hidden
/// keys, lie within the range of f32.
const VALUE_SCALE_MAX: f32 = (1u64 << 50) as f32;

/// Where one token goes.
#[derive(Clone, Copy)]
struct Place {
    shape: KvShape,
    slot: usize,
}

impl Place {
    /// All heads of one token.
    fn write<L: Linked>(
        self,
        backend: Backend,
        kv: &mut KvMut<'_>,
        k: &[f32],
        v: &[f32],
    ) -> Option<()> {
        let links = |dtype| {
            L::KINDS.has_kv(dtype, Precision::Fast) || L::KINDS.has_kv(dtype, Precision::Accurate)
        };
        let from = (k, v);
        match kv {
            KvMut::F32 { k, v } if links(KvDtype::F32) => self.write_f32(from, (k, v)),
            KvMut::F16 { k, v } if links(KvDtype::F16) => self.write_f16(from, (k, v)),
            KvMut::BF16 { k, v } if links(KvDtype::BF16) => self.write_bf16(from, (k, v)),
            KvMut::I8 {
                k,
                k_scales,
                v,
                v_scales,
            } if links(KvDtype::I8) => self.write_i8(backend, from, (k, v), (k_scales, v_scales)),
            _ => None,
        }
    }

    // Functions without type parameters, for the reasons of `compiled_here`.

    #[inline(never)]
    fn write_f32(self, from: (&[f32], &[f32]), to: (&mut [f32], &mut [f32])) -> Option<()> {
        self.write_floats(from, to, |x| x)
    }

    #[inline(never)]
    fn write_f16(self, from: (&[f32], &[f32]), to: (&mut [f16], &mut [f16])) -> Option<()> {
        self.write_floats(from, to, f16::from_f32)
    }

    #[inline(never)]
    fn write_bf16(self, from: (&[f32], &[f32]), to: (&mut [bf16], &mut [bf16])) -> Option<()> {
        self.write_floats(from, to, bf16::from_f32)
    }

    #[inline(always)]
    fn write_floats<T>(
        self,
        from: (&[f32], &[f32]),
        to: (&mut [T], &mut [T]),
        convert: impl Fn(f32) -> T,
    ) -> Option<()> {
        let head_dim = self.shape.head_dim();
        for head in 0..self.shape.kv_heads() {
            let (k, v) = self.vectors(head, from)?;
            let index = |dim| key_index(self.slot, dim);
            scatter(k, self.block(head, to.0)?, index, &convert)?;
            let index = |dim| value_index(head_dim, self.slot, dim);
            scatter(v, self.block(head, to.1)?, index, &convert)?;
        }
        Some(())
    }

    #[inline(never)]
    fn write_i8(
        self,
        backend: Backend,
        from: (&[f32], &[f32]),
        to: (&mut [u8], &mut [i8]),
        scales: (&mut [f32], &mut [f32]),
    ) -> Option<()> {
        let head_dim = self.shape.head_dim();
        for head in 0..self.shape.kv_heads() {
            let (k, v) = self.vectors(head, from)?;
            let to_keys = Quantized {
                to: self.block(head, to.0)?,
                index: |dim| key_index_i8(self.slot, dim),
            };
            let mut k_scale = backend.run(Quantize {
                from: k,
                to: to_keys,
                code: |q| q as u8 ^ 128,
            })?;
            let to_values = Quantized {
                to: self.block(head, to.1)?,
                index: |dim| value_index_i8(head_dim, self.slot, dim),
            };
            let mut v_scale = backend.run(Quantize {
                from: v,
                to: to_values,
                code: |q| q,
            })?;
            // (A NaN is not below.)
            if !matches!(v_scale.partial_cmp(&VALUE_SCALE_MAX), Some(Ordering::Less)) {
                // Whoever sees the key shall see it; the others' levels must stay finite.
                (k_scale, v_scale) = (f32::NAN, 0.0);
            }
            let scale = head * self.shape.capacity() + self.slot;
            *scales.0.get_mut(scale)? = k_scale;
            *scales.1.get_mut(scale)? = v_scale;
        }
        Some(())
    }

    /// Key and value of `head`.
    #[inline(always)]
    fn vectors<'a>(
        &self,
        head: usize,
        (k, v): (&'a [f32], &'a [f32]),
    ) -> Option<(&'a [f32], &'a [f32])> {
        let head_dim = self.shape.head_dim();
        let k = k.get(head * head_dim..)?.get(..head_dim)?;
        let v = v.get(head * head_dim..)?.get(..head_dim)?;
        Some((k, v))
    }

    /// The block of `head` that the token goes into.
    fn block<'a, T>(&self, head: usize, all: &'a mut [T]) -> Option<&'a mut [T]> {
        let block = head * (self.shape.capacity() / KEYS_PER_BLOCK) + self.slot / KEYS_PER_BLOCK;
        let len = self.shape.block_len();
        all.get_mut(block * len..)?.get_mut(..len)
    }
}

/// Writes each element to its index.
#[inline(always)]
fn scatter<T>(
    from: &[f32],
    to: &mut [T],
    index: impl Fn(usize) -> usize,
    convert: impl Fn(f32) -> T,
) -> Option<()> {
    for (dim, x) in from.iter().enumerate() {
        *to.get_mut(index(dim))? = convert(*x);
    }
    Some(())
}

/// A place for bytes.
struct Quantized<'a, T, F> {
    to: &'a mut [T],
    index: F,
}

/// Rounds a vector to ±127 steps of amax / 127 and returns the step; NaN if an element is infinite or NaN.
struct Quantize<'a, T, F, C> {
    from: &'a [f32],
    to: Quantized<'a, T, F>,
    code: C,
}

impl<T, F: Fn(usize) -> usize, C: Fn(i8) -> T> Kernel for Quantize<'_, T, F, C> {
    type Output = Option<f32>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Option<f32> {
        let lanes = self.from.as_chunks::<8>().0;
        let (scale, to_levels) = scale_and_factor(amax(isa, self.from), 127.0);
        let inverse = isa.splat(to_levels);
        for (chunk, x) in lanes.iter().enumerate() {
            let mut bytes = [0; 8];
            isa.store_i8(isa.round_i32(isa.mul(isa.load(x), inverse)), &mut bytes);
            for (lane, byte) in bytes.into_iter().enumerate() {
                *self.to.to.get_mut((self.to.index)(chunk * 8 + lane))? = (self.code)(byte);
            }
        }
        Some(scale)
    }
}
