//! Self-attention between its two projections: the cache and fused attention.

use crate::error::SessionError;
use crate::kernels::ops::attention::{AttentionShape, Mask, append, attention};
use crate::kv_cache::KvCache;
use crate::run::{Run, Tokens, part, part_mut};

/// `qkv` holds (n, qkv_dim), the fused projection, rotated where the model rotates; `out` gets (n, heads·head_dim).
///
/// The caller sees to it that several tokens never cross the end of a ring: they would take the places of keys that the
/// first of them still has to see.
pub(crate) fn attend(
    run: Run<'_>,
    layer: usize,
    tokens: Tokens,
    qkv: &[f32],
    kv: &mut KvCache<'_>,
    out: &mut [f32],
    scratch: &mut [f32],
) -> Result<(), SessionError> {
    let config = run.model.config();
    let (n, stride) = (tokens.len, config.qkv_dim());
    let (q_dim, kv_dim) = (config.q_dim(), config.kv_dim());
    let keys = part(qkv, q_dim, usize::MAX)?;
    let values = part(qkv, q_dim + kv_dim, usize::MAX)?;
    let shape = *kv.shape();
    let cache = kv.layer(layer)?;
    let seen = tokens.first.saturating_add(n);
    append(
        run.backend,
        &shape,
        cache,
        tokens.first,
        n,
        keys,
        values,
        stride,
    )?;
    // Past the end of a ring there is one query, and it sees every key there is.
    let (kv_len, mask) = if seen > shape.capacity() {
        (shape.capacity(), Mask::Full)
    } else {
        (seen, Mask::Causal)
    };
    let call = AttentionShape::new(&shape, config.heads, n, kv_len, mask);
    let out = part_mut(out, 0, n.saturating_mul(q_dim))?;
    let cache = kv.layer(layer)?;
    attention(
        run.backend,
        &shape,
        &call,
        qkv,
        stride,
        cache.as_kv(),
        out,
        q_dim,
        scratch,
    )?;
    Ok(())
}
