//! A decoder in plain f64, from row-major weights: the oracle of the forward pass.

use attentive::{Config, Ffn, Norm, NormPlace, Output, Pooling, Position, Role, RotaryStyle};

/// A row of attention's weights: whether to a source, layer, position, head, weights.
pub(crate) type Row = (bool, usize, usize, usize, Vec<f64>);

std::thread_local! {
    static ROWS: std::cell::RefCell<Vec<Row>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// The rows of everything that this thread ran since it was asked last.
pub(crate) fn take_rows() -> Vec<Row> {
    ROWS.take()
}

fn keep_row(row: Row) {
    ROWS.with_borrow_mut(|rows| rows.push(row));
}

/// Row-major values of a tensor.
pub(crate) type Weights<'a> = &'a dyn Fn(Role, Option<usize>) -> Vec<f64>;

/// Logits after each token, (n, vocab).
pub(crate) fn logits(config: &Config, weights: Weights<'_>, ids: &[u32]) -> Vec<Vec<f64>> {
    let role = if config.tied {
        Role::TokenEmbedding
    } else {
        Role::OutputWeight
    };
    stack(config, weights, Side::Own(None), ids, &[])
        .iter()
        .map(|row| linear(config, weights, None, [role, Role::OutputBias], row))
        .collect()
}

/// Logits after each token of a text that attends to a source, (n, vocab).
pub(crate) fn translate(
    config: &Config,
    weights: Weights<'_>,
    source: &[u32],
    ids: &[u32],
) -> Vec<Vec<f64>> {
    let heard = stack(config, weights, Side::Source, source, &[]);
    answer(config, weights, &heard, ids)
}

/// The same for a source of frames.
pub(crate) fn transcribe(
    config: &Config,
    weights: Weights<'_>,
    frames: &[Vec<f64>],
    ids: &[u32],
) -> Vec<Vec<f64>> {
    let roles = [Role::Conv1Weight, Role::Conv1Bias];
    let between = convolve(config, weights, roles, frames, 1);
    let roles = [Role::Conv2Weight, Role::Conv2Bias];
    let vectors = convolve(config, weights, roles, &between, 2);
    let none = vec![0; vectors.len()];
    let heard = stack(config, weights, Side::Sound(&vectors), &none, &[]);
    answer(config, weights, &heard, ids)
}

/// GELU of a convolution over three rows, zeros beyond both ends; every `stride`th place.
fn convolve(
    config: &Config,
    weights: Weights<'_>,
    roles: [Role; 2],
    input: &[Vec<f64>],
    stride: usize,
) -> Vec<Vec<f64>> {
    let (kernel, bias) = (weights(roles[0], None), weights(roles[1], None));
    let cols = input[0].len();
    let element = |place: usize, row: usize| -> f64 {
        let mut sum = bias[row];
        for (offset, weights) in kernel[row * 3 * cols..][..3 * cols]
            .chunks(cols)
            .enumerate()
        {
            let from = (place + offset).checked_sub(1).and_then(|at| input.get(at));
            if let Some(from) = from {
                sum += weights.iter().zip(from).map(|(w, x)| w * x).sum::<f64>();
            }
        }
        0.5 * sum * (1.0 + libm::erf(sum / 2f64.sqrt()))
    };
    let places = (0..input.len()).step_by(stride);
    let row = |place| (0..config.dim).map(|row| element(place, row)).collect();
    places.map(row).collect()
}

/// Logits after each token of a text that attends to `heard`.
fn answer(config: &Config, weights: Weights<'_>, heard: &[Vec<f64>], ids: &[u32]) -> Vec<Vec<f64>> {
    let role = if config.tied {
        Role::TokenEmbedding
    } else {
        Role::OutputWeight
    };
    stack(config, weights, Side::Own(Some(heard)), ids, &[])
        .iter()
        .map(|row| linear(config, weights, None, [role, Role::OutputBias], row))
        .collect()
}

/// Which layers a text goes through.
#[derive(Clone, Copy)]
enum Side<'a> {
    /// The decoder's, or an encoder's, with what was made of a source.
    Own(Option<&'a [Vec<f64>]>),
    /// Those that read a source.
    Source,
    /// The same, behind a stem that made these vectors.
    Sound(&'a [Vec<f64>]),
    /// An encoder's, behind its first token.
    Patches(&'a [Vec<f64>]),
}

/// Hidden vectors of an encoder, (n, dim), and its output.
pub(crate) fn encode(
    config: &Config,
    weights: Weights<'_>,
    ids: &[u32],
    types: &[u32],
) -> (Vec<Vec<f64>>, Vec<f64>) {
    let x = stack(config, weights, Side::Own(None), ids, types);
    output(config, weights, x)
}

/// The same for an encoder of patches.
pub(crate) fn encode_patches(
    config: &Config,
    weights: Weights<'_>,
    patches: &[Vec<f64>],
) -> (Vec<Vec<f64>>, Vec<f64>) {
    let roles = [Role::PatchWeight, Role::PatchBias];
    let embedded = |patch: &Vec<f64>| linear(config, weights, None, roles, patch);
    let vectors: Vec<Vec<f64>> = patches.iter().map(embedded).collect();
    let ids = vec![0; vectors.len() + 1];
    let x = stack(config, weights, Side::Patches(&vectors), &ids, &[]);
    output(config, weights, x)
}

fn output(config: &Config, weights: Weights<'_>, x: Vec<Vec<f64>>) -> (Vec<Vec<f64>>, Vec<f64>) {
    let reading = config.reading().expect("an encoder");
    let head = [Role::HeadWeight, Role::HeadBias];
    let of_tokens = || -> Vec<f64> {
        let rows = x.iter().map(|row| linear(config, weights, None, head, row));
        rows.flatten().collect()
    };
    let mut pooled = match reading.pooling {
        Pooling::Mean => (0..config.dim)
            .map(|d| x.iter().map(|row| row[d]).sum::<f64>() / x.len() as f64)
            .collect(),
        _ => x[0].clone(),
    };
    if reading.pooler {
        let roles = [Role::PoolerWeight, Role::PoolerBias];
        pooled = linear(config, weights, None, roles, &pooled);
        pooled.iter_mut().for_each(|x| *x = x.tanh());
    }
    let out = match reading.output {
        Output::Hidden => x.concat(),
        Output::Tags(_) | Output::Span => of_tokens(),
        Output::Classes(_) => linear(config, weights, None, head, &pooled),
        Output::Embedding { unit } => {
            let length = match unit {
                true => pooled.iter().map(|x| x * x).sum::<f64>().sqrt(),
                false => 1.0,
            };
            pooled.iter().map(|x| x / length).collect()
        }
    };
    (x, out)
}

/// The residual stream after the last layer, (n, dim), normed where the model does.
fn stack(
    config: &Config,
    weights: Weights<'_>,
    side: Side<'_>,
    ids: &[u32],
    types: &[u32],
) -> Vec<Vec<f64>> {
    let reads = matches!(side, Side::Source | Side::Sound(_));
    let (layers, final_norm, positions) = match (side, config.source()) {
        (Side::Source | Side::Sound(_), Some(source)) => (
            config.layers..config.layers + source.layers,
            [Role::SourceNormGain, Role::SourceNormBias],
            (source.position, Role::SourcePositionEmbedding),
        ),
        _ => (
            0..config.layers,
            [Role::FinalNormGain, Role::FinalNormBias],
            (config.position, Role::PositionEmbedding),
        ),
    };
    let dim = config.dim;
    let embedding = weights(Role::TokenEmbedding, None);
    let mut x: Vec<Vec<f64>> = Vec::new();
    for (position, &id) in ids.iter().enumerate() {
        let row = &embedding[id as usize * dim..][..dim];
        let scale = f64::from(config.embedding_scale);
        x.push(match side {
            Side::Sound(vectors) => vectors[position].clone(),
            Side::Patches(vectors) if position > 0 => vectors[position - 1].clone(),
            _ => row.iter().map(|e| e * scale).collect(),
        });
        add_position(config, weights, positions, position, &mut x[position]);
        if config.has(Role::TypeEmbedding) {
            let kind = types.get(position).copied().unwrap_or(0) as usize;
            let table = weights(Role::TypeEmbedding, None);
            let row = &table[kind * dim..];
            x[position].iter_mut().zip(row).for_each(|(x, t)| *x += t);
        }
        if config.has(Role::EmbeddingNormGain) {
            let roles = [Role::EmbeddingNormGain, Role::EmbeddingNormBias];
            x[position] = norm(config, weights, None, roles, &x[position]);
        }
    }
    for layer in layers {
        let at = Some(layer);
        block(
            config,
            weights,
            at,
            [Role::AttnNormGain, Role::AttnNormBias],
            &mut x,
            |input| attention(config, weights, at, reads, input),
        );
        if let Side::Own(Some(heard)) = side {
            let roles = [Role::CrossNormGain, Role::CrossNormBias];
            block(config, weights, at, roles, &mut x, |input| {
                cross_attention(config, weights, at, heard, input)
            });
        }
        block(
            config,
            weights,
            at,
            [Role::FfnNormGain, Role::FfnNormBias],
            &mut x,
            |input| {
                input
                    .iter()
                    .map(|row| ffn(config, weights, at, row))
                    .collect()
            },
        );
    }
    x.iter()
        .map(|row| {
            if config.final_norm {
                norm(config, weights, None, final_norm, row)
            } else {
                row.clone()
            }
        })
        .collect()
}

fn block(
    config: &Config,
    weights: Weights<'_>,
    at: Option<usize>,
    roles: [Role; 2],
    x: &mut [Vec<f64>],
    inner: impl Fn(&[Vec<f64>]) -> Vec<Vec<f64>>,
) {
    let normed = |x: &[Vec<f64>]| -> Vec<Vec<f64>> {
        x.iter()
            .map(|row| norm(config, weights, at, roles, row))
            .collect()
    };
    let pre = config.norm_place == NormPlace::Pre;
    let out = if pre { inner(&normed(x)) } else { inner(x) };
    for (x, out) in x.iter_mut().zip(&out) {
        x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
    }
    if !pre {
        let normed = normed(x);
        x.clone_from_slice(&normed);
    }
}

fn norm(
    config: &Config,
    weights: Weights<'_>,
    at: Option<usize>,
    roles: [Role; 2],
    x: &[f64],
) -> Vec<f64> {
    let n = x.len() as f64;
    let gain = weights(roles[0], at);
    let mean = match config.norm {
        Norm::Rms => 0.0,
        Norm::Layer => x.iter().sum::<f64>() / n,
    };
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let factor = 1.0 / (variance + f64::from(config.norm_eps)).sqrt();
    let mut out: Vec<f64> = x
        .iter()
        .zip(&gain)
        .map(|(x, g)| (x - mean) * factor * g)
        .collect();
    if config.has(roles[1]) {
        out.iter_mut()
            .zip(weights(roles[1], at))
            .for_each(|(o, b)| *o += b);
    }
    out
}

fn linear(
    config: &Config,
    weights: Weights<'_>,
    at: Option<usize>,
    roles: [Role; 2],
    x: &[f64],
) -> Vec<f64> {
    let mut y: Vec<f64> = weights(roles[0], at)
        .chunks(x.len())
        .map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
        .collect();
    if config.has(roles[1]) {
        y.iter_mut()
            .zip(weights(roles[1], at))
            .for_each(|(y, b)| *y += b);
    }
    y
}

fn attention(
    config: &Config,
    weights: Weights<'_>,
    at: Option<usize>,
    reads: bool,
    input: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let head_dim = config.head_dim;
    let group = config.heads / config.kv_heads;
    let mut qkv: Vec<Vec<f64>> = input
        .iter()
        .map(|x| linear(config, weights, at, [Role::QkvWeight, Role::QkvBias], x))
        .collect();
    for (position, row) in qkv.iter_mut().enumerate() {
        for head in row
            .chunks_mut(head_dim)
            .take(config.heads + config.kv_heads)
        {
            rotate(config, position, head);
        }
    }
    let sinks = match config.has(Role::AttnSinks) {
        true => weights(Role::AttnSinks, at),
        false => Vec::new(),
    };
    (0..input.len())
        .map(|t| {
            let mut out = Vec::new();
            for head in 0..config.heads {
                let q = &qkv[t][head * head_dim..][..head_dim];
                let kv_head = head / group;
                let k_at = (config.heads + kv_head) * head_dim;
                let v_at = (config.heads + config.kv_heads + kv_head) * head_dim;
                let last = if reads || config.reading().is_some() {
                    input.len() - 1
                } else {
                    t
                };
                let scores: Vec<f64> = (0..=last)
                    .map(|s| {
                        if !sees(config, at, t, s) {
                            return 0.0;
                        }
                        let dot: f64 = q.iter().zip(&qkv[s][k_at..]).map(|(q, k)| q * k).sum();
                        let score = dot / (head_dim as f64).sqrt();
                        match config.attention.soft_cap.map(f64::from) {
                            Some(cap) => (cap * (score / cap).tanh()).exp(),
                            None => score.exp(),
                        }
                    })
                    .collect();
                let sink = sinks.get(head).map_or(0.0, |sink| sink.exp());
                let sum: f64 = sink + scores.iter().sum::<f64>();
                let weights = scores.iter().map(|p| p / sum).collect();
                keep_row((false, at.expect("a layer"), t, head, weights));
                for d in 0..head_dim {
                    out.push(
                        scores
                            .iter()
                            .enumerate()
                            .map(|(s, p)| p / sum * qkv[s][v_at + d])
                            .sum(),
                    );
                }
            }
            linear(config, weights, at, [Role::OutWeight, Role::OutBias], &out)
        })
        .collect()
}

/// Attention of each token to all vectors of a source.
fn cross_attention(
    config: &Config,
    weights: Weights<'_>,
    at: Option<usize>,
    source: &[Vec<f64>],
    input: &[Vec<f64>],
) -> Vec<Vec<f64>> {
    let head_dim = config.head_dim;
    let kv_dim = config.kv_heads * head_dim;
    let project = |roles, rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let rows = rows.iter().map(|x| linear(config, weights, at, roles, x));
        rows.collect()
    };
    let queries = project([Role::CrossQWeight, Role::CrossQBias], input);
    let keys = project([Role::CrossKvWeight, Role::CrossKvBias], source);
    let head = |t: usize, q: &[f64], index: usize| -> Vec<f64> {
        let from = index / (config.heads / config.kv_heads) * head_dim;
        let q = &q[index * head_dim..][..head_dim];
        let score = |row: &Vec<f64>| -> f64 {
            let dot: f64 = q.iter().zip(&row[from..]).map(|(q, k)| q * k).sum();
            let score = dot / (head_dim as f64).sqrt();
            match config.attention.soft_cap.map(f64::from) {
                Some(cap) => (cap * (score / cap).tanh()).exp(),
                None => score.exp(),
            }
        };
        let weights: Vec<f64> = keys.iter().map(score).collect();
        let sum: f64 = weights.iter().sum();
        let shares = weights.iter().map(|w| w / sum).collect();
        keep_row((true, at.expect("a layer"), t, index, shares));
        let value = |d: usize| {
            let pairs = weights.iter().zip(&keys);
            pairs.map(|(w, row)| w / sum * row[kv_dim + from + d]).sum()
        };
        (0..head_dim).map(value).collect()
    };
    let rows = queries.iter().enumerate().map(|(t, q)| {
        let heads = 0..config.heads;
        let out: Vec<f64> = heads.flat_map(|index| head(t, q, index)).collect();
        let roles = [Role::CrossOutWeight, Role::CrossOutBias];
        linear(config, weights, at, roles, &out)
    });
    rows.collect()
}

/// Whether the query of token `t` sees the key of token `s`, which is not later.
fn sees(config: &Config, at: Option<usize>, t: usize, s: usize) -> bool {
    let Some(window) = config.attention.window else {
        return true;
    };
    let number = at.expect("a layer") + 1;
    let is_full = number.is_multiple_of(window.full_every);
    is_full || t - s < window.len || s < window.keep
}

fn ffn(config: &Config, weights: Weights<'_>, at: Option<usize>, x: &[f64]) -> Vec<f64> {
    let up = linear(config, weights, at, [Role::UpWeight, Role::UpBias], x);
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let gelu_tanh = |x: f64| {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        0.5 * x * (1.0 + inner.tanh())
    };
    let gelu_erf = |x: f64| 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt()));
    let gated = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
        let (gate, up) = up.split_at(config.hidden_dim);
        gate.iter().zip(up).map(|(g, u)| f(*g) * u).collect()
    };
    let plain = |f: &dyn Fn(f64) -> f64| -> Vec<f64> { up.iter().map(|x| f(*x)).collect() };
    let hidden = match config.ffn {
        Ffn::SwiGlu => gated(&silu),
        Ffn::GeGlu => gated(&gelu_tanh),
        Ffn::GeluTanh => plain(&gelu_tanh),
        Ffn::GeluErf => plain(&gelu_erf),
        Ffn::Relu => plain(&|x: f64| x.max(0.0)),
        Ffn::Silu => plain(&silu),
    };
    linear(
        config,
        weights,
        at,
        [Role::DownWeight, Role::DownBias],
        &hidden,
    )
}

fn add_position(
    config: &Config,
    weights: Weights<'_>,
    (kind, role): (Position, Role),
    position: usize,
    x: &mut [f64],
) {
    let dim = config.dim;
    match kind {
        Position::Learned => {
            let table = weights(role, None);
            x.iter_mut()
                .zip(&table[position * dim..])
                .for_each(|(x, p)| *x += p);
        }
        Position::Sinusoidal => {
            for (i, x) in x.iter_mut().enumerate() {
                let angle = position as f64 / 10_000f64.powf((i / 2 * 2) as f64 / dim as f64);
                *x += if i % 2 == 0 { angle.sin() } else { angle.cos() };
            }
        }
        Position::None | Position::Rotary { .. } => {}
    }
}

fn rotate(config: &Config, position: usize, head: &mut [f64]) {
    let Position::Rotary { style, base } = config.position else {
        return;
    };
    let half = head.len() / 2;
    for i in 0..half {
        let angle = position as f64 * f64::from(base).powf(-(i as f64) / half as f64);
        let (a, b) = match style {
            RotaryStyle::Half => (i, i + half),
            RotaryStyle::Interleaved => (2 * i, 2 * i + 1),
        };
        let (x, y) = (head[a], head[b]);
        head[a] = x * angle.cos() - y * angle.sin();
        head[b] = y * angle.cos() + x * angle.sin();
    }
}
