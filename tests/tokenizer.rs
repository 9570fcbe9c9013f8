//! The tokenizer against a naive one, and its words against what GPT-2's expression is known to give.

mod common;

use attentive::kernels::layout::WeightFormat;
use attentive::tokenizer::{ENCODE_SCRATCH_LEN, WORD_BYTES_MAX};
use attentive::{Block, Model, TokenizeError};
use common::{LLAMA, Random, pack_bpe_variant, pack_variant, small_bpe};

fn encode(model: &Model<'_>, text: &str) -> Vec<u32> {
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let tokens = model.tokenizer().encode(text, &mut scratch);
    tokens
        .expect("a tokenizer")
        .collect::<Result<_, _>>()
        .expect("every byte has a token")
}

/// Merges the pair of the lowest rank, over and over, in one word.
fn naive(word: &str) -> Vec<u32> {
    let (_, merges) = small_bpe();
    let mut ids: Vec<u32> = word.bytes().map(u32::from).collect();
    loop {
        let found = merges.iter().find_map(|&(left, right, made)| {
            let at = ids.windows(2).position(|pair| pair == [left, right])?;
            Some((at, made))
        });
        let Some((at, made)) = found else { return ids };
        ids.splice(at..at + 2, [made]);
    }
}

/// Each text beside its words by the expression of GPT-2.
const WORDS: [(&str, &[&str]); 12] = [
    ("the text", &["the", " text"]),
    ("the  text", &["the", " ", " text"]),
    ("the \n text", &["the", " \n", " text"]),
    ("the\ntext", &["the", "\n", "text"]),
    ("text   ", &["text", "   "]),
    ("it's the cat's", &["it", "'s", " the", " cat", "'s"]),
    ("they'll've", &["they", "'ll", "'ve"]),
    ("12the34", &["12", "the", "34"]),
    (" 12,  the!", &[" 12", ",", " ", " the", "!"]),
    (
        "\u{e9}t\u{e9} \u{4e2d}\u{6587}\u{2014}\u{bd}",
        &["\u{e9}t\u{e9}", " \u{4e2d}\u{6587}", "\u{2014}", "\u{bd}"],
    ),
    ("a\u{301}", &["a", "\u{301}"]),
    ("\u{a0}x", &["\u{a0}", "x"]),
];

#[test]
fn words_are_those_of_the_expression() {
    let blocks = pack_bpe_variant(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    model.verify().expect("sound");
    for (text, words) in WORDS {
        assert_eq!(words.concat(), text);
        let want: Vec<u32> = words.iter().flat_map(|word| naive(word)).collect();
        assert_eq!(encode(&model, text), want, "{text:?}");
    }
}

#[test]
fn random_texts_come_back_and_equal_the_naive_merges() {
    let blocks = pack_bpe_variant(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let mut random = Random(2);
    for _ in 0..500 {
        let len = random.below(40);
        let word: String = (0..len)
            .map(|_| *b"tthexx".get(random.below(6)).unwrap_or(&b't') as char)
            .collect();
        assert_eq!(encode(&model, &word), naive(&word), "{word}");
        let text: String = (0..len)
            .filter_map(|_| char::from_u32(random.below(0x3000) as u32))
            .collect();
        let bytes: Vec<u8> = encode(&model, &text)
            .iter()
            .flat_map(|id| model.tokenizer().piece(*id))
            .copied()
            .collect();
        assert_eq!(bytes, text.as_bytes());
    }
}

#[test]
fn special_tokens_stand_for_their_text() {
    let blocks = pack_bpe_variant(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    assert_eq!(encode(&model, "<|end|>"), [256]);
    let mut want = naive("the");
    want.push(256);
    want.extend(naive("text"));
    want.extend([256, 256]);
    want.extend(naive("<|"));
    want.extend(naive("en"));
    assert_eq!(encode(&model, "the<|end|>text<|end|><|end|><|en"), want);
}

#[test]
fn a_word_without_end_is_cut_and_costs_no_more() {
    let blocks = pack_bpe_variant(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let text = "\u{e9}".repeat(10 * WORD_BYTES_MAX);
    let ids = encode(&model, &text);
    assert!(
        ids.iter()
            .all(|id| model.tokenizer().piece(*id) == "\u{e9}".as_bytes())
    );
    assert_eq!(ids.len(), 10 * WORD_BYTES_MAX);
}

#[test]
fn errors_say_what_is_missing() {
    let blocks = pack_variant(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let tokenizer = model.tokenizer();
    assert_eq!(tokenizer.name(), "bytes");
    let need = ENCODE_SCRATCH_LEN;
    let have = need - 1;
    let short = tokenizer
        .encode("x", &mut [0; ENCODE_SCRATCH_LEN - 1])
        .map(|_| ());
    assert_eq!(short, Err(TokenizeError::Scratch { need, have }));
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let mut out = [0; 3];
    assert_eq!(tokenizer.encode_into("abc", &mut scratch, &mut out), Ok(3));
    assert_eq!(out, [97, 98, 99]);
    assert_eq!(
        tokenizer.encode_into("abcd", &mut scratch, &mut out),
        Err(TokenizeError::Tokens { have: 3 })
    );
    assert_eq!(tokenizer.piece(300), b"");
}
