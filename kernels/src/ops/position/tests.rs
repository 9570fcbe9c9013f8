use std::{vec, vec::Vec};

use super::*;
use crate::reference::position as reference;
use crate::testing::{Rng, backends};

#[test]
fn rotary_equals_the_reference() {
    let mut rng = Rng(41);
    for head_dim in [2, 8, 10, 24, 32, 40, 64, 128] {
        let mut frequencies = vec![0.0; head_dim / 2];
        rotary_frequencies(10_000.0, &mut frequencies);
        let (heads, n, stride) = (3, 4, 3 * head_dim + 5);
        let positions = [0, 1, 77, 1000];
        let mut angles = vec![0.0; n * head_dim];
        for (position, angles) in positions.iter().zip(angles.chunks_mut(head_dim)) {
            rotary_angles(*position, &frequencies, angles).unwrap();
        }
        let x = rng.normals((n - 1) * stride + heads * head_dim);
        for style in [RotaryStyle::Half, RotaryStyle::Interleaved] {
            for backend in backends() {
                let mut rotated = x.clone();
                rotary(
                    backend,
                    &mut rotated,
                    stride,
                    heads,
                    head_dim,
                    &angles,
                    style,
                )
                .unwrap();
                for (t, position) in positions.into_iter().enumerate() {
                    for head in 0..heads {
                        let at = t * stride + head * head_dim;
                        let mut exact = vec![0.0; head_dim];
                        reference::rotary(
                            &x[at..at + head_dim],
                            position,
                            10_000.0,
                            style,
                            &mut exact,
                        );
                        for (got, exact) in rotated[at..].iter().zip(&exact) {
                            // The angle's rounding, and that of its frequency, grow with the position.
                            let bound = (2.0 + 0.5 * position as f64) * 6e-8 * 8.0;
                            assert!(
                                (f64::from(*got) - exact).abs() <= bound,
                                "{backend:?} {style:?} {position}"
                            );
                        }
                    }
                    // What lies between the heads of two tokens stays.
                    let gap = t * stride + heads * head_dim..((t + 1) * stride).min(x.len());
                    assert!(gap.is_empty() || rotated[gap.clone()] == x[gap]);
                }
            }
        }
    }
}

#[test]
fn sinusoids_equal_the_reference() {
    for dim in [1, 2, 7, 64] {
        for position in [0, 1, 500] {
            let (mut out, mut exact) = (vec![0.0; dim], vec![0.0; dim]);
            sinusoidal(position, &mut out);
            reference::sinusoidal(position, &mut exact);
            for (out, exact) in out.iter().zip(&exact) {
                assert!((f64::from(*out) - exact).abs() <= (1.0 + position as f64) * 1.5e-7);
            }
        }
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let angles: Vec<f32> = vec![0.0; 16];
    let mut x = [0.0; 40];
    let mut call = |len: usize, stride, heads, head_dim, angles_len: usize| {
        rotary(
            Backend::SCALAR,
            &mut x[..len],
            stride,
            heads,
            head_dim,
            &angles[..angles_len],
            RotaryStyle::Half,
        )
    };
    assert!(call(40, 24, 2, 8, 16).is_ok());
    assert!(call(0, 24, 2, 8, 0).is_ok());
    assert!(call(39, 24, 2, 8, 16).is_err());
    assert!(call(40, 15, 2, 8, 16).is_err());
    assert!(call(40, 24, 2, 8, 15).is_err());
    assert!(call(40, 24, 2, 7, 14).is_err());
    assert!(call(40, 24, 2, 0, 0).is_err());
    assert!(call(40, usize::MAX, usize::MAX, 8, 16).is_err());
    assert!(rotary_angles(0, &angles[..3], &mut [0.0; 5]).is_err());
}
