//! What a pass writes: one block of the caller's memory, cut once.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::config::{Config, Output, Pooling};
use crate::error::SessionError;
use crate::file::ALIGN;
use crate::integer::cache::{self, places, ring_places};
use crate::integer::tensors::Bits;
use crate::kernels::ShapeError;
use crate::kernels::integer::{BATCH, TILE};
use crate::tokenizer::ENCODE_SCRATCH_LEN;

/// Results of products that are computed at once: rows times tokens.
pub(crate) const BLOCK: usize = 128;

/// Positions that memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Of the text.
    pub(crate) context_len: usize,
    /// Of the source; 0 without.
    pub(crate) source_len: usize,
    /// Whether the newest positions take the places of the oldest.
    pub(crate) is_ring: bool,
    /// Of an element of a key or value.
    pub(crate) kv: Bits,
}

impl Room {
    /// Of a text that is read as a whole.
    pub(crate) const fn of_text(context_len: usize) -> Self {
        Self {
            context_len,
            source_len: 0,
            is_ring: false,
            kv: Bits::Eight,
        }
    }

    /// Places for keys and values of the text.
    pub(crate) const fn own_places(&self) -> usize {
        match self.is_ring {
            true => ring_places(self.context_len),
            false => places(self.context_len),
        }
    }

    /// The same of the source.
    pub(crate) const fn source_places(&self) -> usize {
        places(self.source_len)
    }
}

/// Elements of each buffer.
struct Sizes {
    kv: usize,
    cross: usize,
    tile: usize,
    angles: usize,
    x: usize,
    q: usize,
    y: usize,
    hidden: usize,
    sums: usize,
    logits: usize,
    tokens: usize,
    source: usize,
    encode: usize,
}

impl Sizes {
    const fn of(config: &Config, room: Room) -> Self {
        let Room {
            context_len,
            source_len,
            ..
        } = room;
        let reads = config.reading().is_some();
        // Tokens that are on their way through the layers: a decoder's a few at a time.
        let few = min(BATCH, max(context_len, source_len));
        let n = match reads {
            true => context_len,
            false => max(source_len, few),
        };
        // Keys and values of a position in a layer.
        let pair = 2 * config.kv_dim();
        let own_layers = if reads { 1 } else { config.layers };
        let mean = match config.reading() {
            Some(reading) if matches!(reading.pooling, Pooling::Mean) => config.dim,
            _ => 0,
        };
        let logits = match config.reading() {
            Some(reading) => match reading.output {
                Output::Tags(_) | Output::Span => n.saturating_mul(reading.head_rows()),
                _ => reading.head_rows(),
            },
            None => config.vocab_len,
        };
        Self {
            // While a source is read there is no text: its keys, a layer at a time, lie there too.
            kv: cache::bytes(
                room.kv,
                max(
                    room.own_places().saturating_mul(own_layers * pair),
                    room.source_places().saturating_mul(pair),
                ),
            ),
            cross: cache::bytes(
                room.kv,
                (room.source_places()).saturating_mul(config.layers * pair),
            ),
            tile: match room.kv {
                Bits::Eight => 0,
                Bits::Four => 2 * TILE * config.head_dim,
            },
            angles: match config.rotates() {
                true => BATCH * config.head_dim / 2,
                false => 0,
            },
            x: n.saturating_mul(config.dim),
            q: n.saturating_mul(max(config.q_dim(), config.patch())),
            y: few.saturating_mul(config.dim),
            hidden: few.saturating_mul(config.hidden_dim),
            sums: max(max(BATCH * config.head_dim, BLOCK), mean),
            logits,
            tokens: context_len,
            source: source_len,
            encode: ENCODE_SCRATCH_LEN,
        }
    }

    const fn total_bytes(&self) -> usize {
        let bytes = [
            (self.kv, 1),
            (self.cross, 1),
            (self.tile, 1),
            (self.angles, 4),
            (self.x, 2),
            (self.q, 1),
            (self.y, 1),
            (self.hidden, 1),
            (self.sums, 4),
            (self.logits, 4),
            (self.tokens, 4),
            (self.source, 4),
            (self.encode, 4),
        ];
        let mut total = 0usize;
        let mut rest: &[(usize, usize)] = &bytes;
        while let Some((&(len, width), tail)) = rest.split_first() {
            total = total.saturating_add(filled(len.saturating_mul(width)));
            rest = tail;
        }
        total
    }
}

/// Bytes of a buffer, filled up so that the next begins at a multiple of 16.
const fn filled(bytes: usize) -> usize {
    match bytes.checked_next_multiple_of(16) {
        Some(bytes) => bytes,
        None => usize::MAX,
    }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

/// Bytes of all buffers; `usize::MAX` for more than there can be.
pub(crate) const fn bytes(config: &Config, room: Room) -> usize {
    match Sizes::of(config, room)
        .total_bytes()
        .checked_next_multiple_of(ALIGN)
    {
        Some(bytes) => bytes,
        None => usize::MAX,
    }
}

/// The buffers.
#[derive(Debug)]
pub(crate) struct Memory<'m> {
    /// Keys and values (see [`Cache`](super::cache::Cache)); of an encoder, and of a source, one layer's.
    pub(crate) kv: &'m mut [i8],
    /// The same of the source, for each layer of the decoder.
    pub(crate) cross: &'m mut [i8],
    /// Keys and values of a tile, where the cache has four bits a number.
    pub(crate) tile: &'m mut [i8],
    /// Cosines and sines of a batch's positions, (batch, head_dim / 2).
    pub(crate) angles: &'m mut [[i16; 2]],
    /// The residual stream, (n, dim).
    pub(crate) x: &'m mut [i16],
    /// Queries, then what the heads give: (n, q_dim). Patches before that.
    pub(crate) q: &'m mut [i8],
    /// What a norm gives for a batch of tokens, (batch, dim).
    pub(crate) y: &'m mut [i8],
    /// (batch, hidden_dim).
    pub(crate) hidden: &'m mut [i8],
    /// Results of a product, or the running sums of attention or of pooling.
    pub(crate) sums: &'m mut [i32],
    pub(crate) logits: &'m mut [i32],
    /// (context).
    pub(crate) tokens: &'m mut [u32],
    /// (source).
    pub(crate) source: &'m mut [u32],
    /// One word of the tokenizer.
    pub(crate) encode: &'m mut [u32],
}

impl<'m> Memory<'m> {
    /// Cuts `memory` up and zeroes what is used of it.
    pub(crate) fn new(
        config: &Config,
        room: Room,
        memory: &'m mut [u8],
    ) -> Result<Self, SessionError> {
        let offset = memory.as_ptr().addr() % ALIGN;
        if offset != 0 {
            return Err(SessionError::Misaligned { offset });
        }
        let (need, have) = (bytes(config, room), memory.len());
        let mut rest = (memory.get_mut(..need)).ok_or(SessionError::Memory { need, have })?;
        rest.fill(0);
        let sizes = Sizes::of(config, room);
        Ok(Self {
            kv: take(&mut rest, sizes.kv)?,
            cross: take(&mut rest, sizes.cross)?,
            tile: take(&mut rest, sizes.tile)?,
            angles: take(&mut rest, sizes.angles)?,
            x: take(&mut rest, sizes.x)?,
            q: take(&mut rest, sizes.q)?,
            y: take(&mut rest, sizes.y)?,
            hidden: take(&mut rest, sizes.hidden)?,
            sums: take(&mut rest, sizes.sums)?,
            logits: take(&mut rest, sizes.logits)?,
            tokens: take(&mut rest, sizes.tokens)?,
            source: take(&mut rest, sizes.source)?,
            encode: take(&mut rest, sizes.encode)?,
        })
    }
}

/// The next buffer of `len` elements.
fn take<'m, T>(rest: &mut &'m mut [u8], len: usize) -> Result<&'m mut [T], SessionError>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout,
{
    let have = rest.len();
    let bytes = len.saturating_mul(size_of::<T>());
    let need = filled(bytes);
    let short = SessionError::Memory { need, have };
    let (part, behind) = core::mem::take(rest)
        .split_at_mut_checked(need)
        .ok_or(short)?;
    *rest = behind;
    let part = part.get_mut(..bytes).ok_or(short)?;
    <[T]>::mut_from_bytes(part).map_err(|_| short)
}

/// Row `index` of that width.
pub(crate) fn row<T>(all: &[T], index: usize, width: usize) -> Result<&[T], SessionError> {
    part(all, index.saturating_mul(width), width)
}

/// `len` elements from `from` on.
pub(crate) fn part<T>(all: &[T], from: usize, len: usize) -> Result<&[T], SessionError> {
    let have = all.len();
    let part = all.get(from..).and_then(|rest| rest.get(..len));
    Ok(part.ok_or(short(from.saturating_add(len), have))?)
}

/// Row `index` of that width, for writing.
pub(crate) fn row_mut<T>(
    all: &mut [T],
    index: usize,
    width: usize,
) -> Result<&mut [T], SessionError> {
    part_mut(all, index.saturating_mul(width), width)
}

/// `len` elements from `from` on, for writing.
pub(crate) fn part_mut<T>(
    all: &mut [T],
    from: usize,
    len: usize,
) -> Result<&mut [T], SessionError> {
    let have = all.len();
    let part = all.get_mut(from..).and_then(|rest| rest.get_mut(..len));
    Ok(part.ok_or(short(from.saturating_add(len), have))?)
}

/// The memory is cut to fit, so this is a defect of the crate.
pub(crate) fn short(need: usize, have: usize) -> ShapeError {
    ShapeError {
        what: "integer buffers",
        need,
        have,
    }
}
