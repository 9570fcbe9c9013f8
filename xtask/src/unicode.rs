//! Writes `src/tokenizer/bert_tables.rs`: what BERT's tokenizer asks about characters, from the two crates that Hugging
//! Face's `tokenizers` asks: `unicode_categories` 0.1 and `unicode-normalization-alignments` 0.1 (Unicode 9.0).

use crate::process;
use anyhow::{Result, ensure};
use std::{fmt::Write, ops::RangeInclusive, path::PathBuf};
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;

/// From here on a value is an index: first into the characters beyond 16 bits, then into the sequences.
const INDICES: u32 = 0xd800;
/// Of these the sequences.
const SEQUENCES: u32 = 0xdc00;
/// A gap this long is cheaper in a run than between two, where the characters in it have 16 bits.
const GAP_MAX: u32 = 3;
const HANGUL: RangeInclusive<char> = '\u{ac00}'..='\u{d7a3}';

const HEADER: &str = "\
//! Characters as BERT's tokenizer sees them, Unicode 9.0 as in Hugging Face's `tokenizers`.
//!
//! Written by `cargo xtask unicode`; `super::bert_chars` reads it.

";

fn path() -> PathBuf {
    process::root().join("src/tokenizer/bert_tables.rs")
}

/// Writes the file.
pub(crate) fn write() -> Result<()> {
    let path = path();
    process::write_whole(&path, tables()?.as_bytes())?;
    println!("wrote {}", path.display());
    Ok(())
}

fn characters() -> impl Iterator<Item = char> {
    ('\0'..=char::MAX).filter(|c| !HANGUL.contains(c))
}

fn tables() -> Result<String> {
    let mut out = String::from(HEADER);
    let punctuation = |c: char| c.is_punctuation() && !c.is_ascii();
    ranges(
        &mut out,
        "PUNCTUATION",
        "Punctuation beyond ASCII",
        punctuation,
    )?;
    ranges(&mut out, "MARKS", "Nonspacing marks", |c| {
        c.is_mark_nonspacing()
    })?;
    ranges(
        &mut out,
        "FORMATS",
        "Format characters",
        UnicodeCategories::is_other_format,
    )?;
    bases(&mut out)?;
    Ok(out)
}

fn ranges(out: &mut String, name: &str, what: &str, has: impl Fn(char) -> bool) -> Result<()> {
    let mut ranges: Vec<u32> = Vec::new();
    for code in ('\0'..=char::MAX).filter(|c| has(*c)).map(u32::from) {
        match ranges.last_mut() {
            Some(last) if (*last >> 8) + (*last & 0xff) == code && *last & 0xff < 0xff => {
                *last += 1
            }
            _ => ranges.push(code << 8 | 1),
        }
    }
    let doc = format!("{what}, ascending: first character × 256 + length of the range.");
    array(out, name, &doc, "u32", &ranges)
}

/// What canonical decomposition leaves of a character without its nonspacing marks.
fn base(c: char) -> Vec<u32> {
    let decomposed = std::iter::once(c).nfd();
    let kept = decomposed
        .map(|(c, _)| c)
        .filter(|c| !c.is_mark_nonspacing());
    kept.map(u32::from).collect()
}

fn bases(out: &mut String) -> Result<()> {
    let (mut runs, mut values): (Vec<(u32, u32)>, Vec<u32>) = Default::default();
    let (mut beyond, mut sequences): (Vec<u32>, Vec<u32>) = Default::default();
    for c in characters().filter(|c| !c.is_mark_nonspacing()) {
        let code = u32::from(c);
        let base = base(c);
        let value = match *base.as_slice() {
            [same] if same == code => continue,
            [one] if one < 0x10000 => one,
            [one] => {
                beyond.push(one);
                INDICES + beyond.len() as u32 - 1
            }
            [first, ref others @ ..] if matches!(others.len(), 1 | 2) => {
                let inside = |&code: &u32| {
                    char::from_u32(code).is_some_and(|c| !c.is_whitespace() && !c.is_punctuation())
                };
                ensure!(base.iter().all(inside), "{c:?} is more than one word");
                sequences.extend([first, others[0], others.get(1).copied().unwrap_or(0)]);
                SEQUENCES + sequences.len() as u32 / 3 - 1
            }
            _ => anyhow::bail!("{c:?} becomes {base:x?}"),
        };
        let gap_max = if code < 0x10000 { GAP_MAX } else { 0 };
        match runs.last_mut() {
            Some((first, len)) if code - (*first + *len) <= gap_max => {
                values.extend(*first + *len..code);
                *len = code - *first + 1;
            }
            _ => runs.push((code, 1)),
        }
        values.push(value);
    }
    ensure!(beyond.len() as u32 <= SEQUENCES - INDICES && values.len() <= 0xffff);
    let mut at = 0;
    let mut starts = Vec::new();
    for (_, len) in &runs {
        starts.push(at);
        at += len;
    }
    let runs: Vec<u32> = runs.iter().map(|(first, len)| first << 11 | len).collect();
    array(
        out,
        "BASE_RUNS",
        "Characters that are decomposed, ascending: first character × 2048 + length of the run.",
        "u32",
        &runs,
    )?;
    array(
        out,
        "BASE_STARTS",
        "Where the values of each run begin.",
        "u16",
        &starts,
    )?;
    array(
        out,
        "BASES",
        "What remains without marks; from 0xd800 an index into BASES_BEYOND, from 0xdc00 into BASE_SEQUENCES.",
        "u16",
        &values,
    )?;
    array(
        out,
        "BASES_BEYOND",
        "Values beyond 16 bits.",
        "u32",
        &beyond,
    )?;
    array(
        out,
        "BASE_SEQUENCES",
        "Values of two or three characters, in threes; 0 where there is no third.",
        "u32",
        &sequences,
    )
}

fn array(out: &mut String, name: &str, doc: &str, kind: &str, values: &[u32]) -> Result<()> {
    writeln!(out, "/// {doc}\n#[rustfmt::skip]")?;
    write!(
        out,
        "pub(super) static {name}: [{kind}; {}] = [",
        values.len()
    )?;
    let mut width = usize::MAX;
    for value in values {
        let text = format!("{value:#x},");
        if width.saturating_add(text.len() + 1) > 112 {
            write!(out, "\n   ")?;
            width = 3;
        }
        write!(out, " {text}")?;
        width += text.len() + 1;
    }
    writeln!(out, "\n];\n")?;
    if name == "BASE_SEQUENCES" {
        out.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_tables_are_these() {
        let committed = std::fs::read_to_string(super::path()).expect("the tables");
        assert!(
            committed == super::tables().expect("tables"),
            "run `cargo xtask unicode`"
        );
    }
}
