//! Whisper, from a directory of CTranslate2: `model.bin`, `config.json` and `tokenizer.json`.

use crate::import::ctranslate2::Ct2;
use crate::import::packed;
use crate::import::vocabulary::Vocabulary;
use crate::mapped;
use crate::package::Formats;
use crate::params::{name, shapes};
use crate::speech::Speech;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::{
    Architecture, Attention, Biases, Block, Config, Ffn, Input, Norm, NormPlace, Position, Role,
    Source, TensorKind, TensorShape,
};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The kind of model in the file.
const SPEC: &str = "WhisperSpec";

/// CTranslate2's code of GELU by the error function.
const GELU: i64 = 3;

/// The record inside the file.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    pub(super) name: &'a str,
    pub(super) command: &'a str,
    pub(super) architecture: &'a str,
    pub(super) speech: Speech,
}

/// Whether the directory holds a model of CTranslate2.
pub fn is_here(dir: &Path) -> bool {
    dir.join("model.bin").is_file()
}

/// Turns the directory into a weights file. `source` is its name and `command` what was typed, for the record.
///
/// # Errors
/// What the directory holds that the core cannot run, or that is missing, by its name.
pub fn import(dir: &Path, source: &str, command: &str, formats: Formats) -> Result<Vec<Block>> {
    let bytes = mapped::map(&dir.join("model.bin"))?;
    let weights = Ct2::parse(&bytes).context("model.bin")?;
    ensure!(
        weights.spec == SPEC,
        "model.bin is a {:?}; supported is {SPEC:?}",
        weights.spec
    );
    let read = |file: &str| {
        let path = dir.join(file);
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("reading {}", path.display()))?;
        let json = serde_json::from_str::<Value>(&text);
        json.with_context(|| format!("{file} is no JSON"))
    };
    let vocabulary = Vocabulary::from_tokenizer_json(&read("tokenizer.json")?);
    let vocabulary = vocabulary.context("tokenizer.json")?;
    let speech = Speech::new(&vocabulary, &read("config.json")?)?;
    let config = config(&weights, &speech)?;
    ensure!(
        vocabulary.len() <= config.vocab_len,
        "the tokenizer has {} tokens, the embedding {}",
        vocabulary.len(),
        config.vocab_len
    );
    let tensors = shapes(&config).map(|shape| values(&weights, &config, &shape));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let record = Record {
        name: source,
        command,
        architecture: "whisper",
        speech,
    };
    let provenance = toml::to_string(&record).context("writing the record")?;
    vocabulary.with_parts(|tokenizer| packed(&config, tokenizer, &provenance, formats, &tensors))
}

fn config(weights: &Ct2<'_>, speech: &Speech) -> Result<Config> {
    let shape = |name: &str, rank: usize| {
        let tensor = weights.get(name);
        let shape = &tensor
            .with_context(|| format!("tensor {name} is missing"))?
            .shape;
        ensure!(
            shape.len() == rank,
            "tensor {name} is {shape:?}; expected {rank} dimensions"
        );
        Ok(shape.as_slice())
    };
    let layers = |stack: &str| {
        let is_here = |layer: &usize| {
            let name = format!("{stack}/layer_{layer}/self_attention/linear_0/weight");
            weights.get(&name).is_some()
        };
        (0..).take_while(is_here).count()
    };
    for (name, expected) in [
        ("decoder/activation", GELU),
        ("decoder/pre_norm", 1),
        ("decoder/scale_embeddings", 0),
        ("decoder/alibi", 0),
    ] {
        let found = weights.integer(name)?;
        ensure!(
            found == expected,
            "tensor {name} is {found}; expected {expected}"
        );
    }
    let [heads, source_heads] = ["decoder/num_heads", "encoder/num_heads"];
    let (heads, source_heads) = (weights.integer(heads)?, weights.integer(source_heads)?);
    ensure!(
        heads == source_heads,
        "the decoder has {heads} heads, the encoder {source_heads}; supported is the same number"
    );
    let heads = usize::try_from(heads).unwrap_or(0);
    let embedding = shape("decoder/embeddings/weight", 2)?;
    let (vocab_len, dim) = (embedding[0], embedding[1]);
    ensure!(
        heads > 0 && dim.is_multiple_of(heads),
        "a width of {dim} is no multiple of {heads} heads"
    );
    let dims = Dims {
        vocab_len,
        dim,
        layers: layers("decoder"),
        source_layers: layers("encoder"),
        source_len: shape("encoder/position_encodings/encodings", 2)?[0],
        bins: shape("encoder/conv1/weight", 3)?[1],
        heads,
        hidden_dim: shape("decoder/layer_0/ffn/linear_0/weight", 2)?[0],
        context_len: shape("decoder/position_encodings/encodings", 2)?[0],
        ffn: Ffn::GeluErf,
    };
    dims.config(speech).context("model.bin")
}

/// What one Whisper has otherwise than another.
pub(super) struct Dims {
    pub(super) vocab_len: usize,
    pub(super) dim: usize,
    pub(super) layers: usize,
    pub(super) source_layers: usize,
    pub(super) source_len: usize,
    pub(super) bins: usize,
    pub(super) heads: usize,
    pub(super) hidden_dim: usize,
    pub(super) context_len: usize,
    pub(super) ffn: Ffn,
}

impl Dims {
    pub(super) fn config(self, speech: &Speech) -> Result<Config> {
        let config = Config {
            architecture: Architecture::EncoderDecoder(Source {
                layers: self.source_layers,
                len: self.source_len,
                position: Position::Learned,
                input: Input::Frames { bins: self.bins },
            }),
            vocab_len: self.vocab_len,
            dim: self.dim,
            layers: self.layers,
            heads: self.heads,
            kv_heads: self.heads,
            head_dim: self.dim / self.heads.max(1),
            hidden_dim: self.hidden_dim,
            context_len: self.context_len,
            norm: Norm::Layer,
            norm_place: NormPlace::Pre,
            // PyTorch's own; no file says it.
            norm_eps: 1e-5,
            final_norm: true,
            ffn: self.ffn,
            position: Position::Learned,
            attention: Attention::PLAIN,
            tied: true,
            biases: Biases::ALL_BUT_OUTPUT,
            embedding_scale: 1.0,
            begin_of_text: Some(speech.start),
            end_of_text: Some(speech.end),
        };
        config.check().map_err(|error| anyhow!("{error}"))?;
        Ok(config)
    }
}

/// A tensor of the model, row-major; windows of convolutions frame by frame, as the core wants them.
fn values(weights: &Ct2<'_>, config: &Config, shape: &TensorShape) -> Result<Vec<f32>> {
    let place = match shape.layer {
        Some(layer) if layer >= config.layers => {
            format!("encoder/layer_{}/", layer - config.layers)
        }
        Some(layer) => format!("decoder/layer_{layer}/"),
        None => String::new(),
    };
    let part = match shape.role {
        Role::TokenEmbedding => "decoder/embeddings/weight",
        Role::PositionEmbedding => "decoder/position_encodings/encodings",
        Role::SourcePositionEmbedding => "encoder/position_encodings/encodings",
        Role::Conv1Weight => "encoder/conv1/weight",
        Role::Conv1Bias => "encoder/conv1/bias",
        Role::Conv2Weight => "encoder/conv2/weight",
        Role::Conv2Bias => "encoder/conv2/bias",
        Role::AttnNormGain => "self_attention/layer_norm/gamma",
        Role::AttnNormBias => "self_attention/layer_norm/beta",
        Role::QkvWeight => "self_attention/linear_0/weight",
        Role::QkvBias => "self_attention/linear_0/bias",
        Role::OutWeight => "self_attention/linear_1/weight",
        Role::OutBias => "self_attention/linear_1/bias",
        Role::CrossNormGain => "attention/layer_norm/gamma",
        Role::CrossNormBias => "attention/layer_norm/beta",
        Role::CrossQWeight => "attention/linear_0/weight",
        Role::CrossQBias => "attention/linear_0/bias",
        Role::CrossKvWeight => "attention/linear_1/weight",
        Role::CrossKvBias => "attention/linear_1/bias",
        Role::CrossOutWeight => "attention/linear_2/weight",
        Role::CrossOutBias => "attention/linear_2/bias",
        Role::FfnNormGain => "ffn/layer_norm/gamma",
        Role::FfnNormBias => "ffn/layer_norm/beta",
        Role::UpWeight => "ffn/linear_0/weight",
        Role::UpBias => "ffn/linear_0/bias",
        Role::DownWeight => "ffn/linear_1/weight",
        Role::DownBias => "ffn/linear_1/bias",
        Role::FinalNormGain => "decoder/layer_norm/gamma",
        Role::FinalNormBias => "decoder/layer_norm/beta",
        Role::SourceNormGain => "encoder/layer_norm/gamma",
        Role::SourceNormBias => "encoder/layer_norm/beta",
        _ => anyhow::bail!("whisper has no {}", name(shape)),
    };
    let part = format!("{place}{part}");
    let is_convolution = matches!(shape.role, Role::Conv1Weight | Role::Conv2Weight);
    let expected = match shape.kind {
        TensorKind::Matrix if is_convolution => vec![shape.rows, shape.cols / 3, 3],
        TensorKind::Matrix => vec![shape.rows, shape.cols],
        TensorKind::Vector => vec![shape.cols],
    };
    let floats = weights.floats(&part, &expected)?;
    if !is_convolution {
        return Ok(floats);
    }
    Ok(framewise(&floats, shape.cols))
}

/// Kernels, (rows, channels, 3), as windows of three frames, (rows, 3, channels).
pub(super) fn framewise(kernels: &[f32], cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(kernels.len());
    for row in kernels.chunks(cols.max(1)) {
        let (channels, _) = row.as_chunks::<3>();
        for frame in 0..3 {
            out.extend(channels.iter().map(|channel| channel[frame]));
        }
    }
    out
}
