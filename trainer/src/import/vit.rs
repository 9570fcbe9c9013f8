//! Hugging Face's architecture `vit`: a directory of `config.json`, `model.safetensors` and, for what is done to pictures
//! first, `preprocessor_config.json`.

use crate::import::bert::{labels, labels_len};
use crate::import::packed;
use crate::import::safetensors::{ConfigJson, Files, Tensors, Weights, read_json};
use crate::package::Formats;
use crate::params::{name, shapes};
use crate::provenance::{Levels, Picture};
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::pack::TokenizerParts;
use attentive::{
    Architecture, Attention, Biases, Block, Config, Norm, NormPlace, Output, Pooling, Position,
    Reading, Role, TensorKind, TensorShape,
};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// Its name.
pub(super) const ARCHITECTURE: &str = "vit";

/// The record inside the file.
#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    command: &'a str,
    architecture: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    picture: Picture,
}

/// Turns the directory into a weights file. `source` is its name and `command` what was typed, for the record.
///
/// # Errors
/// What the directory holds that the core cannot run, or that is missing, by its name.
pub fn import(dir: &Path, source: &str, command: &str, formats: Formats) -> Result<Vec<Block>> {
    let json = ConfigJson(read_json(&dir.join("config.json"))?);
    let files = Files::open(dir)?;
    let weights = files.tensors()?;
    let picture = picture(&json, dir)?;
    let config = config(&json, &picture, &weights)?;
    let values = |shape| values(&weights, &picture, &shape);
    let tensors = shapes(&config).map(values).collect::<Result<Vec<_>>>()?;
    let provenance = toml::to_string(&Record {
        name: source,
        command,
        architecture: ARCHITECTURE,
        labels: match config.reading().map(|reading| reading.output) {
            Some(Output::Classes(count)) => labels(&json.0, count)?,
            _ => Vec::new(),
        },
        picture,
    })
    .context("writing the record")?;
    packed(
        &config,
        TokenizerParts::None,
        &provenance,
        formats,
        &tensors,
    )
}

/// How pictures are cut: without `preprocessor_config.json` as the first models of this kind, by ½.
fn picture(json: &ConfigJson, dir: &Path) -> Result<Picture> {
    let path = dir.join("preprocessor_config.json");
    let about = match path.exists() {
        true => read_json(&path)?,
        false => Value::Null,
    };
    let channels = json.number("num_channels")?;
    ensure!(
        channels == 1 || channels == 3,
        "config.json has num_channels {channels}; supported are 1 and 3"
    );
    let levels = |key: &str| -> Result<Levels> {
        if about[key].is_null() || about["do_normalize"] == Value::Bool(false) {
            let neutral = if key == "image_mean" { 0.0 } else { 1.0 };
            return Ok(Levels::All(match about["do_normalize"] {
                Value::Bool(false) => neutral,
                _ => 0.5,
            }));
        }
        let list: Option<Vec<f32>> = about[key].as_array().map(|list| {
            list.iter()
                .filter_map(Value::as_f64)
                .map(|x| x as f32)
                .collect()
        });
        match list.as_deref() {
            Some([one]) => Ok(Levels::All(*one)),
            Some([red, green, blue]) if channels == 3 => Ok(Levels::Each([*red, *green, *blue])),
            _ => bail!("preprocessor_config.json has {key} {}", about[key]),
        }
    };
    let size = json.number("image_size")?;
    Ok(Picture {
        height: size,
        width: size,
        channels,
        patch: json.number("patch_size")?,
        mean: levels("image_mean")?,
        deviation: levels("image_std")?,
    })
}

fn config(json: &ConfigJson, picture: &Picture, weights: &Weights<'_>) -> Result<Config> {
    let (dim, heads) = (
        json.number("hidden_size")?,
        json.number("num_attention_heads")?,
    );
    ensure!(
        heads > 0 && dim.is_multiple_of(heads),
        "hidden_size {dim} is no multiple of num_attention_heads {heads}"
    );
    let spec = picture.spec();
    let classes = weights
        .has("classifier.weight")
        .then(|| labels_len(&json.0));
    let config = Config {
        architecture: Architecture::Encoder(Reading {
            types: 0,
            embedding_norm: false,
            pooling: Pooling::First,
            pooler: false,
            output: match classes {
                Some(classes) => Output::Classes(classes),
                None => Output::Embedding { unit: false },
            },
            patch: spec.patch_len(),
        }),
        vocab_len: 1,
        dim,
        layers: json.number("num_hidden_layers")?,
        heads,
        kv_heads: heads,
        head_dim: dim / heads,
        hidden_dim: json.number("intermediate_size")?,
        context_len: spec.patches() + 1,
        norm: Norm::Layer,
        norm_place: NormPlace::Pre,
        norm_eps: json.float("layer_norm_eps")?,
        final_norm: true,
        ffn: json.activation("hidden_act")?,
        position: Position::Learned,
        attention: Attention::PLAIN,
        tied: true,
        biases: Biases {
            qkv: json.0["qkv_bias"] != Value::Bool(false),
            ..Biases::ALL_BUT_OUTPUT
        },
        embedding_scale: 1.0,
        begin_of_text: None,
        end_of_text: None,
    };
    config
        .check()
        .map_err(|error| anyhow!("config.json: {error}"))?;
    Ok(config)
}

fn values(weights: &Weights<'_>, picture: &Picture, shape: &TensorShape) -> Result<Vec<f32>> {
    // Models with a head have the rest under this name.
    let prefix = match weights.has("vit.embeddings.cls_token") {
        true => "vit.",
        false => "",
    };
    let layer = shape.layer.map(|layer| format!("encoder.layer.{layer}."));
    let place = format!("{prefix}{}", layer.unwrap_or_default());
    let attention = |end: &str| {
        ["query", "key", "value"].map(|part| format!("attention.attention.{part}.{end}"))
    };
    let parts = match shape.role {
        Role::TokenEmbedding => {
            let part = format!("{place}embeddings.cls_token");
            return weights.floats(&part, &[1, 1, shape.cols]);
        }
        Role::PositionEmbedding => {
            let part = format!("{place}embeddings.position_embeddings");
            return weights.floats(&part, &[1, shape.rows, shape.cols]);
        }
        Role::PatchWeight => {
            // A kernel's elements lie in the order of a patch's.
            let part = format!("{place}embeddings.patch_embeddings.projection.weight");
            let side = picture.patch;
            return weights.floats(&part, &[shape.rows, picture.channels, side, side]);
        }
        Role::HeadWeight => {
            return weights.floats("classifier.weight", &[shape.rows, shape.cols]);
        }
        Role::HeadBias => return weights.floats("classifier.bias", &[shape.cols]),
        Role::QkvWeight => attention("weight").to_vec(),
        Role::QkvBias => attention("bias").to_vec(),
        Role::PatchBias => vec!["embeddings.patch_embeddings.projection.bias".into()],
        Role::AttnNormGain => vec!["layernorm_before.weight".into()],
        Role::AttnNormBias => vec!["layernorm_before.bias".into()],
        Role::OutWeight => vec!["attention.output.dense.weight".into()],
        Role::OutBias => vec!["attention.output.dense.bias".into()],
        Role::FfnNormGain => vec!["layernorm_after.weight".into()],
        Role::FfnNormBias => vec!["layernorm_after.bias".into()],
        Role::UpWeight => vec!["intermediate.dense.weight".into()],
        Role::UpBias => vec!["intermediate.dense.bias".into()],
        Role::DownWeight => vec!["output.dense.weight".into()],
        Role::DownBias => vec!["output.dense.bias".into()],
        Role::FinalNormGain => vec!["layernorm.weight".into()],
        Role::FinalNormBias => vec!["layernorm.bias".into()],
        _ => bail!("vit has no {}", name(shape)),
    };
    let mut out = Vec::with_capacity(shape.rows * shape.cols);
    for part in &parts {
        let expected = match shape.kind {
            TensorKind::Matrix => vec![shape.rows / parts.len(), shape.cols],
            TensorKind::Vector => vec![shape.cols / parts.len()],
        };
        out.append(&mut weights.floats(&format!("{place}{part}"), &expected)?);
    }
    Ok(out)
}
