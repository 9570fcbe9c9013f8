//! Where blocks of keys and values come from: a float cache as it lies, an i8 cache expanded to f32.

use crate::isa::Isa;
use crate::layout::{KEYS_PER_BLOCK, KvShape};
use half::f16;

/// A float that a cache stores.
pub(super) trait Element: Copy {
    /// Eight of them as f32.
    fn load<I: Isa>(isa: I, from: &[Self; 8]) -> I::F32;
}

impl Element for f32 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f32; 8]) -> I::F32 {
        isa.load(from)
    }
}

impl Element for f16 {
    #[inline(always)]
    fn load<I: Isa>(isa: I, from: &[f16; 8]) -> I::F32 {
        isa.load_f16(from)
    }
}

/// Keys and values of consecutive sixteen-key blocks of one head.
pub(super) trait Source {
    /// What the kernels read.
    type Element: Element;

    /// Blocks `first..first + count` of `head`, keys and values in the float layout. `k` and `v` are space to expand into.
    fn blocks<'a, I: Isa>(
        &'a self,
        isa: I,
        shape: &KvShape,
        at: Blocks,
        k: &'a mut [f32],
        v: &'a mut [f32],
    ) -> Option<KeyBlocks<'a, Self::Element>>;
}

/// Consecutive blocks of a head.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub(super) head: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// Consecutive blocks: keys and values.
pub(super) type KeyBlocks<'a, E> = (&'a [E], &'a [E]);

impl Blocks {
    /// The blocks' part of a slice over all heads with `block_len` elements a block.
    #[inline(always)]
    fn of<'a, T>(&self, shape: &KvShape, block_len: usize, all: &'a [T]) -> Option<&'a [T]> {
        let block = self.head * (shape.capacity() / KEYS_PER_BLOCK) + self.first;
        all.get(block * block_len..)?.get(..self.count * block_len)
    }
}

/// An f32 or f16 cache.
pub(super) struct Floats<'a, E> {
    pub(super) k: &'a [E],
    pub(super) v: &'a [E],
}

impl<E: Element> Source for Floats<'_, E> {
    type Element = E;

    #[inline(always)]
    fn blocks<'a, I: Isa>(
        &'a self,
        _: I,
        shape: &KvShape,
        at: Blocks,
        _: &'a mut [f32],
        _: &'a mut [f32],
    ) -> Option<KeyBlocks<'a, E>> {
        let block_len = shape.block_len();
        Some((
            at.of(shape, block_len, self.k)?,
            at.of(shape, block_len, self.v)?,
        ))
    }
}

/// An i8 cache.
pub(super) struct Bytes<'a> {
    pub(super) k: &'a [u8],
    pub(super) k_scales: &'a [f32],
    pub(super) v: &'a [i8],
    pub(super) v_scales: &'a [f32],
}

impl Source for Bytes<'_> {
    type Element = f32;

    #[inline(always)]
    fn blocks<'a, I: Isa>(
        &'a self,
        isa: I,
        shape: &KvShape,
        at: Blocks,
        k: &'a mut [f32],
        v: &'a mut [f32],
    ) -> Option<KeyBlocks<'a, f32>> {
        let block_len = shape.block_len();
        let k_scales = at.of(shape, KEYS_PER_BLOCK, self.k_scales)?.as_chunks().0;
        let v_scales = at.of(shape, KEYS_PER_BLOCK, self.v_scales)?.as_chunks().0;
        let mut bytes = at.of(shape, block_len, self.k)?;
        let mut floats = k.get_mut(..at.count * block_len)?;
        for scales in k_scales {
            let (block, rest) = bytes.split_at_checked(block_len)?;
            let (to, to_rest) = floats.split_at_mut_checked(block_len)?;
            expand_keys(isa, block, scales, to);
            (bytes, floats) = (rest, to_rest);
        }
        let mut bytes = at.of(shape, block_len, self.v)?;
        let mut floats = v.get_mut(..at.count * block_len)?;
        for scales in v_scales {
            let (block, rest) = bytes.split_at_checked(block_len)?;
            let (to, to_rest) = floats.split_at_mut_checked(block_len)?;
            expand_values(block, scales, shape.head_dim(), to)?;
            (bytes, floats) = (rest, to_rest);
        }
        Some((
            k.get(..at.count * block_len)?,
            v.get(..at.count * block_len)?,
        ))
    }
}

/// `[head_dim / 4][16 keys][4]` bytes to `[head_dim][16 keys]` floats.
#[inline(always)]
fn expand_keys<I: Isa>(isa: I, bytes: &[u8], scales: &[f32; 16], to: &mut [f32]) {
    let quads = bytes.as_chunks::<4>().0.as_chunks::<16>().0;
    let rows = to
        .as_chunks_mut::<8>()
        .0
        .as_chunks_mut::<2>()
        .0
        .as_chunks_mut::<4>()
        .0;
    let [scale0, scale1] = [0, 8].map(|at| core::array::from_fn(|i| scales[at + i]));
    let scales = [isa.load(&scale0), isa.load(&scale1)];
    for (quad, rows) in quads.iter().zip(rows) {
        for (dim, row) in rows.iter_mut().enumerate() {
            let mut keys = [0i8; 16];
            for (key, bytes) in keys.iter_mut().zip(quad) {
                *key = (bytes[dim] ^ 128) as i8;
            }
            for ((to, keys), scales) in row.iter_mut().zip(keys.as_chunks::<8>().0).zip(scales) {
                isa.store(isa.mul(isa.load_i8(keys), scales), to);
            }
        }
    }
}

/// `[4 key quads][head_dim][4]` bytes to `[head_dim / 16][16 keys][16]` floats and the half panel.
#[inline(always)]
fn expand_values(bytes: &[i8], scales: &[f32; 16], head_dim: usize, to: &mut [f32]) -> Option<()> {
    let bytes = bytes.as_chunks::<4>().0;
    let (full, half) = to.split_at_mut_checked(head_dim / 16 * 256)?;
    for (panel, to) in full
        .as_chunks_mut::<16>()
        .0
        .as_chunks_mut::<16>()
        .0
        .iter_mut()
        .enumerate()
    {
        expand_value_panel(bytes.get(panel * 16..)?, scales, head_dim, to)?;
    }
    for to in half.as_chunks_mut::<8>().0.as_chunks_mut::<16>().0 {
        expand_value_panel(bytes.get(head_dim / 16 * 16..)?, scales, head_dim, to)?;
    }
    Some(())
}

/// One panel of N dimensions; `bytes` starts at its first dimension.
#[inline(always)]
fn expand_value_panel<const N: usize>(
    bytes: &[[i8; 4]],
    scales: &[f32; 16],
    head_dim: usize,
    to: &mut [[f32; N]; 16],
) -> Option<()> {
    for (quad, (rows, scales)) in to
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip(scales.as_chunks::<4>().0)
        .enumerate()
    {
        let dims = bytes.get(quad * head_dim..)?.first_chunk::<N>()?;
        for (key, (row, scale)) in rows.iter_mut().zip(scales).enumerate() {
            for (to, dim) in row.iter_mut().zip(dims) {
                *to = f32::from(dim[key]) * scale;
            }
        }
    }
    Some(())
}
