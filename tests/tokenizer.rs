//! The tokenizer against a naive one, and its words against what GPT-2's expression is known to give.

mod common;

use attentive::kernels::layout::WeightFormat;
use attentive::tokenizer::{ENCODE_SCRATCH_LEN, Split, WORD_BYTES_MAX};
use attentive::{Block, Model, TokenizeError};
use common::{LLAMA, Random, pack_bpe, pack_bpe_variant, pack_variant, ranked_bpe, small_bpe};

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

/// The same where each number is a word and ends what goes before it.
const WORDS_SINGLE_DIGITS: [(&str, &[&str]); 8] = [
    ("12the34", &["1", "2", "the", "3", "4"]),
    (" 12,  the!", &[" ", "1", "2", ",", " ", " the", "!"]),
    ("a  7 b", &["a", "  ", "7", " b"]),
    ("a \n\t7", &["a", " \n\t", "7"]),
    (
        "it's 5's \u{663}\u{2167}x\u{bd}",
        &[
            "it", "'s", " ", "5", "'s", " ", "\u{663}", "\u{2167}", "x", "\u{bd}",
        ],
    ),
    ("the  text   ", &["the", " ", " text", "   "]),
    // A vowel sign is a mark, not a letter, and neither is a letter in a circle.
    (
        "\u{915}\u{93f}\u{24d0}z",
        &["\u{915}", "\u{93f}\u{24d0}", "z"],
    ),
    (
        "\u{1f130}\u{1bc9e}!\u{1d400}",
        &["\u{1f130}\u{1bc9e}!", "\u{1d400}"],
    ),
];

#[test]
fn words_are_cut_at_each_number() {
    for (text, words) in WORDS_SINGLE_DIGITS {
        let mut rest = text;
        for word in words {
            assert_eq!(Split::Gpt2Digits.word_bytes(rest), word.len(), "{rest:?}");
            rest = &rest[word.len()..];
        }
        assert_eq!(rest, "");
    }
    assert_eq!(Split::Gpt2Digits.word_bytes(""), 0);
}

/// Ranks that are no tokens: the file has a table for them, and the merges go on in the order of rank.
#[test]
fn ranks_apart_from_tokens_make_the_same_pieces() {
    let plain = pack_bpe_variant(&LLAMA, WeightFormat::F32, 1);
    let ranked = pack_bpe(&LLAMA, WeightFormat::F32, 1, Split::Gpt2, ranked_bpe());
    let [plain, ranked] = [&plain, &ranked].map(|file| {
        let model = Model::parse(Block::bytes(file)).expect("a model");
        model.verify().expect("sound");
        model
    });
    let mut random = Random(5);
    for _ in 0..300 {
        let word: String = (0..random.below(40))
            .map(|_| *b"tthexx 1".get(random.below(8)).unwrap_or(&b't') as char)
            .collect();
        let (a, b) = (encode(&plain, &word), encode(&ranked, &word));
        assert_eq!(a.len(), b.len(), "{word}");
        for (a, b) in a.iter().zip(&b) {
            let piece = plain.tokenizer().piece(*a);
            assert_eq!(piece, ranked.tokenizer().piece(*b), "{word}");
            // Numbered backwards from 257 to 266.
            assert_eq!(if *a > 256 { 523 - a } else { *a }, *b, "{word}");
        }
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
fn plain_text_holds_no_special_token() {
    let blocks = pack_bpe_variant(&LLAMA, WeightFormat::F32, 1);
    let model = Model::parse(Block::bytes(&blocks)).expect("a model");
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let tokens = model.tokenizer().encode_plain("the<|end|>x", &mut scratch);
    let tokens: Result<Vec<u32>, _> = tokens.expect("a tokenizer").collect();
    let words = ["the", "<|", "end", "|>", "x"];
    let want: Vec<u32> = words.iter().flat_map(|word| naive(word)).collect();
    assert_eq!(tokens.expect("every byte has a token"), want);
    assert!(model.tokenizer().is_special(256) && !model.tokenizer().is_special(255));
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
