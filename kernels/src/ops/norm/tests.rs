use std::{vec, vec::Vec};

use super::*;
use crate::reference::norm as reference;
use crate::testing::{Rng, backends};

fn halves(x: &[f32]) -> Vec<f16> {
    x.iter().map(|x| f16::from_f32(*x)).collect()
}

#[test]
fn norms_equal_the_reference() {
    let mut rng = Rng(31);
    let dims: &[usize] = if cfg!(miri) {
        &[1, 9, 33]
    } else {
        &[1, 2, 7, 8, 9, 15, 31, 32, 33, 48, 128, 300, 512]
    };
    for &dim in dims {
        for (mean, deviation) in [(0.0, 1.0), (0.0, 1e-3), (5.0, 1.0), (-0.5, 100.0)] {
            let x: Vec<f32> = (0..3 * dim)
                .map(|_| mean + deviation * rng.normal())
                .collect();
            let (gain, bias) = (rng.normals(dim), rng.normals(dim));
            let (half_gain, half_bias) = (halves(&gain), halves(&bias));
            for backend in backends() {
                let mut out = vec![f32::NAN; x.len()];
                let mut exact = vec![0.0; dim];
                for half in [false, true] {
                    let gains = if half {
                        Vector::F16(&half_gain)
                    } else {
                        Vector::F32(&gain)
                    };
                    let at = |i: usize| if half { half_gain[i].to_f32() } else { gain[i] };
                    rms_norm(backend, &x, &gains, 1e-5, &mut out).unwrap();
                    for (x, out) in x.chunks(dim).zip(out.chunks(dim)) {
                        reference::rms_norm(x, at, 1e-5, &mut exact);
                        for (out, exact) in out.iter().zip(&exact) {
                            assert!(
                                (f64::from(*out) - exact).abs() <= 3e-7 * exact.abs(),
                                "{backend:?} {dim}"
                            );
                        }
                    }
                    for half_biases in [None, Some(false), Some(true)] {
                        let biases = match half_biases {
                            None => None,
                            Some(true) => Some(Vector::F16(&half_bias)),
                            Some(false) => Some(Vector::F32(&bias)),
                        };
                        let bias_at = |i: usize| match half_biases {
                            None => 0.0,
                            Some(true) => half_bias[i].to_f32(),
                            Some(false) => bias[i],
                        };
                        layer_norm(backend, &x, &gains, biases.as_ref(), 1e-5, &mut out).unwrap();
                        for (x, out) in x.chunks(dim).zip(out.chunks(dim)) {
                            reference::layer_norm(x, at, bias_at, 1e-5, &mut exact);
                            let spread = spread(x);
                            for (i, (out, exact)) in out.iter().zip(&exact).enumerate() {
                                let bound =
                                    1e-6 * f64::from(at(i).abs() * spread + bias_at(i).abs());
                                let error = (f64::from(*out) - exact).abs();
                                assert!(
                                    error <= bound,
                                    "{backend:?} {dim} {mean} {deviation}: {error:e} {bound:e}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// 1 + |mean| / deviation: how much a row's mean costs in precision.
fn spread(x: &[f32]) -> f32 {
    let mean = x.iter().sum::<f32>() / x.len() as f32;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / x.len() as f32;
    1.0 + mean.abs() / (variance + 1e-5).sqrt()
}

#[test]
fn zeros_and_values_that_are_not_finite() {
    for backend in backends() {
        let gain = Vector::F32(&[2.0; 9]);
        let mut out = [f32::NAN; 18];
        rms_norm(backend, &[0.0; 18], &gain, 1e-5, &mut out).unwrap();
        assert_eq!(out, [0.0; 18]);
        layer_norm(backend, &[3.0; 18], &gain, None, 1e-5, &mut out).unwrap();
        assert_eq!(out, [0.0; 18]);
        let mut x = [1.0; 18];
        x[8] = f32::NAN;
        rms_norm(backend, &x, &gain, 1e-5, &mut out).unwrap();
        assert!(out[..9].iter().all(|y| y.is_nan()) && out[9..].iter().all(|y| y.is_finite()));
        layer_norm(backend, &x, &gain, None, 1e-5, &mut out).unwrap();
        assert!(out[..9].iter().all(|y| y.is_nan()) && out[9..].iter().all(|y| y.is_finite()));
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let (gain, mut out) = (Vector::F32(&[1.0; 3]), [0.0; 6]);
    assert!(rms_norm(Backend::SCALAR, &[0.0; 6], &gain, 1e-5, &mut out).is_ok());
    assert!(rms_norm(Backend::SCALAR, &[0.0; 5], &gain, 1e-5, &mut out[..5]).is_err());
    assert!(rms_norm(Backend::SCALAR, &[0.0; 6], &gain, 1e-5, &mut out[..3]).is_err());
    assert!(rms_norm(Backend::SCALAR, &[], &Vector::F32(&[]), 1e-5, &mut []).is_err());
    let bias = Vector::F16(&[f16::ONE; 2]);
    assert!(
        layer_norm(
            Backend::SCALAR,
            &[0.0; 6],
            &gain,
            Some(&bias),
            1e-5,
            &mut out
        )
        .is_err()
    );
}
