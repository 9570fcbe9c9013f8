//! One table of accuracy for every function on every backend, and the lengths and values at the edges.

use half::f16;
use std::{println, vec, vec::Vec};

use super::*;
use crate::reference::elementwise as reference;
use crate::testing::{Rng, STRIDE, backends};

/// A function, its reference, the range it is measured over, and its bounds.
struct Row {
    name: &'static str,
    function: fn(Backend, &mut [f32]),
    exact: fn(f64) -> f64,
    from: f32,
    to: f32,
    /// An error within either bound passes.
    relative: f64,
    absolute: f64,
}

/// Bounds are about a quarter above what a dense sweep measured, the worst backend counting.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row { name: "exp", function: exp, exact: reference::exp, from: -87.0, to: 88.7, relative: 1.2e-7, absolute: 0.0 },
    Row { name: "silu", function: silu, exact: reference::silu, from: -87.0, to: 100.0, relative: 2.2e-7, absolute: 0.0 },
    Row { name: "gelu_tanh", function: gelu_tanh, exact: reference::gelu_tanh, from: -1.0, to: 100.0, relative: 2.5e-7, absolute: 0.0 },
    Row { name: "gelu_tanh", function: gelu_tanh, exact: reference::gelu_tanh, from: -10.0, to: 0.0, relative: 0.0, absolute: 6e-8 },
    Row { name: "gelu_erf", function: gelu_erf, exact: reference::gelu_erf, from: 0.0, to: 100.0, relative: 4e-7, absolute: 0.0 },
    Row { name: "gelu_erf", function: gelu_erf, exact: reference::gelu_erf, from: -13.0, to: 0.0, relative: 6e-6, absolute: 0.0 },
    Row { name: "gelu_erf", function: gelu_erf, exact: reference::gelu_erf, from: -13.0, to: 0.0, relative: 0.0, absolute: 1e-7 },
    Row { name: "relu", function: relu, exact: reference::relu, from: -100.0, to: 100.0, relative: 0.0, absolute: 0.0 },
];

#[test]
fn accuracy() {
    let points = if cfg!(miri) { 9 } else { 200_000 };
    for backend in backends() {
        for row in TABLE {
            let step = (row.to - row.from) / points as f32;
            let inputs: Vec<f32> = (0..=points)
                .map(|i| (row.from + step * i as f32).clamp(row.from, row.to))
                .collect();
            let mut outputs = inputs.clone();
            (row.function)(backend, &mut outputs);
            let (mut relative, mut absolute) = (0f64, 0f64);
            for (x, y) in inputs.iter().zip(&outputs) {
                let exact = (row.exact)(f64::from(*x));
                let error = (f64::from(*y) - exact).abs();
                relative = relative.max(if error == 0.0 {
                    0.0
                } else {
                    error / exact.abs()
                });
                absolute = absolute.max(error);
                let bound = row.absolute.max(row.relative * exact.abs());
                assert!(
                    error <= bound,
                    "{} {}({x}) = {y}, not {exact}",
                    backend.name(),
                    row.name
                );
            }
            let range = (row.from, row.to);
            println!(
                "{:>7} {:>9} {range:?}: relative {relative:.1e} absolute {absolute:.1e}",
                backend.name(),
                row.name
            );
        }
    }
}

const FUNCTIONS: [fn(Backend, &mut [f32]); 5] = [exp, silu, gelu_tanh, gelu_erf, relu];

#[test]
fn every_length_and_offset() {
    let mut rng = Rng(21);
    for backend in backends() {
        for function in FUNCTIONS {
            for len in (0..=33).step_by(STRIDE) {
                for offset in (0..8).step_by(STRIDE) {
                    let mut x = rng.normals(len + offset + 1);
                    let before = x.clone();
                    let mut each = before[offset..offset + len].to_vec();
                    each.chunks_mut(1).for_each(|one| function(backend, one));
                    function(backend, &mut x[offset..offset + len]);
                    assert_eq!(x[offset..offset + len], each);
                    assert_eq!(x[..offset], before[..offset]);
                    assert_eq!(x[offset + len], before[offset + len]);
                }
            }
        }
    }
}

#[test]
fn values_at_the_edges() {
    for backend in backends() {
        for (at, function) in FUNCTIONS[..4].iter().enumerate() {
            let mut x = [
                f32::NAN,
                -f32::NAN,
                f32::INFINITY,
                f32::MAX,
                0.0,
                -0.0,
                1e-45,
                -1e-45,
                -200.0,
            ];
            function(backend, &mut x);
            let [nan, minus_nan, infinity, max, rest @ ..] = x;
            assert!(nan.is_nan() && minus_nan.is_nan());
            assert!(infinity == f32::INFINITY && max >= f32::MAX);
            let zero = if at == 0 { 1.0 } else { 0.0 };
            assert!(rest[..4].iter().all(|y| (y - zero).abs() <= 1e-44), "{x:?}");
            assert!(rest[4].abs() <= 1e-36);
        }
    }
}

#[test]
fn gates_sums_and_biases() {
    let mut rng = Rng(22);
    for backend in backends() {
        for len in [0, 1, 7, 8, 9, 40] {
            let (gate, up) = (rng.normals(len), rng.normals(len));
            for (gated, function) in [
                (swiglu as fn(_, &mut _, &_) -> _, FUNCTIONS[1]),
                (geglu, FUNCTIONS[2]),
            ] {
                let mut out = gate.clone();
                gated(backend, &mut out, &up).unwrap();
                let mut want = gate.clone();
                function(backend, &mut want);
                want.iter_mut().zip(&up).for_each(|(want, up)| *want *= up);
                assert_eq!(out, want);
                assert!(gated(backend, &mut out, &vec![0.0; len + 1]).is_err());
            }
            let mut sum = gate.clone();
            add(backend, &mut sum, &up).unwrap();
            assert!(
                sum.iter()
                    .zip(gate.iter().zip(&up))
                    .all(|(sum, (a, b))| *sum == a + b)
            );
            assert!(add(backend, &mut sum, &vec![0.0; len + 1]).is_err());
        }
        for dim in [1, 5, 8, 17] {
            let (x, bias) = (rng.normals(3 * dim), rng.normals(dim));
            let halves: Vec<f16> = bias.iter().map(|x| f16::from_f32(*x)).collect();
            for (bias, at) in [
                (
                    Vector::F32(&bias),
                    &(|i: usize| bias[i]) as &dyn Fn(usize) -> f32,
                ),
                (Vector::F16(&halves), &|i: usize| halves[i].to_f32()),
            ] {
                let mut sum = x.clone();
                add_bias(backend, &mut sum, &bias).unwrap();
                assert!(
                    sum.iter()
                        .zip(&x)
                        .enumerate()
                        .all(|(i, (sum, x))| *sum == x + at(i % dim))
                );
                assert!(dim == 1 || add_bias(backend, &mut sum[1..], &bias).is_err());
            }
        }
        assert!(add_bias(backend, &mut [], &Vector::F32(&[])).is_err());
    }
}
