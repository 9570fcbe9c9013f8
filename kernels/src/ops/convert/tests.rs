use std::{vec, vec::Vec};

use super::*;
use crate::testing::{Rng, backends};

#[test]
fn every_half_there_and_back() {
    let all: Vec<f16> = (0..=u16::MAX)
        .step_by(if cfg!(miri) { 997 } else { 1 })
        .map(f16::from_bits)
        .collect();
    for backend in backends() {
        let (mut floats, mut back) = (vec![0.0; all.len()], vec![f16::ZERO; all.len()]);
        f16_to_f32(backend, &all, &mut floats).unwrap();
        f32_to_f16(backend, &floats, &mut back).unwrap();
        for ((half, float), back) in all.iter().zip(&floats).zip(&back) {
            assert!(
                half.is_nan() && float.is_nan() && back.is_nan()
                    || *float == half.to_f32() && half.to_bits() == back.to_bits()
            );
        }
    }
}

#[test]
fn floats_round_to_halves() {
    let mut rng = Rng(51);
    for backend in backends() {
        let mut x: Vec<f32> = (0..1000)
            .map(|_| f32::from_bits(rng.bits() as u32))
            .collect();
        x.extend([
            65_504.0,
            65_519.9,
            65_520.0,
            -1e30,
            5.9e-8,
            2.98e-8,
            2.99e-8,
            1.000_488_3,
            1.001_464_8,
        ]);
        let mut halves = vec![f16::ZERO; x.len()];
        f32_to_f16(backend, &x, &mut halves).unwrap();
        for (x, half) in x.iter().zip(&halves) {
            let want = f16::from_f32(*x);
            assert!(
                half.to_bits() == want.to_bits() || half.is_nan() && want.is_nan(),
                "{backend:?} {x:e}"
            );
        }
        assert!(f32_to_f16(backend, &x, &mut halves[1..]).is_err());
        assert!(f16_to_f32(backend, &halves, &mut x[1..]).is_err());
    }
}

#[test]
fn bytes_are_the_same_everywhere() {
    let mut rng = Rng(52);
    for len in 0..=40 {
        let x = rng.normals(len);
        let amax = x.iter().fold(0f32, |max, x| max.max(x.abs()));
        for backend in backends() {
            let mut bytes = vec![99; len];
            let scale = quantize_i8(backend, &x, &mut bytes).unwrap();
            assert_eq!(scale, amax / 127.0);
            for (x, byte) in x.iter().zip(&bytes) {
                assert_eq!(
                    i32::from(*byte),
                    (x * (127.0 / amax)).round_ties_even() as i32
                );
            }
            assert!(quantize_i8(backend, &x, &mut vec![0; len + 1]).is_err());
        }
    }
    for backend in backends() {
        assert!(
            quantize_i8(backend, &[1.0, f32::NAN, 2.0], &mut [0; 3])
                .unwrap()
                .is_nan()
        );
        assert!(
            quantize_i8(backend, &[1.0, f32::INFINITY, 2.0], &mut [0; 3])
                .unwrap()
                .is_nan()
        );
        assert_eq!(quantize_i8(backend, &[1e-40, 0.0], &mut [1; 2]), Ok(0.0));
    }
}
