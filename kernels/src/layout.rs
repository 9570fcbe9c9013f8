//! Where each element of a packed weight matrix and of a key-value cache lies.
//!
//! Both are panels of sixteen: two vector registers of AVX2, four of NEON, so that every load of a kernel's inner loop
//! is contiguous. All functions are `const`, so that memory can be reserved at compile time; lengths count elements.

use crate::ShapeError;

/// Rows of a weight panel.
pub const PANEL: usize = 16;

/// Columns that share a scale in the grouped formats, and to whose multiple the integer formats pad their columns.
pub const GROUP: usize = 32;

/// How the elements of a weight matrix of shape `(rows, cols)` are stored. With `panels = ceil(rows / 16)`,
/// `groups = ceil(cols / 32)`; rows and columns beyond the matrix are zeros:
///
/// | format | data | scales (f16) | corrections |
/// |---|---|---|---|
/// | `F32`, `F16` | `[panels][cols][16]` | | |
/// | `I8Row` | i8 `[panels][8·groups][16][4]` | `[panels][16]` | i32 `[panels][16]`: −64·Σ w |
/// | `I8Group32` | as `I8Row` | `[panels][groups][16]` | |
/// | `I4Group32` | u8 `[panels][groups][4][16][4]`, two nibbles each | `[panels][groups][16]` | |
/// | `U4Group32` | as `I4Group32` | `[panels][groups][16]` | minima: f16 `[panels][groups][16]` |
///
/// The corrections take an offset of 64 off activations, which share one scale a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WeightFormat {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Bytes in ±127 with a scale per row.
    I8Row,
    /// Bytes in ±127 with a scale per row and 32 columns.
    I8Group32,
    /// Nibbles `w + 8`, w in −8..=7, with a scale per row and 32 columns. Byte `[s][r][c]` of a group holds columns
    /// `8s + c` (low nibble) and `8s + 4 + c` (high nibble) of row r.
    I4Group32,
    /// Nibbles in 0..=15 with a scale and a minimum per row and 32 columns: a weight is scale · nibble + minimum.
    /// Nibbles lie as in [`I4Group32`](Self::I4Group32). Rows beyond the
    /// matrix have scale and minimum 0, columns beyond it nibble 0 (there the activations are zero).
    U4Group32,
}

/// Lengths of a packed matrix's parts, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightLens {
    /// Elements of the data: floats, or bytes of the integer formats.
    pub data: usize,
    /// f16 scales.
    pub scales: usize,
    /// i32 corrections.
    pub corrections: usize,
    /// f16 minima.
    pub minima: usize,
}

/// Rows rounded up to whole panels; saturates, so that a length made of it is never too small.
pub const fn rows_padded(rows: usize) -> usize {
    match rows.checked_next_multiple_of(PANEL) {
        Some(rows) => rows,
        None => usize::MAX,
    }
}

/// Columns as stored: rounded up to whole groups in the integer formats; saturates.
pub const fn cols_padded(format: WeightFormat, cols: usize) -> usize {
    match format {
        WeightFormat::F32 | WeightFormat::F16 => cols,
        _ => match cols.checked_next_multiple_of(GROUP) {
            Some(cols) => cols,
            None => usize::MAX,
        },
    }
}

/// Lengths of a packed matrix of shape `(rows, cols)`; `None` if they overflow (a hostile file, a 16-bit processor).
pub const fn weight_lens(format: WeightFormat, rows: usize, cols: usize) -> Option<WeightLens> {
    let rows = rows_padded(rows);
    let cols = cols_padded(format, cols);
    let Some(elements) = rows.checked_mul(cols) else {
        return None;
    };
    let groups = elements / GROUP;
    let (data, scales, corrections, minima) = match format {
        WeightFormat::F32 | WeightFormat::F16 => (elements, 0, 0, 0),
        WeightFormat::I8Row => (elements, rows, rows, 0),
        WeightFormat::I8Group32 => (elements, groups, 0, 0),
        WeightFormat::I4Group32 => (elements / 2, groups, 0, 0),
        WeightFormat::U4Group32 => (elements / 2, groups, 0, groups),
    };
    Some(WeightLens {
        data,
        scales,
        corrections,
        minima,
    })
}

/// Keys of a key-value block.
pub const KEYS_PER_BLOCK: usize = 16;

/// The largest head.
pub const HEAD_DIM_MAX: usize = 256;

/// Element type of a key-value cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum KvDtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16: the range of f32 with eight bits of precision.
    BF16,
    /// Bytes in ±127 with an f32 scale per key (and per value), head by head.
    I8,
}

impl KvDtype {
    /// Bytes of an element, without its scale.
    pub const fn element_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::I8 => 1,
        }
    }
}

/// Shape of one layer's key-value cache.
///
/// Keys and values are two slices `[kv_heads][capacity / 16][block]`, a block being sixteen keys of one head:
///
/// | dtype | key block | value block | scales |
/// |---|---|---|---|
/// | f32, f16, bf16 | `[head_dim][16 keys]` | `[head_dim / 16][16 keys][16]`, then `[16 keys][8]` if head_dim % 16 = 8 | |
/// | i8 | `[head_dim / 4][16 keys][4]`, u8: 128 + q | `[4 key quads][head_dim][4 keys]`, i8: q | f32 `[kv_heads][capacity]` each |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct KvShape {
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
}

impl KvShape {
    /// A cache for `capacity` keys (rounded up to a multiple of 16) of `kv_heads` heads.
    ///
    /// # Errors
    /// `head_dim` must be a multiple of 8 in 8..=256, `kv_heads` and `capacity` at least 1, and the cache must fit half
    /// of the address space in f32.
    pub const fn new(
        kv_heads: usize,
        head_dim: usize,
        capacity: usize,
    ) -> Result<Self, ShapeError> {
        if head_dim == 0 || !head_dim.is_multiple_of(8) || head_dim > HEAD_DIM_MAX {
            let need = if head_dim > HEAD_DIM_MAX {
                HEAD_DIM_MAX
            } else {
                (head_dim | 7).wrapping_add(1)
            };
            return Err(ShapeError {
                what: "head_dim",
                need,
                have: head_dim,
            });
        }
        if kv_heads == 0 {
            return Err(ShapeError {
                what: "kv_heads",
                need: 1,
                have: 0,
            });
        }
        if capacity == 0 {
            return Err(ShapeError {
                what: "capacity",
                need: 1,
                have: 0,
            });
        }
        let too_large = ShapeError {
            what: "capacity",
            need: usize::MAX / 8,
            have: capacity,
        };
        let Some(capacity) = capacity.checked_next_multiple_of(KEYS_PER_BLOCK) else {
            return Err(too_large);
        };
        let Some(width) = kv_heads.checked_mul(head_dim) else {
            return Err(too_large);
        };
        match capacity.checked_mul(width) {
            Some(len) if len <= usize::MAX / 8 => Ok(Self {
                kv_heads,
                head_dim,
                capacity,
            }),
            _ => Err(too_large),
        }
    }

    /// The shape of `kv_heads` of the heads.
    ///
    /// # Errors
    /// None, or more than there are.
    pub const fn heads_part(&self, kv_heads: usize) -> Result<Self, ShapeError> {
        if kv_heads == 0 || kv_heads > self.kv_heads {
            return Err(ShapeError {
                what: "kv_heads of a part",
                need: self.kv_heads,
                have: kv_heads,
            });
        }
        Ok(Self { kv_heads, ..*self })
    }

    /// Key-value heads.
    pub const fn kv_heads(&self) -> usize {
        self.kv_heads
    }
    /// Elements of a head: a multiple of 8 up to 256.
    pub const fn head_dim(&self) -> usize {
        self.head_dim
    }
    /// Keys that fit: a multiple of 16.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }
    /// Elements of a block of keys, and of a block of values.
    pub const fn block_len(&self) -> usize {
        self.head_dim * KEYS_PER_BLOCK
    }
    /// Elements of one head's keys, and of its values.
    pub const fn head_len(&self) -> usize {
        self.head_dim * self.capacity
    }
    /// Elements of all keys, and of all values.
    pub const fn len(&self) -> usize {
        self.kv_heads * self.head_len()
    }
    /// Never: a cache holds at least sixteen keys.
    pub const fn is_empty(&self) -> bool {
        false
    }
    /// f32 scales of the keys, and of the values: none unless i8.
    pub const fn scales_len(&self, dtype: KvDtype) -> usize {
        match dtype {
            KvDtype::F32 | KvDtype::F16 | KvDtype::BF16 => 0,
            KvDtype::I8 => self.kv_heads * self.capacity,
        }
    }
    /// Bytes of the whole cache: keys, values and scales.
    pub const fn bytes(&self, dtype: KvDtype) -> usize {
        2 * (dtype.element_bytes() * self.len() + 4 * self.scales_len(dtype))
    }
}

/// Where element `dim` of key `key % 16` lies in a float key block.
#[inline(always)]
pub const fn key_index(key: usize, dim: usize) -> usize {
    dim * KEYS_PER_BLOCK + key % KEYS_PER_BLOCK
}

/// Where element `dim` of value `key % 16` lies in a float value block.
#[inline(always)]
pub const fn value_index(head_dim: usize, key: usize, dim: usize) -> usize {
    let panel = dim / 16;
    let width = if head_dim - panel * 16 < 16 { 8 } else { 16 };
    panel * 16 * KEYS_PER_BLOCK + (key % KEYS_PER_BLOCK) * width + dim % 16
}

/// Where element `dim` of key `key % 16` lies in an i8 key block.
#[inline(always)]
pub const fn key_index_i8(key: usize, dim: usize) -> usize {
    (dim / 4) * KEYS_PER_BLOCK * 4 + (key % KEYS_PER_BLOCK) * 4 + dim % 4
}

/// Where element `dim` of value `key % 16` lies in an i8 value block.
#[inline(always)]
pub const fn value_index_i8(head_dim: usize, key: usize, dim: usize) -> usize {
    (key % KEYS_PER_BLOCK / 4) * head_dim * 4 + dim * 4 + key % 4
}

// The layouts are part of the file format and of saved sessions: a change must not pass unnoticed.
const _: () = {
    let Some(lens) = weight_lens(WeightFormat::I4Group32, 17, 33) else {
        panic!()
    };
    assert!(lens.data == 32 * 64 / 2 && lens.scales == 32 * 2 && lens.corrections == 0);
    assert!(weight_lens(WeightFormat::F32, usize::MAX, 2).is_none());
    let Ok(shape) = KvShape::new(2, 24, 17) else {
        panic!()
    };
    assert!(shape.capacity() == 32 && shape.len() == 2 * 24 * 32);
    assert!(shape.bytes(KvDtype::I8) == 2 * (2 * 24 * 32 + 4 * 2 * 32));
    assert!(value_index(24, 17, 15) == 31 && value_index(24, 17, 16) == 256 + 8);
};
