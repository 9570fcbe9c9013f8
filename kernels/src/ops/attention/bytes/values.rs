//! Values, weighted by levels of probabilities.

use super::pieces::Piece;
use super::{Bytes, PREFETCH};
use crate::isa::Isa;
use crate::ops::attention::call::{Blocks, Call};
use crate::ops::attention::plan::{PIECES, QUADS_I8, Tile};
use crate::ops::attention::width::{Source, Width};

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
            // Where several groups of rows meet the same values, which are then those of the pass' only block.
            let widens = W::WIDENS && I::VECTORS && R >= 4 && dims < full && pieces[1].is_some();
            if widens {
                let rows = v.chunks_exact(stride.max(1));
                for (to, from) in self.widened.iter_mut().zip(rows) {
                    let from: &[_; 2] = from.get(2 * dims..)?.first_chunk()?;
                    to[0] = W::widen(isa, W::value(isa, &from[0]));
                    to[1] = W::widen(isa, W::value(isa, &from[1]));
                }
            }
            for piece in pieces.iter().flatten() {
                let quad = piece.first / 4;
                let out = self.state.out.get_mut(piece.group * tiles + dims..)?;
                let p = self.state.p.get(piece.index)?;
                let weight = piece.weight.first_chunk()?;
                let quads = piece.keys.div_ceil(4);
                if widens {
                    let call = Weighing {
                        p,
                        quads,
                        v: self.widened.as_flattened(),
                        dims: 0,
                        stride: 2,
                        weight,
                    };
                    weigh_values::<I, W, _, R, 1>(isa, out.first_chunk_mut()?, call)?;
                    continue;
                }
                let call = Weighing {
                    p,
                    quads,
                    v: v.get(quad * stride..)?,
                    dims,
                    stride,
                    weight,
                };
                if dims >= full {
                    weigh_half_values::<I, W, R>(isa, out.first_mut()?, call)?;
                } else if I::VECTORS && R == 1 && width == 4 {
                    weigh_values::<I, W, _, R, 4>(isa, out.first_chunk_mut()?, call)?;
                } else if I::VECTORS && R == 1 && width == 3 {
                    weigh_values::<I, W, _, R, 3>(isa, out.first_chunk_mut()?, call)?;
                } else if I::VECTORS && R <= 2 && width == 2 {
                    weigh_values::<I, W, _, R, 2>(isa, out.first_chunk_mut()?, call)?;
                } else {
                    weigh_values::<I, W, _, R, 1>(isa, out.first_chunk_mut()?, call)?;
                }
            }
            dims += width;
        }
        Some(())
    }
}

/// A piece's levels and the values that they weigh.
struct Weighing<'a, Q, S, const R: usize> {
    p: &'a [[Q; QUADS_I8]; R],
    quads: usize,
    /// Values `[quads][stride]`.
    v: &'a [S],
    stride: usize,
    /// The first tile of dimensions.
    dims: usize,
    weight: &'a [f32; R],
}

/// `out[t][r] += weight[r] · Σ_j p[r][j] · v[t][j]` for T tiles of sixteen dimensions.
#[inline(always)]
fn weigh_values<I: Isa, W: Width, S: Source<W>, const R: usize, const T: usize>(
    isa: I,
    out: &mut [Tile<R>; T],
    call: Weighing<'_, W::Quad, S, R>,
) -> Option<()> {
    let mut acc = [[[isa.splat_i32(0); 2]; R]; T];
    let mut v = call.v;
    for quad in 0..call.quads.min(QUADS_I8) {
        let (values, rest) = v.split_at_checked(call.stride)?;
        weigh_quad::<I, W, S, R, T>(isa, &mut acc, call.p, quad, values.get(2 * call.dims..)?)?;
        v = rest;
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
fn weigh_quad<I: Isa, W: Width, S: Source<W>, const R: usize, const T: usize>(
    isa: I,
    acc: &mut [[[I::I32; 2]; R]; T],
    p: &[[W::Quad; QUADS_I8]; R],
    quad: usize,
    v: &[S],
) -> Option<()> {
    let v: &[[S; 2]; T] = v.as_chunks().0.first_chunk()?;
    for (acc, v) in acc.iter_mut().zip(v) {
        if R == 1 {
            isa.prefetch(v, PREFETCH);
        }
        let v = [v[0].operand(isa), v[1].operand(isa)];
        for (acc, row) in acc.iter_mut().zip(p) {
            W::dot_values(isa, acc, &v, &row[quad]);
        }
    }
    Some(())
}

/// As [`weigh_values`] for the last eight dimensions of a head whose dimension is an odd multiple of eight.
#[inline(always)]
fn weigh_half_values<I: Isa, W: Width, const R: usize>(
    isa: I,
    out: &mut Tile<R>,
    call: Weighing<'_, W::Quad, [i8; 32], R>,
) -> Option<()> {
    let mut acc = [[isa.splat_i32(0)]; R];
    let mut v = call.v;
    for quad in 0..call.quads.min(QUADS_I8) {
        let (values, rest) = v.split_at_checked(call.stride)?;
        let values = W::value(isa, values.get(2 * call.dims)?);
        for (acc, row) in acc.iter_mut().zip(call.p) {
            W::dot_values(isa, acc, &[values], &row[quad]);
        }
        v = rest;
    }
    for ((acc, out), weight) in acc.iter().zip(out).zip(call.weight) {
        isa.store(
            isa.fma(isa.to_f32(acc[0]), isa.splat(*weight), isa.load(&out[0])),
            &mut out[0],
        );
    }
    Some(())
}
