//! The tokenizer of a GGUF file, or a `tokenizer.json`: byte-level BPE in the printable alphabet of GPT-2.

use crate::import::gguf::{Gguf, Value};
use anyhow::{Context, Result, bail, ensure};
use attentive::pack::{TokenizerParts, alphabet_byte};
use attentive::tokenizer::Split;
use std::collections::HashMap;

/// Tables in the form of a weights file.
pub struct Vocabulary {
    split: Split,
    pieces: Vec<Vec<u8>>,
    merges: Vec<(u32, u32, u32)>,
    specials: Vec<u32>,
}

/// GGUF's names of pre-tokenizers (`tokenizer.ggml.pre`) whose words the core can cut.
const SPLITS: [(&str, Split); 8] = [
    ("gpt-2", Split::Gpt2),
    ("mpt", Split::Gpt2),
    ("olmo", Split::Gpt2),
    ("jais", Split::Gpt2),
    ("smollm", Split::Gpt2Digits),
    ("starcoder", Split::Gpt2Digits),
    ("refact", Split::Gpt2Digits),
    ("command-r", Split::Gpt2Digits),
];

/// Of `tokenizer.ggml.token_type`: control tokens, and tokens that a user added.
const SPECIAL_TYPES: [usize; 2] = [3, 4];
/// A token that no text gives.
const UNUSED_TYPE: usize = 5;

impl Vocabulary {
    /// Reads the tables of the metadata.
    ///
    /// # Errors
    /// A kind of tokenizer that the core has not, or tables that contradict each other.
    pub fn read(gguf: &Gguf<'_>) -> Result<Self> {
        let model = gguf.text("tokenizer.ggml.model")?;
        ensure!(
            model == Some("gpt2"),
            "tokenizer.ggml.model is {}; supported is \"gpt2\", byte-level BPE",
            model.map_or("missing".to_owned(), |model| format!("{model:?}"))
        );
        let pre = gguf.text("tokenizer.ggml.pre")?;
        let split = SPLITS.iter().find(|(name, _)| Some(*name) == pre);
        let (_, split) = split.with_context(|| {
            let names: Vec<_> = SPLITS.iter().map(|(name, _)| *name).collect();
            format!(
                "tokenizer.ggml.pre is {}; supported are {}",
                pre.map_or("missing".to_owned(), |pre| format!("{pre:?}")),
                names.join(", ")
            )
        })?;
        let tokens = texts(gguf, "tokenizer.ggml.tokens")?;
        let types = types(gguf, tokens.len())?;
        let mut pieces = Vec::with_capacity(tokens.len());
        let mut specials = Vec::new();
        for ((token, kind), id) in tokens.iter().zip(types).zip(0u32..) {
            if SPECIAL_TYPES.contains(&kind) {
                specials.push(id);
            }
            pieces.push(if SPECIAL_TYPES.contains(&kind) || kind == UNUSED_TYPE {
                token.as_bytes().to_vec()
            } else {
                bytes(token).with_context(|| format!("token {id}"))?
            });
        }
        let ids: HashMap<&str, u32> = tokens.iter().copied().zip(0..).collect();
        let mut merges = Vec::new();
        for (merge, rank) in texts(gguf, "tokenizer.ggml.merges")?.iter().zip(0usize..) {
            let (left, right) = merge
                .split_once(' ')
                .with_context(|| format!("merge {rank}, {merge:?}, is not two tokens"))?;
            let id = |token: &str| {
                let id = ids.get(token).copied();
                id.with_context(|| format!("merge {rank} names {token:?}, which is no token"))
            };
            merges.push((id(left)?, id(right)?, id(&format!("{left}{right}"))?));
        }
        Ok(Self {
            split: *split,
            pieces,
            merges,
            specials,
        })
    }

    /// Reads a `tokenizer.json` of byte-level BPE that cuts words as GPT-2 does.
    ///
    /// # Errors
    /// Another kind of tokenizer, or tables that contradict each other.
    pub fn from_tokenizer_json(json: &serde_json::Value) -> Result<Self> {
        let model = &json["model"];
        let kind = model["type"].as_str().unwrap_or("none");
        ensure!(
            kind == "BPE",
            "the model's type is {kind:?}; supported is \"BPE\""
        );
        let cuts = &json["pre_tokenizer"];
        let is_bytes = |cuts: &serde_json::Value| {
            cuts["type"] == "ByteLevel"
                && cuts["use_regex"] != false
                && cuts["add_prefix_space"] != true
        };
        let split = match cuts["pretokenizers"].as_array().map(Vec::as_slice) {
            None if is_bytes(cuts) => Some(Split::Gpt2),
            Some([one]) if is_bytes(one) => Some(Split::Gpt2),
            Some([digits, bytes])
                if digits["type"] == "Digits"
                    && digits["individual_digits"] == true
                    && is_bytes(bytes) =>
            {
                Some(Split::Gpt2Digits)
            }
            _ => None,
        };
        let split = split.filter(|_| json["normalizer"].is_null());
        let split = split.with_context(|| {
            format!(
                "the pre-tokenizer is {cuts}, the normalizer {}; supported is ByteLevel by its expression, alone or \
                 behind Digits one by one",
                json["normalizer"]
            )
        })?;
        let vocab = model["vocab"]
            .as_object()
            .context("the model has no vocab")?;
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut put = |id: &serde_json::Value, piece: Vec<u8>| {
            let id = id
                .as_u64()
                .filter(|id| *id < attentive::Config::VOCAB_MAX as u64);
            let id = id.context("a token's id is no number, or too large")? as usize;
            if id >= pieces.len() {
                pieces.resize(id + 1, Vec::new());
            }
            pieces[id] = piece;
            Ok::<_, anyhow::Error>(id as u32)
        };
        let mut ids = HashMap::new();
        for (token, id) in vocab {
            let special = token.starts_with("<|") && token.ends_with("|>");
            let piece = if special {
                token.as_bytes().to_vec()
            } else {
                bytes(token)?
            };
            ids.insert(token.as_str(), put(id, piece)?);
        }
        let mut specials = Vec::new();
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let content = added["content"]
                .as_str()
                .context("an added token has no content")?;
            specials.push(put(&added["id"], content.as_bytes().to_vec())?);
        }
        specials.sort_unstable();
        let mut merges = Vec::new();
        for (rank, merge) in model["merges"].as_array().into_iter().flatten().enumerate() {
            let pair = match (merge.as_str(), merge.as_array().map(Vec::as_slice)) {
                (Some(text), _) => text.split_once(' '),
                (_, Some([left, right])) => left.as_str().zip(right.as_str()),
                _ => None,
            };
            let (left, right) =
                pair.with_context(|| format!("merge {rank}, {merge}, is not two tokens"))?;
            let id = |token: &str| {
                let id = ids.get(token).copied();
                id.with_context(|| format!("merge {rank} names {token:?}, which is no token"))
            };
            merges.push((id(left)?, id(right)?, id(&format!("{left}{right}"))?));
        }
        Ok(Self {
            split,
            pieces,
            merges,
            specials,
        })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The text of a token, if it is one and UTF-8.
    pub fn text(&self, id: Option<u32>) -> Option<&str> {
        let piece = self.pieces.get(id? as usize)?;
        std::str::from_utf8(piece).ok()
    }

    /// Calls `with` with the tables in the form that a weights file holds.
    pub fn with_parts<R>(&self, with: impl FnOnce(TokenizerParts<'_>) -> R) -> R {
        let pieces: Vec<&[u8]> = self.pieces.iter().map(Vec::as_slice).collect();
        with(TokenizerParts::Bpe {
            split: self.split,
            pieces: &pieces,
            merges: &self.merges,
            specials: &self.specials,
        })
    }
}

/// A list of texts.
fn texts<'a>(gguf: &Gguf<'a>, key: &str) -> Result<Vec<&'a str>> {
    let list = gguf.list(key)?;
    let list = list.with_context(|| format!("the metadata have no {key}"))?;
    let mut out = Vec::with_capacity(list.len());
    for value in list {
        match value {
            Value::Text(text) => out.push(*text),
            other => bail!("{key} should hold texts, not {other:?}"),
        }
    }
    Ok(out)
}

/// The type of each token; without a list all are ordinary.
fn types(gguf: &Gguf<'_>, len: usize) -> Result<Vec<usize>> {
    let key = "tokenizer.ggml.token_type";
    let Some(list) = gguf.list(key)? else {
        return Ok(vec![1; len]);
    };
    ensure!(
        list.len() == len,
        "{key} has {} entries, for {len} tokens",
        list.len()
    );
    let kind = |value: &Value<'_>| match value {
        Value::Signed(kind @ 1..=6) => Ok(*kind as usize),
        Value::Unsigned(kind @ 1..=6) => Ok(*kind as usize),
        other => bail!("{key} should hold 1 to 6, not {other:?}"),
    };
    list.iter().map(kind).collect()
}

/// From the printable alphabet to bytes.
fn bytes(token: &str) -> Result<Vec<u8>> {
    let byte = |c| {
        alphabet_byte(c).with_context(|| format!("{token:?} is not in the byte-level alphabet"))
    };
    token.chars().map(byte).collect()
}
