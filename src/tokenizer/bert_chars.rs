//! What BERT's tokenizer asks about a character; answers from `core` and from the tables of `cargo xtask unicode`.

use crate::tokenizer::bert_tables::{
    BASE_RUNS, BASE_SEQUENCES, BASE_STARTS, BASES, BASES_BEYOND, FORMATS, MARKS, PUNCTUATION,
};

/// Whether one of the ranges (first character × 256 + length, ascending) holds the character.
fn holds(ranges: &[u32], c: char) -> bool {
    let code = u32::from(c);
    let after = ranges.partition_point(|range| range >> 8 <= code);
    let range = after.checked_sub(1).and_then(|index| ranges.get(index));
    range.is_some_and(|range| code.wrapping_sub(range >> 8) < range & 0xff)
}

/// General category P, or ASCII that is neither letter, digit, space nor control.
pub(crate) fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || !c.is_ascii() && holds(&PUNCTUATION, c)
}

/// General category Mn.
pub(crate) fn is_nonspacing_mark(c: char) -> bool {
    c >= '\u{300}' && holds(&MARKS, c)
}

/// What cleaning removes: controls (but not tab, newline, carriage return), formats, private use, U+0000 and U+FFFD.
pub(crate) fn is_removed(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        ' '..='~' => false,
        '\u{fffd}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{f0000}'..='\u{ffffd}'
        | '\u{100000}'..='\u{10fffd}' => true,
        _ => c.is_control() || holds(&FORMATS, c),
    }
}

/// A character of the blocks that hold Chinese, each of which is a word.
pub(crate) fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2b73f}' | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}'
        | '\u{2f800}'..='\u{2fa1f}')
}

/// What canonical decomposition (NFD) leaves of a character without its nonspacing marks: nothing to three characters.
///
/// Spacing marks that would have to change places are left where they are; only successions of them that no
/// orthography has would show it.
pub(crate) fn base(c: char) -> [Option<char>; 3] {
    if c < '\u{c0}' {
        return [Some(c), None, None];
    }
    if is_nonspacing_mark(c) {
        return [None; 3];
    }
    if let '\u{ac00}'..='\u{d7a3}' = c {
        return syllable(u32::from(c) - 0xac00);
    }
    decomposed(u32::from(c)).unwrap_or([Some(c), None, None])
}

/// Hangul is composed by arithmetic (The Unicode Standard, section 3.12): 21 vowels, 27 finals or none.
fn syllable(index: u32) -> [Option<char>; 3] {
    let last = index % 28;
    [
        char::from_u32(0x1100 + index / (21 * 28)),
        char::from_u32(0x1161 + index / 28 % 21),
        if last == 0 {
            None
        } else {
            char::from_u32(0x11a7 + last)
        },
    ]
}

fn decomposed(code: u32) -> Option<[Option<char>; 3]> {
    let run = BASE_RUNS
        .partition_point(|run| run >> 11 <= code)
        .checked_sub(1)?;
    let (first, len) = BASE_RUNS.get(run).map(|run| (run >> 11, run & 0x7ff))?;
    let place = code.checked_sub(first).filter(|place| *place < len)?;
    let value = *BASES.get(usize::from(*BASE_STARTS.get(run)?) + place as usize)?;
    let one = |code: u32| Some([char::from_u32(code), None, None]);
    match value {
        0xdc00..=0xdfff => {
            let sequence = BASE_SEQUENCES
                .as_chunks::<3>()
                .0
                .get(usize::from(value - 0xdc00))?;
            Some(sequence.map(|code| char::from_u32(code).filter(|c| *c != '\0')))
        }
        0xd800..=0xdbff => one(*BASES_BEYOND.get(usize::from(value - 0xd800))?),
        value => one(u32::from(value)),
    }
}
