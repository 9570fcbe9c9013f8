//! The decoder family: causal self-attention and a feed-forward block, layer by layer (Vaswani et al. 2017; the variants are
//! those of [`Config`](crate::Config)).

use crate::attention::attend;
use crate::config::NormPlace;
use crate::error::SessionError;
use crate::ffn::activate;
use crate::kernels::ops::elementwise::add;
use crate::kernels::ops::embed::dequantize_row;
use crate::kv_cache::KvCache;
use crate::linear::linear;
use crate::norm::norm;
use crate::position::{add_positions, rotate, set_angles};
use crate::run::{Run, Tokens, floats, part, part_mut};
use crate::tensors::Role;
use crate::workspace::Activations;

const ATTN_NORM: (Role, Role) = (Role::AttnNormGain, Role::AttnNormBias);
const FFN_NORM: (Role, Role) = (Role::FfnNormGain, Role::FfnNormBias);

/// Runs `ids` at the positions from `first` on: writes their keys and values into the cache and leaves the residual
/// stream, (n, dim), in `activations.x`.
pub(crate) fn forward(
    run: Run<'_>,
    first: usize,
    ids: &[u32],
    kv: &mut KvCache<'_>,
    activations: &mut Activations<'_>,
) -> Result<(), SessionError> {
    let config = run.model.config();
    let n = ids.len();
    let tokens = Tokens { first, len: n };
    let pre = config.norm_place == NormPlace::Pre;
    let Activations {
        x,
        y,
        wide,
        angles,
        frequencies,
        scratch,
    } = activations;
    let x = part_mut(x, 0, n.saturating_mul(config.dim))?; // (n, dim)
    let y_dim = n.saturating_mul(config.dim);
    let y_heads = n.saturating_mul(config.q_dim());
    let qkv_len = n.saturating_mul(config.qkv_dim());
    let up_len = n.saturating_mul(config.up_dim());
    let hidden_len = n.saturating_mul(config.hidden_dim);

    embed(run, ids, x)?;
    add_positions(run, first, x, part_mut(y, 0, config.dim)?)?;
    set_angles(run, first, n, frequencies, angles)?;

    for layer in 0..config.layers {
        let at = Some(layer);
        if pre {
            norm(run, ATTN_NORM, at, x, part_mut(y, 0, y_dim)?)?;
        }
        let input = if pre { part(y, 0, y_dim)? } else { &*x };
        let qkv = part_mut(wide, 0, qkv_len)?; // (n, qkv_dim)
        let roles = (Role::QkvWeight, Role::QkvBias);
        linear(run, roles, at, input, n, qkv, scratch)?;
        rotate(run, n, qkv, angles)?;
        attend(run, layer, tokens, qkv, kv, y, floats(scratch)?)?;
        let heads = part(y, 0, y_heads)?; // (n, heads·head_dim)
        let out = part_mut(wide, 0, y_dim)?;
        let roles = (Role::OutWeight, Role::OutBias);
        linear(run, roles, at, heads, n, out, scratch)?;
        join(run, ATTN_NORM, layer, x, out)?;

        if pre {
            norm(run, FFN_NORM, at, x, part_mut(y, 0, y_dim)?)?;
        }
        let input = if pre { part(y, 0, y_dim)? } else { &*x };
        let up = part_mut(wide, 0, up_len)?; // (n, up_dim)
        let roles = (Role::UpWeight, Role::UpBias);
        linear(run, roles, at, input, n, up, scratch)?;
        activate(run, n, up)?;
        let hidden = part(wide, 0, hidden_len)?; // (n, hidden_dim)
        let out = part_mut(y, 0, y_dim)?;
        let roles = (Role::DownWeight, Role::DownBias);
        linear(run, roles, at, hidden, n, out, scratch)?;
        join(run, FFN_NORM, layer, x, out)?;
    }
    Ok(())
}

/// Logits, (vocab), of token `index` of the batch that [`forward`] ran last.
pub(crate) fn logits(
    run: Run<'_>,
    index: usize,
    activations: &mut Activations<'_>,
    logits: &mut [f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    let Activations { x, y, scratch, .. } = activations;
    let mut input = part(x, index.saturating_mul(config.dim), config.dim)?;
    if config.final_norm {
        let roles = (Role::FinalNormGain, Role::FinalNormBias);
        norm(run, roles, None, input, part_mut(y, 0, config.dim)?)?;
        input = part(y, 0, config.dim)?;
    }
    let weight = if config.tied {
        Role::TokenEmbedding
    } else {
        Role::OutputWeight
    };
    let roles = (weight, Role::OutputBias);
    linear(run, roles, None, input, 1, logits, scratch)
}

/// x = embedding · scale, (n, dim).
fn embed(run: Run<'_>, ids: &[u32], x: &mut [f32]) -> Result<(), SessionError> {
    let config = run.model.config();
    let table = run.model.matrix(Role::TokenEmbedding, None)?;
    for (&id, x) in ids.iter().zip(x.chunks_mut(config.dim.max(1))) {
        dequantize_row(run.backend, &table, id as usize, x)?;
        if config.embedding_scale != 1.0 {
            for x in x {
                *x *= config.embedding_scale;
            }
        }
    }
    Ok(())
}

/// The residual connection: x = x + delta, or x = norm(x + delta), for which `delta` is overwritten.
fn join(
    run: Run<'_>,
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
