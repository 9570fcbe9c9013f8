//! What the driver and its workers say to each other: one JSON object a line, a [`Request`] on the worker's standard
//! input, a [`Reply`] on its standard output. Tensors are files of little-endian numbers in a directory that the
//! request names. `python/worker.py` speaks the same.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// From the driver.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Who is there? Answered by [`Reply::Peers`].
    Hello,
    /// Prepare to do `task`, do it once, and write the result as f32 to `out` in `dir`. Answered by [`Reply::Ready`].
    SetUp {
        /// One of the names in [`Reply::Peers`].
        peer: String,
        /// Where the inputs lie.
        dir: PathBuf,
        /// Name of the result's file in `dir`.
        out: String,
        /// How many threads may work.
        threads: usize,
        /// What is to be done.
        task: Box<Task>,
    },
    /// Do the work so often. Answered by [`Reply::Seconds`].
    Run {
        /// One that was set up.
        peer: String,
        /// Timed runs.
        runs: usize,
        /// Whether an untimed run comes first.
        warm: bool,
    },
    /// Forget every peer's task. Answered by [`Reply::Ready`].
    Clear,
}

/// From a worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The peers that this worker runs.
    Peers {
        /// In the order of the report.
        peers: Vec<Peer>,
    },
    /// Done.
    Ready,
    /// Done, and timed by the worker's own clock.
    Seconds {
        /// Of all timed runs.
        seconds: f64,
    },
    /// The peer has no such operation.
    Unsupported {
        /// What it lacks.
        reason: String,
    },
    /// It has, but it did not work.
    Failed {
        /// What it said.
        reason: String,
    },
}

/// A peer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Peer {
    /// Short, as in the tables' heads.
    pub name: String,
    /// Version, and what of the machine it says to use.
    pub version: String,
}

/// What a case computes.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// softmax(q·kᵀ / √head_dim)·v: `q.f32` (q_len, group, head_dim), `k.f32` and `v.f32` (kv_len, head_dim).
    Attention {
        /// Element type of keys and values: f32, f16, bf16 or i8.
        kv: String,
        /// Whether query i sees only the keys up to its own place; the last query is the last key.
        causal: bool,
        /// Elements of a head.
        head_dim: usize,
        /// Query heads on the one key-value head.
        group: usize,
        /// Queries of each head.
        q_len: usize,
        /// Keys.
        kv_len: usize,
    },
    /// y = x·wᵀ: `weights.f32` (rows, cols), `x.f32` (n, cols); the result is (n, rows).
    Product {
        /// Element type of the weights: f32, f16, i8 or i4.
        format: String,
        /// Of the weights.
        rows: usize,
        /// Of the weights.
        cols: usize,
        /// Vectors.
        n: usize,
        /// Equal matrices that one run goes through, each elsewhere in memory.
        copies: usize,
    },
    /// A decoder of the llama family: reads `prompt.u32`, or writes `answer` tokens after its first one. The result is
    /// the logits after the whole prompt.
    Generation {
        /// The GGUF file; written from `model` where it is not there.
        gguf: PathBuf,
        /// The model whose weights are in `tensors.f32`, when there is no file of it yet.
        model: Option<Llama>,
        /// Tokens of the prompt.
        prompt_len: usize,
        /// Tokens to write; 0 to read the prompt.
        answer: usize,
    },
    /// An encoder that reads `tokens.u32`. The result is the text's vector, divided by its length: the mean of the
    /// tokens' vectors, unless the file gives one for the text.
    Embedding {
        /// The model, whose inputs are `input_ids` and what else of BERT's it names.
        onnx: PathBuf,
        /// Tokens of the text.
        len: usize,
    },
}

/// A decoder of the llama family.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Llama {
    /// Element type of the matrices: i8 (Q8_0) or i4 (Q4_0).
    pub weights: String,
    /// Tokens of the vocabulary.
    pub vocab_len: usize,
    /// Width.
    pub dim: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Width between the feed-forward matrices.
    pub hidden_dim: usize,
    /// Longest text.
    pub context_len: usize,
    /// In the norms.
    pub norm_eps: f32,
    /// Of the rotary positions.
    pub rope_base: f32,
    /// In the order in which they lie in `tensors.f32`.
    pub tensors: Vec<Tensor>,
}

/// A tensor of a model.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tensor {
    /// As GGUF calls it.
    pub name: String,
    /// 1 for a vector.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
}
