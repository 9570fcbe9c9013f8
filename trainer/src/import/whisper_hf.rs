//! Whisper, from a directory in Hugging Face's layout: `config.json`, `generation_config.json`, `model.safetensors` and
//! `tokenizer.json`.

use crate::import::packed;
use crate::import::safetensors::{ConfigJson, Files, Tensors, Weights, read_json};
use crate::import::vocabulary::Vocabulary;
use crate::import::whisper::{Dims, Record, framewise};
use crate::package::Formats;
use crate::params::{name, shapes};
use crate::speech::Speech;
use anyhow::{Context, Result, bail, ensure};
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
    json.only("tie_word_embeddings", &[true.into()])?;
    let dim = json.number("d_model")?;
    let heads = json.number("decoder_attention_heads")?;
    let source_heads = json.number("encoder_attention_heads")?;
    ensure!(
        heads == source_heads && heads > 0 && dim.is_multiple_of(heads),
        "config.json has {heads} heads of the decoder and {source_heads} of the encoder, at a width of {dim}; supported is \
         the same number, of which the width is a multiple"
    );
    let hidden_dim = json.number("decoder_ffn_dim")?;
    let source_hidden = json.number("encoder_ffn_dim")?;
    ensure!(
        hidden_dim == source_hidden,
        "config.json has decoder_ffn_dim {hidden_dim} and encoder_ffn_dim {source_hidden}; supported is the same"
    );
    let dims = Dims {
        vocab_len: json.number("vocab_size")?,
        dim,
        layers: json.number("decoder_layers")?,
        source_layers: json.number("encoder_layers")?,
        source_len: json.number("max_source_positions")?,
        bins: json.number("num_mel_bins")?,
        heads,
        hidden_dim,
        context_len: json.number("max_target_positions")?,
        ffn: json.activation("activation_function")?,
    };
    dims.config(speech).context("config.json")
}

fn values(weights: &Weights<'_>, config: &Config, shape: &TensorShape) -> Result<Vec<f32>> {
    // Without a head the rest has no prefix.
    let prefix = match weights.has("model.decoder.embed_tokens.weight") {
        true => "model.",
        false => "",
    };
    let place = match shape.layer {
        Some(layer) if layer >= config.layers => {
            format!("{prefix}encoder.layers.{}.", layer - config.layers)
        }
        Some(layer) => format!("{prefix}decoder.layers.{layer}."),
        None => prefix.to_owned(),
    };
    let several = |block: &str, parts: &[&str], end: &str| -> Vec<String> {
        parts
            .iter()
            .map(|part| format!("{block}.{part}_proj.{end}"))
            .collect()
    };
    let one = |part: &str| vec![part.to_owned()];
    let parts = match shape.role {
        Role::TokenEmbedding => one("decoder.embed_tokens.weight"),
        Role::PositionEmbedding => one("decoder.embed_positions.weight"),
        Role::SourcePositionEmbedding => one("encoder.embed_positions.weight"),
        Role::Conv1Weight => one("encoder.conv1.weight"),
        Role::Conv1Bias => one("encoder.conv1.bias"),
        Role::Conv2Weight => one("encoder.conv2.weight"),
        Role::Conv2Bias => one("encoder.conv2.bias"),
        Role::AttnNormGain => one("self_attn_layer_norm.weight"),
        Role::AttnNormBias => one("self_attn_layer_norm.bias"),
        Role::QkvWeight => several("self_attn", &["q", "k", "v"], "weight"),
        Role::QkvBias => several("self_attn", &["q", "k", "v"], "bias"),
        Role::OutWeight => one("self_attn.out_proj.weight"),
        Role::OutBias => one("self_attn.out_proj.bias"),
        Role::CrossNormGain => one("encoder_attn_layer_norm.weight"),
        Role::CrossNormBias => one("encoder_attn_layer_norm.bias"),
        Role::CrossQWeight => several("encoder_attn", &["q"], "weight"),
        Role::CrossQBias => several("encoder_attn", &["q"], "bias"),
        Role::CrossKvWeight => several("encoder_attn", &["k", "v"], "weight"),
        Role::CrossKvBias => several("encoder_attn", &["k", "v"], "bias"),
        Role::CrossOutWeight => one("encoder_attn.out_proj.weight"),
        Role::CrossOutBias => one("encoder_attn.out_proj.bias"),
        Role::FfnNormGain => one("final_layer_norm.weight"),
        Role::FfnNormBias => one("final_layer_norm.bias"),
        Role::UpWeight => one("fc1.weight"),
        Role::UpBias => one("fc1.bias"),
        Role::DownWeight => one("fc2.weight"),
        Role::DownBias => one("fc2.bias"),
        Role::FinalNormGain => one("decoder.layer_norm.weight"),
        Role::FinalNormBias => one("decoder.layer_norm.bias"),
        Role::SourceNormGain => one("encoder.layer_norm.weight"),
        Role::SourceNormBias => one("encoder.layer_norm.bias"),
        _ => bail!("whisper has no {}", name(shape)),
    };
    if matches!(shape.role, Role::Conv1Weight | Role::Conv2Weight) {
        let expected = [shape.rows, shape.cols / 3, 3];
        let kernels = weights.floats(&format!("{place}{}", parts[0]), &expected)?;
        return Ok(framewise(&kernels, shape.cols));
    }
    let mut out = Vec::with_capacity(shape.rows * shape.cols);
    for part in &parts {
        let expected = match shape.kind {
            TensorKind::Matrix => vec![shape.rows / parts.len(), shape.cols],
            TensorKind::Vector => vec![shape.cols / parts.len()],
        };
        // Keys have no bias.
        match part.ends_with("k_proj.bias") {
            true => out.extend(std::iter::repeat_n(0.0, expected[0])),
            false => out.append(&mut weights.floats(&format!("{place}{part}"), &expected)?),
        }
    }
    Ok(out)
}
