//! How rows and keys are blocked, and where everything lies in the scratch memory.

use crate::layout::{KEYS_PER_BLOCK, KvDtype, KvShape};

/// Rows of a tile.
pub(super) const ROWS: usize = 4;

/// Rows of a query block: their queries and outputs stay in L2 while the keys stream past.
const ROWS_MAX: usize = 96;

/// Keys of a block, when there are rows to amortise the probabilities' scratch, and when there are few.
const KEYS_MAX: usize = 256;
const KEYS_MAX_FEW_ROWS: usize = 128;

/// Keys of an i8 block, which is expanded to f32 in scratch.
const KEYS_MAX_I8: usize = 64;

/// Row groups that pass over a key panel while it is in L1.
pub(super) const GROUPS_PER_PASS: usize = 3;

/// Floats of a cache line: the scratch is used from the first line boundary on.
const LINE: usize = 16;

/// One 4 × 16 tile: 4 rows of probabilities for 16 keys, or of outputs for 16 dimensions.
pub(super) type Tile = [Wide<f32>; ROWS];

/// Sixteen elements as the two vectors that they are loaded as.
pub(super) type Wide<E> = [[E; 8]; 2];

/// Block sizes of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Row groups of a query block.
    pub(super) groups: usize,
    /// Sixteen-key panels of a key block.
    pub(super) panels: usize,
    /// Elements of an expanded key block, and of an expanded value block; 0 unless i8.
    expanded: usize,
    head_dim: usize,
}

/// The scratch memory of a call, cut up.
pub(super) struct Scratch<'a> {
    pub(super) state: State<'a>,
    /// Space for expanded keys and values.
    pub(super) expanded_k: &'a mut [f32],
    pub(super) expanded_v: &'a mut [f32],
}

/// What is kept of a query block's rows; everything is indexed by row group first.
pub(super) struct State<'a> {
    /// Scaled queries `[groups][head_dim][4]`.
    pub(super) q: &'a mut [[f32; ROWS]],
    /// Unnormalised outputs `[groups][ceil(head_dim / 16)]`.
    pub(super) out: &'a mut [Tile],
    /// Probabilities `[groups of a pass][panels]`.
    pub(super) p: &'a mut [Tile],
    /// Running sums of the probabilities, eight partial sums a row.
    pub(super) sums: &'a mut [[[f32; 8]; ROWS]],
    /// −m: the negated references of the exponents.
    pub(super) neg_m: &'a mut [[f32; ROWS]],
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

impl Plan {
    /// For `q_len` queries of `group` heads each; never larger for a smaller `q_len`.
    pub(super) const fn new(kv: &KvShape, dtype: KvDtype, group: usize, q_len: usize) -> Self {
        let rows = min(q_len.saturating_mul(group), ROWS_MAX);
        let keys_max = match dtype {
            KvDtype::I8 => KEYS_MAX_I8,
            _ if rows <= 2 * ROWS => KEYS_MAX_FEW_ROWS,
            _ => KEYS_MAX,
        };
        let keys = min(kv.capacity(), keys_max);
        Self {
            groups: rows.div_ceil(ROWS),
            panels: keys / KEYS_PER_BLOCK,
            expanded: if matches!(dtype, KvDtype::I8) {
                keys * kv.head_dim()
            } else {
                0
            },
            head_dim: kv.head_dim(),
        }
    }

    /// Tiles of one group's outputs.
    pub(super) const fn out_tiles(&self) -> usize {
        self.head_dim.div_ceil(16)
    }

    const fn len(&self) -> usize {
        let group = ROWS * (self.head_dim + 16 * self.out_tiles() + 8 + 1);
        let p = min(self.groups, GROUPS_PER_PASS) * self.panels * ROWS * 16;
        LINE + self.groups * group + p + 2 * self.expanded
    }

    /// Cuts `scratch` up; `None` if it is shorter than [`attention_scratch_len`] says.
    pub(super) fn cut<'a>(&self, scratch: &'a mut [f32]) -> Option<Scratch<'a>> {
        let to_line = match scratch.as_ptr().align_offset(4 * LINE) {
            offset if offset < LINE => offset,
            // Never on hardware; an interpreter may decline to say.
            _ => 0,
        };
        let mut rest = scratch.get_mut(to_line..)?;
        let mut take = |len: usize| -> Option<&'a mut [f32]> {
            let (head, tail) = core::mem::take(&mut rest).split_at_mut_checked(len)?;
            rest = tail;
            Some(head)
        };
        // What is stored in vectors first: the order keeps these parts on line boundaries.
        let p = take(min(self.groups, GROUPS_PER_PASS) * self.panels * ROWS * 16)?;
        let out = take(self.groups * self.out_tiles() * ROWS * 16)?;
        let sums = take(self.groups * ROWS * 8)?;
        let expanded_k = take(self.expanded)?;
        let expanded_v = take(self.expanded)?;
        let q = take(self.groups * self.head_dim * ROWS)?;
        let neg_m = take(self.groups * ROWS)?;
        let state = State {
            q: q.as_chunks_mut().0,
            out: out
                .as_chunks_mut::<8>()
                .0
                .as_chunks_mut::<2>()
                .0
                .as_chunks_mut()
                .0,
            p: p.as_chunks_mut::<8>()
                .0
                .as_chunks_mut::<2>()
                .0
                .as_chunks_mut()
                .0,
            sums: sums.as_chunks_mut::<8>().0.as_chunks_mut().0,
            neg_m: neg_m.as_chunks_mut().0,
        };
        Some(Scratch {
            state,
            expanded_k,
            expanded_v,
        })
    }
}

/// Scratch of [`attention`](super::attention) for up to `q_len_max` queries, in f32 elements.
///
/// It depends on neither the number of keys nor, beyond 96 rows, that of queries: 8 queries of one head of 32 take about
/// 8 KiB, a long prefill of heads of 64 about 100 KiB.
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
    Plan::new(kv, dtype, group, q_len_max).len()
}
