//! The key-value cache: one [`KvShape`] for every layer, its bytes in the session's memory.

use half::{bf16, f16};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::config::Config;
use crate::error::SessionError;
use crate::kernels::layout::{KvDtype, KvShape};
use crate::kernels::ops::attention::KvMut;
use crate::options::SessionOptions;

/// Keys and values of all layers; a layer is `[keys][values]`, with i8 also `[key scales][value scales]`.
#[derive(Debug)]
pub(crate) struct KvCache<'m> {
    shape: KvShape,
    dtype: KvDtype,
    bytes: &'m mut [u8],
}

impl<'m> KvCache<'m> {
    /// Shape of a layer's cache; `None` if it exceeds the address space.
    pub(crate) const fn shape_of(config: &Config, options: &SessionOptions) -> Option<KvShape> {
        match KvShape::new(config.kv_heads, config.head_dim, options.context_len) {
            Ok(shape) => Some(shape),
            Err(_) => None,
        }
    }

    /// `bytes` are `layers · shape.bytes(dtype)`, at a multiple of 64.
    pub(crate) fn new(shape: KvShape, dtype: KvDtype, bytes: &'m mut [u8]) -> Self {
        Self {
            shape,
            dtype,
            bytes,
        }
    }

    pub(crate) const fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Forgets everything. Kernels read whole blocks, so what lies in unused places must be finite.
    pub(crate) fn clear(&mut self) {
        self.bytes.fill(0);
    }

    /// Keys and values of a layer.
    pub(crate) fn layer(&mut self, layer: usize) -> Result<KvMut<'_>, SessionError> {
        let layer_bytes = self.shape.bytes(self.dtype);
        let (need, have) = (layer_bytes, self.bytes.len());
        let short = SessionError::Memory { need, have };
        let mut rest = self
            .bytes
            .get_mut(layer.saturating_mul(layer_bytes)..)
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
