//! SentencePiece's normalization: a table of replacements, spaces, and the space that goes before a text.

use crate::error::WeightsError;
use crate::tokenizer::pieces::{take, value};
use crate::tokenizer::unigram::Spaces;

/// SentencePiece's sign for a space in pieces; it is a space here.
const SPACE_SIGN: &str = "\u{2581}";
/// Longest text that is replaced at once, in bytes.
const KEY_BYTES_MAX: usize = 32;
/// Longest replacement, in bytes. Unicode's longest compatibility decomposition (U+FDFA) has 33.
const REPLACEMENT_BYTES_MAX: usize = 64;

/// What SentencePiece calls the precompiled character map, as it stands in its model files.
///
/// The length of a double-array trie in bytes, the trie (units of 32 bits, as in Darts-clone), and the replacements,
/// each ended by a zero byte. The trie's keys are texts, its values places among the replacements. The longest key
/// that a text begins with is replaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charsmap<'a> {
    trie: &'a [[u8; 4]],
    replacements: &'a [u8],
}

impl<'a> Charsmap<'a> {
    /// No bytes: nothing is replaced.
    pub(crate) const fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (trie_bytes, rest) = match bytes.split_first_chunk::<4>() {
            Some((len, rest)) => (u32::from_le_bytes(*len), rest),
            None if bytes.is_empty() => (0, bytes),
            None => return None,
        };
        if trie_bytes % 4 != 0 {
            return None;
        }
        match take::<4>(rest, trie_bytes as u64 / 4) {
            Some((trie, replacements)) => Some(Self { trie, replacements }),
            None => None,
        }
    }

    /// The replacement of the longest key that `text` begins with, and the key's length.
    fn longest(&self, text: &[u8]) -> Option<(&'a [u8], usize)> {
        let unit = |at: usize| self.trie.get(at).map(value);
        let mut at = offset(unit(0)?);
        let mut found = None;
        for (&byte, len) in text.iter().zip(1..=KEY_BYTES_MAX) {
            at ^= usize::from(byte);
            let Some(here) = unit(at).filter(|unit| byte != 0 && label(*unit) == u32::from(byte))
            else {
                break;
            };
            at ^= offset(here);
            if here & HAS_LEAF != 0 {
                found = unit(at).map(|leaf| (leaf & !IS_LEAF, len)).or(found);
            }
        }
        let (place, len) = found?;
        let tail = self.replacements.get(place as usize..)?;
        let end = tail
            .iter()
            .take(REPLACEMENT_BYTES_MAX)
            .position(|byte| *byte == 0)?;
        Some((tail.get(..end)?, len))
    }

    /// Replacements are whole texts. A trie that leads nowhere replaces nothing, so it is not walked here.
    pub(crate) fn check(&self) -> Result<(), WeightsError> {
        let sound = self.trie.is_empty() == self.replacements.is_empty()
            && self.replacements.last().is_none_or(|byte| *byte == 0)
            && core::str::from_utf8(self.replacements).is_ok();
        if sound {
            Ok(())
        } else {
            Err(WeightsError::Tokenizer)
        }
    }
}

const HAS_LEAF: u32 = 1 << 8;
const IS_LEAF: u32 = 1 << 31;

/// The byte that leads to a unit; a leaf has none.
const fn label(unit: u32) -> u32 {
    unit & (IS_LEAF | 0xff)
}

/// Where a unit's children are, relative to it.
const fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

/// The choices of a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normalization<'a> {
    pub(crate) charsmap: Charsmap<'a>,
    pub(crate) spaces: Spaces,
}

/// A text that is being normalized.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normal<'a, 't> {
    rest: &'t str,
    /// Of these one is empty: a replacement, or a character that has none.
    replaced: &'a [u8],
    kept: &'t [u8],
    /// Spaces that come when something comes after them.
    held: usize,
    after_space: bool,
}

impl<'a, 't> Normal<'a, 't> {
    pub(crate) fn new(text: &'t str, rules: &Normalization<'_>) -> Self {
        Self {
            rest: text,
            replaced: &[],
            kept: &[],
            held: usize::from(rules.spaces.dummy_prefix && !text.is_empty()),
            after_space: rules.spaces.collapse,
        }
    }

    /// The next byte, with spaces as spaces.
    pub(crate) fn next(&mut self, rules: &Normalization<'a>) -> Option<u8> {
        loop {
            let next = self.replaced.first().or(self.kept.first()).copied();
            match next {
                Some(b' ') => {
                    self.held = self.held.saturating_add(1);
                    self.skip();
                }
                _ if self.held > 0
                    && (next.is_some() || self.rest.is_empty() && !rules.spaces.collapse) =>
                {
                    self.held -= 1;
                    return Some(b' ');
                }
                Some(byte) => {
                    self.skip();
                    return Some(byte);
                }
                None if self.rest.is_empty() => return None,
                None => self.load(rules),
            }
        }
    }

    fn skip(&mut self) {
        match self.replaced {
            [_, tail @ ..] => self.replaced = tail,
            [] => self.kept = self.kept.get(1..).unwrap_or(&[]),
        }
    }

    /// Takes the next characters from the text.
    fn load(&mut self, rules: &Normalization<'a>) {
        let found = rules.charsmap.longest(self.rest.as_bytes());
        let found = found.and_then(|(new, len)| self.rest.get(len..).map(|rest| (new, rest)));
        if let Some((new, rest)) = found {
            (self.replaced, self.rest) = (new, rest);
        } else {
            let len = self.rest.chars().next().map_or(0, char::len_utf8);
            let (kept, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
            self.rest = rest;
            if kept == SPACE_SIGN {
                // Not a space as far as collapsing goes.
                (self.replaced, self.after_space) = (b" ", false);
                return;
            }
            self.kept = kept.as_bytes();
        }
        let new = if self.replaced.is_empty() {
            self.kept
        } else {
            self.replaced
        };
        let begins = new
            .iter()
            .position(|byte| *byte != b' ')
            .unwrap_or(new.len());
        let ends = new
            .last()
            .map(|byte| rules.spaces.collapse && *byte == b' ');
        if self.after_space {
            for _ in 0..begins {
                self.skip();
            }
        }
        self.after_space = match ends {
            // Nothing, or nothing but spaces that were removed, changes nothing.
            None => self.after_space,
            Some(ends) => ends,
        };
    }
}
