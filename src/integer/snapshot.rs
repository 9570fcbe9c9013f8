//! A session's state as bytes: to go on after a reset, or from a prompt that was read once and for all.
//!
//! Little-endian: twelve words (magic, version, the payload checksum of the model's file, tokens that were run, tokens,
//! tokens of the source, tokens that a ring has forgotten, the first position whose keys are there, places of a ring or 0,
//! bits of a key's number, 0, the checksum of all but itself), the tokens, then for each layer and head the keys and the
//! values that they have (values transposed, tile by tile), and the same of the source.

use crate::config::Config;
use crate::error::{SessionError, SnapshotFault};
use crate::file::CRC;
use crate::integer::cache::{self, Cache};
use crate::integer::memory::{part, part_mut};
use crate::integer::model::Model;
use crate::integer::needs::Fit;
use crate::integer::pass::What;
use crate::integer::session::{Options, Session, check_tokens};
use crate::integer::tensors::Bits;

const MAGIC: u32 = u32::from_le_bytes(*b"ATSN");
const VERSION: u32 = 2;
/// Bytes of the header, of which the last word is the checksum.
const HEADER: usize = 48;
const CHECKSUM_AT: usize = HEADER - 4;

impl Model<'_> {
    /// Bytes of a [`Session::snapshot`] of a text of so many tokens behind a source of so many (0 without one), all of
    /// which were run: the most that it takes.
    pub const fn snapshot_bytes(&self, options: &Options, tokens: usize, source: usize) -> usize {
        let room = options.room();
        let places = match tokens < room.own_places() {
            true => tokens,
            false => room.own_places(),
        };
        let tokens = match tokens < options.context_len {
            true => tokens,
            false => options.context_len,
        };
        bytes(self.config(), room.kv, places, tokens, source)
    }
}

/// With the keys of so many places, so many tokens and the keys of so many of the source.
const fn bytes(config: &Config, kv: Bits, places: usize, tokens: usize, source: usize) -> usize {
    HEADER
        .saturating_add(tokens.saturating_mul(4))
        .saturating_add(pairs_bytes(config, kv, places))
        .saturating_add(pairs_bytes(config, kv, source))
}

/// Keys and values of so many places in all layers.
const fn pairs_bytes(config: &Config, kv: Bits, places: usize) -> usize {
    // Of four bits, the eights of a value's row are whole.
    let of_values = match kv {
        Bits::Eight => places,
        Bits::Four => places.saturating_add(7) & !7,
    };
    let elements = config.layers * config.kv_dim();
    cache::bytes(
        kv,
        places.saturating_add(of_values).saturating_mul(elements),
    )
}

/// What the header says.
struct Header {
    model: u32,
    position: usize,
    tokens: usize,
    source: usize,
    forgotten: usize,
    oldest: usize,
    /// Of a ring; 0 without.
    places: usize,
    kv: Bits,
}

impl Header {
    /// Places of the text's keys.
    const fn own_places(&self) -> usize {
        match self.places > 0 && self.position > self.places {
            true => self.places,
            false => self.position,
        }
    }

    /// Bytes of the snapshot.
    const fn snapshot_len(&self, config: &Config) -> usize {
        bytes(config, self.kv, self.own_places(), self.tokens, self.source)
    }

    fn encode(&self) -> [u8; HEADER] {
        let words = [
            MAGIC,
            VERSION,
            self.model,
            self.position as u32,
            self.tokens as u32,
            self.source as u32,
            self.forgotten as u32,
            self.oldest as u32,
            self.places as u32,
            match self.kv {
                Bits::Eight => 8,
                Bits::Four => 4,
            },
            0,
            0,
        ];
        let mut bytes = [0; HEADER];
        for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let mut words = [0; HEADER / 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let [magic, version, model, rest @ ..] = words;
        let [
            position,
            tokens,
            source,
            forgotten,
            oldest,
            places,
            bits,
            zero,
            _,
        ] = rest.map(|word| word as usize);
        let header = Self {
            model,
            position,
            tokens,
            source,
            forgotten,
            oldest,
            places,
            kv: match bits {
                4 => Bits::Four,
                _ => Bits::Eight,
            },
        };
        // A text that was run so far as its tokens are known.
        let run = forgotten..=forgotten.checked_add(tokens)?;
        let sound = run.contains(&position) && oldest <= forgotten && matches!(bits, 4 | 8);
        (magic == MAGIC && version == VERSION && zero == 0 && sound).then_some(header)
    }
}

/// The checksum of all but itself.
fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(header.get(..CHECKSUM_AT).unwrap_or_default());
    digest.update(body);
    digest.finalize()
}

impl<F: Fit> Session<'_, F> {
    /// Bytes that [`Session::snapshot`] takes now.
    pub fn snapshot_len(&self) -> usize {
        self.header().snapshot_len(self.setting.model.config())
    }

    fn header(&self) -> Header {
        Header {
            model: self.setting.model.checksum(),
            position: self.position,
            tokens: self.tokens_len,
            source: self.setting.heard,
            forgotten: self.setting.forgotten,
            oldest: self.setting.oldest,
            places: match self.setting.room.is_ring {
                true => self.setting.room.own_places(),
                false => 0,
            },
            kv: self.setting.room.kv,
        }
    }

    /// Writes the text, its keys and its values, and those of the source that was read; what a pass has begun is not among
    /// it. Returns the length.
    ///
    /// Later, in flash or not, [`Session::restore`] goes on from there: a long prompt has to be run but once.
    ///
    /// # Errors
    /// [`SessionError::Memory`] when `out` is shorter than [`Session::snapshot_len`].
    pub fn snapshot(&self, out: &mut [u8]) -> Result<usize, SessionError> {
        let (need, have) = (self.snapshot_len(), out.len());
        let short = SessionError::Memory { need, have };
        let out = out.get_mut(..need).ok_or(short)?;
        let (head, body) = out.split_first_chunk_mut::<HEADER>().ok_or(short)?;
        let header = self.header();
        let mut to = body.iter_mut();
        for (byte, to) in (self.tokens().iter().flat_map(|id| id.to_le_bytes())).zip(&mut to) {
            *to = byte;
        }
        let layers = self.setting.model.config().layers;
        let next = What::Next { logits: false };
        for (cache, all, places) in [
            (
                Cache::own(self.setting, next),
                &*self.memory.kv,
                header.own_places(),
            ),
            (
                Cache::cross(self.setting),
                &*self.memory.cross,
                header.source,
            ),
        ] {
            for range in cache.used(layers, places) {
                let from = part(all, range.start, range.len())?.iter();
                for (byte, to) in from.zip(&mut to) {
                    *to = byte.cast_unsigned();
                }
            }
        }
        *head = header.encode();
        let sum = checksum(head, body);
        if let Some(last) = head.last_chunk_mut() {
            *last = sum.to_le_bytes();
        }
        Ok(need)
    }

    /// Puts a [`Session::snapshot`] of the same model, cache and, in a ring, context in the place of text and source; what is behind it is not read. The
    /// last token is run again before anything else, for its logits, as after [`Session::truncate`].
    ///
    /// # Errors
    /// [`SessionError::Snapshot`], [`SessionError::ContextFull`] and [`SessionError::SourceLen`] for one of a longer text
    /// than there is room for, [`SessionError::Token`]; nothing has changed then.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), SessionError> {
        let config = self.setting.model.config();
        let have = snapshot.len();
        let torn = |need| SessionError::Snapshot(SnapshotFault::Torn { need, have });
        let (head, rest) = snapshot.split_first_chunk::<HEADER>().ok_or(torn(HEADER))?;
        let format = SessionError::Snapshot(SnapshotFault::Format);
        let header = Header::decode(head).ok_or(format)?;
        let need = header.snapshot_len(config);
        let body = rest.get(..need.saturating_sub(HEADER)).ok_or(torn(need))?;
        let need = head.last_chunk().map_or(0, |sum| u32::from_le_bytes(*sum));
        let have = checksum(head, body);
        if have != need {
            return Err(SnapshotFault::Checksum { need, have }.into());
        }
        if header.model != self.setting.model.checksum() {
            return Err(SnapshotFault::Model.into());
        }
        let own = self.header();
        if (header.places, header.kv) != (own.places, own.kv) {
            return Err(SnapshotFault::Cache.into());
        }
        let (need, have) = (header.tokens, self.memory.tokens.len());
        if need > have {
            return Err(SessionError::ContextFull { need, have });
        }
        let (most, have) = (self.setting.room.source_len, header.source);
        if have > most {
            return Err(SessionError::SourceLen { most, have });
        }
        let (ids, mut from) = body
            .split_at_checked(header.tokens.saturating_mul(4))
            .ok_or(format)?;
        let ids = ids.as_chunks::<4>().0;
        for id in ids {
            check_tokens(config.vocab_len, &[u32::from_le_bytes(*id)])?;
        }
        // Nothing is in the way from here on.
        self.reset();
        for (to, id) in self.memory.tokens.iter_mut().zip(ids) {
            *to = u32::from_le_bytes(*id);
        }
        let next = What::Next { logits: false };
        let caches = [
            (Cache::own(self.setting, next), header.own_places()),
            (Cache::cross(self.setting), header.source),
        ];
        for ((cache, places), all) in
            (caches.into_iter()).zip([&mut *self.memory.kv, &mut *self.memory.cross])
        {
            for range in cache.used(config.layers, places) {
                let to = part_mut(all, range.start, range.len())?;
                let (bytes, rest) = from.split_at_checked(to.len()).ok_or(format)?;
                for (to, byte) in to.iter_mut().zip(bytes) {
                    *to = byte.cast_signed();
                }
                from = rest;
            }
        }
        self.tokens_len = header.tokens;
        self.source_len = header.source;
        self.setting.heard = header.source;
        (self.setting.forgotten, self.setting.oldest) = (header.forgotten, header.oldest);
        let last = (self.text_len()).saturating_sub(usize::from(header.tokens > 0));
        self.position = header.position.min(last);
        Ok(())
    }
}
