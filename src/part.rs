//! Parts of a batch: consecutive tokens with the memory that is theirs alone.

use core::ops::Range;

use crate::config::{Config, Position};
use crate::error::SessionError;
use crate::executor::Executor;
use crate::run::{Tokens, short};
use crate::spread::{Spread, Work, share};

/// Rows of a kernel's tile: cut elsewhere, both sides would compute on ragged tiles.
const TILE: usize = 4;

/// A multiply-add of attention, in floats, takes about as long as two of the integer products.
pub(crate) const ATTENTION_COST: u64 = 2;

/// Words of a cache line, so that two cores do not write to one.
pub(crate) const LINE: usize = 16;

impl Config {
    /// What a token takes of [`Part::y`].
    pub(crate) const fn y_dim(&self) -> usize {
        max(self.dim, self.q_dim())
    }

    /// What a token takes of [`Part::wide`].
    pub(crate) const fn wide_dim(&self) -> usize {
        max(max(self.qkv_dim(), self.up_dim()), self.dim)
    }

    /// What a token takes of [`Part::angles`].
    pub(crate) const fn angles_dim(&self) -> usize {
        match self.position {
            Position::Rotary { .. } => self.head_dim,
            _ => 0,
        }
    }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Tokens of a batch and what is computed of them. Buffers are as long as these tokens take; rows lie together at the
/// head of a buffer, whatever their width.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) tokens: Tokens,
    pub(crate) ids: &'a [u32],
    /// Types of the tokens; empty without.
    pub(crate) types: &'a [u32],
    /// Where the keys of each token's own text lie; empty for tokens of one text.
    pub(crate) sets: &'a [u32],
    /// (n, dim): the residual stream.
    pub(crate) x: &'a mut [f32],
    /// (n, [`Config::y_dim`]): a block's input, the attention's output.
    pub(crate) y: &'a mut [f32],
    /// (n, [`Config::wide_dim`]): what a block computes inside.
    pub(crate) wide: &'a mut [f32],
    /// (n, head_dim) with rotary positions.
    pub(crate) angles: &'a mut [f32],
    /// (head_dim / 2) with rotary positions.
    pub(crate) frequencies: &'a [f32],
    /// What a kernel needs for the moment.
    pub(crate) scratch: &'a mut [u32],
}

impl<'a> Part<'a> {
    /// The same for a while.
    pub(crate) fn lend(&mut self) -> Part<'_> {
        Part {
            tokens: self.tokens,
            ids: self.ids,
            types: self.types,
            sets: self.sets,
            x: self.x,
            y: self.y,
            wide: self.wide,
            angles: self.angles,
            frequencies: self.frequencies,
            scratch: self.scratch,
        }
    }

    /// The first `n` tokens and the rest, with `scratch` words of the scratch and the rest.
    fn split(self, config: &Config, n: usize, scratch: usize) -> Option<(Self, Self)> {
        let Tokens {
            first,
            len,
            abreast,
        } = self.tokens;
        let (left_ids, right_ids) = self.ids.split_at_checked(n)?;
        let (left_types, right_types) = self.types.split_at_checked(n).unwrap_or_default();
        let (left_sets, right_sets) = self.sets.split_at_checked(n).unwrap_or_default();
        let (left_x, right_x) = split(self.x, n, config.dim)?;
        let (left_y, right_y) = split(self.y, n, config.y_dim())?;
        let (left_wide, right_wide) = split(self.wide, n, config.wide_dim())?;
        let (left_angles, right_angles) = split(self.angles, n, config.angles_dim())?;
        let (left_scratch, right_scratch) = self.scratch.split_at_mut_checked(scratch)?;
        let left = Part {
            tokens: Tokens {
                len: n,
                ..self.tokens
            },
            ids: left_ids,
            types: left_types,
            sets: left_sets,
            x: left_x,
            y: left_y,
            wide: left_wide,
            angles: left_angles,
            frequencies: self.frequencies,
            scratch: left_scratch,
        };
        let right = Part {
            tokens: Tokens {
                first: match abreast {
                    true => first,
                    false => first.saturating_add(n),
                },
                len: len.saturating_sub(n),
                abreast,
            },
            ids: right_ids,
            types: right_types,
            sets: right_sets,
            x: right_x,
            y: right_y,
            wide: right_wide,
            angles: right_angles,
            frequencies: self.frequencies,
            scratch: right_scratch,
        };
        Some((left, right))
    }
}

fn split(rows: &mut [f32], n: usize, width: usize) -> Option<(&mut [f32], &mut [f32])> {
    rows.split_at_mut_checked(n.saturating_mul(width))
}

/// How the tokens of a batch are shared out: by cost, since later tokens see more keys.
pub(crate) struct Cuts<'a, E> {
    config: &'a Config,
    spread: Spread<'a, E>,
    tokens: Tokens,
    /// A part has whole multiples of so many tokens.
    tile: usize,
    parts: usize,
}

impl<'a, E: Executor> Cuts<'a, E> {
    #[inline(always)]
    pub(crate) fn new(config: &'a Config, spread: Spread<'a, E>, tokens: Tokens) -> Self {
        let mut cuts = Self {
            config,
            spread,
            tokens,
            // Texts abreast are few.
            tile: if tokens.abreast { 1 } else { TILE },
            parts: 1,
        };
        cuts.parts = spread.parts(cuts.work(tokens.len), tokens.len / cuts.tile.max(1));
        cuts
    }

    /// Into how many parts.
    #[inline(always)]
    pub(crate) fn parts(&self) -> usize {
        if self.spread.most() <= 1 {
            1
        } else {
            self.parts
        }
    }

    /// For work inside a part: what is cut once is not cut again, a lone token is.
    #[inline(always)]
    pub(crate) fn inner(&self) -> Spread<'a, E> {
        if self.parts() > 1 {
            self.spread.alone()
        } else {
            self.spread
        }
    }

    /// Does `job` to each part of `all`.
    #[inline(always)]
    pub(crate) fn over(
        &self,
        all: Part<'_>,
        job: impl Fn(Part<'_>) -> Result<(), SessionError> + Sync,
    ) -> Result<(), SessionError> {
        let all = Batch {
            cuts: self,
            part: all,
        };
        self.spread.over(self.parts, all, |batch| job(batch.part))
    }

    /// The tokens of part `index`, counted from the batch's first.
    #[inline(always)]
    pub(crate) fn range(&self, index: usize) -> Range<usize> {
        if self.parts() <= 1 {
            return 0..self.tokens.len;
        }
        self.at(index)..self.at(index.saturating_add(1))
    }

    /// The first token of part `index`; the number of tokens for the index behind the last.
    fn at(&self, index: usize) -> usize {
        let len = self.tokens.len;
        if index >= self.parts {
            return len;
        }
        let wanted = self.work(len) / self.parts.max(1) as u64 * index as u64;
        let (mut low, mut high) = (0, len);
        while low < high {
            let middle = low.midpoint(high);
            if self.work(middle) < wanted {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        // To the nearest tile.
        let tiles = low.saturating_add(self.tile / 2) / self.tile.max(1);
        tiles.saturating_mul(self.tile).min(len)
    }

    /// Multiply-adds of the first `n` tokens in a layer.
    fn work(&self, n: usize) -> u64 {
        let Config {
            dim, hidden_dim, ..
        } = *self.config;
        let q_dim = self.config.q_dim();
        let rows = self.config.qkv_dim() + q_dim + self.config.up_dim() + hidden_dim;
        let products = rows as u64 * dim as u64;
        let attention = 2 * ATTENTION_COST * q_dim as u64;
        let (n, first) = (n as u64, self.tokens.first as u64);
        let keys = n.saturating_mul(first).saturating_add(n * (n + 1) / 2);
        n.saturating_mul(products)
            .saturating_add(keys.saturating_mul(attention))
    }
}

/// Parts of a batch that are not yet cut, and where that is to be done.
struct Batch<'a, E> {
    cuts: &'a Cuts<'a, E>,
    part: Part<'a>,
}

impl<E: Executor> Work for Batch<'_, E> {
    fn cut(self, parts: &Range<usize>, middle: usize) -> Result<(Self, Self), SessionError> {
        let Self { cuts, part } = self;
        let n = cuts.at(middle).saturating_sub(cuts.at(parts.start));
        let have = part.scratch.len();
        let scratch = share(have, parts, middle, LINE);
        let halves = part.split(cuts.config, n, scratch);
        let (left, right) = halves.ok_or(short(n, have))?;
        let batch = |part| Self { cuts, part };
        Ok((batch(left), batch(right)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, Cuts, Executor, TILE, Tokens};
    use crate::config::{Architecture, Attention, Biases, Ffn, Norm, NormPlace, Position};
    use crate::spread::Spread;

    const CONFIG: Config = Config {
        architecture: Architecture::Decoder,
        vocab_len: 256,
        dim: 64,
        layers: 1,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        hidden_dim: 128,
        context_len: 4096,
        norm: Norm::Rms,
        norm_place: NormPlace::Pre,
        norm_eps: 0.0,
        final_norm: false,
        ffn: Ffn::Relu,
        position: Position::None,
        tied: true,
        biases: Biases::NONE,
        attention: Attention::PLAIN,
        embedding_scale: 1.0,
        begin_of_text: None,
        end_of_text: None,
    };

    /// So wide, and each piece worth so many multiply-adds at least.
    struct Wide(usize, usize);

    impl Executor for Wide {
        fn width(&self) -> usize {
            self.0
        }

        fn join<A: Send, B: Send>(
            &self,
            a: impl FnOnce() -> A + Send,
            b: impl FnOnce() -> B + Send,
        ) -> (A, B) {
            (a(), b())
        }

        fn grain(&self) -> usize {
            self.1
        }
    }

    fn tokens(first: usize, len: usize) -> Tokens {
        Tokens {
            first,
            len,
            abreast: false,
        }
    }

    #[test]
    fn texts_abreast_are_cut_one_by_one() {
        let executor = Wide(4, 1);
        let tokens = Tokens {
            abreast: true,
            ..tokens(100, 5)
        };
        let cuts = Cuts::new(&CONFIG, Spread::new(&executor, 2), tokens);
        assert_eq!(cuts.parts(), 2);
        assert_eq!((cuts.range(0).start, cuts.range(1).end), (0, 5));
        assert!((2..=3).contains(&cuts.range(0).end));
    }

    #[test]
    fn cuts_are_tiles_in_order_that_cost_the_same() {
        for (first, len) in [(0, 2048), (2000, 512), (5, 131)] {
            for parts in 1..12 {
                let executor = Wide(parts, 1);
                let spread = Spread::new(&executor, 64);
                let cuts = Cuts::new(&CONFIG, spread, tokens(first, len));
                assert_eq!(cuts.parts(), parts);
                let mut end = 0;
                for index in 0..parts {
                    let range = cuts.range(index);
                    assert_eq!(range.start, end);
                    assert!(range.start <= range.end && range.start.is_multiple_of(TILE));
                    end = range.end;
                    let cost = cuts.work(range.end) - cuts.work(range.start);
                    let fair = cuts.work(len) / parts as u64;
                    // Half a tile on either side.
                    let slack = cuts.work(len) - cuts.work(len - TILE);
                    assert!(
                        cost.abs_diff(fair) <= slack,
                        "{first} {len} {parts} {index}"
                    );
                }
                assert_eq!(end, len);
            }
        }
        // Late tokens see more keys, so the first half of a long prompt is the longer one.
        let executor = Wide(2, 1);
        let cuts =
            |first| Cuts::new(&CONFIG, Spread::new(&executor, 2), tokens(first, 2048)).range(0);
        assert!((1350..1440).contains(&cuts(0).end) && (1024..1100).contains(&cuts(1 << 16).end));
    }

    #[test]
    fn parts_are_the_least_of_what_there_is() {
        let parts = |width, grain, most| {
            let executor = Wide(width, grain);
            Cuts::new(&CONFIG, Spread::new(&executor, most), tokens(0, 23)).parts()
        };
        assert_eq!(parts(3, 1, 8), 3, "the executor's width");
        assert_eq!(parts(8, 1, 2), 2, "the room");
        assert_eq!(parts(64, 1, 64), 5, "the tiles");
        assert_eq!(parts(8, 200_000, 8), 3, "the grain");
        assert_eq!(parts(8, usize::MAX, 8), 1);
        assert_eq!(parts(0, 0, 0), 1);
    }
}
