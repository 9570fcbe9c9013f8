//! WordPiece and unigram models against Hugging Face's `tokenizers` and against SentencePiece.
//!
//! `tests/reference/make_tokens.py` made the vocabularies, and the tokens that the references give, under
//! `tests/data`. The same script makes larger data, with published vocabularies; where they lie is told by
//! ```text
//! ATTENTIVE_TOKENS=DIRECTORY cargo test --release --test tokenizer_reference
//! ```

mod common;

use attentive::kernels::layout::WeightFormat;
use attentive::pack::{TokenizerParts, UnigramParts, WordPieceParts};
use attentive::tokenizer::{BertText, ENCODE_SCRATCH_LEN, Spaces, Template};
use attentive::{Block, Config, Model};
use common::{LLAMA, pack_with};
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tokenizers");

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(text: &str) -> Vec<&str> {
    text.strip_suffix('\n')
        .unwrap_or(text)
        .split('\n')
        .collect()
}

/// A model that has the vocabulary, and weights that nobody asks.
fn pack(vocab_len: usize, parts: TokenizerParts<'_>) -> Vec<Block> {
    let config = Config {
        vocab_len,
        dim: 8,
        layers: 1,
        hidden_dim: 8,
        end_of_text: None,
        ..LLAMA
    };
    pack_with(&config, WeightFormat::F32, parts, |shape| {
        vec![0.0; shape.rows * shape.cols]
    })
}

fn packed(directory: &Path) -> Vec<Block> {
    let model = read(directory.join("model.txt"));
    let is = |line: &str| model.lines().any(|other| other == line);
    if is("kind = unigram") {
        return pack_unigram(directory, is("dummy_prefix = 1"), is("collapse = 1"));
    }
    let vocab = read(directory.join("vocab.txt"));
    let pieces: Vec<&[u8]> = lines(&vocab).iter().map(|line| line.as_bytes()).collect();
    let id = |text: &str| {
        let id = pieces.iter().position(|piece| *piece == text.as_bytes());
        id.expect("a special token") as u32
    };
    let specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(id);
    let parts = WordPieceParts {
        text: match is("kind = cased") {
            true => BertText::CASED,
            false => BertText::UNCASED,
        },
        pieces: &pieces,
        unknown: id("[UNK]"),
        specials: &specials,
        template: Template {
            first: Some(id("[CLS]")),
            between: Some(id("[SEP]")),
            last: Some(id("[SEP]")),
            types: true,
            ..Template::NONE
        },
    };
    pack(pieces.len(), TokenizerParts::WordPiece(parts))
}

fn pack_unigram(directory: &Path, dummy_prefix: bool, collapse: bool) -> Vec<Block> {
    let table = read(directory.join("pieces.tsv"));
    let charsmap = fs::read(directory.join("charsmap.bin")).expect("charsmap.bin");
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let (mut scores, mut unmatched, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let mut unknown = None;
    for (row, id) in lines(&table).iter().zip(0..) {
        let [kind, score, hex] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{row:?}");
        };
        let hex = |at: usize| u8::from_str_radix(&hex[2 * at..][..2], 16).expect("hexadecimal");
        pieces.push(
            (0..row.rsplit('\t').next().map_or(0, str::len) / 2)
                .map(hex)
                .collect(),
        );
        scores.push(score.parse().expect("a score"));
        match kind {
            "normal" => continue,
            "byte" => bytes.push(id),
            "unknown" => unknown = Some(id),
            _ => {}
        }
        unmatched.push(id);
    }
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let parts = UnigramParts {
        spaces: Spaces {
            dummy_prefix,
            collapse,
        },
        charsmap: &charsmap,
        pieces: &pieces,
        scores: &scores,
        unmatched: &unmatched,
        byte_ids: bytes.first_chunk::<256>(),
        unknown,
        specials: &[],
        template: Template::NONE,
    };
    pack(pieces.len(), TokenizerParts::Unigram(parts))
}

/// Every line has the reference's tokens, and they become the text that the reference makes of them.
fn equals_the_reference(root: &Path, name: &str) {
    let directory = root.join(name);
    let file = packed(&directory);
    let model = Model::parse(Block::bytes(&file)).expect("a model");
    model.verify().expect("sound tables");
    let tokenizer = model.tokenizer();
    let (texts, ids) = (
        read(root.join("lines.txt")),
        read(directory.join("ids.txt")),
    );
    let decoded = read(directory.join("decoded.txt"));
    let (texts, ids, decoded) = (lines(&texts), lines(&ids), lines(&decoded));
    assert!(texts.len() == ids.len() && texts.len() == decoded.len() && texts.len() > 300);
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let mut out = vec![0; 1 << 16];
    let begin = Instant::now();
    let mut len = 0;
    for text in &texts {
        len += tokenizer
            .encode_into(text, &mut scratch, &mut out)
            .expect("tokens");
    }
    let seconds = begin.elapsed().as_secs_f64();
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    println!(
        "{name}: {} lines, {len} tokens, {:.1} MB/s on one thread",
        texts.len(),
        bytes as f64 / seconds / 1e6
    );
    let mut wrong = Vec::new();
    for ((text, ids), decoded) in texts.iter().zip(&ids).zip(&decoded) {
        let want: Vec<u32> = ids
            .split_whitespace()
            .map(|id| id.parse().expect("a token"))
            .collect();
        let len = tokenizer
            .encode_into(text, &mut scratch, &mut out)
            .expect("tokens");
        let have = &out[..len];
        let parts: Vec<u8> = tokenizer.decode(&want).flatten().copied().collect();
        let parts = String::from_utf8_lossy(&parts).replace('\n', " ");
        if have != want || parts != *decoded {
            let show = |ids: &[u32]| -> Vec<String> {
                let piece = |id: &u32| String::from_utf8_lossy(tokenizer.piece(*id)).into_owned();
                ids.iter().map(piece).collect()
            };
            wrong.push(format!(
                "{text:?}\n  have {:?}\n  want {:?}\n  have text {parts:?}\n  want text {decoded:?}",
                show(have),
                show(&want)
            ));
        }
    }
    let shown = &wrong[..wrong.len().min(10)];
    assert!(
        wrong.is_empty(),
        "{name}: {} lines differ:\n{}",
        wrong.len(),
        shown.join("\n")
    );
}

#[test]
fn word_piece_without_case_equals_tokenizers() {
    equals_the_reference(Path::new(SMALL), "wordpiece-uncased");
}

#[test]
fn word_piece_with_case_equals_tokenizers() {
    equals_the_reference(Path::new(SMALL), "wordpiece-cased");
}

#[test]
fn unigram_equals_sentencepiece() {
    equals_the_reference(Path::new(SMALL), "unigram");
}

#[test]
fn unigram_with_bytes_equals_sentencepiece() {
    equals_the_reference(Path::new(SMALL), "unigram-bytes");
}

#[test]
fn large_data_equal_the_references() {
    let Some(root) = env::var_os("ATTENTIVE_TOKENS") else {
        println!(
            "skipped: ATTENTIVE_TOKENS does not name the data of tests/reference/make_tokens.py"
        );
        return;
    };
    let root = Path::new(&root);
    let mut count = 0;
    for entry in fs::read_dir(root).expect("the directory that ATTENTIVE_TOKENS names") {
        let entry = entry.expect("an entry");
        if entry.path().is_dir() {
            equals_the_reference(root, &entry.file_name().to_string_lossy());
            count += 1;
        }
    }
    assert!(count > 0, "{} holds no vocabulary", root.display());
}
