//! Every format on every backend against exact arithmetic, over awkward shapes.

mod exhaustive;

use half::f16;
use std::{vec, vec::Vec};

use super::{matmul, matmul_scratch_len};
use crate::layout::{GROUP, WeightFormat, weight_lens};
use crate::pack::{pack_i8_group32_levels, pack_i8_row_levels};
use crate::reference::matmul::{element, integer, matvec_i8_row};
use crate::testing::{FORMATS, Packed, Rng, backends};
use crate::{Backend, Matrix, MatrixData};

fn product(backend: Backend, w: &Matrix<'_>, x: &[f32], n: usize) -> Vec<f32> {
    // Too long, at an odd offset, and dirty: nothing may depend on what the scratch or the output held.
    let mut scratch = vec![0xdead_beef; matmul_scratch_len(w.cols(), n) + 3];
    let mut y = vec![f32::NAN; n * w.rows() + 1];
    matmul(backend, w, x, n, &mut y[1..], &mut scratch[1..]).unwrap();
    y.remove(0);
    y
}

/// Shapes (rows, cols, n) that leave every kind of remainder.
fn shapes() -> Vec<(usize, usize, usize)> {
    if cfg!(miri) {
        return vec![(1, 1, 1), (17, 33, 1), (33, 5, 2), (18, 3, 7)];
    }
    let mut rng = Rng(7);
    let mut shapes: Vec<_> = (0..150)
        .map(|_| (1 + rng.index(40), 1 + rng.index(130), 1 + rng.index(20)))
        .collect();
    shapes.extend([
        (64, 64, 1),
        (130, 96, 1),
        (1, 1, 1),
        (16, 32, 4),
        (48, 300, 6),
        (65, 8, 3),
        (32, 513, 13),
    ]);
    // Columns of which one vector meets four panels at a time: some fours, and rows beyond them.
    shapes.extend([(128, 1024, 1), (150, 1053, 1), (40, 1100, 1)]);
    shapes.extend([(20, 40, 127), (20, 40, 128), (20, 40, 129), (9, 33, 260)]);
    shapes
}

fn amax(x: &[f32]) -> f32 {
    x.iter().fold(0f32, |max, x| max.max(x.abs()))
}

/// What quantization makes of activations that share a scale, the largest of which is `amax`.
fn levels(x: &[f32], amax: f32, highest: f32) -> Vec<f64> {
    let scale = f64::from(amax / highest);
    x.iter()
        .map(|x| f64::from((x * (highest / amax)).round_ties_even()) * scale)
        .collect()
}

/// What it makes of activations with a scale for every 32 of them: a multiple of the 8192nd part of the vector's,
/// the next but at most one.
fn group_levels(x: &[f32], highest: f32) -> Vec<f64> {
    let (unit, factor) = (amax(x) / highest / 8192.0, highest / amax(x));
    x.chunks(GROUP)
        .flat_map(|x| {
            let relative = (amax(x) * (factor * (8192.0 / highest))).round_ties_even();
            let relative = (relative + 1.0).min(8192.0);
            let scale = f64::from(unit) * f64::from(relative);
            x.iter().map(move |x| {
                f64::from((x * (factor * 8192.0 / relative)).round_ties_even()) * scale
            })
        })
        .collect()
}

#[test]
fn products_equal_exact_arithmetic() {
    check_products(&mut Rng(1), &shapes());
}

/// Shapes are (rows, cols, n), each in every format on every backend.
fn check_products(rng: &mut Rng, shapes: &[(usize, usize, usize)]) {
    for &(rows, cols, n) in shapes {
        let (w, x) = (rng.normals(rows * cols), rng.normals(n * cols));
        for format in FORMATS {
            let packed = Packed::new(format, rows, cols, &w);
            let w = packed.matrix();
            for backend in backends() {
                let y = product(backend, &w, &x, n);
                for (x, y) in x.chunks(cols).zip(y.chunks(rows)) {
                    let x: Vec<f64> = match format {
                        WeightFormat::F32 | WeightFormat::F16 => {
                            x.iter().map(|x| f64::from(*x)).collect()
                        }
                        _ => {
                            let four_bits = [WeightFormat::I4Group32, WeightFormat::U4Group32]
                                .contains(&format);
                            let highest = if four_bits { 127.0 } else { 63.0 };
                            match format {
                                WeightFormat::I8Row => levels(x, amax(x), highest),
                                _ => group_levels(x, highest),
                            }
                        }
                    };
                    for (row, y) in y.iter().enumerate() {
                        let terms = (0..cols).map(|col| element(&w, row, col) * x[col]);
                        let (exact, magnitude) =
                            terms.fold((0.0, 0.0), |(s, m), t| (s + t, m + t.abs()));
                        let offset = match format {
                            // Minima down to −3, and levels up to 6 above them.
                            WeightFormat::U4Group32 => 9.0 * x.iter().map(|x| x.abs()).sum::<f64>(),
                            _ => 0.0,
                        };
                        let bound = (cols as f64 + 4.0) * 6e-8 * (magnitude + offset) + 1e-30;
                        let error = (f64::from(*y) - exact).abs();
                        assert!(
                            error <= bound,
                            "{format:?} {backend:?} ({rows}, {cols}) n {n} row {row}: {y} {exact}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn i8_row_gives_the_same_bits_everywhere() {
    let mut rng = Rng(2);
    for (rows, cols, n) in shapes() {
        let packed = Packed::new(WeightFormat::I8Row, rows, cols, &rng.normals(rows * cols));
        let x = rng.normals(n * cols);
        let mut exact = vec![0.0; n * rows];
        for (x, y) in x.chunks(cols).zip(exact.chunks_mut(rows)) {
            matvec_i8_row(&packed.matrix(), x, y);
        }
        for backend in backends() {
            let y = product(backend, &packed.matrix(), &x, n);
            assert!(
                y.iter()
                    .map(|y| y.to_bits())
                    .eq(exact.iter().map(|y| y.to_bits())),
                "{backend:?} {rows} {cols} {n}"
            );
        }
    }
}

/// With scales of 1 and whole activations the outputs are the integer accumulators themselves.
#[test]
fn integer_sums_are_exact() {
    let mut rng = Rng(3);
    for (rows, cols, n) in shapes() {
        for (format, w_highest, x_highest) in [
            (WeightFormat::I8Row, 127, 63),
            (WeightFormat::I8Group32, 127, 63),
            (WeightFormat::I4Group32, 7, 127),
            (WeightFormat::U4Group32, 10, 127),
        ] {
            // Every other case drives all operands to their extremes, where a saturating product would show.
            let extreme = rng.index(2) == 0;
            let mut whole = |highest: usize, len: usize| -> Vec<f32> {
                (0..len)
                    .map(|_| {
                        let level = if extreme {
                            highest * (1 - rng.index(8) / 7)
                        } else {
                            rng.index(highest + 1)
                        };
                        if !extreme && rng.index(2) == 0 {
                            -(level as f32)
                        } else {
                            level as f32
                        }
                    })
                    .collect()
            };
            let (w, mut x) = (whole(w_highest, rows * cols), whole(x_highest, n * cols));
            // The first element of each 32 columns sets their scale to 1.
            for x in x.chunks_mut(cols).flat_map(|x| x.chunks_mut(GROUP)) {
                x[0] = x_highest as f32;
            }
            let lens = weight_lens(format, rows, cols).unwrap();
            let scales = vec![f16::ONE; lens.scales];
            let minima = vec![f16::from_f32(-5.0); lens.minima];
            let packed = Packed::with_parameters(format, rows, cols, &w, scales, minima);
            for backend in backends() {
                let y = product(backend, &packed.matrix(), &x, n);
                for (x, y) in x.chunks(cols).zip(y.chunks(rows)) {
                    for (row, y) in y.iter().enumerate() {
                        let minimum = if lens.minima > 0 { -5 } else { 0 };
                        let exact: i64 = (0..cols)
                            .map(|col| {
                                let level = i64::from(integer(&packed.matrix(), row, col));
                                (level + minimum) * x[col] as i64
                            })
                            .sum();
                        assert_eq!(
                            *y, exact as f32,
                            "{format:?} {backend:?} ({rows}, {cols}) n {n} row {row}"
                        );
                    }
                }
            }
        }
    }
}

/// Integers that somebody else chose, −128 among them, on the largest activations.
#[test]
fn levels_as_they_are_give_exact_sums() {
    let mut rng = Rng(6);
    for (rows, cols, n) in shapes() {
        let lowest = rng.index(2) == 0;
        let levels: Vec<i8> = (0..rows * cols)
            .map(|_| if lowest { -128 } else { rng.bits() as i8 })
            .collect();
        let mut x = vec![63.0; n * cols];
        // 63 leads each 32 columns, so that their scale is 1.
        for x in x.chunks_mut(cols).flat_map(|x| x.chunks_mut(GROUP)) {
            x.iter_mut()
                .skip(1)
                .for_each(|x| *x = (rng.index(127) as f32) - 63.0);
        }
        let exact: Vec<f32> = x
            .chunks(cols)
            .flat_map(|x| {
                levels.chunks(cols).map(move |w| {
                    let products = w.iter().zip(x).map(|(w, x)| i64::from(*w) * *x as i64);
                    products.sum::<i64>() as f32
                })
            })
            .collect();
        let row = weight_lens(WeightFormat::I8Row, rows, cols).unwrap();
        let (mut weights, mut corrections) = (vec![0; row.data], vec![0; row.corrections]);
        pack_i8_row_levels(rows, cols, &levels, &mut weights, &mut corrections).unwrap();
        let by_row = MatrixData::I8Row {
            weights: &weights,
            scales: &vec![f16::ONE; row.scales],
            corrections: &corrections,
        };
        let group = weight_lens(WeightFormat::I8Group32, rows, cols).unwrap();
        let scales = vec![f16::ONE; group.scales];
        let mut weights = vec![0; group.data];
        pack_i8_group32_levels(rows, cols, &levels, &mut weights).unwrap();
        let by_group = MatrixData::I8Group32 {
            weights: &weights,
            scales: &scales,
        };
        for data in [by_row, by_group] {
            let matrix = Matrix::new(rows, cols, data).unwrap();
            for backend in backends() {
                let y = product(backend, &matrix, &x, n);
                assert_eq!(
                    y,
                    exact,
                    "{:?} {backend:?} ({rows}, {cols}) n {n}",
                    data.format()
                );
            }
        }
    }
}

#[test]
fn one_vector_equals_the_same_in_a_batch() {
    let mut rng = Rng(4);
    for (rows, cols, n) in shapes() {
        let (w, x) = (rng.normals(rows * cols), rng.normals(n * cols));
        for format in FORMATS {
            let packed = Packed::new(format, rows, cols, &w);
            for backend in backends() {
                let batch = product(backend, &packed.matrix(), &x, n);
                let single: Vec<f32> = x
                    .chunks(cols)
                    .flat_map(|x| product(backend, &packed.matrix(), x, 1))
                    .collect();
                assert!(
                    batch == single,
                    "{format:?} {backend:?} ({rows}, {cols}) n {n}"
                );
            }
        }
    }
}

#[test]
fn values_that_are_not_finite_and_zeros() {
    let mut rng = Rng(5);
    let (rows, cols) = if cfg!(miri) { (3, 9) } else { (19, 70) };
    let w = rng.normals(rows * cols);
    for format in FORMATS {
        let packed = Packed::new(format, rows, cols, &w);
        for backend in backends() {
            for n in [1, 5] {
                for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = rng.normals(n * cols);
                    x[cols - 1] = bad;
                    let y = product(backend, &packed.matrix(), &x, n);
                    assert!(
                        y[..rows].iter().all(|y| !y.is_finite()),
                        "{format:?} {backend:?} {bad}"
                    );
                    assert!(
                        y[rows..].iter().all(|y| y.is_finite()),
                        "{format:?} {backend:?} {bad}"
                    );
                }
                let y = product(backend, &packed.matrix(), &vec![0.0; n * cols], n);
                assert!(y.iter().all(|y| *y == 0.0), "{format:?} {backend:?}");
                let tiny = product(backend, &packed.matrix(), &vec![1e-45; n * cols], n);
                assert!(
                    tiny.iter().all(|y| y.is_finite() && y.abs() < 1e-30),
                    "{format:?} {backend:?}"
                );
                let large = product(backend, &packed.matrix(), &vec![1e36; n * cols], n);
                assert!(
                    large.iter().all(|y| y.is_finite()),
                    "{format:?} {backend:?}"
                );
            }
        }
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let packed = Packed::new(WeightFormat::I8Row, 3, 5, &[1.0; 15]);
    let (mut y, mut scratch) = ([0.0; 6], [0; 64]);
    let mut call = |x: &[f32], n, y_len: usize, scratch_len: usize| {
        matmul(
            Backend::SCALAR,
            &packed.matrix(),
            x,
            n,
            &mut y[..y_len],
            &mut scratch[..scratch_len],
        )
    };
    assert!(call(&[0.0; 10], 2, 6, 64).is_ok());
    assert!(call(&[], 0, 0, 64).is_ok());
    assert!(call(&[0.0; 9], 2, 6, 64).is_err());
    assert!(call(&[0.0; 10], 2, 5, 64).is_err());
    assert!(call(&[0.0; 10], usize::MAX, 6, 64).is_err());
    assert!(call(&[0.0; 10], 2, 6, matmul_scratch_len(5, 2) - 1).is_err());
}
