//! A session's memory: one aligned slice, split once into named buffers.

use crate::config::{Config, Output, Reading};
use crate::decoder::Text;
use crate::error::SessionError;
use crate::file::ALIGN;
use crate::kernels::ops::attention::attention_scratch_len;
use crate::kernels::ops::matmul::matmul_scratch_len;
use crate::kv_cache::{KvCache, take};
use crate::options::{EncoderOptions, SessionOptions, WhenFull};
use crate::part::{LINE, Part};
use crate::run::{Tokens, part_mut};
use crate::stem::WINDOW;
use crate::tokenizer::ENCODE_SCRATCH_LEN;
use crate::weights::Model;

impl Model<'_> {
    /// Bytes of memory that a [`Session`](crate::Session) with these options takes, exactly: key-value cache,
    /// activations, logits, tokens and all scratch. A multiple of 64.
    ///
    /// `usize::MAX` for options that [`SessionOptions::check`] refuses or that exceed the address space, so that a
    /// static [`Arena`](crate::Arena) of this size does not compile.
    pub const fn session_bytes(&self, options: &SessionOptions) -> usize {
        self.bytes_for(options)
    }

    /// Bytes of memory that an [`Encoder`](crate::Encoder) with these options takes, exactly. A multiple of 64.
    ///
    /// `usize::MAX` for a length that the model cannot have, as in [`Model::session_bytes`].
    pub const fn encoder_bytes(&self, options: &EncoderOptions) -> usize {
        self.bytes_for(&options.session())
    }

    const fn bytes_for(&self, options: &SessionOptions) -> usize {
        match Sizes::of(self.config(), options) {
            Some(sizes) => sizes.total_bytes(),
            None => usize::MAX,
        }
    }
}

/// Lengths of the buffers in elements of four bytes, in the order in which they lie in memory.
struct Sizes {
    /// Layers of keys and values, for each beam.
    kv_bytes: usize,
    /// Layers of a source's.
    cross_bytes: usize,
    /// (n, dim), where n is the longest of a prefill batch, a source and the beams: the residual stream.
    x: usize,
    /// (n, [`Config::y_dim`]): a block's input, the attention's output.
    y: usize,
    /// (n, [`Config::wide_dim`]): what a block computes inside.
    wide: usize,
    /// (vocab) for each beam, or what an encoder gives.
    logits: usize,
    /// (n, head_dim) with rotary positions.
    angles: usize,
    /// (head_dim / 2) with rotary positions.
    frequencies: usize,
    /// (context); an encoder's types.
    tokens: usize,
    /// (n).
    batch: usize,
    /// (beams + 1, context) where there are beams: their tokens, and those of the best text that ended.
    beams: usize,
    /// One word of the tokenizer.
    encode: usize,
    /// What a kernel needs for the moment, for each part of a pass; or the sampler.
    scratch: usize,
}

impl Sizes {
    const fn of(config: &Config, options: &SessionOptions) -> Option<Self> {
        if options.check(config).is_err() {
            return None;
        }
        let Some(kv) = KvCache::shape_of(config, options.context_len) else {
            return None;
        };
        // A source is run at once.
        let n = max(options.prefill_len, options.source_len);
        // Beams are run at once, too.
        let n = max(n, options.beams);
        // A stem's windows lie in y, what its first convolution makes of twice as many frames in wide.
        let (windows, between) = match config.source() {
            Some(source) if source.bins() > 0 => (
                WINDOW * max(source.bins(), config.dim),
                n.saturating_mul(2).saturating_mul(config.dim),
            ),
            _ => (0, 0),
        };
        let patch = match config.reading() {
            Some(reading) => reading.patch,
            None => 0,
        };
        let widest_input = max(max(config.y_dim(), config.hidden_dim), max(windows, patch));
        let mut scratch = max(
            attention_scratch_len(&kv, options.kv, config.heads, n),
            matmul_scratch_len(widest_input, n),
        );
        let mut cross_bytes = 0;
        if options.source_len > 0 {
            let Some(cross) = KvCache::shape_of(config, options.source_len) else {
                return None;
            };
            cross_bytes = cross.bytes(options.kv).saturating_mul(config.layers);
            let attention = attention_scratch_len(&cross, options.kv, config.heads, n);
            scratch = max(scratch, attention);
        }
        // Parts are cut at cache lines, so that two cores do not write to one.
        let scratch = match (options.parts, scratch.checked_next_multiple_of(LINE)) {
            (1, _) => scratch,
            (parts, Some(lines)) => lines.saturating_mul(parts),
            (_, None) => usize::MAX,
        };
        Some(Self {
            // An encoder is done with a layer's keys when it comes to the next.
            kv_bytes: match config.reading() {
                Some(_) => kv.bytes(options.kv),
                None => kv
                    .bytes(options.kv)
                    .saturating_mul(config.layers)
                    .saturating_mul(max(options.beams, 1)),
            },
            cross_bytes,
            x: n.saturating_mul(config.dim),
            y: max(n.saturating_mul(config.y_dim()), windows),
            wide: max(n.saturating_mul(config.wide_dim()), between),
            logits: match config.reading() {
                Some(reading) => output_len(reading, config, n),
                None => config.vocab_len.saturating_mul(max(options.beams, 1)),
            },
            angles: n.saturating_mul(config.angles_dim()),
            frequencies: config.angles_dim() / 2,
            tokens: match options.when_full {
                WhenFull::Error => options.context_len,
                WhenFull::Ring => kv.capacity(),
            },
            batch: n,
            beams: match options.beams {
                0 => 0,
                beams => (beams + 1).saturating_mul(options.context_len),
            },
            encode: ENCODE_SCRATCH_LEN,
            scratch: match config.reading() {
                Some(_) => scratch,
                None => max(scratch, config.vocab_len),
            },
        })
    }

    const fn total_bytes(&self) -> usize {
        let words = [
            self.x,
            self.y,
            self.wide,
            self.logits,
            self.angles,
            self.frequencies,
            self.tokens,
            self.batch,
            self.beams,
            self.encode,
            self.scratch,
        ];
        let mut total = self.kv_bytes.saturating_add(self.cross_bytes);
        let mut rest: &[usize] = &words;
        while let Some((&len, tail)) = rest.split_first() {
            total = total.saturating_add(aligned_bytes(len));
            rest = tail;
        }
        total
    }
}

/// What comes of `n` tokens; hidden vectors stay where they are.
const fn output_len(reading: &Reading, config: &Config, n: usize) -> usize {
    match reading.output {
        Output::Hidden => 0,
        Output::Embedding { .. } => config.dim,
        Output::Classes(classes) => classes,
        Output::Tags(tags) => n.saturating_mul(tags),
        Output::Span => n.saturating_mul(2),
    }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Bytes of a buffer of that many words, filled up to a multiple of [`ALIGN`].
const fn aligned_bytes(words: usize) -> usize {
    match words.saturating_mul(4).checked_next_multiple_of(ALIGN) {
        Some(bytes) => bytes,
        None => usize::MAX,
    }
}

/// The buffers of a session; [`Sizes`] gives their shapes.
#[derive(Debug)]
pub(crate) struct Workspace<'m> {
    pub(crate) kv: KvCache<'m>,
    /// Of the source, if the model has one.
    pub(crate) cross: Option<KvCache<'m>>,
    pub(crate) activations: Activations<'m>,
    pub(crate) logits: &'m mut [f32],
    /// The tokens of the context, oldest first; an encoder's types.
    pub(crate) tokens: &'m mut [u32],
    /// The tokens that are run next.
    pub(crate) batch: &'m mut [u32],
    /// (beams + 1, context).
    pub(crate) beams: &'m mut [u32],
    pub(crate) encode: &'m mut [u32],
}

/// What a forward pass writes; nothing in it outlives the pass but the frequencies.
#[derive(Debug)]
pub(crate) struct Activations<'m> {
    pub(crate) x: &'m mut [f32],
    pub(crate) y: &'m mut [f32],
    pub(crate) wide: &'m mut [f32],
    pub(crate) angles: &'m mut [f32],
    pub(crate) frequencies: &'m mut [f32],
    pub(crate) scratch: &'m mut [u32],
}

impl Activations<'_> {
    /// What a text's tokens take of each buffer, and all of the scratch.
    pub(crate) fn part<'a>(
        &'a mut self,
        config: &Config,
        text: Text<'a>,
    ) -> Result<Part<'a>, SessionError> {
        let Text {
            first,
            ids,
            types,
            sets,
        } = text;
        let len = ids.len();
        Ok(Part {
            tokens: Tokens {
                first,
                len,
                abreast: !sets.is_empty(),
            },
            ids,
            types,
            sets,
            x: part_mut(self.x, 0, len.saturating_mul(config.dim))?,
            y: part_mut(self.y, 0, len.saturating_mul(config.y_dim()))?,
            wide: part_mut(self.wide, 0, len.saturating_mul(config.wide_dim()))?,
            angles: part_mut(self.angles, 0, len.saturating_mul(config.angles_dim()))?,
            frequencies: self.frequencies,
            scratch: self.scratch,
        })
    }
}

impl<'m> Workspace<'m> {
    /// Cuts `memory` up and zeroes what is used of it.
    pub(crate) fn new(
        config: &Config,
        options: &SessionOptions,
        memory: &'m mut [u8],
    ) -> Result<Self, SessionError> {
        options.check(config)?;
        let have = memory.len();
        let too_large = SessionError::Memory {
            need: usize::MAX,
            have,
        };
        let sizes = Sizes::of(config, options).ok_or(too_large)?;
        let shape = KvCache::shape_of(config, options.context_len).ok_or(too_large)?;
        let offset = memory.as_ptr().addr() % ALIGN;
        if offset != 0 {
            return Err(SessionError::Misaligned { offset });
        }
        let need = sizes.total_bytes();
        let mut rest = memory
            .get_mut(..need)
            .ok_or(SessionError::Memory { need, have })?;
        rest.fill(0);
        let kv_bytes = take(&mut rest, sizes.kv_bytes)?;
        let kv = KvCache::new(config, options, shape, kv_bytes);
        let cross_bytes = take(&mut rest, sizes.cross_bytes)?;
        let cross = match KvCache::shape_of(config, options.source_len) {
            Some(shape) if options.source_len > 0 => {
                Some(KvCache::new(config, options, shape, cross_bytes))
            }
            _ => None,
        };
        let x = buffer(&mut rest, sizes.x)?;
        let y = buffer(&mut rest, sizes.y)?;
        let wide = buffer(&mut rest, sizes.wide)?;
        let logits = buffer(&mut rest, sizes.logits)?;
        let angles = buffer(&mut rest, sizes.angles)?;
        let frequencies = buffer(&mut rest, sizes.frequencies)?;
        let tokens = buffer(&mut rest, sizes.tokens)?;
        let batch = buffer(&mut rest, sizes.batch)?;
        let beams = buffer(&mut rest, sizes.beams)?;
        let encode = buffer(&mut rest, sizes.encode)?;
        let scratch = buffer(&mut rest, sizes.scratch)?;
        Ok(Self {
            kv,
            cross,
            activations: Activations {
                x,
                y,
                wide,
                angles,
                frequencies,
                scratch,
            },
            logits,
            tokens,
            batch,
            beams,
            encode,
        })
    }
}

/// The next buffer of `len` words; what fills it up to a multiple of [`ALIGN`] is skipped.
fn buffer<'m, T>(rest: &mut &'m mut [u8], len: usize) -> Result<&'m mut [T], SessionError>
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + zerocopy::KnownLayout,
{
    let mut bytes: &'m mut [u8] = take(rest, aligned_bytes(len))?;
    take(&mut bytes, len)
}
