//! Caches of some of the heads: a head's keys, values and scales lie together, so that cores can share a layer.

use core::ops::Range;

use super::{Kv, KvMut};
use crate::ShapeError;
use crate::layout::KvShape;

impl<'a> Kv<'a> {
    /// The cache of the key-value heads `heads` alone, of a layer of that shape. Its own shape is that of
    /// [`KvShape::heads_part`].
    ///
    /// # Errors
    /// [`ShapeError`] when there are no such heads.
    pub fn heads_part(&self, shape: &KvShape, heads: Range<usize>) -> Result<Self, ShapeError> {
        fn cut<T>(all: &[T], per_head: usize, heads: Range<usize>) -> Result<&[T], ShapeError> {
            let error = short(all.len(), per_head, heads.end);
            let from = heads.start.saturating_mul(per_head);
            let to = heads.end.saturating_mul(per_head);
            all.get(from..to).ok_or(error)
        }
        let (len, scales) = (shape.head_len(), shape.capacity());
        Ok(match *self {
            Kv::F32 { k, v } => Kv::F32 {
                k: cut(k, len, heads.clone())?,
                v: cut(v, len, heads)?,
            },
            Kv::F16 { k, v } => Kv::F16 {
                k: cut(k, len, heads.clone())?,
                v: cut(v, len, heads)?,
            },
            Kv::BF16 { k, v } => Kv::BF16 {
                k: cut(k, len, heads.clone())?,
                v: cut(v, len, heads)?,
            },
            Kv::I8 {
                k,
                k_scales,
                v,
                v_scales,
            } => Kv::I8 {
                k: cut(k, len, heads.clone())?,
                k_scales: cut(k_scales, scales, heads.clone())?,
                v: cut(v, len, heads.clone())?,
                v_scales: cut(v_scales, scales, heads)?,
            },
        })
    }
}

impl<'a> KvMut<'a> {
    /// The same for a while.
    pub fn reborrow(&mut self) -> KvMut<'_> {
        match self {
            KvMut::F32 { k, v } => KvMut::F32 { k, v },
            KvMut::F16 { k, v } => KvMut::F16 { k, v },
            KvMut::BF16 { k, v } => KvMut::BF16 { k, v },
            KvMut::I8 {
                k,
                k_scales,
                v,
                v_scales,
            } => KvMut::I8 {
                k,
                k_scales,
                v,
                v_scales,
            },
        }
    }

    /// The caches of the first `heads` key-value heads and of the rest, of a layer of that shape (or, cut before, of
    /// its last heads).
    ///
    /// # Errors
    /// [`ShapeError`] when there are fewer heads.
    pub fn split_at_head(self, shape: &KvShape, heads: usize) -> Result<(Self, Self), ShapeError> {
        type Halves<'a, T> = (&'a mut [T], &'a mut [T]);
        fn cut<T>(
            all: &mut [T],
            per_head: usize,
            heads: usize,
        ) -> Result<Halves<'_, T>, ShapeError> {
            let error = short(all.len(), per_head, heads);
            all.split_at_mut_checked(heads.saturating_mul(per_head))
                .ok_or(error)
        }
        let (len, scales) = (shape.head_len(), shape.capacity());
        Ok(match self {
            KvMut::F32 { k, v } => {
                let ((k0, k1), (v0, v1)) = (cut(k, len, heads)?, cut(v, len, heads)?);
                (KvMut::F32 { k: k0, v: v0 }, KvMut::F32 { k: k1, v: v1 })
            }
            KvMut::F16 { k, v } => {
                let ((k0, k1), (v0, v1)) = (cut(k, len, heads)?, cut(v, len, heads)?);
                (KvMut::F16 { k: k0, v: v0 }, KvMut::F16 { k: k1, v: v1 })
            }
            KvMut::BF16 { k, v } => {
                let ((k0, k1), (v0, v1)) = (cut(k, len, heads)?, cut(v, len, heads)?);
                (KvMut::BF16 { k: k0, v: v0 }, KvMut::BF16 { k: k1, v: v1 })
            }
            KvMut::I8 {
                k,
                k_scales,
                v,
                v_scales,
            } => {
                let ((k0, k1), (v0, v1)) = (cut(k, len, heads)?, cut(v, len, heads)?);
                let (ks0, ks1) = cut(k_scales, scales, heads)?;
                let (vs0, vs1) = cut(v_scales, scales, heads)?;
                let half = |k, k_scales, v, v_scales| KvMut::I8 {
                    k,
                    k_scales,
                    v,
                    v_scales,
                };
                (half(k0, ks0, v0, vs0), half(k1, ks1, v1, vs1))
            }
        })
    }
}

fn short(have: usize, per_head: usize, heads: usize) -> ShapeError {
    ShapeError {
        what: "cache of the heads",
        need: heads.saturating_mul(per_head),
        have,
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::{Kv, KvMut};
    use crate::layout::KvShape;

    #[test]
    fn parts_are_the_heads() {
        let shape = KvShape::new(5, 8, 32).unwrap();
        let mut k: vec::Vec<u8> = (0..5).flat_map(|head| vec![head; 256]).collect();
        let mut v: vec::Vec<i8> = (0..5).flat_map(|head| vec![-head; 256]).collect();
        let mut k_scales: vec::Vec<f32> = (0..160u8).map(|i| f32::from(i / 32)).collect();
        let mut v_scales = k_scales.clone();
        let cache = || Kv::I8 {
            k: &k,
            k_scales: &k_scales,
            v: &v,
            v_scales: &v_scales,
        };
        let part_shape = shape.heads_part(2).unwrap();
        let part = cache().heads_part(&shape, 2..4).unwrap();
        part.check(&part_shape).unwrap();
        let holds = |part: Kv<'_>, heads: [u8; 2]| match part {
            Kv::I8 {
                k,
                k_scales,
                v,
                v_scales,
            } => {
                [k[0], k[511]] == heads
                    && [v[0], v[511]] == heads.map(|head| -(head as i8))
                    && [k_scales[0], k_scales[63]] == heads.map(f32::from)
                    && [v_scales[0], v_scales[63]] == heads.map(f32::from)
            }
            _ => false,
        };
        assert!(holds(part, [2, 3]));
        assert!(cache().heads_part(&shape, 4..6).is_err());
        let cache = KvMut::I8 {
            k: &mut k,
            k_scales: &mut k_scales,
            v: &mut v,
            v_scales: &mut v_scales,
        };
        let (left, right) = cache.split_at_head(&shape, 3).unwrap();
        left.as_kv().check(&shape.heads_part(3).unwrap()).unwrap();
        let (right, last) = right.split_at_head(&shape, 2).unwrap();
        assert!(holds(right.as_kv(), [3, 4]));
        last.as_kv().check(&part_shape).unwrap_err();
        assert!(right.split_at_head(&shape, 3).is_err());
    }
}
