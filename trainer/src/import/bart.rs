//! Encoder–decoders whose classes in transformers descend from BART's: what their `config.json` says in the same words, and
//! what they call their tensors.

use crate::import::safetensors::{ConfigJson, Tensors};
use crate::params::name;
use anyhow::{Result, bail, ensure};
use attentive::{Config, Ffn, Role, TensorKind, TensorShape};

/// Dimensions of both sides.
pub(super) struct Sides {
    pub(super) vocab_len: usize,
    pub(super) dim: usize,
    pub(super) layers: usize,
    pub(super) source_layers: usize,
    pub(super) heads: usize,
    pub(super) hidden_dim: usize,
    pub(super) ffn: Ffn,
}

impl Sides {
    /// # Errors
    /// A number that is missing, or sides that differ where the core has one number for both.
    pub(super) fn read(json: &ConfigJson) -> Result<Self> {
        json.only("tie_word_embeddings", &[true.into()])?;
        let dim = json.number("d_model")?;
        let heads = json.number("decoder_attention_heads")?;
        let source_heads = json.number("encoder_attention_heads")?;
        ensure!(
            heads == source_heads && heads > 0 && dim.is_multiple_of(heads),
            "config.json has {heads} heads of the decoder and {source_heads} of the encoder, at a width of {dim}; \
             supported is the same number, of which the width is a multiple"
        );
        let hidden_dim = json.number("decoder_ffn_dim")?;
        let source_hidden = json.number("encoder_ffn_dim")?;
        ensure!(
            hidden_dim == source_hidden,
            "config.json has decoder_ffn_dim {hidden_dim} and encoder_ffn_dim {source_hidden}; supported is the same"
        );
        Ok(Self {
            vocab_len: json.number("vocab_size")?,
            dim,
            layers: json.number("decoder_layers")?,
            source_layers: json.number("encoder_layers")?,
            heads,
            hidden_dim,
            ffn: json.activation("activation_function")?,
        })
    }
}

/// What stands before the tensors' names, with a head and without one.
pub(super) fn prefix(weights: &dyn Tensors) -> &'static str {
    match weights.has("model.decoder.layers.0.fc1.weight") {
        true => "model.",
        false => "",
    }
}

/// A tensor that all of them have, row-major. `keys_have_bias` says whether keys have a bias, which else is 0.
///
/// # Errors
/// A role that none of them has, a tensor that is missing or of another shape.
pub(super) fn values(
    weights: &dyn Tensors,
    config: &Config,
    shape: &TensorShape,
    keys_have_bias: bool,
) -> Result<Vec<f32>> {
    let prefix = prefix(weights);
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
        Role::TokenEmbedding if weights.has(&format!("{prefix}shared.weight")) => {
            one("shared.weight")
        }
        Role::TokenEmbedding => one("decoder.embed_tokens.weight"),
        Role::PositionEmbedding => one("decoder.embed_positions.weight"),
        Role::SourcePositionEmbedding => one("encoder.embed_positions.weight"),
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
        _ => bail!("no such model has {}", name(shape)),
    };
    let mut out = Vec::with_capacity(shape.rows * shape.cols);
    for part in &parts {
        let expected = match shape.kind {
            TensorKind::Matrix => vec![shape.rows / parts.len(), shape.cols],
            TensorKind::Vector => vec![shape.cols / parts.len()],
        };
        match part.ends_with("k_proj.bias") && !keys_have_bias {
            true => out.extend(std::iter::repeat_n(0.0, expected[0])),
            false => out.append(&mut weights.floats(&format!("{place}{part}"), &expected)?),
        }
    }
    Ok(out)
}
