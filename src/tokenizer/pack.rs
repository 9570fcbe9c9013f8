//! Writing the tokenizer section: what [`Tokenizer`] reads.

mod lexicon;

use crate::file::{NO_TOKEN, TokenizerHeader};
use crate::pack::PackError;
use crate::tokenizer::{Split, Tokenizer};
use lexicon::Lexicon;

pub use lexicon::{UnigramParts, WordPieceParts};

/// The tokenizer that a file is to hold.
#[derive(Clone, Copy, Debug)]
pub enum TokenizerParts<'a> {
    /// None: the caller gives tokens.
    None,
    /// Token = byte + offset.
    Bytes {
        /// Tokens before the bytes.
        offset: u32,
    },
    /// Byte-level byte-pair encoding.
    Bpe {
        /// How a text is cut into words.
        split: Split,
        /// The bytes of each token, in the order of the tokens; see [`alphabet_byte`].
        pieces: &'a [&'a [u8]],
        /// (left, right, token made), in the order of rank. Where that is the order of the tokens made, the file says
        /// it once.
        merges: &'a [(u32, u32, u32)],
        /// Tokens whose literal text stands for them wherever it occurs. They are never merged into.
        specials: &'a [u32],
    },
    /// BERT's WordPiece.
    WordPiece(WordPieceParts<'a>),
    /// SentencePiece's unigram model.
    Unigram(UnigramParts<'a>),
    /// That of another file, byte for byte: [`Model::tokenizer_section`](crate::Model::tokenizer_section).
    Section(&'a [u8]),
}

/// The byte that a character of GPT-2's printable alphabet stands for; the vocabularies of Hugging Face's
/// `tokenizers` are written in it (`Ġ` is the space).
pub const fn alphabet_byte(c: char) -> Option<u8> {
    let code = c as u32;
    if is_printable(code) {
        return Some(code as u8);
    }
    // The other bytes, in order, are the characters from 256 on.
    let mut next = 256;
    let mut byte = 0;
    while byte < 256 {
        if !is_printable(byte) {
            if next == code {
                return Some(byte as u8);
            }
            next += 1;
        }
        byte += 1;
    }
    None
}

const fn is_printable(code: u32) -> bool {
    matches!(code, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

impl<'a> TokenizerParts<'a> {
    /// A vocabulary that is looked up by its texts.
    fn lexicon(&self) -> Option<Lexicon<'a>> {
        match self {
            Self::WordPiece(parts) => Some(parts.lexicon()),
            Self::Unigram(parts) => Some(parts.lexicon()),
            _ => None,
        }
    }

    /// Length of the section in bytes.
    pub(crate) fn bytes(&self) -> Result<u64, PackError> {
        let header = TokenizerHeader::LEN as u64;
        let bytes = match (self, self.lexicon()) {
            (_, Some(lexicon)) => lexicon.bytes(),
            (Self::Section(section), _) => section.len() as u64,
            (
                Self::Bpe {
                    pieces,
                    merges,
                    specials,
                    ..
                },
                _,
            ) => {
                let text: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
                let merge_words = if ranks_are_tokens(merges) { 3 } else { 4 };
                let words = 256
                    + specials.len() as u64
                    + merge_words * merges.len() as u64
                    + pieces.len() as u64
                    + 1;
                header + 4 * words + text
            }
            _ => header,
        };
        if bytes > u64::from(u32::MAX) {
            return Err(PackError::Len {
                need: bytes,
                have: u32::MAX as usize,
            });
        }
        Ok(bytes)
    }

    pub(crate) fn check(&self, vocab_len: usize) -> Result<(), PackError> {
        match *self {
            Self::None => Ok(()),
            Self::Bytes { offset } => {
                let have = offset as usize + 256;
                if have > vocab_len {
                    Err(PackError::Token { vocab_len, have })
                } else {
                    Ok(())
                }
            }
            Self::Bpe {
                pieces,
                merges,
                specials,
                ..
            } => {
                check_tokens(pieces, specials, vocab_len)?;
                check_merges(merges, pieces.len())
            }
            Self::WordPiece(parts) => parts.lexicon().check(vocab_len),
            Self::Unigram(parts) => parts.lexicon().check(vocab_len),
            Self::Section(section) => Tokenizer::parse(section, vocab_len)
                .and_then(|tokenizer| tokenizer.check())
                .map_err(PackError::Tokenizer),
        }
    }
}

fn check_tokens(pieces: &[&[u8]], specials: &[u32], vocab_len: usize) -> Result<(), PackError> {
    let have = pieces.len();
    if have > vocab_len {
        return Err(PackError::Token { vocab_len, have });
    }
    for &id in specials {
        match pieces.get(id as usize) {
            None => {
                return Err(PackError::Token {
                    vocab_len,
                    have: id as usize,
                });
            }
            Some([]) => return Err(PackError::SpecialEmpty { id }),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Whether the tokens made ascend with the rank, so that one number serves as both.
fn ranks_are_tokens(merges: &[(u32, u32, u32)]) -> bool {
    merges.is_sorted_by(|(.., a), (.., b)| a < b)
}

fn check_merges(merges: &[(u32, u32, u32)], vocab_len: usize) -> Result<(), PackError> {
    for &(left, right, made) in merges {
        for id in [left, right, made] {
            if id as usize >= vocab_len {
                return Err(PackError::Token {
                    vocab_len,
                    have: id as usize,
                });
            }
        }
    }
    Ok(())
}

/// Writes the section into `out`, which has the length that [`TokenizerParts::bytes`] says.
pub(crate) fn write(parts: &TokenizerParts<'_>, out: &mut [u8]) -> Result<(), PackError> {
    if let TokenizerParts::Section(section) = *parts {
        // Checked against the vocabulary already.
        out.copy_from_slice(section);
        return Ok(());
    }
    let mut header = TokenizerHeader {
        kind: TokenizerHeader::NONE,
        split: 0,
        reserved: [0; 2],
        byte_offset: 0,
        pieces_len: 0,
        merges_len: 0,
        specials_len: 0,
        text_len: 0,
        reserved_end: [0; 8],
    };
    let (head, tables) = out.split_at_mut(TokenizerHeader::LEN);
    let mut vocab_len = 0;
    match *parts {
        TokenizerParts::None | TokenizerParts::Section(_) => {}
        TokenizerParts::Bytes { offset } => {
            header.kind = TokenizerHeader::BYTES;
            header.byte_offset = offset;
            vocab_len = offset as usize + 256;
        }
        TokenizerParts::Bpe {
            split,
            pieces,
            merges,
            specials,
        } => {
            header.kind = match ranks_are_tokens(merges) {
                true => TokenizerHeader::BPE,
                false => TokenizerHeader::BPE_RANKED,
            };
            header.split = split.code();
            header.pieces_len = pieces.len() as u32;
            header.merges_len = merges.len() as u32;
            header.specials_len = specials.len() as u32;
            header.text_len = pieces.iter().map(|piece| piece.len() as u32).sum();
            vocab_len = pieces.len();
            write_bpe(tables, pieces, merges, specials)?;
        }
        TokenizerParts::WordPiece(WordPieceParts { pieces, .. })
        | TokenizerParts::Unigram(UnigramParts { pieces, .. }) => {
            vocab_len = pieces.len();
            if let Some(lexicon) = parts.lexicon() {
                lexicon.write(&mut header, tables)?;
            }
        }
    }
    head.copy_from_slice(&header.encode());
    Tokenizer::parse(out, vocab_len)
        .and_then(|tokenizer| tokenizer.check())
        .map_err(PackError::Tokenizer)
}

fn write_bpe(
    tables: &mut [u8],
    pieces: &[&[u8]],
    merges: &[(u32, u32, u32)],
    specials: &[u32],
) -> Result<(), PackError> {
    let (byte_ids, rest) = tables.split_at_mut(4 * 256);
    for (byte, slot) in (0..=u8::MAX).zip(byte_ids.as_chunks_mut::<4>().0) {
        let is_token = |(id, piece): (u32, &&[u8])| {
            (**piece == [byte] && !specials.contains(&id)).then_some(id)
        };
        *slot = (0u32..)
            .zip(pieces)
            .find_map(is_token)
            .unwrap_or(NO_TOKEN)
            .to_le_bytes();
    }
    let (special_ids, rest) = rest.split_at_mut(4 * specials.len());
    for (slot, id) in special_ids.as_chunks_mut::<4>().0.iter_mut().zip(specials) {
        *slot = id.to_le_bytes();
    }
    let (merge_records, rest) = rest.split_at_mut(12 * merges.len());
    let records = merge_records.as_chunks_mut::<12>().0;
    let ranks_are_tokens = ranks_are_tokens(merges);
    for ((slot, &(left, right, made)), index) in records.iter_mut().zip(merges).zip(0u32..) {
        let rank = if ranks_are_tokens { made } else { index };
        let words = slot.as_chunks_mut::<4>().0;
        for (word, value) in words.iter_mut().zip([left, right, rank]) {
            *word = value.to_le_bytes();
        }
    }
    let made_len = if ranks_are_tokens { 0 } else { merges.len() };
    let (made_ids, rest) = rest.split_at_mut(4 * made_len);
    for (slot, (.., made)) in made_ids.as_chunks_mut::<4>().0.iter_mut().zip(merges) {
        *slot = made.to_le_bytes();
    }
    let pair = |record: &[u8; 12]| {
        let words = record.as_chunks::<4>().0;
        (u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1]))
    };
    records.sort_unstable_by_key(pair);
    if records.windows(2).any(|two| pair(&two[0]) == pair(&two[1])) {
        return Err(PackError::MergeTwice);
    }
    write_pieces(rest, pieces.iter().copied());
    Ok(())
}

/// Writes the offsets and the text, and returns what is left.
fn write_pieces<'o, 'p>(
    out: &'o mut [u8],
    pieces: impl ExactSizeIterator<Item = &'p [u8]>,
) -> &'o mut [u8] {
    let (offsets, mut text) = out.split_at_mut(4 * (pieces.len() + 1));
    let mut offset = 0u32;
    let mut slots = offsets.as_chunks_mut::<4>().0.iter_mut();
    for piece in pieces {
        if let Some(slot) = slots.next() {
            *slot = offset.to_le_bytes();
        }
        let (here, after) = text.split_at_mut(piece.len());
        here.copy_from_slice(piece);
        text = after;
        offset += piece.len() as u32;
    }
    if let Some(slot) = slots.next() {
        *slot = offset.to_le_bytes();
    }
    text
}
