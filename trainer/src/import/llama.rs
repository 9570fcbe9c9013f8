//! GGUF's architecture `llama` as a model of the core: grouped heads, RMSNorm, SwiGLU, rotary positions.
//!
//! Such files keep the rows of the query and key matrices in the order that rotates neighbours, 2i and 2i + 1. The
//! core rotates halves faster, i and i + head_dim/2, so the rows are put back into that order; queries and keys are
//! permuted alike, so no product of theirs changes.

use crate::import::blocks::Dtype;
use crate::import::gguf::{Gguf, Tensor, Value};
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::kernels::layout::{GROUP, WeightFormat, rows_padded};
use attentive::kernels::pack::scale_index;
use attentive::{
    Architecture, Attention, Biases, Config, Ffn, Norm, NormPlace, Position, Role, RotaryStyle,
    TensorKind, TensorShape, Window,
};
use half::f16;
use std::collections::BTreeSet;

/// The value of `general.architecture`.
pub const ARCHITECTURE: &str = "llama";

/// Dimensions, and the tensors of the file that make up each of the model's.
pub struct Plan<'g> {
    /// Dimensions.
    pub config: Config,
    /// In the order of [`Config::tensor`].
    pub tensors: Vec<Glued<'g>>,
}

/// A tensor of the model: one or more of the file, their rows one after the other.
pub struct Glued<'g> {
    /// Role, layer and shape.
    pub shape: TensorShape,
    /// From the first row on.
    pub parts: Vec<Part<'g>>,
}

/// A tensor of the file, and how its rows are ordered.
pub struct Part<'g> {
    /// The tensor.
    pub tensor: &'g Tensor<'g>,
    /// Width of a head whose rows rotate in pairs of neighbours.
    rotated: Option<usize>,
}

impl<'g> Part<'g> {
    /// The file's bytes of row `row` of the model's order.
    fn row(&self, row: usize) -> &'g [u8] {
        let row = match self.rotated {
            None => row,
            Some(head_dim) => {
                let (head, at) = (row / head_dim, row % head_dim);
                let (half, pair) = (at / (head_dim / 2), at % (head_dim / 2));
                head * head_dim + 2 * pair + half
            }
        };
        self.tensor.row(row)
    }
}

impl Glued<'_> {
    fn rows(&self) -> impl Iterator<Item = (Dtype, &[u8])> {
        let rows = |part: &Part<'_>| part.tensor.rows;
        self.parts.iter().flat_map(move |part| {
            (0..rows(part)).map(move |row| (part.tensor.dtype, part.row(row)))
        })
    }

    /// The numbers, row-major.
    pub fn values(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.shape.rows * self.shape.cols];
        let out_rows = out.chunks_exact_mut(self.shape.cols.max(1));
        for ((dtype, bytes), out) in self.rows().zip(out_rows) {
            dtype.dequantize(bytes, out);
        }
        out
    }

    /// The integers, row-major, and the scales (then minima) in the places that `format` states; `format` is the
    /// [`exact_format`](Self::exact_format), and one of integers.
    pub fn levels(&self, format: WeightFormat) -> (Vec<i8>, Vec<f16>) {
        let TensorShape { rows, cols, .. } = self.shape;
        let mut levels = vec![0; rows * cols];
        let len = rows_padded(rows) * cols.div_ceil(GROUP);
        let mut scales = vec![f16::ZERO; len];
        let mut minima = vec![f16::ZERO; len];
        for (index, (dtype, bytes)) in self.rows().enumerate() {
            let blocks = bytes.chunks_exact(dtype.block_bytes());
            let levels = levels[index * cols..].chunks_mut(GROUP);
            for (group, (block, levels)) in blocks.zip(levels).enumerate() {
                let at = scale_index(format, index, group * GROUP, cols);
                (scales[at], minima[at]) = dtype.levels(block, levels);
            }
        }
        if format == WeightFormat::U4Group32 {
            scales.extend(minima);
        }
        (levels, scales)
    }

    /// The types of the parts, each once.
    pub fn dtypes(&self) -> Vec<Dtype> {
        let mut out: Vec<Dtype> = Vec::new();
        for part in &self.parts {
            if !out.contains(&part.tensor.dtype) {
                out.push(part.tensor.dtype);
            }
        }
        out
    }

    /// The smallest format that holds the same numbers exactly.
    pub fn exact_format(&self) -> WeightFormat {
        let dtypes = self.dtypes();
        let all = |known: &[Dtype]| dtypes.iter().all(|dtype| known.contains(dtype));
        match self.shape.kind {
            _ if self.shape.role == Role::AttnSinks => WeightFormat::F32,
            _ if all(&[Dtype::F16]) => WeightFormat::F16,
            TensorKind::Vector => WeightFormat::F32,
            TensorKind::Matrix if all(&[Dtype::Q4_0]) => WeightFormat::I4Group32,
            TensorKind::Matrix if all(&[Dtype::Q4_1]) => WeightFormat::U4Group32,
            TensorKind::Matrix if all(&[Dtype::Q4_0, Dtype::Q5_0, Dtype::Q8_0]) => {
                WeightFormat::I8Group32
            }
            TensorKind::Matrix => WeightFormat::F32,
        }
    }
}

/// Reads the dimensions, and finds every tensor that they ask for.
///
/// # Errors
/// What is missing, has another shape than expected, or is there and would change what the model computes.
pub fn plan<'g>(gguf: &'g Gguf<'g>, vocab_len: usize) -> Result<Plan<'g>> {
    let config = config(gguf, vocab_len)?;
    let mut used = BTreeSet::new();
    let mut tensors = Vec::new();
    for shape in crate::params::shapes(&config) {
        let glued = glue(gguf, &config, shape)?;
        used.extend(glued.parts.iter().map(|part| part.tensor.name));
        tensors.push(glued);
    }
    if let Some(left) = gguf.tensors().find(|tensor| !used.contains(tensor.name)) {
        bail!(
            "tensor {} ({}, {}) has no place in the architecture {ARCHITECTURE}: biases, experts and tables of frequencies \
             are not supported",
            left.name,
            left.shape(),
            left.dtype.name()
        );
    }
    Ok(Plan { config, tensors })
}

/// Keys that are understood, without the architecture's prefix.
const KEYS: [&str; 16] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attn_logit_softcapping",
    "rope.dimension_count",
    "rope.freq_base",
    "vocab_size",
    "expert_count",
];

/// Keys of which one value changes nothing.
fn is_neutral(key: &str, value: &Value<'_>) -> bool {
    match (key, value) {
        ("rope.scaling.type", Value::Text(kind)) => *kind == "none",
        ("attention.causal", Value::Bool(causal)) => *causal,
        ("expert_count" | "expert_used_count", Value::Unsigned(count)) => *count == 0,
        ("rope.scaling.factor" | "rope.scaling.attn_factor", Value::Float(factor)) => {
            *factor == 1.0
        }
        _ => false,
    }
}

fn config(gguf: &Gguf<'_>, vocab_len: usize) -> Result<Config> {
    let prefix = format!("{ARCHITECTURE}.");
    for key in gguf.keys() {
        let Some(name) = key.strip_prefix(&prefix) else {
            continue;
        };
        let value = gguf.get(key).context("a key that was listed")?;
        ensure!(
            name != "expert_count" || is_neutral(name, value),
            "{key} is {value:?}: mixtures of experts are not supported"
        );
        ensure!(
            KEYS.contains(&name) || is_neutral(name, value),
            "{key} is {value:?}: not supported, and it may change what the model computes"
        );
    }
    let key = |name: &str| format!("{prefix}{name}");
    let needed = |name: &str| {
        let value = gguf.size(&key(name))?;
        value.with_context(|| format!("the metadata have no {}", key(name)))
    };
    let optional =
        |name: &str, default: usize| gguf.size(&key(name)).map(|value| value.unwrap_or(default));
    let (dim, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
    ensure!(heads > 0, "{} is 0", key("attention.head_count"));
    let head_dim = optional("attention.key_length", dim / heads)?;
    for name in ["attention.value_length", "rope.dimension_count"] {
        let have = optional(name, head_dim)?;
        ensure!(
            have == head_dim,
            "{} is {have}, expected the width of a head, {head_dim}",
            key(name)
        );
    }
    let epsilon = gguf.float(&key("attention.layer_norm_rms_epsilon"))?;
    let base = gguf.float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    let token = |name: &str| -> Result<Option<u32>> {
        let id = gguf.size(&format!("tokenizer.ggml.{name}"))?;
        id.map(|id| u32::try_from(id).with_context(|| format!("{name} is {id}, not a token")))
            .transpose()
    };
    let begins = gguf.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(false);
    let config = Config {
        architecture: Architecture::Decoder,
        vocab_len,
        dim,
        layers: needed("block_count")?,
        heads,
        kv_heads: optional("attention.head_count_kv", heads)?,
        head_dim,
        hidden_dim: needed("feed_forward_length")?,
        context_len: needed("context_length")?,
        norm: Norm::Rms,
        norm_place: NormPlace::Pre,
        norm_eps: epsilon.with_context(|| {
            format!(
                "the metadata have no {}",
                key("attention.layer_norm_rms_epsilon")
            )
        })?,
        final_norm: true,
        ffn: Ffn::SwiGlu,
        position: Position::Rotary {
            style: RotaryStyle::Half,
            base,
        },
        attention: attention(gguf, &key)?,
        tied: gguf.tensor("output.weight").is_none(),
        biases: Biases::NONE,
        embedding_scale: 1.0,
        begin_of_text: token("bos_token_id")?.filter(|_| begins),
        end_of_text: token("eos_token_id")?,
    };
    config.check().map_err(|error| anyhow!("{error}"))?;
    Ok(config)
}

/// Window, soft cap and sinks. In a pattern of n, the last of n layers has no window; a cap or window of 0 is none.
fn attention(gguf: &Gguf<'_>, key: &impl Fn(&str) -> String) -> Result<Attention> {
    let pattern = gguf.size(&key("attention.sliding_window_pattern"))?;
    // A pattern of 1 makes every layer the last of its pattern.
    let len = match pattern {
        Some(1) => None,
        _ => gguf.size(&key("attention.sliding_window"))?,
    };
    let window = len.filter(|len| *len > 0).map(|len| Window {
        len,
        keep: 0,
        full_every: pattern.unwrap_or(0),
    });
    let soft_cap = gguf.float(&key("attn_logit_softcapping"))?;
    Ok(Attention {
        window,
        soft_cap: soft_cap.filter(|cap| *cap != 0.0),
        sinks: gguf.tensor("blk.0.attn_sinks.weight").is_some(),
    })
}

/// The tensors of the file that make up `shape`.
fn glue<'g>(gguf: &'g Gguf<'g>, config: &Config, shape: TensorShape) -> Result<Glued<'g>> {
    let (kv, hidden) = (config.kv_dim(), config.hidden_dim);
    let rotated = Some(config.head_dim);
    // Name, rows, and the width of a head that rotates.
    let parts: &[(&str, usize, Option<usize>)] = match shape.role {
        Role::TokenEmbedding => &[("token_embd", shape.rows, None)],
        Role::AttnNormGain => &[("attn_norm", 1, None)],
        Role::QkvWeight => &[
            ("attn_q", config.q_dim(), rotated),
            ("attn_k", kv, rotated),
            ("attn_v", kv, None),
        ],
        Role::AttnSinks => &[("attn_sinks", 1, None)],
        Role::OutWeight => &[("attn_output", shape.rows, None)],
        Role::FfnNormGain => &[("ffn_norm", 1, None)],
        Role::UpWeight => &[("ffn_gate", hidden, None), ("ffn_up", hidden, None)],
        Role::DownWeight => &[("ffn_down", shape.rows, None)],
        Role::FinalNormGain => &[("output_norm", 1, None)],
        Role::OutputWeight => &[("output", shape.rows, None)],
        other => bail!("the architecture {ARCHITECTURE} has no {other:?}"),
    };
    let mut found = Vec::new();
    for &(name, rows, rotated) in parts {
        let name = match shape.layer {
            Some(layer) => format!("blk.{layer}.{name}.weight"),
            None => format!("{name}.weight"),
        };
        let tensor = gguf.tensor(&name);
        let tensor = tensor.with_context(|| {
            format!("tensor {name} is missing; expected {rows} × {}", shape.cols)
        })?;
        ensure!(
            (tensor.rows, tensor.cols) == (rows, shape.cols),
            "tensor {name} is {}; expected {rows} × {}",
            tensor.shape(),
            shape.cols
        );
        let is_float = matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        ensure!(
            shape.kind == TensorKind::Matrix || is_float,
            "tensor {name} is of type {}; expected a float for a vector",
            tensor.dtype.name()
        );
        found.push(Part { tensor, rotated });
    }
    Ok(Glued {
        shape,
        parts: found,
    })
}
