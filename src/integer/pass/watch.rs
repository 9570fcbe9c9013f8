//! Attention that can be looked at.

use super::{Fit, Pass, Setting, Stage, What};
use crate::error::SessionError;
use crate::integer::memory::{Memory, row};
use crate::kernels::integer::{BATCH, Query, Scores, TILE, power, scores};
use crate::watch::{Attends, AttentionRow, Watcher};

impl<'m> Pass<'m> {
    /// Where a head is about to attend, hands over what each token of the batch will give each key.
    pub(super) fn watch<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
        watcher: &mut Watcher<'_>,
    ) -> Result<(), SessionError> {
        let cross = self.stage == Stage::CrossAttend;
        if self.tile > 0 || !(cross || self.stage == Stage::Attend) {
            return Ok(());
        }
        let layers = setting.model.config().layers;
        let (attends, layer) = match (cross, self.what) {
            (true, _) => (Attends::TextToSource, self.layer),
            (false, What::Source) => (Attends::Source, self.layer.saturating_sub(layers)),
            (false, _) => (Attends::Text, self.layer),
        };
        let last = self.batch().saturating_sub(1);
        let end = self.visible(setting, cross, last).end;
        Watcher::check_room(end, watcher.weights)?;
        let weights = watcher.weights.get_mut(..end).unwrap_or_default();
        for lane in 0..=last {
            self.weights(setting, memory, cross, lane, weights)?;
            let position = self.first.saturating_add(self.token).saturating_add(lane);
            (watcher.each)(&AttentionRow {
                attends,
                layer,
                head: self.index,
                position,
                weights,
            });
        }
        Ok(())
    }

    /// What a token of the batch gives each key: the weights of the contract, of which only the rescaling from tile to
    /// tile is left out, divided by their sum.
    fn weights<F: Fit>(
        &mut self,
        setting: Setting<'m, F>,
        memory: &mut Memory<'_>,
        cross: bool,
        lane: usize,
        weights: &mut [f32],
    ) -> Result<(), SessionError> {
        let config = setting.model.config();
        let scalars = self.parts(setting)?.scalars;
        let scales = if cross { scalars.cross } else { scalars.own };
        let (cache, slot) = self.cache(setting, cross);
        let all = if cross { &*memory.cross } else { &*memory.kv };
        let keys = self.visible(setting, cross, lane);
        let q = row(memory.q, self.token.saturating_add(lane), config.q_dim())?;
        let elements = row(q, self.index, config.head_dim)?;
        weights.fill(0.0);
        let mut max = i16::MIN;
        let mut of_tile = Scores([[i16::MIN; TILE]; BATCH]);
        for tile in keys.start / TILE..keys.end.div_ceil(TILE) {
            let first = tile.saturating_mul(TILE);
            let inside = |key: usize| key.clamp(first, first.saturating_add(TILE)) - first;
            let query = Query {
                elements,
                visible: inside(keys.start)..inside(keys.end),
            };
            let visible = query.visible.clone();
            let kv_head = self.kv_head(config);
            let tile = cache.tile(all, slot, kv_head, tile, keys.end, memory.tile)?;
            scores(
                setting.backend,
                &[query],
                &tile,
                cache.multiplier(scales.score),
                &mut of_tile,
            )?;
            let places = weights.iter_mut().skip(first).zip(&of_tile.0[0]);
            for (weight, &score) in places.take(visible.end).skip(visible.start) {
                max = max.max(score);
                *weight = f32::from(score);
            }
        }
        let mut sum = 0.0;
        let visible = weights.get_mut(keys).unwrap_or_default();
        for weight in visible.iter_mut() {
            *weight = f32::from(power((f32::from(max) - *weight) as u32));
            sum += *weight;
        }
        // The greatest weighs something.
        visible.iter_mut().for_each(|weight| *weight /= sum);
        Ok(())
    }
}
