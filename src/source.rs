//! What an encoder–decoder has besides a decoder: a source is read once, and every layer of the decoder attends to it
//! (Vaswani et al. 2017, section 3.2.3).

use crate::attention::{Layer, Slots, attend, remember};
use crate::config::Config;
use crate::decoder::{Text, add_residual, block_input, stack};
use crate::error::SessionError;
use crate::executor::Executor;
use crate::kernels::layout::KvShape;
use crate::kernels::ops::attention::KvMut;
use crate::kv_cache::{KvCache, Places};
use crate::linear::linear;
use crate::needs::Fit;
use crate::norm::norm;
use crate::part::{Cuts, Part};
use crate::run::{Run, part, part_mut};
use crate::spread::Spread;
use crate::tensors::Role;
use crate::watch::{Attends, Watcher};
use crate::workspace::Activations;

const CROSS_NORM: (Role, Role) = (Role::CrossNormGain, Role::CrossNormBias);

/// The keys and values of a source that was read, for each of the decoder's layers.
pub(crate) struct Heard<'a, 'm> {
    pub(crate) kv: &'a mut KvCache<'m>,
    /// Tokens of the source.
    pub(crate) len: usize,
}

/// Those for one layer.
pub(crate) struct HeardLayer<'a> {
    shape: KvShape,
    places: Places,
    len: usize,
    cache: KvMut<'a>,
}

impl Heard<'_, '_> {
    pub(crate) fn layer(&mut self, layer: usize) -> Result<HeardLayer<'_>, SessionError> {
        Ok(HeardLayer {
            shape: *self.kv.shape(),
            places: self.kv.places(),
            len: self.len,
            cache: self.kv.layer(layer)?,
        })
    }
}

impl HeardLayer<'_> {
    pub(crate) fn as_layer(&self, config: &Config, index: usize) -> Layer<'_> {
        Layer {
            index,
            shape: &self.shape,
            places: self.places,
            text_len: Some(self.len),
            q_stride: config.q_dim(),
            cache: self.cache.as_kv(),
        }
    }
}

/// Reads a source: its layers, a norm where the model has one, then the keys and values that each layer of the decoder
/// makes of the result.
///
/// Until these are made, the first layer's place in the cache is free: the source's own layers use it in turn.
pub(crate) fn read<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    ids: &[u32],
    kv: &mut KvCache<'_>,
    watcher: Option<&mut Watcher<'_>>,
    activations: &mut Activations<'_>,
) -> Result<(), SessionError> {
    let text = Text {
        first: 0,
        ids,
        types: &[],
        sets: &[],
    };
    stack(
        run.of_source(),
        spread,
        text,
        kv,
        None,
        watcher,
        activations,
    )?;
    let config = run.model.config();
    let mut all = activations.part(config, text)?;
    let cuts = Cuts::new(config, spread, all.tokens);
    let inner = cuts.inner();
    if config.final_norm {
        cuts.over(all.lend(), |part| {
            let y = part_mut(part.y, 0, part.x.len())?;
            let roles = (Role::SourceNormGain, Role::SourceNormBias);
            norm(run, roles, None, part.x, y)?;
            for (x, &normed) in part.x.iter_mut().zip(&*y) {
                *x = normed;
            }
            Ok(())
        })?;
    }
    let width = 2 * config.kv_dim();
    for layer in 0..config.layers {
        cuts.over(all.lend(), |part| {
            let n = part.tokens.len;
            let rows = part_mut(part.wide, 0, n.saturating_mul(width))?;
            let roles = (Role::CrossKvWeight, Role::CrossKvBias);
            linear(
                run,
                inner,
                roles,
                Some(layer),
                part.x,
                n,
                rows,
                part.scratch,
            )
        })?;
        remember(run, spread, &cuts, &all, Slots::of(kv, layer)?, (0, width))?;
    }
    Ok(())
}

/// The block between self-attention and the feed-forward block: attention to the source.
pub(crate) fn cross_attention<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    source: &Layer<'_>,
    watcher: Option<&mut Watcher<'_>>,
    tokens: &mut Part<'_>,
) -> Result<(), SessionError> {
    let config = run.model.config();
    let layer = source.index;
    let n = tokens.tokens.len;
    let input = block_input(run, CROSS_NORM, layer, tokens.x, tokens.y)?;
    let queries = part_mut(tokens.wide, 0, n.saturating_mul(config.q_dim()))?;
    let roles = (Role::CrossQWeight, Role::CrossQBias);
    let scratch = &mut *tokens.scratch;
    linear(run, spread, roles, Some(layer), input, n, queries, scratch)?;
    if let Some(watcher) = watcher {
        watcher.rows(run, source, tokens, Attends::TextToSource)?;
    }
    attend(run, spread, source, tokens)?;
    let heads = part(tokens.y, 0, n.saturating_mul(config.q_dim()))?;
    let out = part_mut(tokens.wide, 0, n.saturating_mul(config.dim))?;
    let roles = (Role::CrossOutWeight, Role::CrossOutBias);
    let scratch = &mut *tokens.scratch;
    linear(run, spread, roles, Some(layer), heads, n, out, scratch)?;
    add_residual(run, CROSS_NORM, layer, tokens.x, out)
}
