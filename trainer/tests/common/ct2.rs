//! A tiny Whisper with made-up numbers, as CTranslate2 writes it.

use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const DIM: u32 = 16;
pub(crate) const HIDDEN: u32 = 24;
pub(crate) const BINS: u32 = 80;
pub(crate) const VOCAB: u32 = 270;
/// With the tokens of times behind the last that steers.
pub(crate) const VOCAB_TIMED: u32 = 264 + 1501;
pub(crate) const CONTEXT: u32 = 12;

/// A tensor of a file: name, shape, code of its type, bytes.
pub(crate) type Tensor = (String, Vec<u32>, u8, Vec<u8>);

/// As many floats as a shape has, near 0, no two tensors alike.
pub(crate) fn floats(name: &str, shape: &[u32]) -> Vec<f32> {
    let mut x = name.bytes().fold(7u32, |x, byte| {
        x.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    let middle = if name.ends_with("gamma") { 1.0 } else { 0.0 };
    let len: u32 = shape.iter().product();
    let next = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Exact in half precision.
        middle + ((x >> 23) as f32 - 256.0) / 1024.0
    };
    (0..len).map(next).collect()
}

pub(crate) fn float(name: &str, shape: &[u32]) -> Tensor {
    let bytes = floats(name, shape).into_iter();
    let bytes = bytes.flat_map(|x| half::f16::from_f32(x).to_le_bytes());
    (name.to_owned(), shape.to_vec(), 4, bytes.collect())
}

fn integer(name: &str, value: i8) -> Tensor {
    (name.to_owned(), Vec::new(), 1, vec![value as u8])
}

/// The tensors of a model of two layers that read and one that writes.
pub(crate) fn tensors(vocab_len: u32) -> Vec<Tensor> {
    let mut all = vec![
        integer("decoder/activation", 3),
        integer("decoder/alibi", 0),
        integer("decoder/pre_norm", 1),
        integer("decoder/scale_embeddings", 0),
        ("decoder/num_heads".to_owned(), Vec::new(), 2, vec![2, 0]),
        ("encoder/num_heads".to_owned(), Vec::new(), 2, vec![2, 0]),
        float("decoder/embeddings/weight", &[vocab_len, DIM]),
        float("decoder/position_encodings/encodings", &[CONTEXT, DIM]),
        float("encoder/position_encodings/encodings", &[1500, DIM]),
        float("encoder/conv1/weight", &[DIM, BINS, 3]),
        float("encoder/conv1/bias", &[DIM]),
        float("encoder/conv2/weight", &[DIM, DIM, 3]),
        float("encoder/conv2/bias", &[DIM]),
    ];
    let norm = |all: &mut Vec<Tensor>, place: &str| {
        all.push(float(&format!("{place}/layer_norm/gamma"), &[DIM]));
        all.push(float(&format!("{place}/layer_norm/beta"), &[DIM]));
    };
    let linear = |all: &mut Vec<Tensor>, place: &str, rows: u32, cols: u32| {
        all.push(float(&format!("{place}/weight"), &[rows, cols]));
        all.push(float(&format!("{place}/bias"), &[rows]));
    };
    for place in ["encoder/layer_0", "encoder/layer_1", "decoder/layer_0"] {
        norm(&mut all, &format!("{place}/self_attention"));
        linear(
            &mut all,
            &format!("{place}/self_attention/linear_0"),
            3 * DIM,
            DIM,
        );
        linear(
            &mut all,
            &format!("{place}/self_attention/linear_1"),
            DIM,
            DIM,
        );
        norm(&mut all, &format!("{place}/ffn"));
        linear(&mut all, &format!("{place}/ffn/linear_0"), HIDDEN, DIM);
        linear(&mut all, &format!("{place}/ffn/linear_1"), DIM, HIDDEN);
    }
    norm(&mut all, "decoder/layer_0/attention");
    linear(&mut all, "decoder/layer_0/attention/linear_0", DIM, DIM);
    linear(&mut all, "decoder/layer_0/attention/linear_1", 2 * DIM, DIM);
    linear(&mut all, "decoder/layer_0/attention/linear_2", DIM, DIM);
    norm(&mut all, "encoder");
    norm(&mut all, "decoder");
    all
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16 + 1).to_le_bytes());
    out.extend(text.bytes().chain([0]));
}

/// A file of CTranslate2, version 6.
pub(crate) fn file(spec: &str, tensors: &[Tensor], alias: (&str, &str)) -> Vec<u8> {
    let mut out = 6u32.to_le_bytes().to_vec();
    text(&mut out, spec);
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u32).to_le_bytes());
    for (name, shape, code, bytes) in tensors {
        text(&mut out, name);
        out.push(shape.len() as u8);
        out.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
        out.push(*code);
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
    }
    out.extend(1u32.to_le_bytes());
    text(&mut out, alias.0);
    text(&mut out, alias.1);
    out
}

pub(crate) const ALIAS: (&str, &str) = ("decoder/projection/weight", "decoder/embeddings/weight");

const SPECIALS: [&str; 8] = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|es|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|nospeech|>",
    "<|notimestamps|>",
];

/// A directory with the tiny model.
pub(crate) fn directory(name: &str) -> PathBuf {
    directory_of(name, VOCAB)
}

pub(crate) fn directory_of(name: &str, vocab_len: u32) -> PathBuf {
    let directory = super::directory(name);
    let mut vocab = serde_json::Map::new();
    for byte in 0..=255u8 {
        // GPT-2's alphabet: printable characters are themselves, the others follow from 256 on.
        let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let before = (0..byte).filter(|other| !printable(*other)).count() as u32;
        let character = match printable(byte) {
            true => char::from(byte),
            false => char::from_u32(256 + before).expect("a character"),
        };
        vocab.insert(character.to_string(), json!(byte));
    }
    let added = SPECIALS.iter().zip(256u32..);
    let added: Vec<_> = added
        .map(|(text, id)| json!({ "content": text, "id": id }))
        .collect();
    let tokenizer = json!({
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "use_regex": true },
        "normalizer": null, "added_tokens": added,
    });
    let config = json!({ "lang_ids": [258, 259], "suppress_ids": [-1, 65], "suppress_ids_begin": [32, 256] });
    fs::write(directory.join("tokenizer.json"), tokenizer.to_string()).expect("written");
    fs::write(directory.join("config.json"), config.to_string()).expect("written");
    fs::write(
        directory.join("model.bin"),
        file("WhisperSpec", &tensors(vocab_len), ALIAS),
    )
    .expect("written");
    directory
}

pub(crate) fn attentive(directory: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_attentive"))
        .current_dir(directory)
        .args(args)
        .output()
        .expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Status 2, and stderr holds every word.
#[track_caller]
pub(crate) fn refused(directory: &Path, args: &[&str], words: &[&str]) {
    let (status, _, text) = attentive(directory, args);
    assert_eq!(status, Some(2), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?}: no {word:?} in {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}
