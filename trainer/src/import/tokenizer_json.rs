//! Hugging Face's `tokenizer.json` with a WordPiece or a Unigram model.
//!
//! What such a file asks of its tokenizer and the core does not do is refused by its name, never left out.

use crate::import::text_vocabulary::{Model, SPACE_SIGN, TextVocabulary};
use anyhow::{Context, Result, bail, ensure};
use attentive::tokenizer::{BertText, Spaces, Template};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::HashMap;

/// The only length of a word that the core has, and every published WordPiece model.
const WORD_CHARS_MAX: u64 = 100;

impl TextVocabulary {
    /// Hugging Face's `tokenizer.json`.
    ///
    /// # Errors
    /// A model, normalizer, pre-tokenizer or post-processor that the core has not, or a file that contradicts itself.
    pub fn from_tokenizer_json(json: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(json).context("tokenizer.json is no JSON")?;
        let kind = json["model"]["type"].as_str().unwrap_or("without a type");
        let mut vocabulary = match kind {
            "WordPiece" => word_piece(&json).context("a WordPiece model")?,
            "Unigram" => unigram(&json).context("a Unigram model")?,
            other => bail!("the model is {other}; supported are WordPiece and Unigram"),
        };
        vocabulary.add_tokens(&json["added_tokens"])?;
        vocabulary.template = template(&json["post_processor"])?;
        Ok(vocabulary)
    }

    /// Tokens that stand for their literal text.
    fn add_tokens(&mut self, tokens: &Value) -> Result<()> {
        for token in tokens.as_array().into_iter().flatten() {
            let text = text(token, "content")?;
            let context = || format!("added token {text:?}");
            let id = token["id"].as_u64().with_context(context)? as usize;
            for rule in ["lstrip", "rstrip", "single_word"] {
                ensure!(
                    token[rule] != Value::Bool(true),
                    "added token {text:?}: {rule} is not supported"
                );
            }
            ensure!(
                id <= self.pieces.len(),
                "added token {text:?} has number {id}, beyond the vocabulary"
            );
            if id == self.pieces.len() {
                self.pieces.push(Vec::new());
                if let Model::Unigram { scores, .. } = &mut self.model {
                    scores.push(0.0);
                }
            }
            self.pieces[id] = text.as_bytes().to_vec();
            self.specials.push(id as u32);
            if let Model::Unigram { unmatched, .. } = &mut self.model {
                unmatched.push(id as u32);
            }
        }
        Ok(())
    }
}

/// A text of an object.
fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    value[key]
        .as_str()
        .with_context(|| format!("{key} is missing or no text"))
}

fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or("none")
}

/// The steps of a normalizer or pre-tokenizer: several of a `Sequence`, one, or none.
fn steps<'v>(value: &'v Value, list: &str) -> Vec<&'v Value> {
    match kind(value) {
        "none" => Vec::new(),
        "Sequence" => value[list].as_array().into_iter().flatten().collect(),
        _ => vec![value],
    }
}

fn word_piece(json: &Value) -> Result<TextVocabulary> {
    let model = &json["model"];
    let prefix = text(model, "continuing_subword_prefix")?;
    ensure!(
        prefix == "##",
        "continuing_subword_prefix is {prefix:?}; supported is \"##\""
    );
    let chars = model["max_input_chars_per_word"].as_u64();
    ensure!(
        chars == Some(WORD_CHARS_MAX),
        "max_input_chars_per_word is {chars:?}; supported is {WORD_CHARS_MAX}"
    );
    let vocab = model["vocab"].as_object().context("it has no vocab")?;
    let mut pieces = vec![Vec::new(); vocab.len()];
    for (piece, id) in vocab {
        let slot = id.as_u64().and_then(|id| pieces.get_mut(id as usize));
        *slot.with_context(|| format!("token {piece:?} has number {id}"))? =
            piece.as_bytes().to_vec();
    }
    let unknown = text(model, "unk_token")?;
    let unknown = vocab.get(unknown).and_then(Value::as_u64);
    let unknown = unknown.context("unk_token is not in the vocabulary")? as u32;
    let normalizer = &json["normalizer"];
    ensure!(
        kind(normalizer) == "BertNormalizer",
        "the normalizer is {}; supported is BertNormalizer",
        kind(normalizer)
    );
    let pre = kind(&json["pre_tokenizer"]);
    ensure!(
        pre == "BertPreTokenizer",
        "the pre_tokenizer is {pre}; supported is BertPreTokenizer"
    );
    let is = |key: &str, default| normalizer[key].as_bool().unwrap_or(default);
    let lowercase = is("lowercase", true);
    let text = BertText {
        clean: is("clean_text", true),
        cjk_alone: is("handle_chinese_chars", true),
        strip_accents: is("strip_accents", lowercase),
        lowercase,
    };
    Ok(TextVocabulary {
        pieces,
        specials: Vec::new(),
        template: Template::NONE,
        model: Model::WordPiece { text, unknown },
    })
}

fn unigram(json: &Value) -> Result<TextVocabulary> {
    let model = &json["model"];
    let vocab = model["vocab"].as_array().context("it has no vocab")?;
    let (mut pieces, mut scores) = (Vec::new(), Vec::new());
    for (entry, id) in vocab.iter().zip(0usize..) {
        let (Some(piece), Some(score)) = (entry[0].as_str(), entry[1].as_f64()) else {
            bail!("token {id} is {entry}, not a text and a score");
        };
        pieces.push(piece.replace(SPACE_SIGN, " ").into_bytes());
        scores.push(score as f32);
    }
    let unknown = model["unk_id"].as_u64().map(|id| id as u32);
    let mut unmatched: Vec<u32> = unknown.into_iter().collect();
    let byte_ids = match model["byte_fallback"].as_bool() {
        Some(true) => Some(bytes(&mut pieces)?),
        _ => None,
    };
    unmatched.extend(byte_ids.iter().flat_map(|ids| ids.iter()));
    let mut spaces = Spaces {
        dummy_prefix: false,
        collapse: false,
    };
    let mut charsmap = Vec::new();
    for step in steps(&json["normalizer"], "normalizers") {
        match kind(step) {
            "Precompiled" => {
                let decoded = STANDARD.decode(text(step, "precompiled_charsmap")?);
                charsmap = decoded.context("precompiled_charsmap is no base64")?;
            }
            // The ends of the text, and runs of spaces: SentencePiece's remove_extra_whitespaces.
            "Strip" | "Replace" if is_about_spaces(step) => spaces.collapse = true,
            other => bail!("the normalizer has a step {other} ({step}), which is not supported"),
        }
    }
    for step in steps(&json["pre_tokenizer"], "pretokenizers") {
        match kind(step) {
            // It knows more kinds of space than one; so do published tables of replacements.
            "WhitespaceSplit" if !charsmap.is_empty() => spaces.collapse = true,
            "WhitespaceSplit" => {
                bail!("WhitespaceSplit without a normalizer Precompiled is not supported")
            }
            "Metaspace" => {
                let sign = text(step, "replacement")?;
                ensure!(
                    sign.chars().eq([SPACE_SIGN]),
                    "Metaspace replaces a space with {sign:?}"
                );
                let scheme = step["prepend_scheme"].as_str();
                let always = step["add_prefix_space"].as_bool().unwrap_or(true);
                spaces.dummy_prefix = match scheme {
                    Some("always") | None => always,
                    Some("never") => false,
                    Some(other) => bail!(
                        "Metaspace has the prepend_scheme {other:?}; supported are always and never"
                    ),
                };
            }
            other => bail!("the pre_tokenizer has a step {other}, which is not supported"),
        }
    }
    Ok(TextVocabulary {
        pieces,
        specials: Vec::new(),
        template: Template::NONE,
        model: Model::Unigram {
            spaces,
            charsmap,
            scores,
            unmatched,
            byte_ids,
            unknown,
        },
    })
}

/// Whether a step strips spaces, or replaces several by one.
fn is_about_spaces(step: &Value) -> bool {
    let several = step["pattern"]["Regex"] == " {2,}";
    let one = step["content"] == " " || step["content"] == "\u{2581}";
    kind(step) == "Strip" || several && one
}

/// The tokens of bytes, written `<0x41>`; their pieces become the bytes.
fn bytes(pieces: &mut [Vec<u8>]) -> Result<Box<[u32; 256]>> {
    let named: HashMap<&[u8], usize> = pieces.iter().map(Vec::as_slice).zip(0..).collect();
    let mut ids = Box::new([0; 256]);
    for (id, byte) in ids.iter_mut().zip(0..=u8::MAX) {
        let name = format!("<0x{byte:02X}>");
        let found = named.get(name.as_bytes());
        *id = *found.with_context(|| format!("byte_fallback without a token {name}"))? as u32;
    }
    for (id, byte) in ids.iter().zip(0..=u8::MAX) {
        pieces[*id as usize] = vec![byte];
    }
    Ok(ids)
}

/// What is put around texts.
fn template(processor: &Value) -> Result<Template> {
    let pair = |key: &str| {
        let id = processor[key][1].as_u64();
        id.map(|id| id as u32)
            .with_context(|| format!("the post_processor has no {key}"))
    };
    match kind(processor) {
        "none" => Ok(Template::NONE),
        "BertProcessing" => Ok(Template {
            first: Some(pair("cls")?),
            between: Some(pair("sep")?),
            between_twice: false,
            last: Some(pair("sep")?),
            types: true,
        }),
        "RobertaProcessing" => Ok(Template {
            first: Some(pair("cls")?),
            between: Some(pair("sep")?),
            between_twice: true,
            last: Some(pair("sep")?),
            types: false,
        }),
        "TemplateProcessing" => of_template(processor),
        other => bail!("the post_processor is {other}, which is not supported"),
    }
}

/// Tokens before the first text, between the two, after the last; and the type of each, texts included.
#[derive(Default, PartialEq)]
struct Around {
    tokens: [Vec<u32>; 3],
    types: Vec<u64>,
}

fn around(processor: &Value, key: &str) -> Result<Around> {
    let mut around = Around::default();
    let mut place = 0;
    for item in processor[key].as_array().into_iter().flatten() {
        if let Some(sequence) = item["Sequence"].as_object() {
            place = if sequence["id"] == "A" { 1 } else { 2 };
            around.types.push(sequence["type_id"].as_u64().unwrap_or(0));
            continue;
        }
        let token = &item["SpecialToken"];
        let name = text(token, "id")?;
        let ids = processor["special_tokens"][name]["ids"].as_array();
        let [id] = ids.map_or(&[][..], Vec::as_slice) else {
            bail!("the template's token {name:?} is not one token");
        };
        let id = id
            .as_u64()
            .with_context(|| format!("the template's token {name:?}"))?;
        around.tokens[place].push(id as u32);
        around.types.push(token["type_id"].as_u64().unwrap_or(0));
    }
    Ok(around)
}

fn of_template(processor: &Value) -> Result<Template> {
    let unsupported = || format!("the template {processor} is not supported");
    let (single, pair) = (around(processor, "single")?, around(processor, "pair")?);
    let [first, between, last] = &pair.tokens;
    let one = |tokens: &[u32]| match *tokens {
        [] => Some(None),
        [id] => Some(Some(id)),
        _ => None,
    };
    let template = Template {
        first: one(first).with_context(unsupported)?,
        between: between.first().copied(),
        between_twice: between.len() == 2,
        last: one(last).with_context(unsupported)?,
        types: pair.types.iter().any(|id| *id != 0),
    };
    // The second text and what follows it have type 1, or nothing has.
    let second = last.len() + 1;
    let typed = pair.types.iter().rev().zip(0..);
    let types = typed.map(|(id, at)| (*id, u64::from(template.types && at < second)));
    let is_one_of_ours = between.len() <= 2
        && between.windows(2).all(|two| two[0] == two[1])
        && single.tokens == [first.clone(), last.clone(), Vec::new()]
        && single.types.iter().all(|id| *id == 0)
        && types.into_iter().all(|(have, want)| have == want);
    ensure!(is_one_of_ours, unsupported());
    Ok(template)
}
