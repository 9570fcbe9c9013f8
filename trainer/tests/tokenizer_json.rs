//! `tokenizer.json` and `vocab.txt` in the core against Hugging Face's `tokenizers`: tokens of lines, and of pairs with
//! what is put around them.
//!
//! A published file is compared as well, where its path is in `ATTENTIVE_TOKENIZER_JSON`.

use attentive::kernels::layout::WeightFormat;
use attentive::pack::{PackError, Recipe, ScaleMethod, TokenizerParts};
use attentive::tokenizer::{BertText, ENCODE_SCRATCH_LEN};
use attentive::{
    Architecture, Attention, Biases, Block, Config, Ffn, Model, Norm, NormPlace, Position,
};
use attentive_trainer::import::text_vocabulary::TextVocabulary;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::{fs, path::Path};
use tokenizers::Tokenizer;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tokenizers");
/// So many of the lines are sentences; in the others, which are made to be hard, `tokenizers` replaces the first
/// match of a grapheme where SentencePiece replaces the longest of a text.
const SENTENCES: usize = 235;

fn read(name: &str) -> String {
    let path = Path::new(DATA).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn pack(vocabulary: &TextVocabulary) -> Vec<Block> {
    let config = Config {
        architecture: Architecture::Decoder,
        vocab_len: vocabulary.len(),
        dim: 8,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 8,
        hidden_dim: 8,
        context_len: 8,
        norm: Norm::Rms,
        norm_place: NormPlace::Pre,
        norm_eps: 1e-5,
        final_norm: true,
        ffn: Ffn::Relu,
        position: Position::None,
        attention: Attention::PLAIN,
        tied: true,
        biases: Biases::NONE,
        embedding_scale: 1.0,
        begin_of_text: None,
        end_of_text: None,
    };
    vocabulary.with_parts(|tokenizer: TokenizerParts<'_>| {
        let recipe = Recipe {
            config: &config,
            tokenizer,
            provenance: "",
            format: &|_| WeightFormat::F32,
        };
        let len = recipe.file_bytes().expect("sizes");
        let mut blocks = vec![Block::ZERO; Block::len_for(len)];
        recipe
            .write::<PackError>(Block::bytes_mut(&mut blocks), |mut tensor| {
                let zeros = vec![0.0; tensor.shape.rows * tensor.shape.cols];
                tensor.write(&zeros, ScaleMethod::AbsMax)
            })
            .expect("a file");
        blocks
    })
}

fn equal_tokens(json: &str, lines: &[&str]) {
    let vocabulary = TextVocabulary::from_tokenizer_json(json).expect("a vocabulary");
    let file = pack(&vocabulary);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    model.verify().expect("sound tables");
    let mut reference: Tokenizer = json.parse().expect("a tokenizer");
    reference
        .with_padding(None)
        .with_truncation(None)
        .expect("no truncation");
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let mut out = vec![0; 1 << 16];
    for (line, second) in lines.iter().zip(lines.iter().rev()) {
        let one = model
            .tokenizer()
            .encode_wrapped(line, None, &mut scratch, &mut out);
        let len = one.expect("tokens").len;
        let want = reference.encode(*line, true).expect("tokens");
        assert_eq!(&out[..len], want.get_ids(), "{line:?}");
        let two = model
            .tokenizer()
            .encode_wrapped(line, Some(second), &mut scratch, &mut out);
        let two = two.expect("tokens");
        let want = reference.encode((*line, *second), true).expect("tokens");
        assert_eq!(&out[..two.len], want.get_ids(), "{line:?}, {second:?}");
        if model.tokenizer().template().types {
            let types = (0..two.len).map(|at| u32::from(at >= two.second_at));
            assert!(
                types.eq(want.get_type_ids().iter().copied()),
                "{line:?}, {second:?}"
            );
        }
    }
}

fn bert_json() -> Value {
    let vocab = read("wordpiece-uncased/vocab.txt");
    let vocab: Vec<&str> = vocab.lines().collect();
    let ids = vocab
        .iter()
        .zip(0..)
        .map(|(piece, id)| ((*piece).to_owned(), Value::from(id)));
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let added = specials.iter().zip(0..).map(|(content, id)| {
        json!({"id": id, "content": content, "special": true, "normalized": false,
            "lstrip": false, "rstrip": false, "single_word": false})
    });
    let token = |name: &str, kind: u32| json!({"SpecialToken": {"id": name, "type_id": kind}});
    let sequence = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let special = |name: &str, id: u32| json!({"id": name, "ids": [id], "tokens": [name]});
    json!({
        "version": "1.0",
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [token("[CLS]", 0), sequence("A", 0), token("[SEP]", 0)],
            "pair": [token("[CLS]", 0), sequence("A", 0), token("[SEP]", 0), sequence("B", 1), token("[SEP]", 1)],
            "special_tokens": {"[CLS]": special("[CLS]", 2), "[SEP]": special("[SEP]", 3)}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": ids.collect::<serde_json::Map<_, _>>()},
    })
}

/// As T5's: `</s>` at the end.
fn unigram_json() -> Value {
    let charsmap = fs::read(Path::new(DATA).join("unigram/charsmap.bin")).expect("charsmap.bin");
    let table = read("unigram/pieces.tsv");
    let vocab = table.lines().map(|row| {
        let fields: Vec<&str> = row.split('\t').collect();
        let byte = |at: usize| u8::from_str_radix(&fields[2][at..at + 2], 16).expect("a byte");
        let bytes = (0..fields[2].len()).step_by(2).map(byte).collect();
        let text = String::from_utf8(bytes)
            .expect("UTF-8")
            .replace(' ', "\u{2581}");
        json!([text, fields[1].parse::<f64>().expect("a score")])
    });
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 2, "content": "</s>", "special": true, "normalized": false,
            "lstrip": false, "rstrip": false, "single_word": false}],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": STANDARD.encode(&charsmap)},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}},
        "decoder": null,
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": vocab.collect::<Vec<_>>()},
    })
}

#[test]
fn word_piece_is_read_and_encodes_the_same() {
    let lines = read("lines.txt");
    let lines: Vec<&str> = lines.split('\n').collect();
    equal_tokens(&bert_json().to_string(), &lines);
}

#[test]
fn unigram_is_read_and_encodes_the_same() {
    let lines = read("lines.txt");
    let lines: Vec<&str> = lines.split('\n').take(SENTENCES).collect();
    equal_tokens(&unigram_json().to_string(), &lines);
}

#[test]
fn vocab_txt_is_the_same_vocabulary() {
    let vocab = read("wordpiece-uncased/vocab.txt");
    let text = TextVocabulary::from_vocab_txt(&vocab, BertText::UNCASED).expect("a vocabulary");
    let json = TextVocabulary::from_tokenizer_json(&bert_json().to_string()).expect("one");
    assert!(Block::bytes(&pack(&text)) == Block::bytes(&pack(&json)));
    let without = vocab.replace("[SEP]\n", "");
    let error = TextVocabulary::from_vocab_txt(&without, BertText::UNCASED).expect_err("an error");
    assert!(error.to_string().contains("[SEP]"), "{error:#}");
}

/// Each change makes the file one that the core would encode otherwise; the error names it.
#[test]
fn what_is_not_supported_is_named() {
    let changes: [(&str, Value, &str); 8] = [
        ("/model/type", json!("WordLevel"), "WordLevel"),
        ("/model/continuing_subword_prefix", json!("@@"), "@@"),
        ("/model/max_input_chars_per_word", json!(50), "50"),
        ("/normalizer", json!({"type": "NFKC"}), "NFKC"),
        (
            "/pre_tokenizer",
            json!({"type": "Whitespace"}),
            "Whitespace",
        ),
        ("/added_tokens/4/lstrip", json!(true), "[MASK]"),
        (
            "/post_processor/pair/3/Sequence/type_id",
            json!(0),
            "template",
        ),
        ("/post_processor", json!({"type": "ByteLevel"}), "ByteLevel"),
    ];
    for (place, value, name) in changes {
        let mut json = bert_json();
        *json.pointer_mut(place).expect("a place") = value;
        let error = TextVocabulary::from_tokenizer_json(&json.to_string()).expect_err(place);
        assert!(format!("{error:#}").contains(name), "{place}: {error:#}");
    }
    let mut json = unigram_json();
    json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "Lowercase"}]});
    let error = TextVocabulary::from_tokenizer_json(&json.to_string()).expect_err("an error");
    assert!(format!("{error:#}").contains("Lowercase"), "{error:#}");
    json["normalizer"] = Value::Null;
    let error = TextVocabulary::from_tokenizer_json(&json.to_string()).expect_err("an error");
    assert!(
        format!("{error:#}").contains("WhitespaceSplit"),
        "{error:#}"
    );
}

#[test]
fn a_published_file_encodes_the_same() {
    let Some(path) = std::env::var_os("ATTENTIVE_TOKENIZER_JSON") else {
        println!("skipped: ATTENTIVE_TOKENIZER_JSON does not name a tokenizer.json");
        return;
    };
    let json = fs::read_to_string(path).expect("the file that ATTENTIVE_TOKENIZER_JSON names");
    let lines = read("lines.txt");
    let lines: Vec<&str> = lines.split('\n').take(SENTENCES).collect();
    equal_tokens(&json, &lines);
}
