//! The inner loops: a 4 × 16 tile of scores and their exponentials, and a tile of outputs.
//!
//! Both keep eight accumulators of eight lanes; with two registers for the panel and one for the broadcast that leaves five
//! of AVX2's sixteen. More rows or columns were measured to be no faster and waste more where the mask cuts a tile.

use super::plan::{ROWS, Tile, Wide};
use super::source::Element;
use crate::isa::Isa;
use crate::math::exp2;

/// A score may exceed its reference by this much (log₂): 2⁶⁰ summed over any number of keys fits f32, and with every row's
/// first score above −60, nothing that matters falls below f32's smallest normal number.
const RISE_MAX: f32 = 60.0;

/// A score that is not visible; its exponential is never taken.
const HIDDEN: f32 = -3e38;

/// Eight accumulators: rows × halves.
type Accumulators<I> = [[<I as Isa>::F32; 2]; ROWS];

/// What a row group carries from tile to tile.
pub(super) struct Group<'a> {
    /// Scaled queries `[head_dim][4]`.
    pub(super) q: &'a [[f32; ROWS]],
    /// Keys of this panel that each row sees; not decreasing, may exceed 16.
    pub(super) visible: [usize; ROWS],
    /// Negated references of the exponents.
    pub(super) neg_m: &'a mut [f32; ROWS],
    /// Sums of the probabilities so far, eight partial sums a row.
    pub(super) sums: &'a mut [[f32; 8]; ROWS],
    /// Outputs so far.
    pub(super) out: &'a mut [Tile],
    /// Probabilities of this key block's earlier panels.
    pub(super) p_before: &'a mut [Tile],
    /// Whether this is the rows' first panel of all.
    pub(super) first: bool,
}

/// Probabilities of one group and one panel of keys `[head_dim][16]`, relative to 2^m; exactly 0 where not visible.
#[inline(always)]
pub(super) fn probabilities<I: Isa, E: Element>(
    isa: I,
    group: Group<'_>,
    k: &[Wide<E>],
    p: &mut Tile,
) {
    let mut acc = [[isa.splat(0.0); 2]; ROWS];
    for (acc, neg_m) in acc.iter_mut().zip(&*group.neg_m) {
        *acc = [isa.splat(*neg_m); 2];
    }
    for (q, k) in group.q.as_chunks::<4>().0.iter().zip(k.as_chunks::<4>().0) {
        for (q, k) in q.iter().zip(k) {
            rank1(isa, &mut acc, q, k);
        }
    }
    let masked = group.visible[0] < 16;
    if masked {
        hide(isa, &mut acc, &group.visible);
    }
    if must_move(isa, &acc, group.first) {
        let mut scores = Tile::default();
        store(isa, &acc, &mut scores);
        move_references(
            group.neg_m,
            group.sums,
            group.out,
            group.p_before,
            &mut scores,
            group.first,
        );
        load(isa, &mut acc, &scores);
    }
    for ((acc, sums), p) in acc.iter().zip(group.sums).zip(p) {
        let mut e = [exp2(isa, acc[0]), exp2(isa, acc[1])];
        if masked {
            for (e, x) in e.iter_mut().zip(acc) {
                *e = isa.select(isa.gt(isa.splat(HIDDEN / 2.0), *x), isa.splat(0.0), *e);
            }
        }
        isa.store(isa.add(isa.load(sums), isa.add(e[0], e[1])), sums);
        isa.store(e[0], &mut p[0]);
        isa.store(e[1], &mut p[1]);
    }
}

/// `acc[r] += a[r] · b`.
#[inline(always)]
fn rank1<I: Isa, E: Element>(isa: I, acc: &mut Accumulators<I>, a: &[f32; ROWS], b: &Wide<E>) {
    let b = [E::load(isa, &b[0]), E::load(isa, &b[1])];
    for (acc, a) in acc.iter_mut().zip(a) {
        let a = isa.splat(*a);
        acc[0] = isa.fma(a, b[0], acc[0]);
        acc[1] = isa.fma(a, b[1], acc[1]);
    }
}

/// Marks the scores of keys that a row does not see.
#[inline(always)]
fn hide<I: Isa>(isa: I, acc: &mut Accumulators<I>, visible: &[usize; ROWS]) {
    let first = isa.iota();
    let keys = [first, isa.add(first, isa.splat(8.0))];
    for (acc, visible) in acc.iter_mut().zip(visible) {
        let visible = isa.splat((*visible).min(16) as f32);
        for (acc, keys) in acc.iter_mut().zip(keys) {
            *acc = isa.select(isa.lt(keys, visible), *acc, isa.splat(HIDDEN));
        }
    }
}

/// Whether a score left the range of its reference (or is NaN).
#[inline(always)]
fn must_move<I: Isa>(isa: I, acc: &Accumulators<I>, first: bool) -> bool {
    let mut highest = isa.splat(0.0);
    for row in acc {
        highest = isa.max_if_positive(isa.max_if_positive(highest, row[0]), row[1]);
    }
    let mut low = false;
    if first {
        // Key 0 is visible to every row.
        for row in acc {
            low |= isa.first(row[0]) < -RISE_MAX;
        }
    }
    low | !isa.all(isa.lt(highest, isa.splat(RISE_MAX)))
}

#[inline(always)]
fn store<I: Isa>(isa: I, acc: &Accumulators<I>, tile: &mut Tile) {
    for (acc, row) in acc.iter().zip(tile) {
        isa.store(acc[0], &mut row[0]);
        isa.store(acc[1], &mut row[1]);
    }
}

#[inline(always)]
fn load<I: Isa>(isa: I, acc: &mut Accumulators<I>, tile: &Tile) {
    for (acc, row) in acc.iter_mut().zip(tile) {
        *acc = [isa.load(&row[0]), isa.load(&row[1])];
    }
}

/// Makes each row's largest score its new reference, if that raises it (or is the first), and rescales what was computed
/// with the old one. `scores` are relative to the old reference and then to the new.
#[cold]
#[inline(never)]
fn move_references(
    neg_m: &mut [f32; ROWS],
    sums: &mut [[f32; 8]; ROWS],
    out: &mut [Tile],
    p_before: &mut [Tile],
    scores: &mut Tile,
    first: bool,
) {
    for r in 0..ROWS {
        let row = scores[r].as_flattened_mut();
        let highest = row.iter().fold(HIDDEN, |m, x| if *x > m { *x } else { m });
        // Infinite scores cannot be a reference; they become NaN in the end.
        if !(highest > 0.0 || first) || highest.abs() > f32::MAX / 4.0 {
            continue;
        }
        neg_m[r] -= highest;
        row.iter_mut()
            .for_each(|x| *x = if *x > HIDDEN { *x - highest } else { HIDDEN });
        if first {
            // Nothing was computed with the old reference, and the factor could be infinite.
            continue;
        }
        let factor = libm::exp2f(-highest);
        sums[r].iter_mut().for_each(|x| *x *= factor);
        let tiles = out.iter_mut().chain(p_before.iter_mut());
        tiles.for_each(|tile| {
            tile[r]
                .as_flattened_mut()
                .iter_mut()
                .for_each(|x| *x *= factor)
        });
    }
}

/// Where an output tile's sum starts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With these keys: what is stored is not read.
    Zero,
    /// With what earlier keys left.
    Stored,
}

/// `out[r] += Σ_j p[r][j] · v[j]` over the first `keys` values of successive panels.
///
/// `p` is a tile a panel; panel i's values `[16 keys][16]` lie at `v[i · block_len]`.
#[inline(always)]
pub(super) fn weigh_values<I: Isa, E: Element>(
    isa: I,
    out: &mut Tile,
    p: &[Tile],
    v: &[E],
    block_len: usize,
    keys: usize,
    start: Start,
) {
    let mut acc = [[isa.splat(0.0); 2]; ROWS];
    if start == Start::Stored {
        load(isa, &mut acc, out);
    }
    for (panel, p) in p.iter().enumerate() {
        let v: &[Wide<E>] = v
            .get(panel * block_len..)
            .unwrap_or(&[])
            .as_chunks()
            .0
            .as_chunks()
            .0;
        let keys = keys.saturating_sub(panel * 16);
        match v.first_chunk::<16>() {
            Some(v) if keys >= 16 => weigh_panel(isa, &mut acc, p, v),
            _ => weigh_panel(isa, &mut acc, p, v.get(..keys.min(16)).unwrap_or(&[])),
        }
    }
    store(isa, &acc, out);
}

/// One panel of at most sixteen values.
///
/// Four keys a step, so that their places in `p` are constants: finding each key's half and lane costs as many instructions
/// as its multiplications.
#[inline(always)]
fn weigh_panel<I: Isa, E: Element>(isa: I, acc: &mut Accumulators<I>, p: &Tile, v: &[Wide<E>]) {
    let (quads, rest) = v.as_chunks::<4>();
    for (quad, v) in quads.iter().enumerate() {
        let p = quad_of(p, quad);
        for (lane, v) in v.iter().enumerate() {
            rank1(isa, acc, &p.map(|p| p[lane]), v);
        }
    }
    let p = quad_of(p, quads.len());
    for (lane, v) in rest.iter().enumerate() {
        rank1(isa, acc, &p.map(|p| p[lane % 4]), v);
    }
}

/// The rows' probabilities of the keys `4 · quad..4 · quad + 4`.
#[inline(always)]
fn quad_of(p: &Tile, quad: usize) -> [&[f32; 4]; ROWS] {
    let quad = quad % 4;
    [0, 1, 2, 3].map(|r| &p[r].as_flattened().as_chunks::<4>().0[quad])
}

/// As [`weigh_values`] for the half panel `[16 keys][8]` of a head whose dimension is an odd multiple of eight.
#[inline(always)]
pub(super) fn weigh_half_values<I: Isa, E: Element>(
    isa: I,
    out: &mut Tile,
    p: &[Tile],
    v: &[E],
    block_len: usize,
    keys: usize,
    start: Start,
) {
    let mut acc = [isa.splat(0.0); ROWS];
    if start == Start::Stored {
        for (acc, out) in acc.iter_mut().zip(&*out) {
            *acc = isa.load(&out[0]);
        }
    }
    for (panel, p) in p.iter().enumerate() {
        let v = v.get(panel * block_len..).unwrap_or(&[]).as_chunks::<8>().0;
        let keys = keys.saturating_sub(panel * 16).min(16);
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
