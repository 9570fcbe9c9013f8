//! Each operation against the formula in f64, and every backend against plain code, to the bit.

use super::*;
use crate::Backend;
use crate::ops::position::RotaryStyle;
use crate::testing::{Rng, STRIDE, backends};
use core::ops::Range;
use std::{vec, vec::Vec};

fn bytes(random: &mut Rng, len: usize) -> Vec<i8> {
    (0..len).map(|_| (random.bits() >> 40) as i8).collect()
}

/// Rows filled up to the stride with what must not be read as weights: their product with zeros.
fn rows(random: &mut Rng, rows: usize, cols: usize) -> Vec<i8> {
    let mut weights = vec![0; rows * stride(cols)];
    for row in weights.chunks_exact_mut(stride(cols)) {
        for weight in row.iter_mut().take(cols) {
            *weight = (random.bits() >> 40) as i8;
        }
    }
    weights
}

#[test]
fn products_are_exact_on_every_backend() {
    let mut random = Rng(1);
    for cols in (1..=100).chain([255, 256, 1000]).step_by(STRIDE) {
        let (n, vectors) = (5, cols % 6 + 1);
        let mut weights = rows(&mut random, n, cols);
        let mut x = bytes(&mut random, vectors * cols);
        if cols % 3 == 0 {
            // The extremes.
            for row in weights.chunks_exact_mut(stride(cols)) {
                row[..cols].fill(-128);
            }
            x.fill(-128);
        }
        let multipliers = [1, 0x1234_5678, i32::MAX, 4_000_000, 0];
        let biases = [0, -(1 << 29), 1 << 29, 77, -1];
        let mut pairs = [0; 5];
        pair_sums(cols, &weights, &mut pairs).unwrap();
        let matrix = Product::new(
            n,
            cols,
            Weights::I8(&weights),
            &multipliers,
            &biases,
            &pairs,
        )
        .unwrap();
        for backend in backends() {
            for first in 0..n {
                let mut out = vec![0; vectors * (n - first)];
                product(backend, &matrix, &x, first, &mut out).unwrap();
                for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact(n - first)) {
                    for (row, out) in (first..n).zip(out) {
                        let row_weights = &weights[row * stride(cols)..][..cols];
                        let products = row_weights.iter().zip(x);
                        let sum: i64 = products.map(|(w, x)| i64::from(*w) * i64::from(*x)).sum();
                        let exact = (sum + i64::from(biases[row])) as i128;
                        let scaled = exact * i128::from(multipliers[row]);
                        assert_eq!(i128::from(*out), (scaled + (1 << 31)).div_euclid(1 << 32));
                    }
                }
            }
        }
    }
}

#[test]
fn products_of_four_bits_are_those_of_bytes() {
    let mut random = Rng(11);
    for cols in (1..=100).chain([255, 256, 1000]).step_by(STRIDE) {
        let (n, vectors) = (QUAD * (cols % 3 + 1), cols % 6 + 1);
        let mut x = bytes(&mut random, vectors * cols);
        let mut levels: Vec<i8> = bytes(&mut random, n * cols)
            .iter()
            .map(|w| w >> 4)
            .collect();
        if cols % 3 == 0 {
            x.fill(-128);
            levels.fill(if cols % 2 == 0 { -8 } else { 7 });
        }
        let multipliers: Vec<i32> = (0..n).map(|row| (row as i32) << 26).collect();
        let biases: Vec<i32> = (0..n).map(|row| (row as i32 - 3) << 26).collect();
        let mut weights = vec![0; n * stride(cols)];
        for (row, levels) in (weights.chunks_exact_mut(stride(cols))).zip(levels.chunks(cols)) {
            for (weight, level) in row.iter_mut().zip(levels) {
                *weight = level << 4;
            }
        }
        let mut pairs = vec![0; n];
        pair_sums(cols, &weights, &mut pairs).unwrap();
        let mut quads = vec![0; quads_len(n, cols)];
        pack_quads(cols, &levels, &mut quads).unwrap();
        let mut quad_pairs = vec![0; n / QUAD * 2];
        quad_sums(cols, &quads, &mut quad_pairs).unwrap();
        let of = |weights, pairs| Product::new(n, cols, weights, &multipliers, &biases, pairs);
        let wide = of(Weights::I8(&weights), &pairs).unwrap();
        let narrow = of(Weights::I4(&quads), &quad_pairs).unwrap();
        for backend in backends() {
            for first in (0..n).step_by(QUAD) {
                for rows in (QUAD..=n - first).step_by(QUAD) {
                    let mut wanted = vec![0; vectors * rows];
                    product(backend, &wide, &x, first, &mut wanted).unwrap();
                    let mut out = vec![1; vectors * rows];
                    product(backend, &narrow, &x, first, &mut out).unwrap();
                    assert_eq!(out, wanted, "{cols} columns, {first} {rows} of {n}");
                }
            }
        }
    }
}

#[test]
fn levels_beyond_four_bits_are_cut() {
    let mut quads = [0; 16];
    pack_quads(2, &[-8, 7, 100, -100, 0, 1, -1, 3], &mut quads).unwrap();
    assert_eq!(quads[..3], [0xf8f0, 0x390f, 0x0888]);
    assert!(pack_quads(2, &[0; 3], &mut quads).is_err());
    assert!(pack_quads(2, &[0; 6], &mut quads).is_err());
    assert!(quad_sums(2, &quads, &mut [0; 3]).is_err());
}

#[test]
fn powers_are_right_to_their_last_bit() {
    for d in 0..300 {
        let exact = (-f64::from(d) / 16.0).exp2() * f64::from(POWER_ONE);
        // Two roundings.
        assert!((f64::from(power(d)) - exact).abs() <= 1.0, "{d}");
    }
    assert_eq!(power(0), POWER_ONE);
    assert_eq!(power(u32::MAX), 0);
}

#[test]
fn functions_are_right_to_their_last_bit() {
    let exact = |function, z: f64| match function {
        Function::Relu => z.max(0.0),
        Function::Silu => z / (1.0 + (-z).exp()),
        Function::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (z + 0.044715 * z.powi(3));
            z * (1.0 + u.tanh()) / 2.0
        }
        Function::GeluErf => z * libm::erfc(-z / std::f64::consts::SQRT_2) / 2.0,
    };
    for z in -3000..3000 {
        for function in [Function::Silu, Function::GeluTanh, Function::GeluErf] {
            let wanted = (exact(function, f64::from(z) / 64.0) * 1024.0).clamp(-32768.0, 32767.0);
            let error = (f64::from(activate(function, z)) - wanted).abs();
            let most = if z.abs() < 512 { 0.5 + 1e-6 } else { 3.0 };
            assert!(error <= most, "{function:?} {z}: {error}");
        }
        assert_eq!(i32::from(activate(Function::Relu, z)), z.max(0));
    }
    assert_eq!(activate(Function::Silu, i32::MIN), 0);
    assert_eq!(activate(Function::GeluErf, i32::MAX), i16::MAX);
    let (mut out, z) = ([0; 3], [64, -64, i32::MAX]);
    plain(Function::Silu, &z, 1 << 28, &mut out);
    // silu(1) = 0.731, silu(−1) = −0.269, in 1/64.
    assert_eq!(out, [47, -17, 127]);
    gated(Function::Silu, &z, &[-512, 512, -512], 1 << 19, &mut out);
    assert_eq!(out, [-47, -17, -128]);
}

#[test]
fn norms_are_right_to_a_step() {
    let mut random = Rng(3);
    for dim in (1..=130).chain([256, 1000]).step_by(STRIDE) {
        for deviation in [1, 40, 3000, 32767] {
            for centred in [false, true] {
                let any = |random: &mut Rng, most: i32| {
                    ((random.bits() >> 40) as i32).rem_euclid(2 * most + 1) - most
                };
                let draw = |random: &mut Rng, most| -> Vec<i16> {
                    (0..dim).map(|_| any(random, most) as i16).collect()
                };
                let x = draw(&mut random, deviation);
                let gains = draw(&mut random, 4000);
                let biases = draw(&mut random, 700);
                let eps = 9;
                let mut out = vec![0; dim];
                let parameters = Norm {
                    gains: &gains,
                    biases: &biases,
                    centred,
                    eps,
                };
                norm(&x, &parameters, &mut out).unwrap();
                let n = dim as f64;
                let mean = match centred {
                    true => x.iter().map(|x| f64::from(*x)).sum::<f64>() / n,
                    false => 0.0,
                };
                let square = |x: &i16| (f64::from(*x) - mean).powi(2);
                let variance = x.iter().map(square).sum::<f64>() / n + eps as f64 / (n * n);
                for i in 0..dim {
                    let unit = (f64::from(x[i]) - mean) / variance.sqrt();
                    let y = (unit * f64::from(gains[i]) + f64::from(biases[i])) / 64.0;
                    let error = (f64::from(out[i]) - y.clamp(-128.0, 127.0)).abs();
                    let slack = unit.abs() * f64::from(gains[i]).abs() / 64.0 * 3e-4;
                    assert!(
                        error <= 0.51 + slack,
                        "{dim} {deviation} {i}: {y} {}",
                        out[i]
                    );
                }
            }
        }
    }
}

#[test]
fn a_norm_of_zeros_is_its_bias() {
    let mut out = [1; 4];
    for (eps, x) in [(0, [0; 4]), (u64::MAX, [i16::MIN; 4]), (0, [i16::MIN; 4])] {
        let parameters = Norm {
            gains: &[100; 4],
            biases: &[-640; 4],
            centred: true,
            eps,
        };
        norm(&x, &parameters, &mut out).unwrap();
        assert_eq!(out, [-10; 4]);
    }
}

#[test]
fn rotations_are_right_to_a_step() {
    let mut random = Rng(4);
    for pairs in [4, 8, 32] {
        let draw = |random: &mut Rng| ((random.bits() >> 40) as i16) / 4;
        let x: Vec<i32> = (0..2 * pairs).map(|_| draw(&mut random).into()).collect();
        let turns: Vec<f64> = (0..pairs).map(|i| 0.7 * i as f64 - 3.0).collect();
        let fixed = |x: f64| (x * 16384.0).round() as i16;
        let angles: Vec<[i16; 2]> = turns
            .iter()
            .map(|t| [fixed(t.cos()), fixed(t.sin())])
            .collect();
        for style in [RotaryStyle::Half, RotaryStyle::Interleaved] {
            let mut out = vec![0; 2 * pairs];
            rotate(&x, &angles, style, &mut out).unwrap();
            for (pair, turn) in turns.iter().enumerate() {
                let (i, j) = match style {
                    RotaryStyle::Half => (pair, pair + pairs),
                    RotaryStyle::Interleaved => (2 * pair, 2 * pair + 1),
                };
                let (a, b) = (f64::from(x[i]) / 64.0, f64::from(x[j]) / 64.0);
                for (at, wanted) in [
                    (i, a * turn.cos() - b * turn.sin()),
                    (j, a * turn.sin() + b * turn.cos()),
                ] {
                    let error = f64::from(out[at]) - wanted.clamp(-128.0, 127.0);
                    assert!(error.abs() <= 0.53, "{wanted} {}", out[at]);
                }
            }
        }
    }
    // Nothing overflows at the ends.
    let mut out = [0; 8];
    rotate(
        &[i32::MIN; 8],
        &[[-16384; 2]; 4],
        RotaryStyle::Half,
        &mut out,
    )
    .unwrap();
    assert_eq!(out, [0, 0, 0, 0, 127, 127, 127, 127]);
}

#[test]
fn complex_numbers_are_multiplied_exactly() {
    let mut random = Rng(13);
    for index in 0..1000 {
        let mut draw = |ends: [i16; 2]| match index % 5 {
            0 => ends[(random.bits() >> 40) as usize % 2],
            _ => (random.bits() >> 40) as i16,
        };
        let [a, b] = [(); 2].map(|()| draw([i16::MIN, i16::MAX]));
        let [c, d] = [(); 2].map(|()| draw([-(1 << 14), 1 << 14]).clamp(-(1 << 14), 1 << 14));
        let [re, im] = times_conjugate(complex(a, b), complex(c, d));
        let [a, b, c, d] = [a, b, c, d].map(i64::from);
        assert_eq!([re, im].map(i64::from), [a * c + b * d, b * c - a * d]);
    }
}

#[test]
fn four_bits_are_the_nearest_upper_halves() {
    let mut random = Rng(11);
    for n in [8, 16, 40, 64] {
        let numbers: Vec<i8> = (0..n).map(|_| (random.bits() >> 40) as i8).collect();
        let mut bytes: Vec<i8> = (0..nibbles_len(n)).map(|_| random.bits() as i8).collect();
        // In any order, and over what was there.
        for index in (0..n).rev().chain(0..n) {
            put_nibble(&mut bytes, index, numbers[index]);
        }
        let mut out = vec![0; n];
        unpack_nibbles(&bytes, &mut out);
        for (have, number) in out.iter().zip(&numbers) {
            let nearest = (f64::from(*number) / 16.0 + 0.5).floor() * 16.0;
            assert_eq!(f64::from(*have), nearest.min(112.0), "{number}");
        }
    }
    put_nibble(&mut [0; 4], 8, 100);
}

#[test]
fn angles_are_right_at_any_position() {
    let check = |position: u32, step: u32| {
        let [cos, sin] = {
            let mut out = [[0; 2]];
            angles(position, &[step], &mut out);
            out[0]
        };
        let turn = f64::from(step.wrapping_mul(position)) / 4_294_967_296.0;
        let (wanted_sin, wanted_cos) = (turn * core::f64::consts::TAU).sin_cos();
        for (have, wanted) in [(cos, wanted_cos), (sin, wanted_sin)] {
            let error = f64::from(have) - 16_384.0 * wanted;
            assert!(error.abs() <= 0.52, "{position} {step}: {have} {wanted}");
        }
    };
    let mut random = Rng(9);
    for eighth in 0..8u32 {
        for beside in [0, 1, 2, u32::MAX, u32::MAX - 1] {
            check(1, (eighth << 29).wrapping_add(beside));
        }
    }
    for _ in 0..50_000 {
        let bits = random.bits();
        check(bits as u32, (bits >> 32) as u32);
    }
}

#[test]
fn a_table_adds_its_rows() {
    let mut random = Rng(5);
    let rows = rows(&mut random, 3, 20);
    let steps = [1 << 16, 40_000, -3_000_000];
    let table = Table::new(20, &rows, &steps).unwrap();
    for (index, step) in steps.iter().enumerate() {
        let mut x = [100i16; 20];
        embed(&table, index, &mut x).unwrap();
        for (x, level) in x.iter().zip(&rows[index * stride(20)..]) {
            let value = f64::from(*level) * f64::from(*step) / 65536.0 + 100.0;
            assert!((f64::from(*x) - value).abs() <= 0.5);
        }
    }
    assert_eq!(embed(&table, 3, &mut [0; 20]).unwrap_err().have, 3);
}

/// A tile's values transposed, with what must not be read behind them.
fn transposed(values: &[i8], head_dim: usize, random: &mut Rng) -> Vec<i8> {
    let n = values.len() / head_dim;
    let width = n.next_multiple_of(8);
    let mut rows = bytes(random, head_dim * width);
    for (key, values) in values.chunks_exact(head_dim).enumerate() {
        for (element, value) in values.iter().enumerate() {
            rows[element * width + key] = *value;
        }
    }
    rows
}

/// Attention of some queries, each with the keys that it sees, by the kernel: (queries, head_dim).
fn attention(
    backend: Backend,
    queries: &[(&[i8], Range<usize>)],
    keys: &[i8],
    values: &[i8],
    multiplier: i32,
    scale: OutScale,
) -> Vec<i8> {
    let head_dim = queries[0].0.len();
    let mut sums = vec![[7; BATCH]; head_dim];
    let mut running = Running {
        max: [0; BATCH],
        sum: [1; BATCH],
        values: &mut sums,
    };
    running.clear();
    let tiles = keys
        .chunks(TILE * head_dim)
        .zip(values.chunks(TILE * head_dim));
    for (index, (keys, values)) in tiles.enumerate() {
        let n = keys.len() / head_dim;
        let values = transposed(values, head_dim, &mut Rng(9));
        let tile = Tile::new(head_dim, keys, &values).unwrap();
        let inside = |key: usize| key.saturating_sub(index * TILE).min(n);
        let queries: Vec<Query<'_>> = queries
            .iter()
            .map(|(elements, visible)| Query {
                elements,
                visible: inside(visible.start)..inside(visible.end),
            })
            .collect();
        attend(backend, &queries, &tile, multiplier, &mut running).unwrap();
    }
    let mut out = vec![0; queries.len() * head_dim];
    for (lane, out) in out.chunks_exact_mut(head_dim).enumerate() {
        finish(&running, lane, scale, out).unwrap();
    }
    out
}

#[test]
fn scores_are_what_they_are_by_definition() {
    let mut random = Rng(12);
    for head_dim in [8, 24, 64, 256] {
        for n in [1, 7, 8, 33, TILE] {
            let keys = bytes(&mut random, n * head_dim);
            let values = bytes(&mut random, n.next_multiple_of(8) * head_dim);
            let queries = bytes(&mut random, BATCH * head_dim);
            let tile = Tile::new(head_dim, &keys, &values).unwrap();
            for lanes in 1..=BATCH {
                let batch: Vec<Query<'_>> = (queries.chunks_exact(head_dim).take(lanes))
                    .enumerate()
                    .map(|(lane, elements)| Query {
                        elements,
                        visible: (lane * n / 5).min(n)..n - lane * n / 9,
                    })
                    .collect();
                for backend in backends() {
                    let mut out = Scores([[77; TILE]; BATCH]);
                    scores(backend, &batch, &tile, 1 << 19, &mut out).unwrap();
                    for (lane, have) in out.0.iter().enumerate() {
                        let Some(query) = batch.get(lane) else {
                            continue;
                        };
                        for (key, score) in have.iter().enumerate() {
                            if !query.visible.contains(&key) {
                                assert_eq!(*score, i16::MIN);
                                continue;
                            }
                            let pairs = query.elements.iter().zip(&keys[key * head_dim..]);
                            let sum: i32 = pairs.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
                            let wanted = (f64::from(sum) / 8192.0 + 0.5).floor();
                            assert_eq!(f64::from(*score), wanted.clamp(-32768.0, 32767.0));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn queries_at_once_are_queries_one_by_one() {
    let mut random = Rng(8);
    let scale = OutScale {
        mantissa: 20_000,
        shift: 14,
    };
    for head_dim in [8, 24, 64] {
        for n in (1..=140).step_by(3 * STRIDE) {
            let keys = bytes(&mut random, n * head_dim);
            let values = bytes(&mut random, n * head_dim);
            let queries = bytes(&mut random, BATCH * head_dim);
            for causal in [false, true] {
                let all: Vec<(&[i8], Range<usize>)> = queries
                    .chunks_exact(head_dim)
                    .enumerate()
                    .map(|(lane, query)| match causal {
                        // As a prompt's last tokens see it, with a window on some.
                        true => (
                            query,
                            (n / 2 * (lane % 2)).min(n.saturating_sub(BATCH))
                                ..(n + 1 + lane).saturating_sub(BATCH).max(1),
                        ),
                        false => (query, 0..n),
                    })
                    .collect();
                for backend in backends() {
                    for lanes in 1..=BATCH {
                        let run =
                            |queries| attention(backend, queries, &keys, &values, 1 << 20, scale);
                        let single: Vec<i8> = all[..lanes].chunks(1).flat_map(run).collect();
                        assert_eq!(
                            run(&all[..lanes]),
                            single,
                            "{} {head_dim} {n}",
                            backend.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn attention_is_near_softmax_and_equal_on_every_backend() {
    let mut random = Rng(6);
    let mut square = 0.0;
    let mut count = 0.0;
    for head_dim in [8, 16, 32, 64, 128, 256] {
        for n in (1..=130).chain([500, 2000]).step_by(7 * STRIDE) {
            // From flat to peaked.
            let spread = [0.0, 1.0, 4.0, 30.0][n / 7 % 4];
            let (query, keys) = (
                bytes(&mut random, head_dim),
                bytes(&mut random, n * head_dim),
            );
            let values = bytes(&mut random, n * head_dim);
            let deviation = 73.0 * 73.0 * (head_dim as f64).sqrt();
            let multiplier = (spread * 16.0 / deviation * 2f64.powi(32)) as i32;
            // Twice as fine as the values, where several keys share.
            let scale = OutScale {
                mantissa: 1 << 14,
                shift: 14,
            };
            let queries = [(&*query, 0..n)];
            let plain = attention(Backend::SCALAR, &queries, &keys, &values, multiplier, scale);
            for backend in backends() {
                let other = attention(backend, &queries, &keys, &values, multiplier, scale);
                assert_eq!(plain, other, "{} {head_dim} {n}", backend.name());
            }
            let products = keys.chunks_exact(head_dim).map(|key| {
                let products = query.iter().zip(key);
                products
                    .map(|(q, k)| f64::from(*q) * f64::from(*k))
                    .sum::<f64>()
            });
            let scores: Vec<f64> = products
                .map(|product| product * f64::from(multiplier) / 2f64.powi(32) / 16.0)
                .collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp2()).collect();
            let sum: f64 = weights.iter().sum();
            for (index, have) in plain.iter().enumerate() {
                let rows = values.chunks_exact(head_dim).zip(&weights);
                let want: f64 = rows.map(|(row, w)| f64::from(row[index]) * w).sum::<f64>() / sum;
                let error = f64::from(*have) - want;
                // A score is off by 1/32 at most: a weight by 2.2 %, the mean of values of 128 by 2.8 twice over.
                assert!(
                    error.abs() <= 0.5 + 2.9,
                    "{head_dim} {n} {spread}: {want} {have}"
                );
                square += error * error;
                count += 1.0;
            }
        }
    }
    let rms = f64::sqrt(square / count);
    std::println!("attention: {rms:.3} steps rms");
    assert!(rms < 0.45);
}

#[test]
fn attention_survives_extremes() {
    for backend in backends() {
        for (query, key, value) in [(-128, -128, -128), (127, -128, 127), (-128, 127, -128)] {
            for n in [1, 64, 65, 5000] {
                let head_dim = 16;
                let (keys, values) = (vec![key; n * head_dim], vec![value; n * head_dim]);
                let scale = OutScale {
                    mantissa: 1 << 14,
                    shift: 14,
                };
                let query = vec![query; head_dim];
                let queries = [(&*query, 0..n)];
                let out = attention(backend, &queries, &keys, &values, i32::MAX, scale);
                assert_eq!(out, vec![value; head_dim], "{n}");
            }
        }
    }
}

#[test]
fn shapes_are_checked() {
    assert!(Product::new(2, 3, Weights::I8(&[0; 32]), &[0; 2], &[0; 2], &[0; 2]).is_ok());
    assert!(Product::new(2, 0, Weights::I8(&[]), &[0; 2], &[0; 2], &[0; 2]).is_err());
    assert!(Product::new(2, 3, Weights::I8(&[0; 31]), &[0; 2], &[0; 2], &[0; 2]).is_err());
    assert!(Product::new(2, 3, Weights::I8(&[0; 32]), &[0; 1], &[0; 2], &[0; 2]).is_err());
    assert!(Product::new(2, 3, Weights::I8(&[0; 32]), &[0; 2], &[0; 3], &[0; 2]).is_err());
    assert!(Product::new(2, 3, Weights::I8(&[0; 32]), &[0; 2], &[0; 2], &[0; 1]).is_err());
    #[repr(align(4))]
    struct Halves([u16; 32]);
    let quads = Weights::I4(&Halves([0; 32]).0);
    let narrow = |pairs| Product::new(8, 3, quads, &[0; 8], &[0; 8], pairs);
    assert!(narrow(&[0; 8]).is_err() && narrow(&[0; 2]).is_err());
    assert!(Product::new(7, 3, quads, &[0; 7], &[0; 7], &[0; 4]).is_err());
    assert!(Product::new(12, 3, quads, &[0; 12], &[0; 12], &[0; 6]).is_err());
    let narrow = narrow(&[0; 4]).unwrap();
    let four = |first, rows: &mut [i32]| product(Backend::SCALAR, &narrow, &[0; 3], first, rows);
    assert!(four(4, &mut [0; 4]).is_ok() && four(2, &mut [0; 4]).is_err());
    assert!(four(0, &mut [0; 3]).is_err());
    #[repr(align(4))]
    struct Words([i8; 264 * 8]);
    let words = Words([0; 264 * 8]);
    let matrix =
        |weights| Product::new(2, 3, Weights::I8(weights), &[0; 2], &[0; 2], &[0; 2]).unwrap();
    let askew = matrix(&words.0[1..33]);
    let matrix = matrix(&words.0[..32]);
    let backend = Backend::SCALAR;
    assert!(product(backend, &askew, &[0; 3], 0, &mut [0; 2]).is_err());
    assert!(product(backend, &matrix, &[0; 3], 0, &mut [0; 3]).is_err());
    assert!(product(backend, &matrix, &[0; 3], 2, &mut [0; 1]).is_err());
    assert!(product(backend, &matrix, &[0; 4], 0, &mut [0; 2]).is_err());
    assert!(product(backend, &matrix, &[0; 6], 0, &mut [0; 4]).is_ok());
    assert!(product(backend, &matrix, &[0; 6], 0, &mut [0; 3]).is_err());
    assert!(product(backend, &matrix, &[0; 6], 1, &mut [0; 4]).is_err());
    let is_tile = |head_dim: usize, keys: usize, values: usize| {
        Tile::new(head_dim, &words.0[..keys], &words.0[..values]).is_ok()
    };
    assert!(is_tile(8, 8, 64) && is_tile(256, 256, 256 * 8));
    assert!(!is_tile(8, 520, 576) && !is_tile(8, 9, 64) && !is_tile(8, 72, 64));
    assert!(!is_tile(8, 8, 72) && !is_tile(4, 4, 32) && !is_tile(264, 264, 264 * 8));
    assert!(Tile::new(8, &words.0[1..9], &words.0[..64]).is_err());
    assert!(Tile::new(8, &words.0[..8], &words.0[2..66]).is_err());
    let tile = Tile::new(8, &words.0[..8], &words.0[..64]).unwrap();
    let mut sums = [[0; BATCH]; 8];
    let mut running = Running {
        max: [0; BATCH],
        sum: [0; BATCH],
        values: &mut sums,
    };
    let query = |elements, n| Query {
        elements,
        visible: 0..n,
    };
    let elements = [0; 8];
    let many = vec![query(&elements, 1); BATCH + 1];
    assert!(attend(backend, &many, &tile, 1, &mut running).is_err());
    assert!(attend(backend, &many[..BATCH], &tile, 1, &mut running).is_ok());
    assert!(attend(backend, &[query(&elements, 2)], &tile, 1, &mut running).is_err());
    assert!(attend(backend, &[query(&elements[..4], 1)], &tile, 1, &mut running).is_err());
    assert!(
        finish(
            &running,
            BATCH,
            OutScale {
                mantissa: 1,
                shift: 8
            },
            &mut [0; 8]
        )
        .is_err()
    );
}
