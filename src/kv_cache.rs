//! The key-value cache: one [`KvShape`] for every layer, its bytes in the session's memory.

use half::{bf16, f16};
use heapless::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::config::{Config, Window};
use crate::error::SessionError;
use crate::kernels::layout::{KEYS_PER_BLOCK, KvDtype, KvShape};
use crate::kernels::ops::attention::{KvMut, Mask};
use crate::options::{SessionOptions, WhenFull};
use crate::run::copy_inside;

/// Where in the cache a position lies, and what of the cache a query sees.
///
/// A text lies in the order of its positions until the cache is full. From there on a ring turns: each token takes the
/// slot of the oldest, but for the first `keep` tokens of a model whose windows keep them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    /// Slots; more than `keep`.
    pub(crate) capacity: usize,
    /// First slots that never turn.
    pub(crate) keep: usize,
}

impl Places {
    /// The slot of a position.
    pub(crate) fn slot(&self, position: usize) -> usize {
        if position < self.capacity {
            return position;
        }
        let turning = self.capacity.saturating_sub(self.keep);
        let turned = position.saturating_sub(self.keep);
        self.keep
            .saturating_add(turned.checked_rem(turning).unwrap_or(0))
    }

    /// The first slots that matter to `n` queries from position `first` on, and which of these each query sees. Past
    /// the end of a ring there is one query, n = 1.
    ///
    /// A window of the newest keys that lies across the ring's end is two ranges of slots: from `keep` to the query's
    /// own, and as many before the end as are missing. With the kept keys before the first range that is again a window
    /// at the end of the slots and some slots at their beginning.
    pub(crate) fn seen(&self, window: Option<Window>, first: usize, n: usize) -> (usize, Mask) {
        let seen = first.saturating_add(n);
        let Some(Window { len, keep, .. }) = window else {
            return match seen > self.capacity {
                false => (seen, Mask::Causal),
                true => (self.capacity, Mask::Full),
            };
        };
        if seen <= self.capacity {
            return (seen, Mask::Window { len, keep });
        }
        let len = len.min(self.capacity.saturating_sub(self.keep));
        let end = self.slot(first).saturating_add(1);
        // Slots from the first that turns to the query's own.
        let newest = end.saturating_sub(self.keep);
        match len.saturating_sub(newest) {
            0 => (end, Mask::Window { len, keep }),
            older => {
                let mask = Mask::Window {
                    len: older,
                    keep: end,
                };
                (self.capacity, mask)
            }
        }
    }
}

/// Keys and values of all layers; a layer is `[keys][values]`, with i8 also `[key scales][value scales]`.
#[derive(Debug)]
pub(crate) struct KvCache<'m> {
    shape: KvShape,
    dtype: KvDtype,
    places: Places,
    bytes: &'m mut [u8],
}

impl<'m> KvCache<'m> {
    /// Shape of a layer's cache for `len` positions; `None` if it exceeds the address space.
    pub(crate) const fn shape_of(config: &Config, len: usize) -> Option<KvShape> {
        match KvShape::new(config.kv_heads, config.head_dim, len) {
            Ok(shape) => Some(shape),
            Err(_) => None,
        }
    }

    /// `bytes` are `layers · shape.bytes(dtype)` for each set, at a multiple of 64.
    pub(crate) fn new(
        config: &Config,
        options: &SessionOptions,
        shape: KvShape,
        bytes: &'m mut [u8],
    ) -> Self {
        let keep = match options.when_full {
            WhenFull::Error => 0,
            WhenFull::Ring => config.attention.keep(),
        };
        Self {
            shape,
            dtype: options.kv,
            places: Places {
                capacity: shape.capacity(),
                keep,
            },
            bytes,
        }
    }

    pub(crate) const fn places(&self) -> Places {
        self.places
    }

    pub(crate) const fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Forgets everything. Kernels read whole blocks, so what lies in unused places must be finite.
    pub(crate) fn clear(&mut self) {
        self.bytes.fill(0);
    }

    /// Makes the first `len` positions of a set what they are in another one.
    pub(crate) fn copy_set(&mut self, from: usize, to: usize, layers: usize, len: usize) {
        let set_bytes = self.set_bytes(layers);
        let [from, to] = [from, to].map(|set| set.saturating_mul(set_bytes));
        let (shape, dtype) = (self.shape, self.dtype);
        let (heads, capacity) = (shape.kv_heads(), shape.capacity());
        let used = len.next_multiple_of(KEYS_PER_BLOCK).min(capacity);
        // Bytes of a position's keys or values, and of the scale of either.
        let elements = shape.head_dim().saturating_mul(dtype.element_bytes());
        let scale = match shape.scales_len(dtype) {
            0 => 0,
            _ => size_of::<f32>(),
        };
        let mut at = 0_usize;
        // Keys and values, then their scales; heads lie one after the other in all of them.
        let widths = [elements, elements, scale, scale];
        for _ in 0..layers {
            for width in widths {
                for _ in 0..heads {
                    let [from, to] = [from, to].map(|set| set.saturating_add(at));
                    copy_inside(self.bytes, from, to, used.saturating_mul(width));
                    at = at.saturating_add(capacity.saturating_mul(width));
                }
            }
        }
    }

    fn set_bytes(&self, layers: usize) -> usize {
        self.shape.bytes(self.dtype).saturating_mul(layers)
    }

    /// Keys and values of a layer, of the first set.
    pub(crate) fn layer(&mut self, layer: usize) -> Result<KvMut<'_>, SessionError> {
        cut(self.bytes, layer, &self.shape, self.dtype)
    }

    /// Those of all sets of `layers` layers.
    pub(crate) fn layer_of_sets(
        &mut self,
        layer: usize,
        layers: usize,
    ) -> Result<Vec<KvMut<'_>, { SessionOptions::BEAMS_MAX }>, SessionError> {
        let set_bytes = self.set_bytes(layers).max(1);
        let mut sets = Vec::new();
        for set in self.bytes.chunks_exact_mut(set_bytes) {
            // There is room: a push is refused where the vector is full.
            let _ = sets.push(cut(set, layer, &self.shape, self.dtype)?);
        }
        Ok(sets)
    }
}

/// Keys and values of a layer, of the bytes of all.
fn cut<'a>(
    layers: &'a mut [u8],
    layer: usize,
    shape: &KvShape,
    dtype: KvDtype,
) -> Result<KvMut<'a>, SessionError> {
    let layer_bytes = shape.bytes(dtype);
    let (need, have) = (layer_bytes, layers.len());
    let short = SessionError::Memory { need, have };
    let mut rest = layers
        .get_mut(layer.saturating_mul(layer_bytes)..)
        .ok_or(short)?;
    let (len, scales_len) = (shape.len(), shape.scales_len(dtype));
    Ok(match dtype {
        KvDtype::F32 => KvMut::F32 {
            k: take(&mut rest, len)?,
            v: take(&mut rest, len)?,
        },
        KvDtype::F16 => KvMut::F16 {
            k: take::<f16>(&mut rest, len)?,
            v: take(&mut rest, len)?,
        },
        KvDtype::BF16 => KvMut::BF16 {
            k: take::<bf16>(&mut rest, len)?,
            v: take(&mut rest, len)?,
        },
        KvDtype::I8 => {
            let (k, v) = (take(&mut rest, len)?, take(&mut rest, len)?);
            KvMut::I8 {
                k,
                k_scales: take(&mut rest, scales_len)?,
                v,
                v_scales: take(&mut rest, scales_len)?,
            }
        }
    })
}

/// The first `len` elements of `rest`, which is left with what follows them.
pub(crate) fn take<'m, T: FromBytes + IntoBytes + Immutable + KnownLayout>(
    rest: &mut &'m mut [u8],
    len: usize,
) -> Result<&'m mut [T], SessionError> {
    let (need, have) = (len.saturating_mul(size_of::<T>()), rest.len());
    let (head, tail) = core::mem::take(rest)
        .split_at_mut_checked(need)
        .ok_or(SessionError::Memory { need, have })?;
    *rest = tail;
    let offset = head.as_ptr().addr() % align_of::<T>();
    <[T]>::mut_from_bytes(head).map_err(|_| SessionError::Misaligned { offset })
}
