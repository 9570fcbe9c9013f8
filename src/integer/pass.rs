//! Tokens on their way through the layers, one small piece of work after the other.
//!
//! A [`Pass`] is a cursor: which stage of which layer, which token, which head or block of rows. [`Pass::advance`] does
//! pieces until they cost what it was told, and can be called again at any later time; everything between two pieces
//! lies in [`Memory`] and in the cursor.

use core::ops::Range;

use crate::config::{Architecture, Config, Pooling, Position, RotaryStyle};
use crate::error::SessionError;
use crate::integer::cache::Cache;
use crate::integer::memory::{BLOCK, Memory, Room, part_mut, row, row_mut, short};
use crate::integer::model::Model;
use crate::integer::parts::{Cross, Layer};
use crate::kernels::Backend;
use crate::kernels::integer::{
    Product, Running, TILE, add, attend, embed, finish, gated, norm, plain, product, rotate, to_i8,
};
use crate::kernels::ops::position::RotaryStyle as KernelStyle;
use crate::tensors::Role;

/// To norm or embed an element takes as long as so many multiply-adds.
const NORM_COST: usize = 16;

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
    /// A token of a decoder's text, with logits or without.
    Next { logits: bool },
    /// An encoder's text or patches.
    Whole,
    /// The source of an encoder–decoder.
    Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A piece: a token.
    Embed,
    /// Some heads' rows: queries, keys or values.
    Qkv,
    /// A tile of keys.
    Attend,
    /// A block of rows, as where nothing else is said.
    Out,
    CrossQuery,
    /// A tile of keys.
    CrossAttend,
    CrossOut,
    Up,
    Down,
    /// The logits of a decoder.
    Logits,
    /// The norm of a source's token, and some heads' keys or values for a layer of the decoder.
    CrossKv,
    /// An encoder's token: its norm, and what becomes of it.
    Final,
    Head,
    Done,
}

/// What does not change in a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'m> {
    pub(crate) model: &'m Model<'m>,
    pub(crate) backend: Backend,
    pub(crate) room: Room,
    /// Tokens of the source that was read.
    pub(crate) heard: usize,
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
        let costs = [
            dim * (config.patch() + NORM_COST),
            if head_dim > BLOCK { head_dim } else { BLOCK } * dim,
            2 * TILE * head_dim,
            BLOCK * config.q_dim(),
            2 * BLOCK * dim,
            BLOCK * hidden_dim,
            config.head_rows() * dim,
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
    token: usize,
    /// Of heads or blocks.
    index: usize,
    /// Of keys.
    tile: usize,
    /// Greatest score and sum of a head's attention; the sums of the values lie in memory.
    max: i16,
    sum: u32,
    /// Of this stage, outside the layers.
    matrix: Option<Product<'m>>,
    /// Of this layer.
    parts: Option<Layer<'m>>,
    angles: &'m [[i16; 2]],
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
        max: i16::MIN,
        sum: 0,
        matrix: None,
        parts: None,
        angles: &[],
    };

    /// Begins with the embedding of `len` tokens, at least one, which lie in memory.
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
    /// most `budget` and one piece's cost. Returns what they cost.
    pub(crate) fn advance(
        &mut self,
        setting: Setting<'m>,
        memory: &mut Memory<'_>,
        budget: u32,
    ) -> Result<u32, SessionError> {
        let mut spent = 0u32;
        while !self.is_done() {
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

    /// One piece; its cost.
    fn piece(
        &mut self,
        setting: Setting<'m>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let config = setting.model.config();
        let (dim, q_dim) = (config.dim, config.q_dim());
        match self.stage {
            Stage::Embed => self.embed(setting, memory),
            Stage::Qkv => self.qkv(setting, memory),
            Stage::Attend => self.attend(setting, memory, false),
            Stage::CrossAttend => self.attend(setting, memory, true),
            Stage::CrossQuery => self.cross_query(setting, memory),
            Stage::Out => {
                let matrix = self.parts(setting)?.out;
                let input = row(memory.q, self.token, q_dim)?;
                let cost = self.add_rows(setting, &matrix, input, memory.sums, memory.x)?;
                if self.blocks_end(dim) {
                    self.to(match config.architecture {
                        Architecture::EncoderDecoder(_) if self.what != What::Source => {
                            Stage::CrossQuery
                        }
                        _ => Stage::Up,
                    });
                }
                Ok(cost)
            }
            Stage::CrossOut => {
                let matrix = self.cross(setting)?.out;
                let input = row(memory.q, self.token, q_dim)?;
                let cost = self.add_rows(setting, &matrix, input, memory.sums, memory.x)?;
                if self.blocks_end(dim) {
                    self.to(Stage::Up);
                }
                Ok(cost)
            }
            Stage::Up => self.up(setting, memory),
            Stage::Down => {
                let matrix = self.parts(setting)?.down;
                let input = &*memory.hidden;
                let cost = self.add_rows(setting, &matrix, input, memory.sums, memory.x)?;
                if self.blocks_end(dim) {
                    self.next_token(Stage::Out, |pass| pass.next_layer(config));
                }
                Ok(cost)
            }
            Stage::Logits => self.logits(setting, memory),
            Stage::CrossKv => self.cross_kv(setting, memory),
            Stage::Final => self.finals(setting, memory),
            Stage::Head => self.head(setting, memory),
            Stage::Done => Ok(0),
        }
    }

    /// To the beginning of a stage.
    fn to(&mut self, stage: Stage) {
        self.stage = stage;
        self.index = 0;
        self.tile = 0;
        self.matrix = None;
    }

    /// To the next token at that stage, or, behind the last, to what follows.
    fn next_token(&mut self, stage: Stage, behind: impl FnOnce(&mut Self)) {
        self.token = self.token.saturating_add(1);
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

    /// Goes on to the next block; whether there is none.
    fn blocks_end(&mut self, rows: usize) -> bool {
        self.index = self.index.saturating_add(1);
        self.index.saturating_mul(BLOCK) >= rows
    }

    /// The rows of the block.
    fn block(&self, rows: usize) -> Range<usize> {
        let from = self.index.saturating_mul(BLOCK);
        from..from.saturating_add(BLOCK).min(rows)
    }

    /// The matrix of this stage, looked up once.
    fn matrix(
        &mut self,
        setting: Setting<'m>,
        role: Role,
        layer: Option<usize>,
    ) -> Result<Product<'m>, SessionError> {
        if let Some(matrix) = self.matrix {
            return Ok(matrix);
        }
        let matrix = setting.model.product(role, layer)?;
        self.matrix = Some(matrix);
        Ok(matrix)
    }

    /// What this layer is made of, looked up once.
    fn parts(&mut self, setting: Setting<'m>) -> Result<&Layer<'m>, SessionError> {
        if self.parts.is_none() {
            let cross = self.what != What::Source && setting.model.config().source().is_some();
            self.parts = Some(Layer::new(setting.model, self.layer, cross)?);
        }
        // It is there now; the compiler cannot know it.
        self.parts.as_ref().ok_or(SessionError::Family)
    }

    /// The same of its attention to the source.
    fn cross(&mut self, setting: Setting<'m>) -> Result<&Cross<'m>, SessionError> {
        let cross = self.parts(setting)?.cross.as_ref();
        cross.ok_or(SessionError::Family)
    }

    fn embed(
        &mut self,
        setting: Setting<'m>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        let x = row_mut(memory.x, self.token, config.dim)?;
        x.fill(0);
        let position = self.first.saturating_add(self.token);
        let mut cost = NORM_COST * config.dim;
        let patch = config.patch();
        if patch > 0 && self.token > 0 {
            let matrix = self.matrix(setting, Role::PatchWeight, None)?;
            let input = row(memory.q, self.token.saturating_sub(1), patch)?;
            for (index, x) in x.chunks_mut(BLOCK).enumerate() {
                let first = index.saturating_mul(BLOCK);
                let sums = part_mut(memory.sums, 0, x.len())?;
                product(setting.backend, &matrix, input, first, sums)?;
                add(x, sums);
            }
            cost = cost.saturating_add(config.dim.saturating_mul(patch));
        } else {
            let ids = match self.what {
                What::Source => &*memory.source,
                What::Next { .. } | What::Whole => &*memory.tokens,
            };
            let id = ids.get(position).copied().unwrap_or_default();
            embed(&model.table(Role::TokenEmbedding)?, id as usize, x)?;
        }
        let (place, role) = match (self.what, config.source()) {
            (What::Source, Some(source)) => (&source.position, Role::SourcePositionEmbedding),
            _ => (&config.position, Role::PositionEmbedding),
        };
        if place.is_added() {
            embed(&model.table(role)?, position, x)?;
        }
        self.token = self.token.saturating_add(1);
        if self.token >= self.len {
            self.token = 0;
            self.to(Stage::Qkv);
        }
        Ok(cost as u32)
    }

    /// Whether keys are rotated on this side.
    fn style(&self, config: &Config) -> Option<KernelStyle> {
        match config.position {
            Position::Rotary { style, .. } => Some(match style {
                RotaryStyle::Half => KernelStyle::Half,
                RotaryStyle::Interleaved => KernelStyle::Interleaved,
            }),
            _ => None,
        }
    }

    /// Some heads' queries, keys or values.
    fn qkv(&mut self, setting: Setting<'m>, memory: &mut Memory<'_>) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        let Config {
            heads,
            kv_heads,
            head_dim,
            dim,
            ..
        } = *config;
        let position = self.first.saturating_add(self.token);
        let qkv = self.parts(setting)?.qkv;
        if self.index == 0 {
            let x = row(memory.x, self.token, dim)?;
            norm(x, &self.parts(setting)?.attn_norm, memory.y)?;
            if config.rotates() {
                self.angles = model.angles(position)?;
            }
        }
        let all = heads.saturating_add(kv_heads.saturating_mul(2));
        let some = self.some_heads(head_dim, all);
        let sums = part_mut(memory.sums, 0, some.len().saturating_mul(head_dim))?;
        let first = some.start.saturating_mul(head_dim);
        product(setting.backend, &qkv, memory.y, first, sums)?;
        let cost = sums.len().saturating_mul(dim);
        let own = Cache::own(setting, self.what);
        for (head, sums) in some.clone().zip(sums.chunks_exact(head_dim.max(1))) {
            let key = head.checked_sub(heads);
            let value = key.and_then(|key| key.checked_sub(kv_heads));
            let to = match (key, value) {
                (None, _) => {
                    let q = row_mut(memory.q, self.token, config.q_dim())?;
                    row_mut(q, head, head_dim)?
                }
                (Some(key), None) => own.slot(memory.kv, self.own_slot(), false, key, position)?,
                (_, Some(value)) => own.slot(memory.kv, self.own_slot(), true, value, position)?,
            };
            match self.style(config) {
                Some(style) if value.is_none() => rotate(sums, self.angles, style, to)?,
                _ => narrow(sums, to),
            }
        }
        self.index = some.end;
        if self.index >= all {
            self.next_token(Stage::Qkv, |pass| pass.to(Stage::Attend));
        }
        Ok(cost as u32)
    }

    /// The heads of a piece: a block of rows, but one head at least.
    fn some_heads(&self, head_dim: usize, all: usize) -> Range<usize> {
        let count = BLOCK.checked_div(head_dim).unwrap_or(1).max(1);
        self.index..self.index.saturating_add(count).min(all)
    }

    /// Where a layer's own keys lie in the cache.
    fn own_slot(&self) -> usize {
        match self.what {
            What::Next { .. } => self.layer,
            What::Whole | What::Source => 0,
        }
    }

    fn cross_query(
        &mut self,
        setting: Setting<'m>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let dim = setting.model.config().dim;
        let query = self.cross(setting)?.query;
        if self.index == 0 {
            let x = row(memory.x, self.token, dim)?;
            norm(x, &self.cross(setting)?.norm, memory.y)?;
        }
        let block = self.block(query.rows());
        let sums = part_mut(memory.sums, 0, block.len())?;
        product(setting.backend, &query, memory.y, block.start, sums)?;
        let q = row_mut(memory.q, self.token, query.rows())?;
        narrow(sums, part_mut(q, block.start, block.len())?);
        if self.blocks_end(query.rows()) {
            self.to(Stage::CrossAttend);
        }
        Ok(block.len().saturating_mul(dim) as u32)
    }

    /// A tile of a head's attention: to its own text, or to the source.
    fn attend(
        &mut self,
        setting: Setting<'m>,
        memory: &mut Memory<'_>,
        cross: bool,
    ) -> Result<u32, SessionError> {
        let config = setting.model.config();
        let head_dim = config.head_dim;
        let scalars = self.parts(setting)?.scalars;
        let scales = if cross { scalars.cross } else { scalars.own };
        let keys = match cross {
            true => 0..setting.heard,
            false => self.visible(config),
        };
        let first_tile = keys.start / TILE;
        let tile = first_tile.saturating_add(self.tile);
        let from = tile.saturating_mul(TILE).max(keys.start);
        let to = tile.saturating_add(1).saturating_mul(TILE).min(keys.end);
        let n = to.saturating_sub(from);
        let (cache, all, slot) = match cross {
            true => (Cache::cross(setting), &*memory.cross, self.layer),
            false => (Cache::own(setting, self.what), &*memory.kv, self.own_slot()),
        };
        let group = config.heads.checked_div(config.kv_heads).unwrap_or(1);
        let head = self.index.checked_div(group).unwrap_or(0);
        let query = row_mut(memory.q, self.token, config.q_dim())?;
        let query = row_mut(query, self.index, head_dim)?;
        let mut running = Running {
            max: self.max,
            sum: self.sum,
            values: part_mut(memory.sums, 0, head_dim)?,
        };
        if self.tile == 0 {
            running.clear();
        }
        attend(
            setting.backend,
            query,
            cache.rows(all, slot, false, head, from, n)?,
            cache.rows(all, slot, true, head, from, n)?,
            scales.score,
            &mut running,
        )?;
        self.tile = self.tile.saturating_add(1);
        if to >= keys.end {
            // The query is not needed again: its place takes what it found.
            finish(&running, scales.out, query)?;
            self.tile = 0;
            self.index = self.index.saturating_add(1);
        }
        (self.max, self.sum) = (running.max, running.sum);
        if self.index >= config.heads {
            match cross {
                true => self.to(Stage::CrossOut),
                false => self.next_token(Stage::Attend, |pass| pass.to(Stage::Out)),
            }
        }
        Ok(n.saturating_mul(head_dim).saturating_mul(2) as u32)
    }

    /// The keys that the token sees.
    fn visible(&self, config: &Config) -> Range<usize> {
        let What::Next { .. } = self.what else {
            return 0..self.len;
        };
        let end = self.first.saturating_add(1);
        let window = config.attention.window_of(self.layer);
        match window {
            Some(window) => end.saturating_sub(window.len)..end,
            None => 0..end,
        }
    }

    /// A block of rows of a product, added to the token's residual stream.
    fn add_rows(
        &mut self,
        setting: Setting<'m>,
        matrix: &Product<'m>,
        input: &[i8],
        sums: &mut [i32],
        x: &mut [i16],
    ) -> Result<u32, SessionError> {
        let block = self.block(matrix.rows());
        let sums = part_mut(sums, 0, block.len())?;
        product(setting.backend, matrix, input, block.start, sums)?;
        let x = row_mut(x, self.token, matrix.rows())?;
        add(part_mut(x, block.start, block.len())?, sums);
        Ok(block.len().saturating_mul(matrix.cols()) as u32)
    }

    fn up(&mut self, setting: Setting<'m>, memory: &mut Memory<'_>) -> Result<u32, SessionError> {
        let config = setting.model.config();
        let (dim, hidden) = (config.dim, config.hidden_dim);
        if self.index == 0 {
            let x = row(memory.x, self.token, dim)?;
            norm(x, &self.parts(setting)?.ffn_norm, memory.y)?;
        }
        let parts = self.parts(setting)?;
        let (matrix, multiplier) = (parts.up, parts.scalars.hidden);
        let block = self.block(hidden);
        let n = block.len();
        let out = part_mut(memory.hidden, block.start, n)?;
        let function = config.function();
        let (gate, up) = memory.sums.split_at_mut_checked(n).ok_or(short(n, 0))?;
        product(setting.backend, &matrix, memory.y, block.start, gate)?;
        if config.ffn.is_gated() {
            let up = part_mut(up, 0, n)?;
            let first = block.start.saturating_add(hidden);
            product(setting.backend, &matrix, memory.y, first, up)?;
            gated(function, gate, up, multiplier, out);
        } else {
            plain(function, gate, multiplier, out);
        }
        if self.blocks_end(hidden) {
            self.to(Stage::Down);
        }
        let rows = if config.ffn.is_gated() { 2 * n } else { n };
        Ok(rows.saturating_mul(dim) as u32)
    }

    /// A block of a decoder's logits.
    fn logits(
        &mut self,
        setting: Setting<'m>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        if self.index == 0 {
            let x = row(memory.x, 0, config.dim)?;
            norm(x, &model.norm(Role::FinalNormGain, None)?, memory.y)?;
        }
        let role = match config.tied {
            true => Role::TokenEmbedding,
            false => Role::OutputWeight,
        };
        let matrix = self.matrix(setting, role, None)?;
        let block = self.block(config.vocab_len);
        let out = part_mut(memory.logits, block.start, block.len())?;
        product(setting.backend, &matrix, memory.y, block.start, out)?;
        if self.blocks_end(config.vocab_len) {
            self.to(Stage::Done);
        }
        Ok(block.len().saturating_mul(config.dim) as u32)
    }

    /// Some heads' keys or values of a token of the source, for one layer of the decoder.
    fn cross_kv(
        &mut self,
        setting: Setting<'m>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        let (dim, head_dim) = (config.dim, config.head_dim);
        if self.index == 0 && self.layer == 0 {
            let x = row(memory.x, self.token, dim)?;
            norm(x, &model.norm(Role::SourceNormGain, None)?, memory.y)?;
        }
        let matrix = self.matrix(setting, Role::CrossKvWeight, Some(self.layer))?;
        let all = config.kv_heads.saturating_mul(2);
        let some = self.some_heads(head_dim, all);
        let sums = part_mut(memory.sums, 0, some.len().saturating_mul(head_dim))?;
        let first = some.start.saturating_mul(head_dim);
        product(setting.backend, &matrix, memory.y, first, sums)?;
        let cost = sums.len().saturating_mul(dim);
        let cache = Cache::cross(setting);
        for (head, sums) in some.clone().zip(sums.chunks_exact(head_dim.max(1))) {
            let value = head.checked_sub(config.kv_heads);
            let (is_value, head) = (value.is_some(), value.unwrap_or(head));
            let to = cache.slot(memory.cross, self.layer, is_value, head, self.token)?;
            narrow(sums, to);
        }
        self.index = some.end;
        if self.index >= all {
            self.layer = self.layer.saturating_add(1);
            self.to(Stage::CrossKv);
            if self.layer >= config.layers {
                self.layer = 0;
                self.next_token(Stage::CrossKv, |pass| pass.to(Stage::Done));
            }
        }
        Ok(cost as u32)
    }

    /// An encoder's token: normed, then pooled or put through the head.
    fn finals(
        &mut self,
        setting: Setting<'m>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        let dim = config.dim;
        let reading = config.reading().ok_or(SessionError::Family)?;
        let x = row(memory.x, self.token, dim)?;
        norm(x, &model.norm(Role::FinalNormGain, None)?, memory.y)?;
        match reading.pooling {
            Pooling::First => {
                self.to(Stage::Head);
                return Ok((NORM_COST * dim) as u32);
            }
            Pooling::Mean => {
                let sums = part_mut(memory.sums, 0, dim)?;
                if self.token == 0 {
                    sums.fill(0);
                }
                for (sum, &y) in sums.iter_mut().zip(&*memory.y) {
                    *sum = sum.wrapping_add(i32::from(y));
                }
                self.next_token(Stage::Final, |pass| pass.to(Stage::Head));
                if self.stage == Stage::Head {
                    pool(model.pooling(), self.len, memory.sums, memory.y);
                }
                return Ok((NORM_COST * dim) as u32);
            }
            Pooling::None => {}
        }
        let matrix = self.matrix(setting, Role::HeadWeight, None)?;
        let rows = matrix.rows();
        let out = row_mut(memory.logits, self.token, rows)?;
        product(setting.backend, &matrix, memory.y, 0, out)?;
        self.next_token(Stage::Final, |pass| pass.to(Stage::Done));
        Ok(rows.saturating_mul(dim) as u32)
    }

    fn head(&mut self, setting: Setting<'m>, memory: &mut Memory<'_>) -> Result<u32, SessionError> {
        let matrix = self.matrix(setting, Role::HeadWeight, None)?;
        let block = self.block(matrix.rows());
        let out = part_mut(memory.logits, block.start, block.len())?;
        product(setting.backend, &matrix, memory.y, block.start, out)?;
        if self.blocks_end(matrix.rows()) {
            self.to(Stage::Done);
        }
        Ok(block.len().saturating_mul(matrix.cols()) as u32)
    }
}

/// The mean of `n` tokens, in steps of its own.
fn pool(pooling: u32, n: usize, sums: &[i32], out: &mut [i8]) {
    let factor = i64::from(pooling.checked_div(n as u32).unwrap_or(0));
    for (out, &sum) in out.iter_mut().zip(sums) {
        let mean = i64::from(sum).wrapping_mul(factor).wrapping_add(1 << 15) >> 16;
        *out = to_i8(mean.clamp(-128, 127) as i32);
    }
}

/// The nearest bytes.
fn narrow(from: &[i32], to: &mut [i8]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = to_i8(from);
    }
}
