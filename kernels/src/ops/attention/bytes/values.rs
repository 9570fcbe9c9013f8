//! Values, weighted by levels of probabilities.

use super::pieces::Piece;
use super::{Bytes, PREFETCH};
use crate::isa::Isa;
use crate::layout::KEYS_PER_BLOCK;
use crate::ops::attention::call::{Blocks, Call};
use crate::ops::attention::plan::{PIECES, QUADS_I8, Tile};
use crate::ops::attention::width::Width;

impl<W: Width, const R: usize> Bytes<'_, W, R> {
    /// Adds the pieces' values, weighted, to the outputs.
    #[inline(always)]
    pub(super) fn values<I: Isa>(
        &mut self,
        isa: I,
        call: &Call<'_>,
        at: Blocks,
        pieces: &[Option<Piece>; PIECES],
    ) -> Option<()> {
        let head_dim = call.kv.head_dim();
        let (full, tiles) = (head_dim / 16, self.plan.out_tiles());
        let v: &[[i8; 32]] = at
            .of(call.kv, call.kv.block_len(), self.cache.v)?
            .as_chunks()
            .0;
        let stride = head_dim / 8;
        let mut dims = 0;
        while dims < tiles {
            let width = if !I::VECTORS || R >= 4 || dims >= full {
                1
            } else {
                (4 / R).min(full - dims)
            };
            for piece in pieces.iter().flatten() {
                let quad = piece.first() * KEYS_PER_BLOCK / 4;
                let out = self.state.out.get_mut(piece.group * tiles + dims..)?;
                let call = Weighing {
                    p: self.state.p.get(piece.index)?,
                    quads: piece.panels * KEYS_PER_BLOCK / 4,
                    v: v.get(quad * stride + 2 * dims..)?,
                    stride,
                    weight: piece.weight.first_chunk()?,
                };
                if dims >= full {
                    weigh_half_values::<I, W, R>(isa, out.first_mut()?, call)?;
                } else if I::VECTORS && R == 1 && width == 4 {
                    weigh_values::<I, W, R, 4>(isa, out.first_chunk_mut()?, call)?;
                } else if I::VECTORS && R == 1 && width == 3 {
                    weigh_values::<I, W, R, 3>(isa, out.first_chunk_mut()?, call)?;
                } else if I::VECTORS && R <= 2 && width == 2 {
                    weigh_values::<I, W, R, 2>(isa, out.first_chunk_mut()?, call)?;
                } else {
                    weigh_values::<I, W, R, 1>(isa, out.first_chunk_mut()?, call)?;
                }
            }
            dims += width;
        }
        Some(())
    }
}

/// A piece's levels and the values that they weigh.
struct Weighing<'a, L, const R: usize> {
    p: &'a [[[L; 4]; QUADS_I8]; R],
    quads: usize,
    /// Quads of values, `stride` apart, from the first dimension of the tile on.
    v: &'a [[i8; 32]],
    stride: usize,
    weight: &'a [f32; R],
}

/// `out[t][r] += weight[r] · Σ_j p[r][j] · v[t][j]` for T tiles of sixteen dimensions.
#[inline(always)]
fn weigh_values<I: Isa, W: Width, const R: usize, const T: usize>(
    isa: I,
    out: &mut [Tile<R>; T],
    call: Weighing<'_, W::Level, R>,
) -> Option<()> {
    let mut acc = [[[isa.splat_i32(0); 2]; R]; T];
    let mut v = call.v;
    for quad in 0..call.quads.min(QUADS_I8) {
        let mut p = [[W::Level::default(); 4]; R];
        for (p, row) in p.iter_mut().zip(call.p) {
            *p = row[quad];
        }
        weigh_quad::<I, W, R, T>(isa, &mut acc, &p, v)?;
        v = v.get(call.stride..).unwrap_or_default();
    }
    for (acc, out) in acc.iter().zip(out) {
        for ((acc, out), weight) in acc.iter().zip(out).zip(call.weight) {
            for (acc, out) in acc.iter().zip(out) {
                isa.store(
                    isa.fma(isa.to_f32(*acc), isa.splat(*weight), isa.load(out)),
                    out,
                );
            }
        }
    }
    Some(())
}

/// Four keys: `v` begins with the T tiles of sixteen dimensions.
#[inline(always)]
fn weigh_quad<I: Isa, W: Width, const R: usize, const T: usize>(
    isa: I,
    acc: &mut [[[I::I32; 2]; R]; T],
    p: &[[W::Level; 4]; R],
    v: &[[i8; 32]],
) -> Option<()> {
    let v: &[[[i8; 32]; 2]; T] = v.as_chunks().0.first_chunk()?;
    for (acc, v) in acc.iter_mut().zip(v) {
        if R == 1 {
            isa.prefetch(v, PREFETCH);
        }
        for (half, v) in v.iter().enumerate() {
            let v = W::value(isa, v);
            for (acc, p) in acc.iter_mut().zip(p) {
                acc[half] = W::dot_value(isa, acc[half], v, *p);
            }
        }
    }
    Some(())
}

/// As [`weigh_values`] for the last eight dimensions of a head whose dimension is an odd multiple of eight.
#[inline(always)]
fn weigh_half_values<I: Isa, W: Width, const R: usize>(
    isa: I,
    out: &mut Tile<R>,
    call: Weighing<'_, W::Level, R>,
) -> Option<()> {
    let mut acc = [isa.splat_i32(0); R];
    let mut v = call.v;
    for quad in 0..call.quads.min(QUADS_I8) {
        let values = W::value(isa, v.first()?);
        for (acc, row) in acc.iter_mut().zip(call.p) {
            *acc = W::dot_value(isa, *acc, values, row[quad]);
        }
        v = v.get(call.stride..).unwrap_or_default();
    }
    for ((acc, out), weight) in acc.iter().zip(out).zip(call.weight) {
        isa.store(
            isa.fma(isa.to_f32(*acc), isa.splat(*weight), isa.load(&out[0])),
            &mut out[0],
        );
    }
    Some(())
}
