//! Tokenizers: byte-level BPE, trained by Hugging Face's `tokenizers` and written so that the core encodes the same way;
//! or that of a weights file, as it is.

use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::Model;
use attentive::pack::{TokenizerParts, alphabet_byte};
use attentive::tokenizer::{Split, Template, Tokenizer as CoreTokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, models::TrainerWrapper};

/// The token between documents; the model ends a text with it.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A vocabulary, and how a text becomes tokens of it.
#[derive(Clone)]
pub struct Vocabulary {
    pieces: Vec<Vec<u8>>,
    end_of_text: Option<u32>,
    coder: Coder,
}

#[derive(Clone)]
enum Coder {
    Bpe {
        tokenizer: Box<Tokenizer>,
        merges: Vec<(u32, u32, u32)>,
    },
    /// Of a weights file.
    Section(Vec<u8>),
}

/// A tokenizer of a weights file, as JSON.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Section {
    /// In hexadecimal digits.
    section: String,
    end_of_text: Option<u32>,
}

impl Vocabulary {
    /// Learns `vocab_len` tokens: the 256 bytes, merges in the order found, and [`END_OF_TEXT`] as the last.
    ///
    /// # Errors
    /// When the vocabulary is smaller than that or `tokenizers` fails.
    pub fn train(texts: &[&str], vocab_len: usize) -> Result<Self> {
        ensure!(
            vocab_len > 256,
            "a byte-level vocabulary needs more than 256 tokens, vocab_len is {vocab_len}"
        );
        let alphabet = ByteLevel::alphabet().into_iter().collect();
        let trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocab_len - 1)
            .min_frequency(2)
            .initial_alphabet(alphabet)
            .build();
        let mut tokenizer = Tokenizer::new(BPE::default());
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        let mut trainer = TrainerWrapper::from(trainer);
        tokenizer
            .train(&mut trainer, texts.iter())
            .map_err(|error| anyhow!("training the tokenizer: {error}"))?;
        let json = tokenizer
            .to_string(false)
            .map_err(|error| anyhow!("reading the tokenizer: {error}"))?;
        Self::from_json(&renumbered(&json)?)
    }

    /// Reads what [`Vocabulary::to_json`] wrote.
    ///
    /// # Errors
    /// When it is not a tokenizer of this kind.
    pub fn from_json(json: &str) -> Result<Self> {
        if let Ok(Section {
            section,
            end_of_text,
        }) = serde_json::from_str(json)
        {
            let digits = section.as_bytes().chunks(2);
            let byte = |digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
            let section: Option<Vec<u8>> = digits.map(byte).collect();
            let section = section.context("a tokenizer's section should be hexadecimal digits")?;
            return Self::of_section(section, end_of_text);
        }
        let mut tokenizer: Tokenizer = json
            .parse()
            .map_err(|error| anyhow!("not a tokenizer: {error}"))?;
        tokenizer.add_special_tokens(&[AddedToken::from(END_OF_TEXT, true)]);
        let value: Value = serde_json::from_str(json)?;
        let table = Table::read(&value)?;
        let mut pieces = Vec::new();
        for token in &table.tokens {
            pieces.push(bytes(token)?);
        }
        let end_of_text = pieces.len() as u32;
        pieces.push(END_OF_TEXT.as_bytes().to_vec());
        ensure!(
            tokenizer.token_to_id(END_OF_TEXT) == Some(end_of_text),
            "{END_OF_TEXT} should be the last token"
        );
        Ok(Self {
            pieces,
            end_of_text: Some(end_of_text),
            coder: Coder::Bpe {
                tokenizer: Box::new(tokenizer),
                merges: table.merge_ids()?,
            },
        })
    }

    /// The tokenizer of a weights file.
    ///
    /// # Errors
    /// When it has none.
    pub fn of_model(model: &Model<'_>) -> Result<Self> {
        let section = model.tokenizer_section().to_vec();
        Self::of_section(section, model.config().end_of_text)
    }

    fn of_section(section: Vec<u8>, end_of_text: Option<u32>) -> Result<Self> {
        let most = attentive::Config::VOCAB_MAX;
        let tokenizer = CoreTokenizer::parse(&section, most);
        let tokenizer = tokenizer.map_err(|error| anyhow!("the tokenizer: {error}"))?;
        tokenizer
            .check()
            .map_err(|error| anyhow!("the tokenizer: {error}"))?;
        let pieces: Vec<_> = (0..tokenizer.vocab_len() as u32)
            .map(|id| tokenizer.piece(id).to_vec())
            .collect();
        ensure!(!pieces.is_empty(), "the file has no tokenizer");
        Ok(Self {
            pieces,
            end_of_text,
            coder: Coder::Section(section),
        })
    }

    /// In the format of Hugging Face's `tokenizer.json`; of a weights file's tokenizer, its section.
    ///
    /// # Errors
    /// When `tokenizers` cannot write it.
    pub fn to_json(&self) -> Result<String> {
        match &self.coder {
            Coder::Bpe { tokenizer, .. } => tokenizer
                .to_string(true)
                .map_err(|error| anyhow!("writing the tokenizer: {error}")),
            Coder::Section(section) => {
                let digits = section.iter().map(|byte| format!("{byte:02x}"));
                Ok(serde_json::to_string(&Section {
                    section: digits.collect(),
                    end_of_text: self.end_of_text,
                })?)
            }
        }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Never; for completeness.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The token between documents, which the tokenizers that are trained here have all.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The same, for a model that writes.
    ///
    /// # Errors
    /// When there is none.
    pub fn need_end_of_text(&self) -> Result<u32> {
        self.end_of_text
            .context("the tokenizer has no token that ends a text, which a model that writes needs")
    }

    /// The bytes of each token.
    pub fn pieces(&self) -> &[Vec<u8>] {
        &self.pieces
    }

    /// The core's tokenizer.
    ///
    /// # Errors
    /// When it is not that of a weights file.
    pub fn of_core(&self) -> Result<CoreTokenizer<'_>> {
        let Coder::Section(section) = &self.coder else {
            bail!("this needs the tokenizer of a weights file: give the task a [start]");
        };
        CoreTokenizer::parse(section, self.len()).map_err(|error| anyhow!("{error}"))
    }

    /// What stands around a text; nothing with the tokenizers that are trained here.
    ///
    /// # Errors
    /// When the tokenizer cannot be read.
    pub fn template(&self) -> Result<Template> {
        match self.coder {
            Coder::Bpe { .. } => Ok(Template::NONE),
            Coder::Section(_) => Ok(*self.of_core()?.template()),
        }
    }

    /// Tokens of a text, by `tokenizers` or by the core.
    ///
    /// # Errors
    /// When they fail.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.coder {
            Coder::Bpe { tokenizer, .. } => {
                let encoding = tokenizer
                    .encode(text, false)
                    .map_err(|error| anyhow!("encoding: {error}"))?;
                Ok(encoding.get_ids().to_vec())
            }
            Coder::Section(_) => crate::eval::encode(&self.of_core()?, text),
        }
    }

    /// Calls `with` with the tables in the form that a weights file holds.
    pub fn with_parts<R>(&self, with: impl FnOnce(TokenizerParts<'_>) -> R) -> R {
        match &self.coder {
            Coder::Bpe { merges, .. } => {
                let pieces: Vec<&[u8]> = self.pieces.iter().map(Vec::as_slice).collect();
                with(TokenizerParts::Bpe {
                    split: Split::Gpt2,
                    pieces: &pieces,
                    merges,
                    specials: self.end_of_text.as_slice(),
                })
            }
            Coder::Section(section) => with(TokenizerParts::Section(section)),
        }
    }
}

/// The model part of a `tokenizer.json`.
struct Table {
    /// Texts in the printable alphabet, by token.
    tokens: Vec<String>,
    merges: Vec<(String, String)>,
}

impl Table {
    fn read(json: &Value) -> Result<Self> {
        let model = json.get("model").context("a tokenizer has a model")?;
        let vocab = model.get("vocab").and_then(Value::as_object);
        let vocab = vocab.context("a BPE model has a vocab")?;
        let mut tokens = vec![String::new(); vocab.len()];
        for (token, id) in vocab {
            let slot = id.as_u64().and_then(|id| tokens.get_mut(id as usize));
            *slot.context("tokens are numbered from 0 without gaps")? = token.clone();
        }
        let merges = model.get("merges").and_then(Value::as_array);
        let mut pairs = Vec::new();
        for merge in merges.context("a BPE model has merges")? {
            let pair = match merge {
                Value::String(pair) => pair.split_once(' '),
                Value::Array(pair) => match pair.as_slice() {
                    [left, right] => left.as_str().zip(right.as_str()),
                    _ => None,
                },
                _ => None,
            };
            let (left, right) = pair.context("a merge is a pair of tokens")?;
            pairs.push((left.to_owned(), right.to_owned()));
        }
        Ok(Self {
            tokens,
            merges: pairs,
        })
    }

    fn merge_ids(&self) -> Result<Vec<(u32, u32, u32)>> {
        let ids: HashMap<&str, u32> = self.tokens.iter().map(String::as_str).zip(0..).collect();
        let id = |token: &str| {
            let id = ids.get(token).copied();
            id.with_context(|| format!("a merge names the token {token:?}, which is not there"))
        };
        let ids = |(left, right): &(String, String)| {
            Ok((id(left)?, id(right)?, id(&format!("{left}{right}"))?))
        };
        self.merges.iter().map(ids).collect()
    }
}

/// Numbers the tokens as the core wants them: bytes by value, then each merge's token in the order of rank.
///
/// A pair that makes a token which an earlier pair made already is dropped, since the rank of a merge is the number of
/// its token; `tokenizers` reads the result too, so that both encode alike.
fn renumbered(json: &str) -> Result<String> {
    let mut json: Value = serde_json::from_str(json)?;
    let model = Table::read(&json)?;
    let mut tokens: Vec<String> = model
        .tokens
        .iter()
        .filter(|token| token.chars().count() == 1)
        .cloned()
        .collect();
    tokens.sort_by_key(|token| token.chars().next().and_then(alphabet_byte));
    ensure!(tokens.len() == 256, "every byte should be a token");
    let mut merges = Vec::new();
    for (left, right) in &model.merges {
        let made = format!("{left}{right}");
        if !tokens.contains(&made) {
            tokens.push(made);
            merges.push(json!([left, right]));
        }
    }
    let vocab: serde_json::Map<String, Value> = tokens
        .into_iter()
        .zip(0u32..)
        .map(|(token, id)| (token, json!(id)))
        .collect();
    let Some(part) = json.get_mut("model") else {
        bail!("a tokenizer has a model");
    };
    part["vocab"] = Value::Object(vocab);
    part["merges"] = Value::Array(merges);
    Ok(json.to_string())
}

/// From the printable alphabet to bytes.
fn bytes(token: &str) -> Result<Vec<u8>> {
    let byte = |c| alphabet_byte(c).with_context(|| format!("{token:?} is not of the alphabet"));
    token.chars().map(byte).collect()
}
