//! Hugging Face's architectures `llama`, `mistral` and `gpt2`: directories of `config.json`, `model.safetensors` and a
//! `tokenizer.json` of byte-level BPE.

use crate::import::packed;
use crate::import::safetensors::{ConfigJson, Files, Tensors, Weights, read_json, transposed};
use crate::import::vocabulary::Vocabulary;
use crate::package::Formats;
use crate::params::{name, shapes};
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::{
    Architecture, Attention, Biases, Block, Config, Ffn, Norm, NormPlace, Position, Role,
    RotaryStyle, TensorKind, TensorShape, Window,
};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// Their names.
pub(super) const ARCHITECTURES: [&str; 3] = ["llama", "mistral", "gpt2"];

/// The record inside the file.
#[derive(Serialize)]
struct Record<'a> {
    name: &'a str,
    command: &'a str,
    architecture: &'a str,
}

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
    let is_gpt2 = json.model_type() == "gpt2";
    let config = match is_gpt2 {
        true => gpt2(&json)?,
        false => llama(&json)?,
    };
    ensure!(
        vocabulary.len() <= config.vocab_len,
        "the tokenizer has {} tokens; config.json has vocab_size {}",
        vocabulary.len(),
        config.vocab_len
    );
    let values = |shape: TensorShape| match is_gpt2 {
        true => gpt2_values(&weights, &shape),
        false => llama_values(&weights, &config, &shape),
    };
    let tensors = shapes(&config).map(values).collect::<Result<Vec<_>>>()?;
    let provenance = toml::to_string(&Record {
        name: source,
        command,
        architecture: json.model_type(),
    })
    .context("writing the record")?;
    vocabulary.with_parts(|tokenizer| packed(&config, tokenizer, &provenance, formats, &tensors))
}

/// The token that ends a text; of several the first.
fn token(json: &ConfigJson, key: &str, vocab_len: usize) -> Result<Option<u32>> {
    let value = match &json.0[key] {
        Value::Array(several) => several.first().cloned().unwrap_or_default(),
        value => value.clone(),
    };
    match value {
        Value::Null => Ok(None),
        value => {
            let id = value.as_u64().filter(|id| *id < vocab_len as u64);
            let id =
                id.with_context(|| format!("config.json has {key} {value}, which is no token"));
            Ok(Some(id? as u32))
        }
    }
}

fn llama(json: &ConfigJson) -> Result<Config> {
    json.only("hidden_act", &["silu".into()])?;
    // A table of frequencies; a plain type says nothing more than the base.
    let plain = [Value::Null, "default".into()];
    for key in ["rope_scaling", "rope_parameters"] {
        let value = &json.0[key];
        let kind = match &value["rope_type"] {
            Value::Null => &value["type"],
            kind => kind,
        };
        ensure!(
            plain.contains(kind),
            "config.json has {key} {value}; supported are frequencies by their base alone"
        );
    }
    json.only("partial_rotary_factor", &[1.0.into(), 1.into()])?;
    let base = [
        &json.0["rope_theta"],
        &json.0["rope_parameters"]["rope_theta"],
    ];
    let base = base.into_iter().find_map(Value::as_f64).unwrap_or(10_000.0);
    let (dim, heads) = (
        json.number("hidden_size")?,
        json.number("num_attention_heads")?,
    );
    ensure!(heads > 0, "config.json has num_attention_heads 0");
    let vocab_len = json.number("vocab_size")?;
    let is_true = |key: &str| json.0[key] == Value::Bool(true);
    let window = json.optional("sliding_window")?.map(|len| Window {
        len,
        keep: 0,
        full_every: 0,
    });
    let (attention_bias, mlp_bias) = (is_true("attention_bias"), is_true("mlp_bias"));
    let config = Config {
        architecture: Architecture::Decoder,
        vocab_len,
        dim,
        layers: json.number("num_hidden_layers")?,
        heads,
        kv_heads: json.optional("num_key_value_heads")?.unwrap_or(heads),
        head_dim: json.optional("head_dim")?.unwrap_or(dim / heads),
        hidden_dim: json.number("intermediate_size")?,
        context_len: json.number("max_position_embeddings")?,
        norm: Norm::Rms,
        norm_place: NormPlace::Pre,
        norm_eps: json.float("rms_norm_eps")?,
        final_norm: true,
        ffn: Ffn::SwiGlu,
        position: Position::Rotary {
            style: RotaryStyle::Half,
            base: base as f32,
        },
        attention: Attention {
            window,
            ..Attention::PLAIN
        },
        tied: is_true("tie_word_embeddings"),
        biases: Biases {
            qkv: attention_bias,
            out: attention_bias,
            up: mlp_bias,
            down: mlp_bias,
            ..Biases::NONE
        },
        embedding_scale: 1.0,
        // Whether texts begin with a token is the tokenizer's business, and byte-level BPE adds none.
        begin_of_text: None,
        end_of_text: token(json, "eos_token_id", vocab_len)?,
    };
    config
        .check()
        .map_err(|error| anyhow!("config.json: {error}"))?;
    Ok(config)
}

fn llama_values(weights: &Weights<'_>, config: &Config, shape: &TensorShape) -> Result<Vec<f32>> {
    let (q, kv, hidden) = (config.q_dim(), config.kv_dim(), config.hidden_dim);
    let one = |name: &str| vec![(name.to_owned(), shape.rows)];
    let attention = |end: &str| {
        [("q_proj", q), ("k_proj", kv), ("v_proj", kv)]
            .map(|(part, rows)| (format!("self_attn.{part}.{end}"), rows))
            .to_vec()
    };
    let gated = |end: &str| {
        ["gate_proj", "up_proj"]
            .map(|part| (format!("mlp.{part}.{end}"), hidden))
            .to_vec()
    };
    let parts = match shape.role {
        Role::TokenEmbedding => one("model.embed_tokens.weight"),
        Role::FinalNormGain => one("model.norm.weight"),
        Role::OutputWeight => one("lm_head.weight"),
        Role::AttnNormGain => one("input_layernorm.weight"),
        Role::QkvWeight => attention("weight"),
        Role::QkvBias => attention("bias"),
        Role::OutWeight => one("self_attn.o_proj.weight"),
        Role::OutBias => one("self_attn.o_proj.bias"),
        Role::FfnNormGain => one("post_attention_layernorm.weight"),
        Role::UpWeight => gated("weight"),
        Role::UpBias => gated("bias"),
        Role::DownWeight => one("mlp.down_proj.weight"),
        Role::DownBias => one("mlp.down_proj.bias"),
        _ => bail!("llama has no {}", name(shape)),
    };
    let place = shape.layer.map(|layer| format!("model.layers.{layer}."));
    let place = place.unwrap_or_default();
    let several = parts.len() > 1;
    let mut out = Vec::with_capacity(shape.rows * shape.cols);
    for (part, rows) in parts {
        let expected = match shape.kind {
            TensorKind::Matrix => vec![rows, shape.cols],
            TensorKind::Vector if several => vec![rows],
            TensorKind::Vector => vec![shape.cols],
        };
        out.append(&mut weights.floats(&format!("{place}{part}"), &expected)?);
    }
    Ok(out)
}

fn gpt2(json: &ConfigJson) -> Result<Config> {
    json.only("scale_attn_weights", &[true.into()])?;
    json.only("scale_attn_by_inverse_layer_idx", &[false.into()])?;
    json.only("add_cross_attention", &[false.into()])?;
    let (dim, heads) = (json.number("n_embd")?, json.number("n_head")?);
    ensure!(
        heads > 0 && dim.is_multiple_of(heads),
        "n_embd {dim} is no multiple of n_head {heads}"
    );
    let vocab_len = json.number("vocab_size")?;
    let config = Config {
        architecture: Architecture::Decoder,
        vocab_len,
        dim,
        layers: json.number("n_layer")?,
        heads,
        kv_heads: heads,
        head_dim: dim / heads,
        hidden_dim: json.optional("n_inner")?.unwrap_or(4 * dim),
        context_len: json.number("n_positions")?,
        norm: Norm::Layer,
        norm_place: NormPlace::Pre,
        norm_eps: json.float("layer_norm_epsilon")?,
        final_norm: true,
        ffn: json.activation("activation_function")?,
        position: Position::Learned,
        attention: Attention::PLAIN,
        tied: json.0["tie_word_embeddings"] != Value::Bool(false),
        biases: Biases::ALL_BUT_OUTPUT,
        embedding_scale: 1.0,
        begin_of_text: None,
        end_of_text: token(json, "eos_token_id", vocab_len)?,
    };
    config
        .check()
        .map_err(|error| anyhow!("config.json: {error}"))?;
    Ok(config)
}

/// GPT-2 keeps its matrices as (inputs, outputs).
fn gpt2_values(weights: &Weights<'_>, shape: &TensorShape) -> Result<Vec<f32>> {
    let (part, across) = match shape.role {
        Role::TokenEmbedding => ("wte.weight", false),
        Role::PositionEmbedding => ("wpe.weight", false),
        Role::FinalNormGain => ("ln_f.weight", false),
        Role::FinalNormBias => ("ln_f.bias", false),
        Role::AttnNormGain => ("ln_1.weight", false),
        Role::AttnNormBias => ("ln_1.bias", false),
        Role::QkvWeight => ("attn.c_attn.weight", true),
        Role::QkvBias => ("attn.c_attn.bias", false),
        Role::OutWeight => ("attn.c_proj.weight", true),
        Role::OutBias => ("attn.c_proj.bias", false),
        Role::FfnNormGain => ("ln_2.weight", false),
        Role::FfnNormBias => ("ln_2.bias", false),
        Role::UpWeight => ("mlp.c_fc.weight", true),
        Role::UpBias => ("mlp.c_fc.bias", false),
        Role::DownWeight => ("mlp.c_proj.weight", true),
        Role::DownBias => ("mlp.c_proj.bias", false),
        Role::OutputWeight => ("lm_head.weight", false),
        _ => bail!("gpt2 has no {}", name(shape)),
    };
    // Models with a head have the rest under this name.
    let prefix = match shape.role {
        Role::OutputWeight => "",
        _ if weights.has("transformer.wte.weight") => "transformer.",
        _ => "",
    };
    let place = shape.layer.map(|layer| format!("h.{layer}."));
    let part = format!("{prefix}{}{part}", place.unwrap_or_default());
    match (shape.kind, across) {
        (TensorKind::Vector, _) => weights.floats(&part, &[shape.cols]),
        (TensorKind::Matrix, false) => weights.floats(&part, &[shape.rows, shape.cols]),
        (TensorKind::Matrix, true) => {
            let values = weights.floats(&part, &[shape.cols, shape.rows])?;
            Ok(transposed(&values, shape.rows))
        }
    }
}
