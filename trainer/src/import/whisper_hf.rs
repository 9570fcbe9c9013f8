//! Whisper, from a directory in Hugging Face's layout: `config.json`, `generation_config.json`, `model.safetensors` and
//! `tokenizer.json`.

use crate::import::bart::{self, Sides};
use crate::import::packed;
use crate::import::safetensors::{ConfigJson, Files, Tensors, Weights, read_json};
use crate::import::vocabulary::Vocabulary;
use crate::import::whisper::{Dims, Record, framewise};
use crate::package::Formats;
use crate::params::shapes;
use crate::speech::Speech;
use anyhow::{Context, Result, ensure};
use attentive::{Block, Config, Role, TensorKind, TensorShape};
use serde_json::{Value, json};
use std::path::Path;

/// Its name.
pub(super) const ARCHITECTURE: &str = "whisper";

/// Turns the directory into a weights file. `source` is its name and `command` what was typed, for the record.
///
/// # Errors
/// What the directory holds that the core cannot run, or that is missing, by its name.
pub fn import(dir: &Path, source: &str, command: &str, formats: Formats) -> Result<Vec<Block>> {
    let json = ConfigJson(read_json(&dir.join("config.json"))?);
    let files = Files::open(dir)?;
    let weights = files.tensors()?;
    let vocabulary = read_json(&dir.join("tokenizer.json"))?;
    let vocabulary = Vocabulary::from_tokenizer_json(&vocabulary).context("tokenizer.json")?;
    let steering = steering(&read_json(&dir.join("generation_config.json"))?)?;
    let speech = Speech::new(&vocabulary, &steering)?;
    let config = config(&json, &speech)?;
    ensure!(
        vocabulary.len() <= config.vocab_len,
        "the tokenizer has {} tokens; config.json has vocab_size {}",
        vocabulary.len(),
        config.vocab_len
    );
    let tensors = shapes(&config).map(|shape| values(&weights, &config, &shape));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let record = Record {
        name: source,
        command,
        architecture: ARCHITECTURE,
        speech,
    };
    let provenance = toml::to_string(&record).context("writing the record")?;
    vocabulary.with_parts(|tokenizer| packed(&config, tokenizer, &provenance, formats, &tensors))
}

/// What [`Speech`] reads, by the names that it reads.
fn steering(json: &Value) -> Result<Value> {
    let languages = json["lang_to_id"].as_object();
    let languages = languages.context(
        "generation_config.json has no lang_to_id: supported are models of several languages",
    )?;
    let ids: Vec<&Value> = languages.values().collect();
    Ok(json!({
        "lang_ids": ids,
        "suppress_ids": json["suppress_tokens"],
        "suppress_ids_begin": json["begin_suppress_tokens"],
    }))
}

fn config(json: &ConfigJson, speech: &Speech) -> Result<Config> {
    json.only("scale_embedding", &[false.into()])?;
    let sides = Sides::read(json)?;
    let dims = Dims {
        vocab_len: sides.vocab_len,
        dim: sides.dim,
        layers: sides.layers,
        source_layers: sides.source_layers,
        source_len: json.number("max_source_positions")?,
        bins: json.number("num_mel_bins")?,
        heads: sides.heads,
        hidden_dim: sides.hidden_dim,
        context_len: json.number("max_target_positions")?,
        ffn: sides.ffn,
    };
    dims.config(speech).context("config.json")
}

fn values(weights: &Weights<'_>, config: &Config, shape: &TensorShape) -> Result<Vec<f32>> {
    let convolution = match shape.role {
        Role::Conv1Weight => "conv1.weight",
        Role::Conv1Bias => "conv1.bias",
        Role::Conv2Weight => "conv2.weight",
        Role::Conv2Bias => "conv2.bias",
        _ => return bart::values(weights, config, shape, false),
    };
    let name = format!("{}encoder.{convolution}", bart::prefix(weights));
    match shape.kind {
        TensorKind::Vector => weights.floats(&name, &[shape.cols]),
        TensorKind::Matrix => {
            let kernels = weights.floats(&name, &[shape.rows, shape.cols / 3, 3])?;
            Ok(framewise(&kernels, shape.cols))
        }
    }
}
