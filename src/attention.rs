//! Attention between its two projections: the cache and fused attention.

use core::ops::Range;

use crate::error::SessionError;
use crate::executor::Executor;
use crate::kernels::layout::KvShape;
use crate::kernels::ops::attention::{
    AttentionShape, Kv, KvMut, Mask, append_linked, attention_linked,
};
use crate::kv_cache::{KvCache, Places};
use crate::needs::{Fit, Of};
use crate::part::{ATTENTION_COST, Cuts, LINE, Part};
use crate::run::{Run, Tokens, floats, part, part_mut, short};
use crate::spread::{Spread, Work, share};

/// Scattering an element into the cache takes about as long as this many multiply-adds.
const APPEND_COST: u64 = 16;

/// A layer of a cache, for writing.
pub(crate) struct Slots<'a> {
    shape: KvShape,
    places: Places,
    cache: KvMut<'a>,
}

impl<'a> Slots<'a> {
    pub(crate) fn of(kv: &'a mut KvCache<'_>, layer: usize) -> Result<Self, SessionError> {
        Ok(Self {
            shape: *kv.shape(),
            places: kv.places(),
            cache: kv.layer(layer)?,
        })
    }
}

/// Writes the keys and values of a batch into a layer of a cache. They lie in the parts' `wide`, in rows of `stride`:
/// all keys from `key` on, then all values.
///
/// Cut by heads: tokens of two parts share blocks of the cache, heads never do.
pub(crate) fn remember<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    cuts: &Cuts<'_, E>,
    all: &Part<'_>,
    to: Slots<'_>,
    (key, stride): (usize, usize),
) -> Result<(), SessionError> {
    let config = run.model.config();
    let Slots {
        shape,
        places,
        cache,
    } = to;
    let (first, wide) = (all.tokens.first, &*all.wide);
    let elements = 2 * config.kv_dim() as u64 * all.tokens.len as u64;
    let parts = spread.parts(APPEND_COST * elements, config.kv_heads);
    let all = Cached {
        shape: &shape,
        heads: 0..config.kv_heads,
        cache,
    };
    spread.over(parts, all, |some| {
        let Cached {
            heads, mut cache, ..
        } = some;
        let shape = shape.heads_part(heads.len())?;
        let key = key.saturating_add(heads.start.saturating_mul(config.head_dim));
        for index in 0..cuts.parts() {
            let tokens = cuts.range(index);
            let row = tokens.start.saturating_mul(config.wide_dim());
            let keys = part(wide, row.saturating_add(key), usize::MAX)?;
            let values = part(keys, config.kv_dim(), usize::MAX)?;
            // A batch never crosses the end of a ring, so its slots follow each other.
            let slot = places.slot(first.saturating_add(tokens.start));
            append_linked::<Of<F>>(
                run.backend,
                &shape,
                cache.reborrow(),
                slot,
                tokens.len(),
                keys,
                values,
                stride,
            )?;
        }
        Ok(())
    })
}

/// As [`remember`], where each token is of a text that has a cache of its own: a place each, so one core writes them all.
pub(crate) fn remember_abreast<F: Fit, E: Executor>(
    run: Run<'_, F>,
    cuts: &Cuts<'_, E>,
    all: &Part<'_>,
    (shape, places): (&KvShape, Places),
    sets: &mut [KvMut<'_>],
    (key, stride): (usize, usize),
) -> Result<(), SessionError> {
    let config = run.model.config();
    let slot = places.slot(all.tokens.first);
    for index in 0..cuts.parts() {
        let tokens = cuts.range(index);
        let mut row = tokens.start.saturating_mul(config.wide_dim());
        for set in all.sets.get(tokens).unwrap_or_default() {
            let keys = part(all.wide, row.saturating_add(key), usize::MAX)?;
            let values = part(keys, config.kv_dim(), usize::MAX)?;
            let have = sets.len();
            let set = sets.get_mut(*set as usize).ok_or(short(have, have))?;
            append_linked::<Of<F>>(
                run.backend,
                shape,
                set.reborrow(),
                slot,
                1,
                keys,
                values,
                stride,
            )?;
            row = row.saturating_add(stride);
        }
    }
    Ok(())
}

/// Some key-value heads of a layer.
struct Cached<'a> {
    /// Of the whole layer.
    shape: &'a KvShape,
    heads: Range<usize>,
    cache: KvMut<'a>,
}

impl Work for Cached<'_> {
    fn cut(self, parts: &Range<usize>, middle: usize) -> Result<(Self, Self), SessionError> {
        let Self {
            shape,
            heads: Range { start, end },
            cache,
        } = self;
        let left = share(end.saturating_sub(start), parts, middle, 1);
        let at = start.saturating_add(left);
        let (left, right) = cache.split_at_head(shape, left)?;
        let some = |heads, cache| Self {
            shape,
            heads,
            cache,
        };
        Ok((some(start..at, left), some(at..end, right)))
    }
}

/// Some key-value heads, what their queries' outputs are written to, scratch.
struct Heads<'a> {
    range: Range<usize>,
    /// Elements of the queries of a key-value head.
    group_dim: usize,
    out: &'a mut [f32],
    scratch: &'a mut [u32],
}

/// Cuts the heads of a lone token, whose outputs lie together.
impl Work for Heads<'_> {
    fn cut(self, parts: &Range<usize>, middle: usize) -> Result<(Self, Self), SessionError> {
        let Self {
            range: Range { start, end },
            group_dim,
            out,
            scratch,
        } = self;
        let heads = share(end.saturating_sub(start), parts, middle, 1);
        let at = start.saturating_add(heads);
        let (need, have) = (heads.saturating_mul(group_dim), out.len());
        let words = share(scratch.len(), parts, middle, LINE);
        let (left, right) = out.split_at_mut_checked(need).ok_or(short(need, have))?;
        let have = scratch.len();
        let scratch = scratch.split_at_mut_checked(words);
        let (left_scratch, right_scratch) = scratch.ok_or(short(words, have))?;
        let some = |range, out, scratch| Self {
            range,
            group_dim,
            out,
            scratch,
        };
        Ok((
            some(start..at, left, left_scratch),
            some(at..end, right, right_scratch),
        ))
    }
}

/// What the queries of a layer meet.
pub(crate) struct Layer<'a> {
    pub(crate) index: usize,
    pub(crate) shape: &'a KvShape,
    pub(crate) places: Places,
    /// Tokens of a text of which every query sees all.
    pub(crate) text_len: Option<usize>,
    /// Elements from one token's queries to the next one's.
    pub(crate) q_stride: usize,
    pub(crate) cache: Kv<'a>,
}

impl Layer<'_> {
    /// How many of the cache's first keys matter to some tokens, and which of these each sees.
    pub(crate) fn seen<F: Fit>(&self, run: Run<'_, F>, tokens: Tokens) -> (usize, Mask) {
        match self.text_len {
            Some(len) if Of::<F>::encoder() || Of::<F>::translates() => (len, Mask::Full),
            _ => {
                let window = run.model.config().attention.window_of(self.index);
                self.places.seen(window, tokens.first, tokens.len)
            }
        }
    }
}

/// As [`attend`], where each token is of a text that has a cache of its own; `keys` makes a layer of one of `sets`.
pub(crate) fn attend_abreast<'a, F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    keys: impl Fn(Kv<'a>) -> Layer<'a>,
    sets: &'a [KvMut<'_>],
    tokens: &mut Part<'_>,
) -> Result<(), SessionError> {
    let config = run.model.config();
    for (token, set) in tokens.sets.iter().enumerate() {
        let have = sets.len();
        let set = sets.get(*set as usize).ok_or(short(have, have))?;
        let layer = keys(set.as_kv());
        let queries = token.saturating_mul(layer.q_stride);
        let outputs = token.saturating_mul(config.q_dim());
        let mut one = Part {
            tokens: Tokens {
                len: 1,
                ..tokens.tokens
            },
            ids: &[],
            types: &[],
            sets: &[],
            x: &mut [],
            y: part_mut(tokens.y, outputs, config.q_dim())?,
            wide: part_mut(tokens.wide, queries, layer.q_stride)?,
            angles: &mut [],
            frequencies: &[],
            scratch: tokens.scratch,
        };
        attend(run, spread, &layer, &mut one)?;
    }
    Ok(())
}

/// Attention of a part's tokens, whose queries lie in `wide`, to a layer of the cache; `y` gets (n, heads·head_dim).
///
/// A lone token is cut by heads. The caller sees to it that several tokens never cross the end of a ring: they would
/// take the places of keys that the first of them still has to see.
pub(crate) fn attend<F: Fit, E: Executor>(
    run: Run<'_, F>,
    spread: Spread<'_, E>,
    layer: &Layer<'_>,
    tokens: &mut Part<'_>,
) -> Result<(), SessionError> {
    let config = run.model.config();
    let Layer { index, shape, .. } = *layer;
    let n = tokens.tokens.len;
    let (kv_len, mask) = layer.seen(run, tokens.tokens);
    let sinks = run.sinks(index)?;
    let (q_dim, stride) = (config.q_dim(), layer.q_stride);
    let group = config.heads.checked_div(config.kv_heads).unwrap_or(1);
    let group_dim = group.saturating_mul(config.head_dim);
    let parts = if n == 1 {
        let work = 2 * ATTENTION_COST * q_dim as u64 * kv_len as u64;
        spread.parts(work, config.kv_heads)
    } else {
        1
    };
    let wide = &*tokens.wide;
    let all = Heads {
        range: 0..config.kv_heads,
        group_dim,
        out: part_mut(tokens.y, 0, n.saturating_mul(q_dim))?,
        scratch: tokens.scratch,
    };
    spread.over(parts, all, |heads| {
        let kv_shape = shape.heads_part(heads.range.len())?;
        let q_heads = group.saturating_mul(heads.range.len());
        let first_head = heads.range.start.saturating_mul(group);
        let call = AttentionShape {
            precision: run.precision,
            soft_cap: config.attention.soft_cap.unwrap_or(0.0),
            sinks: match sinks.is_empty() {
                true => sinks,
                false => part(sinks, first_head, q_heads)?,
            },
            ..AttentionShape::new(&kv_shape, q_heads, n, kv_len, mask)
        };
        let first = first_head.saturating_mul(config.head_dim);
        // One core needs no part of the cache, and no code for it in flash.
        let cache = match spread.most() {
            0 | 1 => layer.cache,
            _ => layer.cache.heads_part(shape, heads.range)?,
        };
        attention_linked::<Of<F>>(
            run.backend,
            &kv_shape,
            &call,
            part(wide, first, usize::MAX)?,
            stride,
            cache,
            heads.out,
            q_dim,
            floats(heads.scratch)?,
        )?;
        Ok(())
    })
}
