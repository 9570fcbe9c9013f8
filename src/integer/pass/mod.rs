//! Tokens on their way through the layers, one small piece of work after the other.
//!
//! A [`Pass`] is a cursor: which stage of which layer, which tokens, which head or rows. [`Pass::advance`] does
//! pieces until they cost what it was told, and can be called again at any later time; everything between two pieces
//! lies in [`Memory`] and in the cursor. Tokens go in batches of up to [`BATCH`], which share a pass over the weights and
//! over the keys.

mod attention;
mod dense;
mod watch;

use core::marker::PhantomData;
use core::ops::Range;

use crate::config::Config;
use crate::error::SessionError;
use crate::integer::memory::{BLOCK, Memory, Room, part, part_mut, row, row_mut};
use crate::integer::model::Model;
use crate::integer::needs::{Fit, Of};
use crate::integer::parts::{Cross, Layer};
use crate::kernels::Backend;
use crate::kernels::integer::{BATCH, Norm, Product, QUAD, TILE, norm, product_linked};
use crate::tensors::Role;
use crate::watch::Watcher;

/// To norm or embed an element takes as long as so many multiply-adds.
const NORM_COST: usize = 16;

/// Multiply-adds of a product that are done at once, where that is eight rows and more.
const PIECE: usize = 16_384;

/// As much as so many multiply-adds is the looking up of what a layer is made of.
const LOOKUP_COST: usize = 8000;

/// Whether work is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Progress {
    /// Call again.
    Busy,
    /// All is done.
    Done,
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The next tokens of a decoder's text, a batch at most, with the logits after the last or without.
    Next { logits: bool },
    /// An encoder's text or patches.
    Whole,
    /// The source of an encoder–decoder.
    Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A piece: a batch of tokens, or some elements of it where they are patches.
    Embed,
    /// The norm of a batch, then some heads' rows of it: queries, keys or values.
    Qkv,
    /// A tile of keys for a batch.
    Attend,
    /// A block of rows for a batch, as where nothing else is said.
    Out,
    /// The norm of a batch, then blocks of rows.
    CrossQuery,
    /// A tile of keys for a batch.
    CrossAttend,
    CrossOut,
    /// The norm of a batch, then blocks of rows.
    Up,
    Down,
    /// The logits of a decoder's last token.
    Logits,
    /// The norm of a batch of a source's tokens, then some heads' keys or values for a layer of the decoder.
    CrossKv,
    /// An encoder's token: its norm, and what becomes of it.
    Final,
    Head,
    Done,
}

impl Stage {
    /// Whether it is done with what a layer is made of.
    const fn is_of_layer(self) -> bool {
        match self {
            Self::Qkv
            | Self::Attend
            | Self::Out
            | Self::CrossQuery
            | Self::CrossAttend
            | Self::CrossOut
            | Self::Up
            | Self::Down => true,
            Self::Embed | Self::Logits | Self::CrossKv | Self::Final | Self::Head | Self::Done => {
                false
            }
        }
    }
}

/// What does not change in a pass.
#[derive(Debug)]
pub(crate) struct Setting<'m, F> {
    pub(crate) model: &'m Model<'m>,
    pub(crate) backend: Backend,
    pub(crate) room: Room,
    /// Tokens of the source that was read.
    pub(crate) heard: usize,
    /// Tokens of the text that a ring has forgotten: the position of the first in memory.
    pub(crate) forgotten: usize,
    /// The first position whose keys are there.
    pub(crate) oldest: usize,
    fit: PhantomData<F>,
}

// Derived, they would ask it of `F`.
impl<F> Clone for Setting<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Setting<'_, F> {}

impl<'m, F: Fit> Setting<'m, F> {
    /// Before a text.
    pub(crate) const fn new(model: &'m Model<'m>, backend: Backend, room: Room) -> Self {
        Self {
            model,
            backend,
            room,
            heard: 0,
            forgotten: 0,
            oldest: 0,
            fit: PhantomData,
        }
    }

    /// Whether the text attends to a source.
    fn translates(&self) -> bool {
        Of::<F>::TRANSLATES && self.model.config().source().is_some()
    }
}

impl Model<'_> {
    /// Multiply-adds of the largest piece of work: what [`Session::advance`](super::Session::advance) and
    /// [`Encoder::advance`](super::Encoder::advance) may do beyond their budget.
    pub const fn largest_piece(&self) -> u32 {
        let config = self.config();
        let Config {
            dim,
            head_dim,
            hidden_dim,
            ..
        } = *config;
        let heads = BATCH * head_dim;
        // A gate's rows are multiplied with those that it is for.
        let up = if config.ffn.is_gated() { 2 } else { 1 };
        let costs = [
            LOOKUP_COST,
            BATCH * NORM_COST * dim,
            block_cost(BATCH, config.patch()) + BATCH * NORM_COST * dim,
            block_cost(up * BATCH, dim),
            block_cost(1, dim) + NORM_COST * dim,
            // At least one head, however wide.
            heads * dim,
            2 * TILE * heads,
            block_cost(BATCH, config.q_dim()),
            block_cost(BATCH, hidden_dim),
            config.head_rows() * dim + NORM_COST * dim,
        ];
        let mut most = 0;
        let mut rest: &[usize] = &costs;
        while let Some((&cost, tail)) = rest.split_first() {
            if cost > most {
                most = cost;
            }
            rest = tail;
        }
        most as u32
    }
}

/// Rows of a product that are always done at once, where there are as many.
const ROWS_LEAST: usize = 8;

/// Rows of so many columns that are multiplied with `tokens` at once: whole fours, as matrices of four bits have them.
const fn rows_at_once(tokens: usize, cols: usize) -> usize {
    let cheap = match PIECE.checked_div(tokens.saturating_mul(cols)) {
        Some(rows) => rows,
        None => PIECE,
    };
    let few = if cheap < ROWS_LEAST {
        ROWS_LEAST
    } else {
        cheap
    };
    let rows = match BLOCK.checked_div(tokens) {
        Some(most) if most < few => most,
        _ => few,
    };
    rows & !(QUAD - 1)
}

/// Multiply-adds of a block for up to `tokens`, at most.
const fn block_cost(tokens: usize, cols: usize) -> usize {
    let (least, most) = (ROWS_LEAST * tokens * cols, BLOCK * cols);
    let cost = if least < PIECE { PIECE } else { least };
    if cost < most { cost } else { most }
}

/// A cursor, and what it has looked up for the pieces to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass<'m> {
    what: What,
    /// Position of the first token.
    first: usize,
    /// Tokens.
    len: usize,
    stage: Stage,
    layer: usize,
    /// The first of the batch.
    token: usize,
    /// Of heads or rows.
    index: usize,
    /// Of keys.
    tile: usize,
    /// Whether the batch was normed for this stage.
    is_normed: bool,
    /// Greatest scores and sums of a head's attention; the sums of the values lie in memory.
    max: [i16; BATCH],
    sum: [u32; BATCH],
    /// Of this stage, outside the layers.
    matrix: Option<Product<'m>>,
    /// Of this layer.
    parts: Option<Layer<'m>>,
}

impl<'m> Pass<'m> {
    pub(crate) const DONE: Self = Self {
        what: What::Whole,
        first: 0,
        len: 0,
        stage: Stage::Done,
        layer: 0,
        token: 0,
        index: 0,
        tile: 0,
        is_normed: false,
        max: [i16::MIN; BATCH],
        sum: [0; BATCH],
        matrix: None,
        parts: None,
    };

    /// Begins with the embedding of `len` tokens, at least one, which lie in memory; a decoder's are a batch at most.
    pub(crate) fn begin(what: What, first: usize, len: usize, config: &Config) -> Self {
        let layer = match what {
            What::Source => config.layers,
            What::Next { .. } | What::Whole => 0,
        };
        Self {
            what,
            first,
            len,
            layer,
            stage: Stage::Embed,
            ..Self::DONE
        }
    }

    /// Does pieces of work until they have cost `budget` multiply-adds, or nothing is left: at least one piece, so at
    /// most `budget` and one piece's cost. Returns what they cost. A watcher is handed the weights of each head that is
    /// about to attend.
    pub(crate) fn advance<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
        budget: u32,
        mut watcher: Option<&mut Watcher<'_>>,
    ) -> Result<u32, SessionError> {
        let mut spent = 0u32;
        while !self.is_done() {
            if Of::<F>::WATCHES
                && let Some(watcher) = &mut watcher
            {
                self.watch(setting, memory, watcher)?;
            }
            spent = spent.saturating_add(self.piece(setting, memory)?);
            if spent >= budget {
                break;
            }
        }
        Ok(spent)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Tokens of the pass.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// One piece; its cost.
    fn piece<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let config = setting.model.config();
        let (dim, q_dim) = (config.dim, config.q_dim());
        if self.stage.is_of_layer() && self.parts.is_none() {
            self.parts(setting)?;
            return Ok(LOOKUP_COST as u32);
        }
        match self.stage {
            Stage::Embed => self.embed(setting, memory),
            Stage::Qkv => self.qkv(setting, memory),
            // A processor's code has the stages that its models have.
            Stage::Attend => self.attend(setting, memory, false),
            Stage::CrossQuery if Of::<F>::TRANSLATES => self.cross_query(setting, memory),
            Stage::CrossAttend if Of::<F>::TRANSLATES => self.attend(setting, memory, true),
            Stage::Out => {
                let matrix = self.parts(setting)?.out;
                let input = self.rows(memory.q, q_dim)?;
                let cost = self.add_rows(setting, &matrix, input, memory.sums, memory.x)?;
                if self.index >= dim {
                    self.to(match setting.translates() && self.what != What::Source {
                        true => Stage::CrossQuery,
                        false => Stage::Up,
                    });
                }
                Ok(cost)
            }
            Stage::CrossOut if Of::<F>::TRANSLATES => {
                let matrix = self.cross(setting)?.out;
                let input = self.rows(memory.q, q_dim)?;
                let cost = self.add_rows(setting, &matrix, input, memory.sums, memory.x)?;
                if self.index >= dim {
                    self.to(Stage::Up);
                }
                Ok(cost)
            }
            Stage::Up => self.up(setting, memory),
            Stage::Down => {
                let matrix = self.parts(setting)?.down;
                let input = row(memory.hidden, 0, self.batch().saturating_mul(matrix.cols()))?;
                let cost = self.add_rows(setting, &matrix, input, memory.sums, memory.x)?;
                if self.index >= dim {
                    self.next_batch(Stage::Out, |pass| pass.next_layer(config));
                }
                Ok(cost)
            }
            Stage::Logits if Of::<F>::WRITES => self.logits(setting, memory),
            Stage::CrossKv if Of::<F>::TRANSLATES => self.cross_kv(setting, memory),
            Stage::Final if Of::<F>::READS => self.finals(setting, memory),
            Stage::Head if Of::<F>::READS => self.head(setting, memory),
            Stage::Done => Ok(0),
            _ => Err(SessionError::NotLinked),
        }
    }

    /// To the beginning of a stage.
    fn to(&mut self, stage: Stage) {
        self.stage = stage;
        self.index = 0;
        self.tile = 0;
        self.is_normed = false;
        self.matrix = None;
    }

    /// Tokens of the batch, one at least.
    fn batch(&self) -> usize {
        self.len.saturating_sub(self.token).clamp(1, BATCH)
    }

    /// To the next batch at that stage, or, behind the last, to what follows.
    fn next_batch(&mut self, stage: Stage, behind: impl FnOnce(&mut Self)) {
        self.skip(self.batch(), stage, behind);
    }

    /// The same over that many tokens.
    fn skip(&mut self, tokens: usize, stage: Stage, behind: impl FnOnce(&mut Self)) {
        self.token = self.token.saturating_add(tokens);
        if self.token < self.len {
            self.to(stage);
        } else {
            self.token = 0;
            behind(self);
        }
    }

    fn next_layer(&mut self, config: &Config) {
        self.parts = None;
        self.layer = self.layer.saturating_add(1);
        let end = match self.what {
            What::Source => config.layers.saturating_add(config.source_layers()),
            What::Next { .. } | What::Whole => config.layers,
        };
        if self.layer < end {
            return self.to(Stage::Qkv);
        }
        match self.what {
            What::Source => {
                self.layer = 0;
                self.to(Stage::CrossKv);
            }
            What::Whole => self.to(Stage::Final),
            What::Next { logits: true } => self.to(Stage::Logits),
            What::Next { logits: false } => self.to(Stage::Done),
        }
    }

    /// The next rows of a product for `tokens` at once: a block of results.
    fn block(&self, tokens: usize, rows: usize, cols: usize) -> Range<usize> {
        let some = rows_at_once(tokens, cols);
        self.index..self.index.saturating_add(some).min(rows)
    }

    /// Some rows' products with the batch's inputs: (batch, rows).
    fn project<'s, F: Fit>(
        &self,
        setting: Setting<'m, F>,
        matrix: &Product<'m>,
        rows: Range<usize>,
        input: &[i8],
        sums: &'s mut [i32],
    ) -> Result<&'s mut [i32], SessionError> {
        let batch = self.batch();
        let sums = part_mut(sums, 0, batch.saturating_mul(rows.len()))?;
        let input = part(input, 0, batch.saturating_mul(matrix.cols()))?;
        product_linked::<Of<F>>(setting.backend, matrix, input, rows.start, sums)?;
        Ok(sums)
    }

    /// The batch's rows of that width.
    fn rows<'a, T>(&self, all: &'a [T], width: usize) -> Result<&'a [T], SessionError> {
        let from = self.token.saturating_mul(width);
        part(all, from, self.batch().saturating_mul(width))
    }

    /// The batch's residual stream, normed; what that costs.
    fn norm(
        &mut self,
        parameters: &Norm<'_>,
        dim: usize,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        for lane in 0..self.batch() {
            let x = row(memory.x, self.token.saturating_add(lane), dim)?;
            norm(x, parameters, row_mut(memory.y, lane, dim)?)?;
        }
        self.is_normed = true;
        Ok(self.batch().saturating_mul(NORM_COST * dim) as u32)
    }

    /// The matrix of this stage, looked up once.
    fn matrix<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        role: Role,
        layer: Option<usize>,
    ) -> Result<Product<'m>, SessionError> {
        if let Some(matrix) = self.matrix {
            return Ok(matrix);
        }
        let matrix = setting.model.product::<F>(role, layer)?;
        self.matrix = Some(matrix);
        Ok(matrix)
    }

    /// What this layer is made of, looked up once.
    fn parts<F: Fit>(&mut self, setting: Setting<'m, F>) -> Result<&Layer<'m>, SessionError> {
        if self.parts.is_none() {
            let cross = self.what != What::Source && setting.translates();
            self.parts = Some(Layer::new::<F>(setting.model, self.layer, cross)?);
        }
        // It is there now; the compiler cannot know it.
        self.parts.as_ref().ok_or(SessionError::Family)
    }

    /// The same of its attention to the source.
    fn cross<F: Fit>(&mut self, setting: Setting<'m, F>) -> Result<&Cross<'m>, SessionError> {
        let cross = self.parts(setting)?.cross.as_ref();
        cross.ok_or(SessionError::Family)
    }
}

#[cfg(test)]
mod tests {
    use super::{BATCH, BLOCK, QUAD, block_cost, rows_at_once};

    #[test]
    fn no_block_costs_more_than_is_promised() {
        for cols in (0..300).chain([512, 1000, 4096, 65_536]) {
            for most in [1, BATCH, 2 * BATCH] {
                for tokens in 1..=most {
                    let rows = rows_at_once(tokens, cols);
                    assert!(rows >= 8 && rows * tokens <= BLOCK, "{cols} {tokens}");
                    assert!(rows.is_multiple_of(QUAD), "{cols} {tokens}");
                    assert!(
                        rows * tokens * cols <= block_cost(most, cols),
                        "{cols} {tokens}"
                    );
                }
            }
        }
    }
}
