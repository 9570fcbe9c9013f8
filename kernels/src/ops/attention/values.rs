//! The inner loops over values of floats: a tile of outputs.
//!
//! A tile is R rows by T panels of sixteen dimensions: 6 × 1, 4 × 1, 2 × 2 and 1 × 4, which are eight or twelve
//! accumulators of eight lanes. The sum of an element has the same order in all of them, so that a row's bits do not
//! depend on how many rows there are.

use super::float::Element;
use super::plan::{Tile, Wide};
use super::tile::{PREFETCH, begins_line};
use crate::isa::Isa;
use crate::layout::KEYS_PER_BLOCK;

/// Where an output tile's sum starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With these keys: what is stored is not read.
    Zero,
    /// With what earlier keys left.
    Stored,
}

/// One row group's part of weighing the values of successive blocks.
pub(super) struct Weighing<'a, E, const R: usize> {
    /// Probabilities, a tile a panel.
    pub(super) p: &'a [Tile<R>],
    /// Values, `block_len` a panel.
    pub(super) v: &'a [E],
    pub(super) block_len: usize,
    /// Keys that some row sees; the probabilities of the rest are zero.
    pub(super) keys: usize,
    pub(super) start: Start,
}

/// `out[t][r] += Σ_j p[r][j] · v[t][j]` over the first `keys` values of successive blocks, for T panels `[16 keys][16]`
/// of dimensions from panel `dims` on.
#[inline(always)]
pub(super) fn weigh_values<I: Isa, E: Element, const R: usize, const T: usize>(
    isa: I,
    out: &mut [Tile<R>; T],
    dims: usize,
    weighing: &Weighing<'_, E, R>,
) {
    let Weighing {
        p, v, block_len, ..
    } = *weighing;
    let mut acc = [[[isa.splat(0.0); 2]; R]; T];
    if weighing.start == Start::Stored {
        for (acc, out) in acc.as_flattened_mut().iter_mut().zip(out.as_flattened()) {
            *acc = [isa.load(&out[0]), isa.load(&out[1])];
        }
    }
    for (panel, p) in p.iter().enumerate() {
        let v = v.get(panel * block_len + dims * 256..).unwrap_or(&[]);
        let v: &[[Wide<E>; 16]] = v.as_chunks().0.as_chunks().0.as_chunks().0;
        let Some(v) = v.first_chunk::<T>() else {
            break;
        };
        let keys = weighing.keys.saturating_sub(panel * KEYS_PER_BLOCK);
        if I::VECTORS && keys >= KEYS_PER_BLOCK {
            for quad in 0..4 {
                weigh_quad(isa, &mut acc, p, v, quad, 4);
            }
        } else {
            for quad in 0..keys.min(KEYS_PER_BLOCK).div_ceil(4) {
                weigh_quad(isa, &mut acc, p, v, quad, keys - 4 * quad);
            }
        }
    }
    for (acc, out) in acc.as_flattened().iter().zip(out.as_flattened_mut()) {
        isa.store(acc[0], &mut out[0]);
        isa.store(acc[1], &mut out[1]);
    }
}

/// Up to four keys of a panel.
///
/// Four a step, so that their places in `p` are constants: finding each key's half and lane costs as many instructions
/// as its multiplications.
#[inline(always)]
fn weigh_quad<I: Isa, E: Element, const R: usize, const T: usize>(
    isa: I,
    acc: &mut [[[I::F32; 2]; R]; T],
    p: &Tile<R>,
    v: &[[Wide<E>; 16]; T],
    quad: usize,
    keys: usize,
) {
    let mut rows = [&[0.0; 4]; R];
    for (row, p) in rows.iter_mut().zip(p) {
        if let Some(p) = p.as_flattened().as_chunks::<4>().0.get(quad) {
            *row = p;
        }
    }
    // One by one: a loop is unrolled where its body is short, and then only are the places constants.
    weigh_lane::<I, E, R, T, 0>(isa, acc, rows, v, quad, keys);
    weigh_lane::<I, E, R, T, 1>(isa, acc, rows, v, quad, keys);
    weigh_lane::<I, E, R, T, 2>(isa, acc, rows, v, quad, keys);
    weigh_lane::<I, E, R, T, 3>(isa, acc, rows, v, quad, keys);
}

/// The key of a quad, if there are so many.
#[inline(always)]
fn weigh_lane<I: Isa, E: Element, const R: usize, const T: usize, const LANE: usize>(
    isa: I,
    acc: &mut [[[I::F32; 2]; R]; T],
    rows: [&[f32; 4]; R],
    v: &[[Wide<E>; 16]; T],
    quad: usize,
    keys: usize,
) {
    if LANE >= keys {
        return;
    }
    for (acc, v) in acc.iter_mut().zip(v) {
        let Some(v) = v.as_chunks::<4>().0.get(quad) else {
            return;
        };
        let v = &v[LANE];
        if R == 1 && E::NARROW && begins_line::<E>(LANE) {
            isa.prefetch(v, PREFETCH);
        }
        let v = [E::load(isa, &v[0]), E::load(isa, &v[1])];
        for (acc, p) in acc.iter_mut().zip(rows) {
            let p = isa.splat(p[LANE]);
            acc[0] = isa.fma(p, v[0], acc[0]);
            acc[1] = isa.fma(p, v[1], acc[1]);
        }
    }
}

/// As [`weigh_values`] for the half panel `[16 keys][8]` of a head whose dimension is an odd multiple of eight.
#[inline(always)]
pub(super) fn weigh_half_values<I: Isa, E: Element, const R: usize>(
    isa: I,
    out: &mut Tile<R>,
    dims: usize,
    weighing: &Weighing<'_, E, R>,
) {
    let Weighing {
        p, v, block_len, ..
    } = *weighing;
    let mut acc = [isa.splat(0.0); R];
    if weighing.start == Start::Stored {
        for (acc, out) in acc.iter_mut().zip(&*out) {
            *acc = isa.load(&out[0]);
        }
    }
    for (panel, p) in p.iter().enumerate() {
        let v = v
            .get(panel * block_len + dims * 256..)
            .unwrap_or(&[])
            .as_chunks::<8>()
            .0;
        let keys = weighing
            .keys
            .saturating_sub(panel * KEYS_PER_BLOCK)
            .min(KEYS_PER_BLOCK);
        for (j, v) in v.iter().enumerate().take(keys) {
            let v = E::load(isa, v);
            for (acc, p) in acc.iter_mut().zip(p) {
                *acc = isa.fma(isa.splat(p[j / 8 % 2][j % 8]), v, *acc);
            }
        }
    }
    for (acc, out) in acc.into_iter().zip(out) {
        isa.store(acc, &mut out[0]);
    }
}
