//! Every gradient written by hand, against the one that burn derives from elementary operations.

use super::{
    AttentionShape, Cell, activation, attention, cross_attention, cross_entropy, dropout, embed,
    linear, norm, pool, recurrent,
};
use crate::random::Random;
use attentive::kernels::Backend;
use attentive::{
    Architecture, Biases, Config, Ffn, Norm, NormPlace, Output, Pooling, Position, Reading,
    RotaryStyle, Window,
};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation as burn_activation};

fn device() -> Device {
    Device::flex().autodiff()
}

fn leaf<const D: usize>(seed: u64, shape: [usize; D], scale: f32) -> Tensor<D> {
    let values = Random::new(seed).normal(shape.iter().product(), scale);
    Tensor::<D>::from_data(TensorData::new(values, shape), &device()).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().unwrap()
}

#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs() / scale;
        assert!(error <= 2e-5, "{what} at {at}: {got} instead of {want}");
    }
}

/// Compares outputs, and the gradients of a weighted sum of them.
#[track_caller]
fn compare<const D: usize>(
    what: &str,
    inputs: &[Tensor<D>],
    ours: impl Fn() -> Tensor<2>,
    theirs: impl Fn() -> Tensor<2>,
) {
    let run = |output: Tensor<2>| {
        let weight = leaf(99, output.dims(), 1.0).detach();
        let gradients = (output.clone() * weight).sum().backward();
        let of = |input: &Tensor<D>| values(input.grad(&gradients).unwrap());
        (values(output), inputs.iter().map(of).collect::<Vec<_>>())
    };
    let (out, gradients) = run(ours());
    let (want_out, want_gradients) = run(theirs());
    assert_close(what, &out, &want_out);
    for (got, want) in gradients.iter().zip(&want_gradients) {
        assert_close(&format!("gradient of {what}"), got, want);
    }
}

#[test]
fn products() {
    // Tiles, panels and blocks of tokens that are whole, too short, and one more than whole.
    for (n, inputs, outputs) in [
        (1, 1, 1),
        (5, 7, 3),
        (96, 16, 48),
        (257, 25, 50),
        (530, 40, 13),
    ] {
        let x = leaf(1, [n, inputs], 1.0);
        let weight = leaf(2, [outputs, inputs], 1.0);
        let ours = || linear(Backend::detect(), x.clone(), weight.clone());
        let theirs = || x.clone().matmul(weight.clone().transpose());
        let what = format!("{n} vectors times {outputs} by {inputs}");
        compare(&what, &[x.clone(), weight.clone()], ours, theirs);
    }
}

#[test]
fn norms() {
    for dim in [8, 30, 128] {
        for kind in [Norm::Rms, Norm::Layer] {
            let x = leaf(1, [5, dim], 2.0);
            let gain = leaf::<2>(2, [1, dim], 1.0);
            let ours = || {
                norm(
                    Backend::detect(),
                    x.clone(),
                    gain.clone().squeeze_dim::<1>(0),
                    kind,
                    1e-5,
                )
            };
            let theirs = || {
                let mean = x.clone().mean_dim(1);
                let x = match kind {
                    Norm::Rms => x.clone(),
                    Norm::Layer => x.clone() - mean,
                };
                let deviation = (x.clone() * x.clone()).mean_dim(1).add_scalar(1e-5).sqrt();
                x / deviation * gain.clone()
            };
            compare(
                &format!("{kind:?} {dim}"),
                &[x.clone(), gain.clone()],
                ours,
                theirs,
            );
        }
    }
}

#[test]
fn activations() {
    for ffn in [
        Ffn::SwiGlu,
        Ffn::GeGlu,
        Ffn::GeluTanh,
        Ffn::GeluErf,
        Ffn::Relu,
        Ffn::Silu,
    ] {
        let x = leaf(3, [7, 22], 2.0);
        let ours = || activation(Backend::detect(), x.clone(), ffn);
        let act = |x: Tensor<2>| match ffn {
            Ffn::SwiGlu | Ffn::Silu => burn_activation::silu(x),
            Ffn::GeGlu | Ffn::GeluTanh => burn_activation::gelu_approximate(x),
            Ffn::GeluErf => burn_activation::gelu(x),
            Ffn::Relu => burn_activation::relu(x),
        };
        let theirs = || match ffn.is_gated() {
            true => act(x.clone().slice([0..7, 0..11])) * x.clone().slice([0..7, 11..22]),
            false => act(x.clone()),
        };
        compare(&format!("{ffn:?}"), std::slice::from_ref(&x), ours, theirs);
    }
}

#[test]
fn cross_entropies() {
    let logits = leaf(4, [6, 50], 3.0);
    let targets = [3u32, 49, 0, 7, 7, 20];
    let ours =
        || cross_entropy(Backend::detect(), logits.clone(), targets.as_slice().into()).unsqueeze();
    let theirs = || {
        let ids = TensorData::new(targets.map(i64::from).to_vec(), [6, 1]);
        let ids = Tensor::<2, Int>::from_data(ids, &device());
        let chosen = burn_activation::log_softmax(logits.clone(), 1).gather(1, ids);
        chosen.sum().neg().unsqueeze()
    };
    compare("cross entropy", std::slice::from_ref(&logits), ours, theirs);
}

#[test]
fn embeddings() {
    let table = leaf(5, [10, 6], 1.0);
    let ids = [2u32, 9, 2, 0];
    let ours = || embed(table.clone(), ids.as_slice().into(), 1.5);
    let theirs = || {
        let data = TensorData::new(ids.map(i64::from).to_vec(), [4]);
        let ids = Tensor::<1, Int>::from_data(data, &device());
        table.clone().select(0, ids).mul_scalar(1.5)
    };
    compare("embedding", std::slice::from_ref(&table), ours, theirs);
}

fn config(heads: usize, kv_heads: usize, head_dim: usize, position: Position) -> Config {
    Config {
        architecture: Architecture::Decoder,
        vocab_len: 16,
        dim: 16,
        layers: 1,
        heads,
        kv_heads,
        head_dim,
        hidden_dim: 16,
        context_len: 64,
        norm: Norm::Rms,
        norm_place: NormPlace::Pre,
        norm_eps: 1e-5,
        final_norm: true,
        ffn: Ffn::Relu,
        position,
        tied: true,
        biases: Biases::NONE,
        attention: attentive::Attention::PLAIN,
        embedding_scale: 1.0,
        begin_of_text: None,
        end_of_text: None,
    }
}

#[test]
fn attentions() {
    let rotary = |style| Position::Rotary { style, base: 100.0 };
    let cases = [
        (config(1, 1, 8, Position::None), 1, 5),
        (config(2, 2, 16, Position::None), 2, 16),
        (config(4, 2, 24, rotary(RotaryStyle::Half)), 2, 21),
        (config(6, 2, 8, rotary(RotaryStyle::Interleaved)), 1, 37),
        (config(2, 1, 32, rotary(RotaryStyle::Half)), 1, 64),
    ];
    let windows = [(1, 0), (5, 0), (7, 3), (64, 2)].map(|(len, keep)| {
        let full_every = 0;
        Some(Window {
            len,
            keep,
            full_every,
        })
    });
    let cases = cases
        .into_iter()
        .zip(std::iter::once(None).chain(windows).cycle());
    for ((config, batch, seq_len), window) in cases {
        let n = batch * seq_len;
        let qkv = leaf(6, [n, config.qkv_dim()], 1.0);
        let shape = AttentionShape::new(&config, &vec![seq_len; batch])
            .unwrap()
            .with_window(window);
        let ours = || attention(Backend::detect(), qkv.clone(), shape.clone());
        let theirs = || {
            let (heads, kv_heads, head_dim) = (config.heads, config.kv_heads, config.head_dim);
            let part = |first: usize, count: usize| -> Tensor<4> {
                qkv.clone()
                    .slice([0..n, first * head_dim..(first + count) * head_dim])
                    .reshape([batch, seq_len, count, head_dim])
                    .swap_dims(1, 2)
            };
            let spread = |x: Tensor<4>| -> Tensor<4> {
                x.unsqueeze_dim::<5>(2)
                    .repeat_dim(2, heads / kv_heads)
                    .reshape([batch, heads, seq_len, head_dim])
            };
            let query = rotated(part(0, heads), config.position);
            let key = spread(rotated(part(heads, kv_heads), config.position));
            let value = spread(part(heads + kv_heads, kv_heads));
            let scores = query.matmul(key.swap_dims(2, 3)) / (head_dim as f32).sqrt();
            let later = Tensor::<2, Bool>::tril_mask([seq_len, seq_len], 0, &device());
            let scores = scores.mask_fill(later.unsqueeze::<4>(), f32::NEG_INFINITY);
            let scores = match window {
                None => scores,
                Some(Window { len, keep, .. }) => {
                    let hidden = |query: usize, key: usize| key >= keep && key + len <= query;
                    let hidden: Vec<bool> = (0..seq_len * seq_len)
                        .map(|at| hidden(at / seq_len, at % seq_len))
                        .collect();
                    let hidden = TensorData::new(hidden, [seq_len, seq_len]);
                    let hidden = Tensor::<2, Bool>::from_data(hidden, &device());
                    scores.mask_fill(hidden.unsqueeze::<4>(), f32::NEG_INFINITY)
                }
            };
            burn_activation::softmax(scores, 3)
                .matmul(value)
                .swap_dims(1, 2)
                .reshape([n, heads * head_dim])
        };
        let what = format!(
            "attention {heads}/{head_dim}",
            heads = config.heads,
            head_dim = config.head_dim
        );
        compare(&what, std::slice::from_ref(&qkv), ours, theirs);
    }
}

/// Sequences of several lengths, every token of which sees every other of its own.
#[test]
fn attentions_of_readers() {
    let reading = Reading {
        types: 0,
        embedding_norm: false,
        pooling: Pooling::Mean,
        pooler: false,
        output: Output::Classes(2),
        patch: 0,
    };
    let rotary = |style| Position::Rotary { style, base: 100.0 };
    for (base, lens) in [
        (config(1, 1, 8, Position::None), vec![5]),
        (config(2, 2, 16, Position::None), vec![16, 1, 33]),
        (config(4, 2, 24, rotary(RotaryStyle::Half)), vec![3, 21, 21]),
    ] {
        let config = Config {
            architecture: Architecture::Encoder(reading),
            ..base
        };
        let n: usize = lens.iter().sum();
        let qkv = leaf(6, [n, config.qkv_dim()], 1.0);
        let shape = AttentionShape::new(&config, &lens).unwrap();
        let ours = || attention(Backend::detect(), qkv.clone(), shape.clone());
        let theirs = || {
            let (heads, kv_heads, head_dim) = (config.heads, config.kv_heads, config.head_dim);
            let mut at = 0;
            let each = |len: &usize| {
                let rows = at..at + len;
                at += len;
                let part = |first: usize, count: usize| -> Tensor<4> {
                    qkv.clone()
                        .slice([rows.clone(), first * head_dim..(first + count) * head_dim])
                        .reshape([1, *len, count, head_dim])
                        .swap_dims(1, 2)
                };
                let spread = |x: Tensor<4>| -> Tensor<4> {
                    x.unsqueeze_dim::<5>(2)
                        .repeat_dim(2, heads / kv_heads)
                        .reshape([1, heads, *len, head_dim])
                };
                let query = rotated(part(0, heads), config.position);
                let key = spread(rotated(part(heads, kv_heads), config.position));
                let value = spread(part(heads + kv_heads, kv_heads));
                let scores = query.matmul(key.swap_dims(2, 3)) / (head_dim as f32).sqrt();
                burn_activation::softmax(scores, 3)
                    .matmul(value)
                    .swap_dims(1, 2)
                    .reshape([*len, heads * head_dim])
            };
            Tensor::cat(lens.iter().map(each).collect(), 0)
        };
        let what = format!("attention of readers, {lens:?}");
        compare(&what, std::slice::from_ref(&qkv), ours, theirs);
    }
}

/// Texts of several lengths, each to a source of another.
#[test]
fn attentions_to_sources() {
    for (config, lens, sources) in [
        (config(1, 1, 8, Position::None), vec![5], vec![1]),
        (
            config(2, 2, 16, Position::None),
            vec![1, 16, 33],
            vec![17, 16, 2],
        ),
        (config(4, 2, 24, Position::None), vec![3, 21], vec![50, 7]),
    ] {
        let (heads, kv_heads, head_dim) = (config.heads, config.kv_heads, config.head_dim);
        let count = |lens: &[usize]| lens.iter().sum::<usize>();
        let queries = leaf(6, [count(&lens), heads * head_dim], 1.0);
        let keys = leaf(7, [count(&sources), 2 * kv_heads * head_dim], 1.0);
        let shape = AttentionShape::to_sources(&config, &lens, &sources).unwrap();
        let backend = Backend::detect();
        let ours = || cross_attention(backend, queries.clone(), keys.clone(), shape.clone());
        let theirs = || {
            let (mut at, mut source_at) = (0, 0);
            let each = |(len, source): (&usize, &usize)| {
                let (rows, source_rows) = (at..at + len, source_at..source_at + source);
                at += len;
                source_at += source;
                let part = |all: &Tensor<2>, rows: &std::ops::Range<usize>, first: usize| {
                    let columns = first * head_dim..(first + 1) * head_dim;
                    all.clone().slice([rows.clone(), columns])
                };
                let head = |head: usize| {
                    let key = head / (heads / kv_heads);
                    let query = part(&queries, &rows, head);
                    let value = part(&keys, &source_rows, key + kv_heads);
                    let key = part(&keys, &source_rows, key);
                    let scores = query.matmul(key.transpose()) / (head_dim as f32).sqrt();
                    burn_activation::softmax(scores, 1).matmul(value)
                };
                Tensor::cat((0..heads).map(head).collect(), 1)
            };
            Tensor::cat(lens.iter().zip(&sources).map(each).collect(), 0)
        };
        let what = format!("attention of {lens:?} to {sources:?}");
        compare(&what, &[queries.clone(), keys.clone()], ours, theirs);
    }
    let config = config(1, 1, 8, Position::None);
    assert!(AttentionShape::to_sources(&config, &[1, 2], &[3]).is_err());
}

#[test]
fn pools() {
    let x = leaf(7, [9, 6], 1.0);
    let lens = [3, 1, 5];
    for pooling in [Pooling::Mean, Pooling::First] {
        let ours = || pool(x.clone(), pooling, &lens);
        let theirs = || {
            let mut at = 0;
            let each = |len: usize| {
                let counted = match pooling {
                    Pooling::Mean => len,
                    _ => 1,
                };
                let rows = x.clone().slice([at..at + counted, 0..6]);
                at += len;
                rows.mean_dim(0)
            };
            Tensor::cat(lens.map(each).to_vec(), 0)
        };
        compare(
            &format!("{pooling:?}"),
            std::slice::from_ref(&x),
            ours,
            theirs,
        );
    }
}

#[test]
fn dropouts() {
    let x = leaf(8, [200, 51], 1.0);
    let rate = 0.25;
    let kept = values(dropout(x.clone(), rate, 3).detach());
    let share = kept.iter().filter(|x| **x == 0.0).count() as f32 / kept.len() as f32;
    assert!((share - rate).abs() < 0.02, "{share}");
    let mask: Vec<f32> = kept
        .iter()
        .map(|x| if *x == 0.0 { 0.0 } else { 1.0 / (1.0 - rate) })
        .collect();
    let mask = Tensor::<2>::from_data(TensorData::new(mask, [200, 51]), &device());
    let ours = || dropout(x.clone(), rate, 3);
    let theirs = || x.clone() * mask.clone();
    compare("dropout", std::slice::from_ref(&x), ours, theirs);
    assert!(values(dropout(x.clone(), rate, 4)) != kept, "another seed");
}

#[test]
fn recurrences() {
    let (width, lens) = (5, [4, 1, 3]);
    for cell in [Cell::Lstm, Cell::Gru] {
        let gates = cell.gates() * width;
        let inputs = leaf(9, [8, gates], 1.0);
        let weight = leaf(10, [gates, width], 0.7);
        let ours = || {
            recurrent(
                Backend::detect(),
                cell,
                inputs.clone(),
                weight.clone(),
                &lens,
            )
        };
        let theirs = || {
            let mut rows = Vec::new();
            let mut at = 0;
            for len in lens {
                let zeros = || Tensor::<2>::zeros([1, width], &device());
                let (mut hidden, mut inner) = (zeros(), zeros());
                for row in at..at + len {
                    let input = inputs.clone().slice([row..row + 1, 0..gates]);
                    let product = hidden.clone().matmul(weight.clone().transpose());
                    let gate = |x: &Tensor<2>, gate: usize| {
                        x.clone().slice([0..1, gate * width..(gate + 1) * width])
                    };
                    let sum = input.clone() + product.clone();
                    let sigmoid = |index| burn_activation::sigmoid(gate(&sum, index));
                    match cell {
                        Cell::Lstm => {
                            inner = sigmoid(1) * inner + sigmoid(0) * gate(&sum, 2).tanh();
                            hidden = sigmoid(3) * inner.clone().tanh();
                        }
                        Cell::Gru => {
                            let (reset, update) = (sigmoid(0), sigmoid(1));
                            let new = (gate(&input, 2) + reset * gate(&product, 2)).tanh();
                            hidden = new.clone() + update * (hidden - new);
                        }
                    }
                    rows.push(hidden.clone());
                }
                at += len;
            }
            Tensor::cat(rows, 0)
        };
        compare(
            &format!("{cell:?}"),
            &[inputs.clone(), weight.clone()],
            ours,
            theirs,
        );
    }
}

/// Rotary positions from burn's elementary operations.
fn rotated(x: Tensor<4>, position: Position) -> Tensor<4> {
    let Position::Rotary { style, base } = position else {
        return x;
    };
    let [batch, heads, seq_len, head_dim] = x.dims();
    let pairs = head_dim / 2;
    let table = |of: fn(f32) -> f32| {
        let angle = |at: usize| {
            let exponent = -((at % pairs) as f32) / pairs as f32;
            of((at / pairs) as f32 * base.powf(exponent))
        };
        let data = TensorData::new((0..seq_len * pairs).map(angle).collect(), [seq_len, pairs]);
        Tensor::<2>::from_data(data, &device()).unsqueeze::<4>()
    };
    let (cosine, sine) = (table(f32::cos), table(f32::sin));
    let pair = |x: Tensor<4>, which: usize| match style {
        RotaryStyle::Half => x.slice([
            0..batch,
            0..heads,
            0..seq_len,
            which * pairs..(which + 1) * pairs,
        ]),
        RotaryStyle::Interleaved => x
            .reshape([batch, heads, seq_len, pairs, 2])
            .slice([0..batch, 0..heads, 0..seq_len, 0..pairs, which..which + 1])
            .reshape([batch, heads, seq_len, pairs]),
    };
    let (a, b) = (pair(x.clone(), 0), pair(x, 1));
    let first = a.clone() * cosine.clone() - b.clone() * sine.clone();
    let second = b * cosine + a * sine;
    match style {
        RotaryStyle::Half => Tensor::cat(vec![first, second], 3),
        RotaryStyle::Interleaved => Tensor::<4>::stack::<5>(vec![first, second], 4)
            .reshape([batch, heads, seq_len, head_dim]),
    }
}
