//! The key-value cache: one [`KvShape`] for every layer, its bytes in the session's memory.

use half::{bf16, f16};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::config::{Config, Window};
use crate::error::SessionError;
use crate::kernels::layout::{KvDtype, KvShape};
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
    /// Bytes before the layers of the chosen set.
    set_at: usize,
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

    /// `bytes` are `layers · shape.bytes(dtype)` for each set, at a multiple of 64; the first set is chosen.
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
            set_at: 0,
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

    /// Chooses one of several sets of `layers` layers.
    pub(crate) fn choose(&mut self, set: usize, layers: usize) {
        self.set_at = set.saturating_mul(self.set_bytes(layers));
    }

    /// Makes a set what another one is.
    pub(crate) fn copy_set(&mut self, from: usize, to: usize, layers: usize) {
        let len = self.set_bytes(layers);
        let [from, to] = [from, to].map(|set| set.saturating_mul(len));
        copy_inside(self.bytes, from, to, len);
    }

    fn set_bytes(&self, layers: usize) -> usize {
        self.shape.bytes(self.dtype).saturating_mul(layers)
    }

    /// Keys and values of a layer.
    pub(crate) fn layer(&mut self, layer: usize) -> Result<KvMut<'_>, SessionError> {
        let layer_bytes = self.shape.bytes(self.dtype);
        let (need, have) = (layer_bytes, self.bytes.len());
        let short = SessionError::Memory { need, have };
        let mut rest = self
            .bytes
            .get_mut(
                self.set_at
                    .saturating_add(layer.saturating_mul(layer_bytes))..,
            )
            .ok_or(short)?;
        let (len, scales_len) = (self.shape.len(), self.shape.scales_len(self.dtype));
        Ok(match self.dtype {
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
