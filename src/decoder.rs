//! The decoder family: causal self-attention and a feed-forward block, layer by layer (Vaswani et al. 2017; the
//! variants are those of [`Config`](crate::Config)).

use heapless::Vec;

use crate::attention::{Layer, Slots, attend, attend_abreast, remember, remember_abreast};
use crate::config::{NormPlace, Reading};
use crate::error::SessionError;
use crate::executor::Executor;
use crate::ffn::activate;
use crate::kernels::ops::elementwise::add;
use crate::kernels::ops::embed::dequantize_row_linked;
use crate::kv_cache::KvCache;
use crate::linear::linear;
use crate::needs::{Fit, Of};
use crate::norm::norm;
use crate::part::{Cuts, Part};
use crate::position::{add_positions, rotate, set_angles};
use crate::run::{Run, part, part_mut};
use crate::source::{Heard, cross_attention};
use crate::spread::Spread;
use crate::tensors::Role;
use crate::watch::{Attends, Watcher};
use crate::workspace::Activations;

const ATTN_NORM: (Role, Role) = (Role::AttnNormGain, Role::AttnNormBias);
const FFN_NORM: (Role, Role) = (Role::FfnNormGain, Role::FfnNormBias);

/// Tokens that are run at once.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    /// Position of the first.
    pub(crate) first: usize,
    pub(crate) ids: &'a [u32],
    /// An encoder's types of them; none for all of type 0.
    pub(crate) types: &'a [u32],
    /// Of tokens that are each of a text of its own, all at the position `first`: the set of the cache where its keys lie.
    pub(crate) sets: &'a [u32],
}

/// Runs a text through the layers of its family: writes the tokens' keys and values into the cache and leaves the
/// residual stream, (n, dim), in `activations.x`.
///
/// Tokens meet only in the cache. So a batch is cut into parts that go from one layer's keys and values to the next
/// one's alone; a batch that is not worth it is one part, and a lone token is cut inside, by rows and heads.
///
/// Of a search's texts, each of which has its own set of the cache, one token each is run.
///
/// Where every token sees every other, a whole text is run at once, and one layer's cache is enough, since a layer's
/// keys are not looked at again. A decoder that has a source attends to it in every layer. What is watched runs as one
/// part.
pub(crate) fn stack<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    text: Text<'_>,
    kv: &mut KvCache<'_>,
    mut source: Option<&mut Heard<'_, '_>>,
    mut watcher: Option<&mut Watcher<'_>>,
    activations: &mut Activations<'_>,
) -> Result<(), SessionError> {
    let config = run.model.config();
    let (shape, places) = (*kv.shape(), kv.places());
    let text_len = run.reads().then_some(text.ids.len());
    let attends = match run.source {
        true => Attends::Source,
        false => Attends::Text,
    };
    let layers = run.layers();
    let mut all = activations.part(config, text)?;
    let cuts = Cuts::new(config, spread, all.tokens);
    let inner = cuts.inner();
    cuts.over(all.lend(), |mut part| {
        embed(run, &mut part)?;
        before_attention(run, inner, layers.start, &mut part)
    })?;
    for layer in layers.clone() {
        let at = if text_len.is_some() { 0 } else { layer };
        let keys = (config.q_dim(), config.qkv_dim());
        let abreast = Of::<F>::searches() && !all.sets.is_empty();
        let mut sets = Vec::new();
        let mut one = None;
        if abreast {
            sets = kv.layer_of_sets(at, config.layers)?;
            remember_abreast(run, &cuts, &all, (&shape, places), &mut sets, keys)?;
        } else {
            remember(run, spread, &cuts, &all, Slots::of(kv, at)?, keys)?;
            one = Some(kv.layer(at)?);
        }
        let heard = match &mut source {
            Some(heard) if Of::<F>::translates() => Some(heard.layer(layer)?),
            _ => None,
        };
        let blocks = |mut part: Part<'_>, mut watcher: Option<&mut Watcher<'_>>| {
            let keys = |cache| Layer {
                index: layer,
                shape: &shape,
                places,
                text_len,
                q_stride: config.qkv_dim(),
                cache,
            };
            if let Some(cache) = &one {
                let keys = keys(cache.as_kv());
                if let Some(watcher) = &mut watcher {
                    watcher.rows(run, &keys, &part, attends)?;
                }
                attend(run, inner, &keys, &mut part)?;
            } else {
                attend_abreast(run, inner, keys, &sets, &mut part)?;
            }
            after_attention(run, inner, layer, &mut part)?;
            if let Some(heard) = &heard {
                let source = heard.as_layer(config, layer);
                cross_attention(run, inner, &source, watcher, &mut part)?;
            }
            feed_forward(run, inner, layer, &mut part)?;
            let next = layer.saturating_add(1);
            if next < layers.end {
                before_attention(run, inner, next, &mut part)?;
            }
            Ok(())
        };
        match watcher.as_deref_mut() {
            Some(watcher) => blocks(all.lend(), Some(watcher))?,
            None => cuts.over(all.lend(), |part| blocks(part, None))?,
        }
    }
    Ok(())
}

/// Queries, keys and values, (n, qkv_dim), at the head of `wide`: norm, fused projection, rotation.
fn before_attention<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    layer: usize,
    tokens: &mut Part<'_>,
) -> Result<(), SessionError> {
    let n = tokens.tokens.len;
    let input = block_input(run, ATTN_NORM, layer, tokens.x, tokens.y)?;
    let qkv_len = n.saturating_mul(run.model.config().qkv_dim());
    let qkv = part_mut(tokens.wide, 0, qkv_len)?;
    let roles = (Role::QkvWeight, Role::QkvBias);
    let scratch = &mut *tokens.scratch;
    linear(run, spread, roles, Some(layer), input, n, qkv, scratch)?;
    rotate(run, qkv, tokens.angles)
}

/// The heads' outputs in `y`, (n, heads·head_dim), through their projection into the residual stream.
fn after_attention<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    layer: usize,
    tokens: &mut Part<'_>,
) -> Result<(), SessionError> {
    let config = run.model.config();
    let n = tokens.tokens.len;
    let heads = part(tokens.y, 0, n.saturating_mul(config.q_dim()))?;
    let out = part_mut(tokens.wide, 0, n.saturating_mul(config.dim))?;
    let roles = (Role::OutWeight, Role::OutBias);
    let scratch = &mut *tokens.scratch;
    linear(run, spread, roles, Some(layer), heads, n, out, scratch)?;
    add_residual(run, ATTN_NORM, layer, tokens.x, out)
}

/// The feed-forward block.
fn feed_forward<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    layer: usize,
    tokens: &mut Part<'_>,
) -> Result<(), SessionError> {
    let config = run.model.config();
    let n = tokens.tokens.len;
    let input = block_input(run, FFN_NORM, layer, tokens.x, tokens.y)?;
    let up = part_mut(tokens.wide, 0, n.saturating_mul(config.up_dim()))?; // (n, up_dim)
    let roles = (Role::UpWeight, Role::UpBias);
    let scratch = &mut *tokens.scratch;
    linear(run, spread, roles, Some(layer), input, n, up, scratch)?;
    activate(run, n, up)?;
    let hidden = part(up, 0, n.saturating_mul(config.hidden_dim))?; // (n, hidden_dim)
    let out = part_mut(tokens.y, 0, n.saturating_mul(config.dim))?;
    let roles = (Role::DownWeight, Role::DownBias);
    linear(run, spread, roles, Some(layer), hidden, n, out, scratch)?;
    add_residual(run, FFN_NORM, layer, tokens.x, out)
}

/// What a block works on, (n, dim): the stream, or its norm, in `y`, where norms come first.
pub(crate) fn block_input<'a, F: Fit>(
    run: Run<'_, F>,
    roles: (Role, Role),
    layer: usize,
    x: &'a [f32],
    y: &'a mut [f32],
) -> Result<&'a [f32], SessionError> {
    if run.model.config().norm_place == NormPlace::Post {
        return Ok(x);
    }
    let y = part_mut(y, 0, x.len())?;
    norm(run, roles, Some(layer), x, y)?;
    Ok(y)
}

/// Logits, (n, vocab), of the tokens `first..first + n` of the batch that [`stack`] ran last.
pub(crate) fn logits<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    (first, n): (usize, usize),
    activations: &mut Activations<'_>,
    logits: &mut [f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    let Activations { x, y, scratch, .. } = activations;
    let len = n.saturating_mul(config.dim);
    let mut input = part(x, first.saturating_mul(config.dim), len)?;
    if config.final_norm {
        let roles = (Role::FinalNormGain, Role::FinalNormBias);
        norm(run, roles, None, input, part_mut(y, 0, len)?)?;
        input = part(y, 0, len)?;
    }
    let weight = if config.tied {
        Role::TokenEmbedding
    } else {
        Role::OutputWeight
    };
    let roles = (weight, Role::OutputBias);
    let logits = part_mut(logits, 0, n.saturating_mul(config.vocab_len))?;
    linear(run, spread, roles, None, input, n, logits, scratch)
}

/// x = embedding · scale + position, (n, dim), or x + position for what a stem made; and the angles of the positions.
fn embed<F: Fit>(run: Run<'_, F>, tokens: &mut Part<'_>) -> Result<(), SessionError> {
    let config = run.model.config();
    let table = run.model.matrix(Role::TokenEmbedding, None)?;
    let rows = tokens.x.chunks_mut(config.dim.max(1));
    let ids = run.embedded(&tokens.tokens, tokens.ids);
    for (&id, x) in ids.iter().zip(rows) {
        dequantize_row_linked::<Of<F>>(run.backend, &table, id as usize, x)?;
        if config.embedding_scale != 1.0 {
            for x in x {
                *x *= config.embedding_scale;
            }
        }
    }
    add_positions(run, tokens)?;
    if Of::<F>::encoder()
        && let Some(reading) = config.reading()
    {
        add_types(run, reading, tokens)?;
    }
    set_angles(run, tokens)
}

/// Adds the embeddings of the tokens' types and norms the sum, where the model does. Uses `y`.
fn add_types<F: Fit>(
    run: Run<'_, F>,
    reading: &Reading,
    tokens: &mut Part<'_>,
) -> Result<(), SessionError> {
    let dim = run.model.config().dim.max(1);
    if reading.types > 0 {
        let table = run.model.matrix(Role::TypeEmbedding, None)?;
        let rows = tokens.x.chunks_mut(dim).zip(tokens.y.chunks_mut(dim));
        for ((x, row), &kind) in rows.zip(tokens.types) {
            dequantize_row_linked::<Of<F>>(run.backend, &table, kind as usize, row)?;
            add(run.backend, x, row)?;
        }
    }
    if reading.embedding_norm {
        let roles = (Role::EmbeddingNormGain, Role::EmbeddingNormBias);
        let y = part_mut(tokens.y, 0, tokens.x.len())?;
        norm(run, roles, None, tokens.x, y)?;
        for (x, &normed) in tokens.x.iter_mut().zip(&*y) {
            *x = normed;
        }
    }
    Ok(())
}

/// The residual connection: x = x + delta, or x = norm(x + delta), for which `delta` is overwritten.
pub(crate) fn add_residual<F: Fit>(
    run: Run<'_, F>,
    roles: (Role, Role),
    layer: usize,
    x: &mut [f32],
    delta: &mut [f32],
) -> Result<(), SessionError> {
    add(run.backend, x, delta)?;
    if run.model.config().norm_place == NormPlace::Post {
        norm(run, roles, Some(layer), x, delta)?;
        for (x, &normed) in x.iter_mut().zip(&*delta) {
            *x = normed;
        }
    }
    Ok(())
}
