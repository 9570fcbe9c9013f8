//! Queries, keys and values, and what becomes of them.

use core::ops::Range;

use super::{Fit, Of, Pass, Setting, Stage, What, rows_at_once};
use crate::config::{Config, Position, RotaryStyle};
use crate::error::SessionError;
use crate::integer::cache::Cache;
use crate::integer::memory::{Memory, part_mut, row, row_mut};
use crate::kernels::integer::{BATCH, Query, Running, TILE, angles, attend, finish, rotate, to_i8};
use crate::kernels::ops::position::RotaryStyle as KernelStyle;
use crate::tensors::Role;

impl<'m> Pass<'m> {
    /// Some heads' queries, keys or values.
    pub(super) fn qkv<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        let Config {
            heads,
            kv_heads,
            head_dim,
            dim,
            ..
        } = *config;
        let batch = self.batch();
        let position = self.first.saturating_add(self.token);
        let qkv = self.parts(setting)?.qkv;
        if !self.is_normed {
            let parameters = self.parts(setting)?.attn_norm;
            if style::<F>(config).is_some() {
                let steps = model.rotary_steps()?;
                for lane in 0..batch {
                    let of_lane = row_mut(memory.angles, lane, steps.len())?;
                    angles(position.saturating_add(lane) as u32, steps, of_lane);
                }
            }
            return self.norm(&parameters, dim, memory);
        }
        let all = heads.saturating_add(kv_heads.saturating_mul(2));
        let some = self.some_heads(config, all);
        let rows = some.start.saturating_mul(head_dim)..some.end.saturating_mul(head_dim);
        let width = rows.len();
        let sums = self.project(setting, &qkv, rows, memory.y, memory.sums)?;
        let cost = sums.len().saturating_mul(dim);
        let own = Cache::own(setting, self.what);
        let style = style::<F>(config);
        let slot = self.own_slot();
        for (lane, sums) in sums.chunks_exact(width.max(1)).enumerate() {
            let position = position.saturating_add(lane);
            let angles = match style {
                Some(_) => row(memory.angles, lane, head_dim / 2)?,
                None => &[],
            };
            for (head, sums) in some.clone().zip(sums.chunks_exact(head_dim.max(1))) {
                let fill = |to: &mut [i8]| match style {
                    Some(style) => rotate(sums, angles, style, to),
                    None => {
                        narrow(sums, to);
                        Ok(())
                    }
                };
                let key = head.checked_sub(heads);
                match key.map(|key| (key, key.checked_sub(kv_heads))) {
                    None => {
                        let q = self.token.saturating_add(lane);
                        let q = row_mut(memory.q, q, config.q_dim())?;
                        fill(row_mut(q, head, head_dim)?)?;
                    }
                    Some((key, None)) => {
                        own.put_key(memory.kv, slot, key, position, memory.tile, fill)?;
                    }
                    Some((_, Some(value))) => {
                        own.put_value(memory.kv, slot, value, position, sums)?;
                    }
                }
            }
        }
        self.index = some.end;
        if self.index >= all {
            self.next_batch(Stage::Qkv, |pass| pass.to(Stage::Attend));
        }
        Ok(cost as u32)
    }

    /// The heads of a piece: a block of results, but one head at least.
    fn some_heads(&self, config: &Config, all: usize) -> Range<usize> {
        let rows = rows_at_once(self.batch(), config.dim);
        let count = rows.checked_div(config.head_dim).unwrap_or(1).max(1);
        self.index..self.index.saturating_add(count).min(all)
    }

    /// Where a layer's own keys lie in the cache.
    fn own_slot(&self) -> usize {
        match self.what {
            What::Next { .. } => self.layer,
            What::Whole | What::Source => 0,
        }
    }

    pub(super) fn cross_query<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let dim = setting.model.config().dim;
        let query = self.cross(setting)?.query;
        if !self.is_normed {
            let parameters = self.cross(setting)?.norm;
            return self.norm(&parameters, dim, memory);
        }
        let block = self.block(self.batch(), query.rows(), dim);
        let n = block.len();
        let sums = self.project(setting, &query, block.clone(), memory.y, memory.sums)?;
        for (lane, sums) in sums.chunks_exact(n.max(1)).enumerate() {
            let q = row_mut(memory.q, self.token.saturating_add(lane), query.rows())?;
            narrow(sums, part_mut(q, block.start, n)?);
        }
        self.index = block.end;
        if self.index >= query.rows() {
            self.to(Stage::CrossAttend);
        }
        Ok(sums.len().saturating_mul(dim) as u32)
    }

    /// A tile of a head's attention: to its own text, or to the source.
    pub(super) fn attend<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
        cross: bool,
    ) -> Result<u32, SessionError> {
        let config = setting.model.config();
        let head_dim = config.head_dim;
        let scalars = self.parts(setting)?.scalars;
        let scales = if cross { scalars.cross } else { scalars.own };
        let batch = self.batch();
        let visible = |lane: usize| self.visible(setting, cross, lane);
        // What the first sees begins first, and what the last sees ends last.
        let keys = visible(0).start..visible(batch.saturating_sub(1)).end;
        let tile = (keys.start / TILE).saturating_add(self.tile);
        let from = tile.saturating_mul(TILE);
        let to = from.saturating_add(TILE).min(keys.end);
        let inside = |key: usize| key.clamp(from, to.max(from)).saturating_sub(from);
        let (cache, slot) = self.cache(setting, cross);
        let all = if cross { &*memory.cross } else { &*memory.kv };
        let kv_head = self.kv_head(config);
        let mut queries: [Query<'_>; BATCH] = Default::default();
        let queries = queries.get_mut(..batch).unwrap_or_default();
        for (lane, query) in queries.iter_mut().enumerate() {
            let q = row(memory.q, self.token.saturating_add(lane), config.q_dim())?;
            let visible = visible(lane);
            *query = Query {
                elements: row(q, self.index, head_dim)?,
                visible: inside(visible.start)..inside(visible.end),
            };
        }
        let values = part_mut(memory.sums, 0, head_dim.saturating_mul(BATCH))?;
        let mut running = Running {
            max: self.max,
            sum: self.sum,
            values: values.as_chunks_mut().0,
        };
        if self.tile == 0 {
            running.clear();
        }
        attend(
            setting.backend,
            queries,
            &cache.tile(all, slot, kv_head, tile, keys.end, memory.tile)?,
            cache.multiplier(scales.score),
            &mut running,
        )?;
        self.tile = self.tile.saturating_add(1);
        if to >= keys.end {
            // The queries are not needed again: their places take what they found.
            for lane in 0..batch {
                let q = self.token.saturating_add(lane);
                let q = row_mut(memory.q, q, config.q_dim())?;
                finish(
                    &running,
                    lane,
                    scales.out,
                    row_mut(q, self.index, head_dim)?,
                )?;
            }
            self.tile = 0;
            self.index = self.index.saturating_add(1);
        }
        (self.max, self.sum) = (running.max, running.sum);
        if self.index >= config.heads {
            match cross {
                true => self.to(Stage::CrossOut),
                false => self.next_batch(Stage::Attend, |pass| pass.to(Stage::Out)),
            }
        }
        let n = to.saturating_sub(from).saturating_mul(batch);
        Ok(n.saturating_mul(head_dim).saturating_mul(2) as u32)
    }

    /// Where keys and values lie, and whose layer they are there.
    pub(super) fn cache<F: Fit>(&self, setting: Setting<'m, F>, cross: bool) -> (Cache<F>, usize) {
        match cross {
            true => (Cache::cross(setting), self.layer),
            false => (Cache::own(setting, self.what), self.own_slot()),
        }
    }

    /// The key-value head of the head that is next.
    pub(super) fn kv_head(&self, config: &Config) -> usize {
        let group = config.heads.checked_div(config.kv_heads).unwrap_or(1);
        self.index.checked_div(group).unwrap_or(0)
    }

    /// The keys that a token of the batch sees: of the source, or of its own text.
    pub(super) fn visible<F: Fit>(
        &self,
        setting: Setting<'_, F>,
        cross: bool,
        lane: usize,
    ) -> Range<usize> {
        if cross {
            return 0..setting.heard;
        }
        let What::Next { .. } = self.what else {
            return 0..self.len;
        };
        let end = self.first.saturating_add(lane).saturating_add(1);
        let (attention, room) = (setting.model.config().attention, setting.room);
        let window = match attention.window_of(self.layer) {
            Some(window) => window.len,
            None => usize::MAX,
        };
        let len = match room.is_ring && Of::<F>::RING {
            true => window.min(room.context_len),
            false => window,
        };
        match Of::<F>::RING {
            true => end.saturating_sub(len).max(setting.oldest).min(end)..end,
            false => end.saturating_sub(len)..end,
        }
    }

    /// Some heads' keys or values of tokens of the source, for one layer of the decoder.
    pub(super) fn cross_kv<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
    ) -> Result<u32, SessionError> {
        let (model, config) = (setting.model, setting.model.config());
        let (dim, head_dim) = (config.dim, config.head_dim);
        if self.layer == 0 && !self.is_normed {
            return self.norm(&model.norm(Role::SourceNormGain, None)?, dim, memory);
        }
        let matrix = self.matrix(setting, Role::CrossKvWeight, Some(self.layer))?;
        let all = config.kv_heads.saturating_mul(2);
        let some = self.some_heads(config, all);
        let rows = some.start.saturating_mul(head_dim)..some.end.saturating_mul(head_dim);
        let width = rows.len();
        let sums = self.project(setting, &matrix, rows, memory.y, memory.sums)?;
        let cost = sums.len().saturating_mul(dim);
        let cache = Cache::cross(setting);
        for (lane, sums) in sums.chunks_exact(width.max(1)).enumerate() {
            let position = self.token.saturating_add(lane);
            for (head, sums) in some.clone().zip(sums.chunks_exact(head_dim.max(1))) {
                match head.checked_sub(config.kv_heads) {
                    None => {
                        let fill = |to: &mut [i8]| {
                            narrow(sums, to);
                            Ok(())
                        };
                        let (all, room) = (&mut *memory.cross, &mut *memory.tile);
                        cache.put_key(all, self.layer, head, position, room, fill)?;
                    }
                    Some(value) => {
                        cache.put_value(memory.cross, self.layer, value, position, sums)?;
                    }
                }
            }
        }
        self.index = some.end;
        if self.index >= all {
            self.layer = self.layer.saturating_add(1);
            self.to(Stage::CrossKv);
            if self.layer >= config.layers {
                self.layer = 0;
                self.next_batch(Stage::CrossKv, |pass| pass.to(Stage::Done));
            }
        }
        Ok(cost as u32)
    }
}

/// Whether keys are rotated, and how.
fn style<F: Fit>(config: &Config) -> Option<KernelStyle> {
    match config.position {
        Position::Rotary { style, .. } => match style {
            RotaryStyle::Half if Of::<F>::rotary(style) => Some(KernelStyle::Half),
            RotaryStyle::Interleaved if Of::<F>::rotary(style) => Some(KernelStyle::Interleaved),
            _ => None,
        },
        _ => None,
    }
}

/// The nearest bytes.
fn narrow(from: &[i32], to: &mut [i8]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = to_i8(from);
    }
}
