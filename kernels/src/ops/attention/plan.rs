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

/// Panels of a block of an i8 cache, and keys, and quads of keys, whatever the rows: probabilities are rounded relative
/// to their block's largest, which costs more precision the more there are.
pub(super) const PANELS_I8: usize = 8;
pub(super) const KEYS_I8: usize = PANELS_I8 * KEYS_PER_BLOCK;
pub(super) const QUADS_I8: usize = KEYS_I8 / 4;

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
const fn groups_per_pass(rows: usize) -> usize {
    if rows == 1 {
        // Which may have four blocks of an i8 cache.
        return 1;
    }
    min(ROWS_PER_PASS / rows, GROUPS_PER_PASS)
}

/// The most pieces of a pass over an i8 cache: those of its groups, or of one row four blocks.
pub(super) const PIECES: usize = 4;

const _: () = {
    let Ok(kv) = KvShape::new(1, 8, 4 * KEYS_I8) else {
        panic!()
    };
    let mut rows = 1;
    while rows <= ROWS_MAX {
        let plan = Plan::new(&kv, KvDtype::I8, rows);
        let sizes = [1, 2, 4, 6];
        let mut i = 0;
        while i < sizes.len() {
            // Rows are taken one by one on the scalar backend, and a row or two in pairs, else by four or six.
            let size = sizes[i];
            if size == 1 || size == 2 && rows <= 2 || size > 2 && rows > 2 {
                let groups = plan.rows_of_block(size) / size;
                let pieces = min(groups, plan.groups_of_pass(size)) * plan.blocks();
                assert!(pieces <= PIECES);
            }
            i += 1;
        }
        rows += 1;
    }
};

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
            // Blocks whose scalar work overlaps.
            KvDtype::I8 if rows == 1 => 4 * KEYS_I8,
            KvDtype::I8 => KEYS_I8,
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
            min(self.rows_of_block(rows), self.groups_of_pass(rows) * rows)
        } else {
            self.rows_of_block(rows)
        }
    }

    /// Tiles of one group's outputs.
    pub(super) const fn out_tiles(&self) -> usize {
        self.head_dim.div_ceil(16)
    }

    /// Groups of R rows that pass over the keys together.
    pub(super) const fn groups_of_pass(&self, rows: usize) -> usize {
        match self.dtype {
            KvDtype::I8 if self.saves() => 1,
            _ => groups_per_pass(rows),
        }
    }

    /// Whether row groups pass over an i8 cache one by one. Short batches, of a microcontroller say, then take hardly
    /// more memory than a single row of many heads.
    const fn saves(&self) -> bool {
        ROWS_FEW < self.rows && self.rows < 48
    }

    const fn rows_of_pass(&self) -> usize {
        match self.dtype {
            KvDtype::I8 if self.saves() => 6,
            _ => min(self.rows, ROWS_PER_PASS),
        }
    }

    /// Floats of probabilities.
    const fn p_len(&self) -> usize {
        self.rows_of_pass() * self.panels * KEYS_PER_BLOCK
    }

    /// Blocks of an i8 cache that are attended to at a time.
    pub(super) const fn blocks(&self) -> usize {
        self.panels.div_ceil(PANELS_I8)
    }

    /// Scores of an i8 pass: a block's for every row.
    const fn scores_len(&self) -> usize {
        self.rows_of_pass() * self.blocks() * KEYS_I8
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

    /// Floats of scratch.
    pub(super) const fn len(&self) -> usize {
        let row = 16 * self.out_tiles();
        LINE + match self.dtype {
            // Queries, partial sums, a reference.
            KvDtype::F32 | KvDtype::F16 | KvDtype::BF16 => {
                let rows = self.rows * (row + self.head_dim + 8 + 1);
                2 * self.widened_len() + rows + self.p_len()
            }
            // Queries of two bytes, partial sums, scale, correction, reference; scores, probabilities of two bytes,
            // highest scores.
            KvDtype::I8 => {
                let pass = self.scores_len() / 2 * 3 + self.rows_of_pass() * self.blocks() * 8;
                self.rows * (row + self.head_dim / 2 + 8 + 3) + pass
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
    pub(super) fn cut_bytes<'a, Q: FromBytes + IntoBytes + Immutable, const R: usize>(
        &self,
        scratch: &'a mut [f32],
    ) -> Option<ByteState<'a, Q, R>> {
        let mut rest = self.aligned(scratch)?;
        let rows = self.rows_of_block(R);
        let scores = self.scores_len();
        let quads = |floats: &'a mut [f32]| <[Q]>::mut_from_bytes(floats.as_mut_bytes()).ok();
        let per_quad = size_of::<Q>() / size_of::<f32>();
        let highest = self.rows_of_pass() * self.blocks() * 8;
        Some(ByteState {
            scores: chunks(chunks(chunks(chunks(rest.take(scores)?)))),
            p: chunks(chunks(quads(rest.take(scores / 4 * per_quad)?)?)),
            highest: chunks(chunks(rest.take(highest)?)),
            out: rest.tiles(rows / R * self.out_tiles())?,
            sums: chunks(chunks(rest.take(rows * 8)?)),
            q: chunks(quads(rest.take(rows * self.head_dim / 4 * per_quad)?)?),
            scale: chunks(rest.take(rows)?),
            start: chunks(<[i32]>::mut_from_bytes(rest.take(rows)?.as_mut_bytes()).ok()?),
            reference: chunks(rest.take(rows)?),
        })
    }
}

/// The slice as arrays, without what is left over.
fn chunks<T, const N: usize>(all: &mut [T]) -> &mut [[T; N]] {
    all.as_chunks_mut().0
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

/// What is kept of a query block's rows over a cache of bytes; rows of a block are indexed by group first. Of a pass, a
/// *piece* is what one group has of one block of keys: piece group · blocks + block.
pub(super) struct ByteState<'a, Q, const R: usize> {
    /// Scores of each piece before their query's scale.
    pub(super) scores: &'a mut [[[Wide<f32>; PANELS_I8]; R]],
    /// Levels of the probabilities of each piece, by quads of keys.
    pub(super) p: &'a mut [[[Q; QUADS_I8]; R]],
    /// The largest weighted scores of each piece, lane by lane.
    pub(super) highest: &'a mut [[[f32; 8]; R]],
    /// Unnormalised outputs `[groups][ceil(head_dim / 16)]`.
    pub(super) out: &'a mut [Tile<R>],
    /// Running sums of the probabilities, eight partial sums a row.
    pub(super) sums: &'a mut [[[f32; 8]; R]],
    /// Levels of the queries `[groups][head_dim / 4][R]`.
    pub(super) q: &'a mut [[Q; R]],
    /// Scales of the queries, the scores' factor and log₂ e included; positive.
    pub(super) scale: &'a mut [[f32; R]],
    /// −128 · Σ levels of the query: keys are stored with an offset of 128.
    pub(super) start: &'a mut [[i32; R]],
    /// m: the references of the exponents; −∞ for a row that has seen no key.
    pub(super) reference: &'a mut [[f32; R]],
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
    // Few rows have larger blocks of keys, so a smaller call may need more. Beyond so many rows all calls are alike.
    let (mut len, mut q_len) = (0, 1);
    while q_len <= q_len_max && q_len <= ROWS_MAX {
        let plan = Plan::new(kv, dtype, q_len.saturating_mul(group));
        if plan.len() > len {
            len = plan.len();
        }
        q_len += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::{KvDtype, KvShape, Plan, attention_scratch_len};

    /// A session asks once, for its largest batch, and then runs batches of any size up to that.
    #[test]
    fn scratch_suffices_for_smaller_calls() {
        for dtype in [KvDtype::F32, KvDtype::I8] {
            for (head_dim, group, keys) in [(8, 1, 16), (32, 1, 256), (64, 3, 2048), (256, 8, 512)]
            {
                let kv = KvShape::new(2, head_dim, keys).unwrap();
                for q_len_max in 1..130 {
                    let len = attention_scratch_len(&kv, dtype, 2 * group, q_len_max);
                    let need = |q_len| Plan::new(&kv, dtype, q_len * group).len();
                    assert!((1..=q_len_max).all(|q_len| need(q_len) <= len));
                    assert!((1..=q_len_max).any(|q_len| need(q_len) == len));
                }
            }
        }
    }
}
