//! Translation models of Marian (Junczys-Dowmunt et al. 2018), as transformers' `MarianMTModel` keeps them: a directory of
//! `config.json`, `model.safetensors`, `vocab.json`, `source.spm` and `target.spm`.
//!
//! The vocabulary is one for both languages; a text to translate is cut by the source's SentencePiece model, and what only
//! the target's has is written but never read. The exception are single characters, which transformers looks up even where
//! the source's model does not know them. (Of several in a row it looks up the whole, and finds nothing; here each has its
//! token. Of 10,167 lines cut by models that were trained on verses, so that digits are unknown, that are 4 % of the lines;
//! all others have the tokens of transformers.)

use crate::import::bart::{self, Sides};
use crate::import::packed;
use crate::import::safetensors::{ConfigJson, Files, Tensors, Weights, read_json};
use crate::import::sentencepiece::SentencePiece;
use crate::import::text_vocabulary::{Model, SPACE_SIGN, TextVocabulary};
use crate::package::Formats;
use crate::params::shapes;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::tokenizer::Template;
use attentive::{
    Architecture, Attention, Biases, Block, Config, Input, Norm, NormPlace, Position, Role, Source,
    TensorShape,
};
use half::f16;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Its name.
pub(super) const ARCHITECTURE: &str = "marian";

/// SentencePiece's, below the unlikeliest piece.
const UNKNOWN_PENALTY: f32 = 10.0;

/// The record inside the file.
#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    command: &'a str,
    architecture: &'a str,
    /// Of the source, which the vocabulary has not: a text is cut around them.
    pieces_left_out: usize,
}

/// Turns the directory into a weights file. `source` is its name and `command` what was typed, for the record.
///
/// # Errors
/// What the directory holds that the core cannot run, or that is missing, by its name.
pub fn import(dir: &Path, source: &str, command: &str, formats: Formats) -> Result<Vec<Block>> {
    let json = ConfigJson(read_json(&dir.join("config.json"))?);
    let files = Files::open(dir)?;
    let weights = files.tensors()?;
    let config = config(&json)?;
    let end = config.end_of_text.unwrap_or_default();
    let (vocabulary, pieces_left_out) = vocabulary(dir, &config, end)?;
    let never = never(dir, &json)?;
    let tensors = shapes(&config).map(|shape| values(&weights, &config, &shape, &never));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let provenance = toml::to_string(&Record {
        name: source,
        command,
        architecture: ARCHITECTURE,
        pieces_left_out,
    })
    .context("writing the record")?;
    vocabulary.with_parts(|tokenizer| packed(&config, tokenizer, &provenance, formats, &tensors))
}

fn config(json: &ConfigJson) -> Result<Config> {
    json.only("normalize_before", &[false.into()])?;
    json.only("normalize_embedding", &[false.into()])?;
    json.only("add_final_layer_norm", &[false.into()])?;
    json.only("static_position_embeddings", &[true.into()])?;
    json.only("share_encoder_decoder_embeddings", &[true.into()])?;
    let sides = Sides::read(json)?;
    let positions = json.number("max_position_embeddings")?;
    let token = |key: &str| Ok::<_, anyhow::Error>(Some(json.number(key)? as u32));
    let config = Config {
        architecture: Architecture::EncoderDecoder(Source {
            layers: sides.source_layers,
            len: positions,
            position: Position::Learned,
            input: Input::Tokens,
        }),
        vocab_len: sides.vocab_len,
        dim: sides.dim,
        layers: sides.layers,
        heads: sides.heads,
        kv_heads: sides.heads,
        head_dim: sides.dim / sides.heads,
        hidden_dim: sides.hidden_dim,
        context_len: positions,
        norm: Norm::Layer,
        norm_place: NormPlace::Post,
        // PyTorch's own; no file says it.
        norm_eps: 1e-5,
        final_norm: false,
        ffn: sides.ffn,
        position: Position::Learned,
        attention: Attention::PLAIN,
        tied: true,
        biases: Biases {
            output: true,
            ..Biases::ALL_BUT_OUTPUT
        },
        embedding_scale: match json.0["scale_embedding"] == Value::Bool(true) {
            true => (sides.dim as f64).sqrt() as f32,
            false => 1.0,
        },
        begin_of_text: token("decoder_start_token_id")?,
        end_of_text: token("eos_token_id")?,
    };
    config
        .check()
        .map_err(|error| anyhow!("config.json: {error}"))?;
    Ok(config)
}

/// The vocabulary, and how many of the source's pieces it has not.
fn vocabulary(dir: &Path, config: &Config, end: u32) -> Result<(TextVocabulary, usize)> {
    ensure!(
        !dir.join("target_vocab.json").exists(),
        "there is a target_vocab.json: supported is one vocabulary for both languages"
    );
    let json = read_json(&dir.join("vocab.json"))?;
    let tokens = json
        .as_object()
        .context("vocab.json is no object of tokens")?;
    let cutting = SentencePiece::open(&dir.join("source.spm"))?;
    // Only its pieces are needed, which vocab.json has too; but without it there is nothing to say how it writes spaces.
    let writing = SentencePiece::open(&dir.join("target.spm"))?;
    ensure!(
        writing.spaces.dummy_prefix == cutting.spaces.dummy_prefix,
        "source.spm and target.spm differ in add_dummy_prefix, which is not supported"
    );
    let mut pieces = vec![Vec::new(); config.vocab_len];
    let mut ids = HashMap::new();
    let mut specials = Vec::new();
    for (token, id) in tokens {
        let slot = id.as_u64().and_then(|id| pieces.get_mut(id as usize));
        let slot = slot.with_context(|| {
            let len = config.vocab_len;
            format!("vocab.json gives {token:?} the number {id}; config.json has vocab_size {len}")
        })?;
        let id = id.as_u64().unwrap_or_default() as u32;
        let text = token.replace(SPACE_SIGN, " ");
        *slot = text.as_bytes().to_vec();
        ids.insert(text, id);
        let is_language = token.starts_with(">>") && token.ends_with("<<");
        if is_language || ["<unk>", "<pad>"].contains(&token.as_str()) || id == end {
            specials.push(id);
        }
    }
    let unknown = ids.get("<unk>").context("vocab.json has no <unk>")?;
    let mut scores = vec![0.0; pieces.len()];
    let mut is_matched = vec![false; pieces.len()];
    let mut left_out = 0;
    for (piece, score) in &cutting.pieces {
        match ids.get(piece) {
            Some(id) => {
                scores[*id as usize] = *score;
                is_matched[*id as usize] = true;
            }
            None => left_out += 1,
        }
    }
    // A character that the source's model does not know is looked up like any piece, and the target's may have it.
    let least = cutting.pieces.iter().map(|(_, score)| *score);
    let unknown_score = least.fold(0.0, f32::min) - UNKNOWN_PENALTY;
    for (text, id) in &ids {
        let id = *id as usize;
        if text.chars().count() == 1 && !is_matched[id] {
            scores[id] = unknown_score;
            is_matched[id] = true;
        }
    }
    specials
        .iter()
        .for_each(|id| is_matched[*id as usize] = false);
    let unmatched = is_matched.iter().zip(0..).filter(|(is, _)| !**is);
    let vocabulary = TextVocabulary {
        specials,
        template: Template {
            last: Some(end),
            ..Template::NONE
        },
        model: Model::Unigram {
            spaces: cutting.spaces,
            charsmap: cutting.charsmap,
            scores,
            unmatched: unmatched.map(|(_, id)| id).collect(),
            byte_ids: None,
            unknown: Some(*unknown),
        },
        pieces,
    };
    Ok((vocabulary, left_out))
}

/// Tokens that are never written: `bad_words_ids`, of `generation_config.json` or, in older directories, `config.json`.
fn never(dir: &Path, json: &ConfigJson) -> Result<Vec<usize>> {
    let path = dir.join("generation_config.json");
    let generation = match path.exists() {
        true => read_json(&path)?,
        false => Value::Null,
    };
    let lists = [&generation["bad_words_ids"], &json.0["bad_words_ids"]];
    let list = lists.into_iter().find_map(Value::as_array);
    let one = |words: &Value| {
        let words = words.as_array().map_or(&[][..], Vec::as_slice);
        match words {
            [id] => id.as_u64().map(|id| id as usize),
            _ => None,
        }
    };
    list.into_iter()
        .flatten()
        .map(|words| {
            one(words)
                .with_context(|| format!("bad_words_ids has {words}; supported are single tokens"))
        })
        .collect()
}

fn values(
    weights: &Weights<'_>,
    config: &Config,
    shape: &TensorShape,
    never: &[usize],
) -> Result<Vec<f32>> {
    match shape.role {
        Role::PositionEmbedding | Role::SourcePositionEmbedding => {
            Ok(positions(shape.rows, shape.cols))
        }
        Role::OutputBias => {
            let mut biases = weights.floats("final_logits_bias", &[1, config.vocab_len])?;
            for id in never {
                let bias = biases.get_mut(*id);
                // The least that every format of a vector has: after it, nothing is less likely.
                *bias.with_context(|| format!("bad_words_ids has {id}, which is no token"))? =
                    f16::MIN.to_f32();
            }
            Ok(biases)
        }
        _ => bart::values(weights, config, shape, true),
    }
}

/// Sines in the first half of a row, cosines in the second.
fn positions(rows: usize, cols: usize) -> Vec<f32> {
    let half = cols.div_ceil(2);
    let angle =
        |row: usize, pair: usize| row as f64 / 10_000f64.powf(2.0 * pair as f64 / cols as f64);
    let value = move |row, col: usize| match col.checked_sub(half) {
        None => angle(row, col).sin(),
        Some(pair) => angle(row, pair).cos(),
    };
    let row = |row| (0..cols).map(move |col| value(row, col) as f32);
    (0..rows).flat_map(row).collect()
}
