//! How rows and keys are blocked, and where everything lies in the scratch memory.

use crate::layout::{KEYS_PER_BLOCK, KvDtype, KvShape};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Rows of a query block: their queries and outputs stay in L2 while the keys stream past.
const ROWS_MAX: usize = 96;

/// The most row groups of a query block: groups are of at least four rows wherever there is more than one.
const GROUPS_MAX: usize = ROWS_MAX / 4;

/// Rows that are few: they need little scratch.
const ROWS_FEW: usize = 8;

/// Keys of a block: long ones for many rows, and for one.
const KEYS_MAX: usize = 256;
const KEYS_MAX_FEW_ROWS: usize = 128;

/// Keys of a block that is converted to f32.
const KEYS_MAX_WIDENED: usize = 64;

/// Panels of an i8 block, whatever the rows: probabilities are rounded relative to their block's largest.
pub(super) const PANELS_I8: usize = 8;

/// Keys that few rows attend to at a time: four blocks, whose scalar work overlaps.
pub(super) const KEYS_MAX_I8: usize = 4 * PANELS_I8 * KEYS_PER_BLOCK;

/// Rows that pass over a key panel while it is in L1, and the groups that they make at most.
const ROWS_PER_PASS: usize = 12;
pub(super) const GROUPS_PER_PASS: usize = ROWS_PER_PASS / 4;

/// Floats of a cache line: the scratch is used from the first line boundary on.
const LINE: usize = 16;

/// Sixteen elements as the two vectors that they are loaded as.
pub(super) type Wide<E> = [[E; 8]; 2];

/// R rows of probabilities for 16 keys, or of outputs for 16 dimensions.
pub(super) type Tile<const R: usize> = [Wide<f32>; R];

/// Groups of R rows that pass over the keys together.
pub(super) const fn groups_per_pass(rows: usize) -> usize {
    if rows == 1 {
        // Which may have four blocks of an i8 cache.
        return 1;
    }
    min(ROWS_PER_PASS / rows, GROUPS_PER_PASS)
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

/// Block sizes of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Rows of a query block, rounded up to whole groups whatever their size.
    rows: usize,
    /// Sixteen-key panels of a key block.
    pub(super) panels: usize,
    dtype: KvDtype,
    head_dim: usize,
}

impl Plan {
    /// For so many rows of a head's list.
    pub(super) const fn new(kv: &KvShape, dtype: KvDtype, rows: usize) -> Self {
        let rows = match rows {
            0..=1 => 1,
            2..=4 => 4,
            5..=6 => 6,
            7..=ROWS_FEW => ROWS_FEW,
            rows if rows < ROWS_MAX => rows.next_multiple_of(12),
            _ => ROWS_MAX,
        };
        let keys_max = match dtype {
            KvDtype::I8 if rows == 1 => KEYS_MAX_I8,
            KvDtype::I8 if rows <= 8 => KEYS_MAX_I8 / 2,
            KvDtype::I8 => KEYS_MAX_I8 / 4,
            KvDtype::F16 | KvDtype::BF16 if rows == 6 || rows > ROWS_FEW => KEYS_MAX_WIDENED,
            _ if rows > 1 && rows <= ROWS_FEW => KEYS_MAX_FEW_ROWS,
            _ => KEYS_MAX,
        };
        Self {
            rows,
            panels: min(kv.capacity(), keys_max) / KEYS_PER_BLOCK,
            dtype,
            head_dim: kv.head_dim(),
        }
    }

    /// Rows of a query block that is made of groups of `rows`.
    pub(super) const fn rows_of_block(&self, rows: usize) -> usize {
        let most = min(self.rows, GROUPS_MAX * rows);
        if most < rows {
            rows
        } else {
            most / rows * rows
        }
    }

    /// Of these, rows that are best taken at once. Where one key block holds all keys, that is one pass, so that
    /// queries and outputs stay in L1 from the first key to the division by the sums; unless the block had to be
    /// converted for each.
    pub(super) const fn rows_at_once(&self, rows: usize, kv_len: usize) -> usize {
        if kv_len <= self.panels * KEYS_PER_BLOCK && self.widened_len() == 0 {
            min(self.rows_of_block(rows), groups_per_pass(rows) * rows)
        } else {
            self.rows_of_block(rows)
        }
    }

    /// Tiles of one group's outputs.
    pub(super) const fn out_tiles(&self) -> usize {
        self.head_dim.div_ceil(16)
    }

    const fn rows_of_pass(&self) -> usize {
        min(self.rows, ROWS_PER_PASS)
    }

    /// Floats of probabilities.
    const fn p_len(&self) -> usize {
        self.rows_of_pass() * self.panels * KEYS_PER_BLOCK
    }

    /// Scores of a row of an i8 pass: whole steps of 32 keys.
    pub(super) const fn keys_of_row(&self) -> usize {
        self.panels.next_multiple_of(2) * KEYS_PER_BLOCK
    }

    /// Floats of a key block's keys, and of its values, if they are converted.
    const fn widened_len(&self) -> usize {
        match self.dtype {
            KvDtype::F16 | KvDtype::BF16 if self.rows > 4 => {
                min(self.panels * KEYS_PER_BLOCK, KEYS_MAX_WIDENED) * self.head_dim
            }
            _ => 0,
        }
    }

    const fn len(&self) -> usize {
        let row = 16 * self.out_tiles();
        LINE + match self.dtype {
            // Queries, partial sums, a reference.
            KvDtype::F32 | KvDtype::F16 | KvDtype::BF16 => {
                let rows = self.rows * (row + self.head_dim + 8 + 1);
                2 * self.widened_len() + rows + self.p_len()
            }
            // Queries of two bytes, scale, correction, reference, sum; scores and probabilities of two bytes.
            KvDtype::I8 => {
                let scores = self.rows_of_pass() * self.keys_of_row();
                self.rows * (row + self.head_dim / 2 + 4) + scores + scores / 2
            }
        }
    }

    /// `scratch` from its first cache line on.
    pub(super) fn aligned<'a>(&self, scratch: &'a mut [f32]) -> Option<Cut<'a>> {
        let to_line = match scratch.as_ptr().align_offset(4 * LINE) {
            offset if offset < LINE => offset,
            // Never on hardware; an interpreter may decline to say.
            _ => 0,
        };
        Some(Cut(scratch.get_mut(to_line..)?))
    }

    /// The float methods' parts of the scratch, for groups of R rows; `None` if it is shorter than
    /// [`attention_scratch_len`] says.
    pub(super) fn cut_floats<'a, const R: usize>(
        &self,
        scratch: &'a mut [f32],
    ) -> Option<(FloatState<'a, R>, [&'a mut [f32]; 2])> {
        let mut rest = self.aligned(scratch)?;
        let rows = self.rows_of_block(R);
        // What is stored in vectors first: the order keeps these parts on line boundaries.
        let widened = [
            rest.take(self.widened_len())?,
            rest.take(self.widened_len())?,
        ];
        let state = FloatState {
            p: rest.tiles(self.p_len() / (16 * R))?,
            out: rest.tiles(rows / R * self.out_tiles())?,
            sums: rest.take(rows * 8)?.as_chunks_mut().0.as_chunks_mut().0,
            q: rest
                .take(rows * self.head_dim)?
                .as_chunks_mut()
                .0
                .as_chunks_mut()
                .0,
            neg_m: rest.take(rows)?.as_chunks_mut().0,
            fresh: [true; GROUPS_MAX],
        };
        Some((state, widened))
    }

    /// The parts of the scratch for a cache of bytes.
    pub(super) fn cut_bytes<'a, L: FromBytes + IntoBytes + Immutable, const R: usize>(
        &self,
        scratch: &'a mut [f32],
    ) -> Option<ByteState<'a, L, R>> {
        let mut rest = self.aligned(scratch)?;
        let rows = self.rows_of_block(R);
        let scores = self.rows_of_pass() * self.keys_of_row();
        let levels = |floats: &'a mut [f32]| <[L]>::mut_from_bytes(floats.as_mut_bytes()).ok();
        let per_float = size_of::<f32>() / size_of::<L>();
        Some(ByteState {
            scores: rest.take(scores)?.as_chunks_mut().0.as_chunks_mut().0,
            p: levels(rest.take(scores / per_float)?)?.as_chunks_mut().0,
            out: rest.tiles(rows / R * self.out_tiles())?,
            q: levels(rest.take(rows * self.head_dim / per_float)?)?
                .as_chunks_mut()
                .0
                .as_chunks_mut()
                .0,
            scale: rest.take(rows)?.as_chunks_mut().0,
            start: <[i32]>::mut_from_bytes(rest.take(rows)?.as_mut_bytes())
                .ok()?
                .as_chunks_mut()
                .0,
            reference: rest.take(rows)?.as_chunks_mut().0,
            sum: rest.take(rows)?.as_chunks_mut().0,
        })
    }
}

/// Scratch that is being cut up.
pub(super) struct Cut<'a>(&'a mut [f32]);

impl<'a> Cut<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a mut [f32]> {
        let (head, tail) = core::mem::take(&mut self.0).split_at_mut_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(super) fn tiles<const R: usize>(&mut self, tiles: usize) -> Option<&'a mut [Tile<R>]> {
        let floats = self.take(tiles * R * 16)?;
        Some(
            floats
                .as_chunks_mut::<8>()
                .0
                .as_chunks_mut::<2>()
                .0
                .as_chunks_mut()
                .0,
        )
    }
}

/// What is kept of a query block's rows; everything is indexed by row group first.
pub(super) struct FloatState<'a, const R: usize> {
    /// Scaled queries `[groups][head_dim / 8][R][8]`.
    pub(super) q: &'a mut [[[f32; 8]; R]],
    /// Unnormalised outputs `[groups][ceil(head_dim / 16)]`.
    pub(super) out: &'a mut [Tile<R>],
    /// Probabilities `[groups of a pass][panels]`.
    pub(super) p: &'a mut [Tile<R>],
    /// Running sums of the probabilities, eight partial sums a row.
    pub(super) sums: &'a mut [[[f32; 8]; R]],
    /// −m: the negated references of the exponents.
    pub(super) neg_m: &'a mut [[f32; R]],
    /// Groups whose outputs hold nothing yet.
    pub(super) fresh: [bool; GROUPS_MAX],
}

/// What is kept of a query block's rows over a cache of bytes; rows of a block are indexed by group first.
pub(super) struct ByteState<'a, L, const R: usize> {
    /// Scores `[rows of a pass][keys]` before their query's scale, then probabilities times the values' scales.
    pub(super) scores: &'a mut [Wide<f32>],
    /// Levels of the probabilities `[rows of a pass][keys]`.
    pub(super) p: &'a mut [[L; 4]],
    /// Unnormalised outputs `[groups][ceil(head_dim / 16)]`.
    pub(super) out: &'a mut [Tile<R>],
    /// Levels of the queries `[groups][head_dim / 4][R][4]`.
    pub(super) q: &'a mut [[[L; 4]; R]],
    /// Scales of the queries, the scores' factor and log₂ e included; positive.
    pub(super) scale: &'a mut [[f32; R]],
    /// −128 · Σ levels of the query: keys are stored with an offset of 128.
    pub(super) start: &'a mut [[i32; R]],
    /// m: the references of the exponents.
    pub(super) reference: &'a mut [[f32; R]],
    /// Sums of the probabilities.
    pub(super) sum: &'a mut [[f32; R]],
}

/// Scratch of [`attention`](super::attention) for up to `q_len_max` queries, in f32 elements.
///
/// It depends on neither the number of keys nor, beyond 96 rows, that of queries: one query of one head of 32 takes
/// about 1 KiB, a long prefill of heads of 64 about 65 KiB, with a cache of 16-bit floats 32 KiB more.
pub const fn attention_scratch_len(
    kv: &KvShape,
    dtype: KvDtype,
    q_heads: usize,
    q_len_max: usize,
) -> usize {
    let group = match q_heads.checked_div(kv.kv_heads()) {
        Some(group) => group,
        None => 0,
    };
    let rows = q_len_max.saturating_mul(group);
    let (most, few) = (
        Plan::new(kv, dtype, rows).len(),
        Plan::new(kv, dtype, min(rows, ROWS_FEW)).len(),
    );
    // Few rows may have longer key blocks, and so need more than many.
    if few > most { few } else { most }
}
