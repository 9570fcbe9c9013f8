//! What the peers are asked to do for a case: the task, its numbers as files, and how far a result may be from ours.

use anyhow::{Context, Result, bail};
use attentive::{Config, Ffn, Norm, Position, Role, RotaryStyle, TensorShape};
use attentive_benches::case::Problem;
use attentive_benches::verdict::Verdict;
use attentive_peers_protocol::{Llama, Task, Tensor};
use std::fs;
use std::path::{Path, PathBuf};

/// A task whose numbers lie in a directory, and our own result.
pub(crate) struct Prepared {
    pub(crate) task: Task,
    pub(crate) ours: Vec<f32>,
    pub(crate) tolerance: f64,
}

/// Writes the numbers of a problem into `dir`. `published` is the GGUF or ONNX file of a model that is read from a file.
pub(crate) fn prepare(
    problem: &Problem<'_>,
    dir: &Path,
    published: Option<&Path>,
) -> Result<Prepared> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    match *problem {
        Problem::Attention {
            kv,
            causal,
            head_dim,
            group,
            q,
            k,
            v,
            out,
        } => {
            write(dir, "q.f32", q)?;
            write(dir, "k.f32", k)?;
            write(dir, "v.f32", v)?;
            let task = Task::Attention {
                kv: kv.to_owned(),
                causal,
                head_dim,
                group,
                q_len: q.len() / (group * head_dim),
                kv_len: k.len() / head_dim,
            };
            Ok(Prepared {
                task,
                ours: out.to_vec(),
                tolerance: attention_tolerance(kv),
            })
        }
        Problem::Product {
            format,
            rows,
            cols,
            copies,
            weights,
            x,
            y,
        } => {
            write(dir, "weights.f32", weights)?;
            write(dir, "x.f32", x)?;
            let task = Task::Product {
                format: format.to_owned(),
                rows,
                cols,
                n: x.len() / cols,
                copies,
            };
            Ok(Prepared {
                task,
                ours: y.to_vec(),
                tolerance: product_tolerance(format),
            })
        }
        Problem::Generation {
            config,
            weights,
            tensors,
            prompt,
            answer,
            logits,
        } => {
            write_tokens(dir, "prompt.u32", prompt)?;
            let (gguf, model) = match published {
                Some(path) => (path.to_owned(), None),
                None => {
                    let model = llama(config, weights, tensors, dir)?;
                    (dir.join("model.gguf"), Some(model))
                }
            };
            let task = Task::Generation {
                gguf,
                model,
                prompt_len: prompt.len(),
                answer,
            };
            Ok(Prepared {
                task,
                ours: logits.to_vec(),
                tolerance: generation_tolerance(weights),
            })
        }
        Problem::Embedding {
            weights,
            tokens,
            vector,
        } => {
            write_tokens(dir, "tokens.u32", tokens)?;
            let task = Task::Embedding {
                onnx: published
                    .context("an encoder without its ONNX file")?
                    .to_owned(),
                len: tokens.len(),
            };
            Ok(Prepared {
                task,
                ours: vector.to_vec(),
                tolerance: embedding_tolerance(weights),
            })
        }
    }
}

/// Relative norms of the difference of two results, of which ours is held to less against f64 (the cases' own checks).
/// f16: peers that keep f16 accumulators; i8: each rounds keys, values, queries and probabilities its own way.
fn attention_tolerance(kv: &str) -> f64 {
    match kv {
        "f32" => 2e-3,
        "f16" => 2e-2,
        "bf16" => 4e-2,
        _ => 6e-2,
    }
}

/// i8, i4: each rounds weights and activations its own way, int4 of normal weights by 8 % of their norm.
fn product_tolerance(format: &str) -> f64 {
    match format {
        "f32" => 1e-4,
        "f16" => 5e-3,
        "i8" => 3e-2,
        _ => 2e-1,
    }
}

/// The roundings of the weights go through all layers.
fn generation_tolerance(weights: &str) -> f64 {
    match weights {
        "i8" => 1e-1,
        "q4_1" => 1e-1,
        _ => 5e-1,
    }
}

/// The peers' weights are those of the ONNX file, ours may be rounded from them: a cosine of 0.99 is a
/// difference of 0.14.
fn embedding_tolerance(weights: &str) -> f64 {
    match weights {
        "f32" => 1e-4,
        "f16" => 5e-3,
        "i4" | "u4" => 5e-1,
        _ => 1.5e-1,
    }
}

/// Holds a peer's result against ours.
pub(crate) fn compare(prepared: &Prepared, path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let (words, _) = bytes.as_chunks::<4>();
    let theirs: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
    if theirs.len() != prepared.ours.len() {
        bail!(
            "wrong result: {} numbers for {}",
            theirs.len(),
            prepared.ours.len()
        );
    }
    let ours: Vec<f64> = prepared.ours.iter().copied().map(f64::from).collect();
    let mut verdict = Verdict::default();
    verdict.row("its result", &theirs, &ours);
    verdict
        .judge(prepared.tolerance)
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn write_tokens(dir: &Path, name: &str, tokens: &[u32]) -> Result<()> {
    let path = dir.join(name);
    let words: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token.to_le_bytes())
        .collect();
    fs::write(&path, words).with_context(|| path.display().to_string())
}

fn write(dir: &Path, name: &str, values: &[f32]) -> Result<PathBuf> {
    let path = dir.join(name);
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// The same model as llama.cpp has it: query, key and value apart, gate and up apart, and the rows of queries and keys
/// so that the halves of a rotary pair are neighbours.
fn llama(
    config: &Config,
    weights: &str,
    tensors: &[(TensorShape, Vec<f32>)],
    dir: &Path,
) -> Result<Llama> {
    let Position::Rotary {
        style: RotaryStyle::Half,
        base,
    } = config.position
    else {
        bail!("only models with rotary positions on halves can be handed to llama.cpp");
    };
    if config.norm != Norm::Rms || config.ffn != Ffn::SwiGlu || !config.tied {
        bail!("only models of the llama family with tied embeddings can be handed to llama.cpp");
    }
    let mut parts = Parts::default();
    for (shape, values) in tensors {
        let layer = |name: &str| format!("blk.{}.{name}.weight", shape.layer.unwrap_or(0));
        let cols = shape.cols;
        match shape.role {
            Role::TokenEmbedding => parts.add("token_embd.weight".to_owned(), cols, values),
            Role::FinalNormGain => parts.add("output_norm.weight".to_owned(), cols, values),
            Role::AttnNormGain => parts.add(layer("attn_norm"), cols, values),
            Role::FfnNormGain => parts.add(layer("ffn_norm"), cols, values),
            Role::OutWeight => parts.add(layer("attn_output"), cols, values),
            Role::DownWeight => parts.add(layer("ffn_down"), cols, values),
            Role::UpWeight => {
                let (gate, up) = values.split_at(values.len() / 2);
                parts.add(layer("ffn_gate"), cols, gate);
                parts.add(layer("ffn_up"), cols, up);
            }
            Role::QkvWeight => {
                let (q, rest) = values.split_at(config.heads * config.head_dim * cols);
                let (k, v) = rest.split_at(config.kv_heads * config.head_dim * cols);
                parts.add(layer("attn_q"), cols, &neighbours(q, config.head_dim, cols));
                parts.add(layer("attn_k"), cols, &neighbours(k, config.head_dim, cols));
                parts.add(layer("attn_v"), cols, v);
            }
            role => bail!("llama.cpp has no place for {role:?}"),
        }
    }
    write(dir, "tensors.f32", &parts.values)?;
    Ok(Llama {
        weights: weights.to_owned(),
        vocab_len: config.vocab_len,
        dim: config.dim,
        layers: config.layers,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        hidden_dim: config.hidden_dim,
        context_len: config.context_len,
        norm_eps: config.norm_eps,
        rope_base: base,
        tensors: parts.tensors,
    })
}

#[derive(Default)]
struct Parts {
    tensors: Vec<Tensor>,
    values: Vec<f32>,
}

impl Parts {
    fn add(&mut self, name: String, cols: usize, values: &[f32]) {
        self.tensors.push(Tensor {
            name,
            rows: values.len() / cols,
            cols,
        });
        self.values.extend_from_slice(values);
    }
}

/// Rows of heads, row i and row i + half of each brought side by side.
fn neighbours(values: &[f32], head_dim: usize, cols: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks_exact(head_dim * cols) {
        let (low, high) = head.split_at(head.len() / 2);
        for (low, high) in low.chunks_exact(cols).zip(high.chunks_exact(cols)) {
            out.extend_from_slice(low);
            out.extend_from_slice(high);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::neighbours;

    #[test]
    fn rotary_pairs_become_neighbours() {
        // Two heads of four rows of two elements.
        let values: Vec<f32> = (0..16).map(|value| value as f32).collect();
        let rows = [0, 2, 1, 3, 4, 6, 5, 7];
        let expected: Vec<f32> = rows
            .iter()
            .flat_map(|row| [2 * row, 2 * row + 1])
            .map(|v| v as f32)
            .collect();
        assert_eq!(neighbours(&values, 4, 2), expected);
    }
}
