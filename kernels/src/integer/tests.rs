//! Each operation against the formula in f64, and every backend against plain code, to the bit.

use super::*;
use crate::Backend;
use crate::ops::position::RotaryStyle;
use crate::testing::{Rng, STRIDE, backends};
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
        let n = 5;
        let mut weights = rows(&mut random, n, cols);
        let mut x = bytes(&mut random, cols);
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
        let matrix = Product::new(n, cols, &weights, &multipliers, &biases, &pairs).unwrap();
        for backend in backends() {
            for first in 0..=n {
                let mut out = vec![0; n - first];
                product(backend, &matrix, &x, first, &mut out).unwrap();
                for (row, out) in (first..n).zip(out) {
                    let row_weights = &weights[row * stride(cols)..][..cols];
                    let products = row_weights.iter().zip(&x);
                    let sum: i64 = products.map(|(w, x)| i64::from(*w) * i64::from(*x)).sum();
                    let exact = (sum + i64::from(biases[row])) as i128;
                    let scaled = exact * i128::from(multipliers[row]);
                    assert_eq!(i128::from(out), (scaled + (1 << 31)).div_euclid(1 << 32));
                }
            }
        }
    }
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

/// A query's attention to `n` keys by the kernel.
fn attention(
    backend: Backend,
    query: &[i8],
    keys: &[i8],
    values: &[i8],
    multiplier: i32,
    scale: OutScale,
) -> Vec<i8> {
    let head_dim = query.len();
    let mut sums = vec![0; head_dim];
    let mut running = Running {
        max: 0,
        sum: 0,
        values: &mut sums,
    };
    running.clear();
    let tiles = keys
        .chunks(TILE * head_dim)
        .zip(values.chunks(TILE * head_dim));
    for (keys, values) in tiles {
        attend(backend, query, keys, values, multiplier, &mut running).unwrap();
    }
    let mut out = vec![0; head_dim];
    finish(&running, scale, &mut out).unwrap();
    out
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
            let plain = attention(Backend::SCALAR, &query, &keys, &values, multiplier, scale);
            for backend in backends() {
                let other = attention(backend, &query, &keys, &values, multiplier, scale);
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
                let out = attention(backend, &query, &keys, &values, i32::MAX, scale);
                assert_eq!(out, vec![value; head_dim], "{n}");
            }
        }
    }
}

#[test]
fn shapes_are_checked() {
    assert!(Product::new(2, 3, &[0; 32], &[0; 2], &[0; 2], &[0; 2]).is_ok());
    assert!(Product::new(2, 0, &[], &[0; 2], &[0; 2], &[0; 2]).is_err());
    assert!(Product::new(2, 3, &[0; 31], &[0; 2], &[0; 2], &[0; 2]).is_err());
    assert!(Product::new(2, 3, &[0; 32], &[0; 1], &[0; 2], &[0; 2]).is_err());
    assert!(Product::new(2, 3, &[0; 32], &[0; 2], &[0; 3], &[0; 2]).is_err());
    assert!(Product::new(2, 3, &[0; 32], &[0; 2], &[0; 2], &[0; 1]).is_err());
    let matrix = Product::new(2, 3, &[0; 32], &[0; 2], &[0; 2], &[0; 2]).unwrap();
    let backend = Backend::SCALAR;
    assert!(product(backend, &matrix, &[0; 3], 0, &mut [0; 3]).is_err());
    assert!(product(backend, &matrix, &[0; 3], 2, &mut [0; 1]).is_err());
    assert!(product(backend, &matrix, &[0; 4], 0, &mut [0; 2]).is_err());
    let mut sums = [0; 8];
    let mut running = Running {
        max: 0,
        sum: 0,
        values: &mut sums,
    };
    let query = [0; 8];
    assert!(attend(backend, &query, &[0; 520], &[0; 520], 1, &mut running).is_err());
    assert!(attend(backend, &query, &[0; 9], &[0; 9], 1, &mut running).is_err());
    assert!(attend(backend, &query, &[0; 8], &[0; 16], 1, &mut running).is_err());
    assert!(attend(backend, &query[..4], &[0; 4], &[0; 4], 1, &mut running).is_err());
}
