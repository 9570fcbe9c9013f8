//! How the core cuts a text into words, against Hugging Face's `tokenizers`: every character, and real text.

use attentive::tokenizer::Split;
use regex_syntax::hir::{Class, HirKind};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

mod common;

/// The words of `tokenizers`, and the lengths of the core's.
#[track_caller]
fn compare(split: Split, reference: &Sequence, text: &str) {
    let mut pieces = PreTokenizedString::from(text);
    reference.pre_tokenize(&mut pieces).expect("words");
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let mut at = 0;
    for (_, (begin, end), _) in splits {
        let have = at + split.word_bytes(&text[at..]);
        assert_eq!(
            (at, have),
            (begin, end),
            "{split:?} in {:?}",
            &text[at.min(begin)..end.max(have)]
        );
        at = have;
    }
    assert_eq!(at, text.len());
}

fn references() -> [(Split, Sequence); 2] {
    let expression = ByteLevel::new(false, true, true);
    [
        (Split::Gpt2, Sequence::new(vec![expression.into()])),
        (
            Split::Gpt2Digits,
            Sequence::new(vec![Digits::new(true).into(), expression.into()]),
        ),
    ]
}

/// Characters that the Unicode tables of `tokenizers` know; the compiler's may be newer.
fn assigned() -> Vec<char> {
    let class = regex_syntax::parse(r"\P{Cn}").expect("an expression");
    let HirKind::Class(Class::Unicode(class)) = class.kind() else {
        panic!("a class");
    };
    let chars = class.iter().flat_map(|range| range.start()..=range.end());
    // Of the 130,000 characters of private use, the first.
    chars.filter(|&c| c < '\u{f0001}').collect()
}

#[test]
fn every_character_is_of_the_right_class() {
    let chars = assigned();
    assert!(chars.len() > 150_000);
    for (split, reference) in references() {
        for chars in chars.chunks(512) {
            let text: String = chars
                .iter()
                .map(|c| format!("a{c}b {c}1{c} ;{c}\n"))
                .collect();
            compare(split, &reference, &text);
        }
    }
}

#[test]
fn real_text_is_cut_alike() {
    let files = [
        "trainer/tests/reference/languages.txt",
        "data/austen/emma.txt",
        "README.md",
        "src/session/mod.rs",
    ];
    for (split, reference) in references() {
        for file in files {
            let text = std::fs::read_to_string(common::root().join(file)).expect("a text");
            compare(split, &reference, &text);
        }
    }
}
