use half::f16;
use std::{vec, vec::Vec};

use super::*;
use crate::ops::embed::dequantize_row;
use crate::reference::matmul::element;
use crate::testing::{FORMATS, Packed, Rng};
use crate::{Backend, MatrixData};

const INTEGERS: [WeightFormat; 3] = [
    WeightFormat::I8Row,
    WeightFormat::I8Group32,
    WeightFormat::I4Group32,
];

fn scales(
    format: WeightFormat,
    rows: usize,
    cols: usize,
    w: &[f32],
    method: ScaleMethod<'_>,
) -> Result<Vec<f16>, PackError> {
    let mut scales = vec![f16::NAN; weight_lens(format, rows, cols).unwrap().scales];
    choose_scales(format, rows, cols, w, method, &mut scales)?;
    Ok(scales)
}

#[test]
fn unpacking_gives_back_what_was_packed() {
    let mut rng = Rng(11);
    for (rows, cols) in [(1, 1), (3, 31), (16, 32), (17, 33), (40, 100), (5, 64)] {
        let w = rng.normals(rows * cols);
        for format in FORMATS {
            let packed = Packed::new(format, rows, cols, &w);
            let mut out = vec![f32::NAN; cols];
            for (row, w) in w.chunks(cols).enumerate() {
                dequantize_row(Backend::SCALAR, &packed.matrix(), row, &mut out).unwrap();
                for (col, (got, w)) in out.iter().zip(w).enumerate() {
                    assert_eq!(
                        *got,
                        element(&packed.matrix(), row, col) as f32,
                        "{format:?} {row} {col}"
                    );
                    // Half a level of the largest magnitude, 3 here; half precision keeps 11 bits.
                    let bound = match format {
                        WeightFormat::F32 => 0.0,
                        WeightFormat::F16 => 3.0 / 2048.0,
                        WeightFormat::I8Row | WeightFormat::I8Group32 => 3.0 / 127.0 * 0.51,
                        WeightFormat::I4Group32 => 3.0 / 8.0 * 1.01,
                        WeightFormat::U4Group32 => 6.0 / 15.0 * 0.51,
                    };
                    assert!(
                        (got - w).abs() <= bound,
                        "{format:?} {row} {col}: {got} {w}"
                    );
                }
            }
            let matrix = packed.matrix();
            assert!(dequantize_row(Backend::SCALAR, &matrix, rows, &mut out).is_err());
            assert!(dequantize_row(Backend::SCALAR, &matrix, 0, &mut out[1..]).is_err());
        }
    }
}

#[test]
fn least_squares_beats_absmax_where_it_counts() {
    let mut rng = Rng(12);
    let (rows, cols) = (20, 96);
    let w = rng.normals(rows * cols);
    let importance: Vec<f32> = (0..cols)
        .map(|col| if col % 7 == 0 { 9.0 } else { 0.1 })
        .collect();
    let error = |format, scales: Vec<f16>, importance: &[f32]| -> f64 {
        let packed = Packed::with_scales(format, rows, cols, &w, scales);
        let matrix = packed.matrix();
        let square = |(i, w): (usize, &f32)| {
            let difference = element(&matrix, i / cols, i % cols) - f64::from(*w);
            difference * difference * f64::from(importance[i % cols])
        };
        w.iter().enumerate().map(square).sum()
    };
    for format in INTEGERS {
        let ones = vec![1.0; cols];
        let plain = scales(format, rows, cols, &w, ScaleMethod::AbsMax).unwrap();
        let squares = scales(
            format,
            rows,
            cols,
            &w,
            ScaleMethod::LeastSquares { importance: None },
        )
        .unwrap();
        let weighted = ScaleMethod::LeastSquares {
            importance: Some(&importance),
        };
        let weighted = scales(format, rows, cols, &w, weighted).unwrap();
        let [plain_error, least] =
            [plain, squares.clone()].map(|scales| error(format, scales, &ones));
        assert!(least <= plain_error);
        assert!(
            format != WeightFormat::I4Group32 || least < 0.9 * plain_error,
            "{least} {plain_error}"
        );
        assert!(error(format, weighted, &importance) <= error(format, squares, &importance));
    }
}

/// What the block formats of GGUF hold: an f16 scale (and minimum) and 32 integers. Nothing may be rounded again.
#[test]
fn levels_and_scales_keep_their_values() {
    let mut rng = Rng(13);
    for (rows, cols) in [(1, 32), (17, 64), (40, 96), (5, 33)] {
        for format in FORMATS {
            let lens = weight_lens(format, rows, cols).unwrap();
            let (lowest, highest) = match format {
                WeightFormat::F32 | WeightFormat::F16 => continue,
                WeightFormat::I8Row | WeightFormat::I8Group32 => (-128, 127),
                WeightFormat::I4Group32 => (-8, 7),
                WeightFormat::U4Group32 => (0, 15),
            };
            let levels: Vec<i8> = (0..rows * cols)
                .map(|_| (lowest + rng.index((highest - lowest + 1) as usize) as i32) as i8)
                .collect();
            let mut halves =
                |len| -> Vec<f16> { (0..len).map(|_| f16::from_f32(rng.normal())).collect() };
            let (scales, minima) = (halves(lens.scales), halves(lens.minima));
            let (mut bytes, mut nibbles) = (vec![0; lens.data], vec![0; lens.data]);
            let mut corrections = vec![0; lens.corrections];
            match format {
                WeightFormat::I8Row => {
                    pack_i8_row_levels(rows, cols, &levels, &mut bytes, &mut corrections)
                }
                WeightFormat::I8Group32 => pack_i8_group32_levels(rows, cols, &levels, &mut bytes),
                WeightFormat::I4Group32 => {
                    pack_i4_group32_levels(rows, cols, &levels, &mut nibbles)
                }
                _ => pack_u4_group32_levels(rows, cols, &levels, &mut nibbles),
            }
            .unwrap();
            let (bytes, nibbles) = (&bytes[..], &nibbles[..]);
            let data = match format {
                WeightFormat::I8Row => MatrixData::I8Row {
                    weights: bytes,
                    scales: &scales,
                    corrections: &corrections,
                },
                WeightFormat::I8Group32 => MatrixData::I8Group32 {
                    weights: bytes,
                    scales: &scales,
                },
                WeightFormat::I4Group32 => MatrixData::I4Group32 {
                    weights: nibbles,
                    scales: &scales,
                },
                _ => MatrixData::U4Group32 {
                    weights: nibbles,
                    scales: &scales,
                    minima: &minima,
                },
            };
            let matrix = Matrix::new(rows, cols, data).unwrap();
            let mut out = vec![f32::NAN; cols];
            for (row, levels) in levels.chunks(cols).enumerate() {
                dequantize_row(Backend::SCALAR, &matrix, row, &mut out).unwrap();
                for (col, (got, level)) in out.iter().zip(levels).enumerate() {
                    let at = scale_index(format, row, col, cols);
                    let minimum = minima.get(at).map_or(0.0, |minimum| minimum.to_f32());
                    let want = f32::from(*level) * scales[at].to_f32() + minimum;
                    assert_eq!(*got, want, "{format:?} ({row}, {col})");
                }
            }
        }
    }
}

#[test]
fn scales_with_minima_fit_the_range_of_their_group() {
    let mut rng = Rng(14);
    let choose = |rows, cols, w: &[f32], method: ScaleMethod<'_>| {
        let lens = weight_lens(WeightFormat::U4Group32, rows, cols).unwrap();
        let (mut scales, mut minima) = (vec![f16::NAN; lens.scales], vec![f16::NAN; lens.minima]);
        choose_scales_and_minima(rows, cols, w, method, &mut scales, &mut minima)?;
        let format = WeightFormat::U4Group32;
        Ok(Packed::with_parameters(
            format, rows, cols, w, scales, minima,
        ))
    };
    let error = |packed: &Packed, w: &[f32], importance: &[f32]| -> f64 {
        let cols = packed.cols;
        let square = |(i, w): (usize, &f32)| {
            let difference = element(&packed.matrix(), i / cols, i % cols) - f64::from(*w);
            difference * difference * f64::from(importance[i % cols])
        };
        w.iter().enumerate().map(square).sum()
    };
    let (rows, cols) = (20, 96);
    // Far from symmetric: what a minimum is for.
    let w: Vec<f32> = (0..rows * cols).map(|_| rng.normal().abs() + 1.0).collect();
    let importance: Vec<f32> = (0..cols)
        .map(|col| if col % 7 == 0 { 9.0 } else { 0.1 })
        .collect();
    let ones = vec![1.0; cols];
    let plain = choose(rows, cols, &w, ScaleMethod::AbsMax).unwrap();
    let squares = ScaleMethod::LeastSquares { importance: None };
    let squares = choose(rows, cols, &w, squares).unwrap();
    let weighted = ScaleMethod::LeastSquares {
        importance: Some(&importance),
    };
    let weighted = choose(rows, cols, &w, weighted).unwrap();
    let signed = Packed::new(WeightFormat::I4Group32, rows, cols, &w);
    let [plain_error, least, without] =
        [&plain, &squares, &signed].map(|packed| error(packed, &w, &ones));
    assert!(least < 0.95 * plain_error, "{least} {plain_error}");
    assert!(plain_error < 0.5 * without, "{plain_error} {without}");
    assert!(error(&weighted, &w, &importance) < error(&squares, &w, &importance));

    // A group of equal elements is its minimum, and nothing clips however small the range is.
    for (low, high) in [
        (0.5, 0.5),
        (0.0, 0.0),
        (-1.0, -1.0 + 1e-6),
        (0.0, 1e-6),
        (-3e-8, 1e-7),
        (-6e4, 6e4),
    ] {
        let mut w = [low; 40];
        (w[3], w[35]) = (high, high);
        for method in [
            ScaleMethod::AbsMax,
            ScaleMethod::LeastSquares { importance: None },
        ] {
            let packed = choose(1, 40, &w, method).unwrap();
            for (col, w) in w.iter().enumerate() {
                let error = (element(&packed.matrix(), 0, col) - f64::from(*w)).abs();
                let bound = f64::from(high - low) / 29.0 + f64::from(low.abs()) / 2048.0 + 6e-8;
                assert!(error <= bound, "{low} {high}: {error}");
            }
        }
    }
    let mut w = [1.0; 80];
    for (bad, want) in [
        (-1e8, PackError::Overflow { row: 1, col: 7 }),
        (1e8, PackError::Overflow { row: 1, col: 7 }),
        (f32::NAN, PackError::NotFinite { row: 1, col: 7 }),
    ] {
        w[47] = bad;
        assert_eq!(choose(2, 40, &w, ScaleMethod::AbsMax).err(), Some(want));
    }
}

#[test]
fn extremes_of_magnitude() {
    for format in INTEGERS {
        let zeros = scales(format, 2, 40, &[0.0; 80], ScaleMethod::AbsMax).unwrap();
        assert!(zeros.iter().all(|scale| *scale == f16::ZERO));
        // A subnormal scale must not clip: the largest element stays within half a level.
        for amax in [1e-4, 3e-6, 9.7e-7, 1e-8, 1e-30, 1e-45] {
            let mut w = [0.0; 40];
            (w[3], w[35]) = (amax, -amax);
            for method in [
                ScaleMethod::AbsMax,
                ScaleMethod::LeastSquares { importance: None },
            ] {
                let packed = Packed::with_scales(
                    format,
                    1,
                    40,
                    &w,
                    scales(format, 1, 40, &w, method).unwrap(),
                );
                for col in [3, 35] {
                    let error = (element(&packed.matrix(), 0, col) - f64::from(w[col])).abs();
                    assert!(
                        error <= f64::from(amax) * 0.5 + 6e-8,
                        "{format:?} {amax}: {error}"
                    );
                }
            }
        }
        let mut w = [1.0; 80];
        w[47] = -1e8;
        let overflow = scales(format, 2, 40, &w, ScaleMethod::AbsMax);
        assert_eq!(overflow, Err(PackError::Overflow { row: 1, col: 7 }));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            w[47] = bad;
            let not_finite = Err(PackError::NotFinite { row: 1, col: 7 });
            assert_eq!(scales(format, 2, 40, &w, ScaleMethod::AbsMax), not_finite);
        }
    }
    let mut halves = [f16::ZERO; 16];
    assert_eq!(
        pack_f16(1, 1, &[7e4], &mut halves),
        Err(PackError::Overflow { row: 0, col: 0 })
    );
    assert_eq!(
        pack_f16(1, 1, &[f32::NAN], &mut halves),
        Err(PackError::NotFinite { row: 0, col: 0 })
    );
}

#[test]
fn wrong_arguments_are_errors() {
    let shape = |result: Result<(), PackError>| {
        assert!(matches!(result, Err(PackError::Shape(_))), "{result:?}")
    };
    let mut floats = [0.0; 16];
    shape(pack_f32(1, 1, &[], &mut floats));
    shape(pack_f32(0, 1, &[], &mut []));
    shape(pack_f32(1, 0, &[], &mut []));
    shape(pack_f32(1, 1, &[1.0], &mut floats[1..]));
    shape(pack_f32(usize::MAX, usize::MAX, &[1.0], &mut floats));
    let scales = [f16::NAN; 16];
    let (mut bytes, mut corrections) = ([0; 512], [0; 16]);
    let packed = pack_i8_row(2, 1, &[1.0, 2.0], &scales, &mut bytes, &mut corrections);
    assert_eq!(packed, Err(PackError::NotFinite { row: 0, col: 0 }));
    let format = WeightFormat::F32;
    let no_scales = choose_scales(format, 1, 1, &[1.0], ScaleMethod::AbsMax, &mut []);
    assert_eq!(no_scales, Err(PackError::NoScales(format)));
    let mut halves = [f16::ZERO; 16];
    let format = WeightFormat::U4Group32;
    let minima_too = choose_scales(format, 1, 1, &[1.0], ScaleMethod::AbsMax, &mut halves);
    assert_eq!(minima_too, Err(PackError::NoScales(format)));
    let (ones, mut nibbles) = ([f16::ONE; 16], [0; 256]);
    shape(pack_u4_group32(1, 1, &[1.0], &ones, &[], &mut nibbles));
    shape(pack_u4_group32(
        1,
        1,
        &[1.0],
        &ones,
        &ones,
        &mut nibbles[1..],
    ));
    let bad_minima = pack_u4_group32(1, 1, &[1.0], &ones, &scales, &mut nibbles);
    assert_eq!(bad_minima, Err(PackError::NotFinite { row: 0, col: 0 }));
    shape(pack_i4_group32_levels(2, 1, &[1], &mut nibbles));
    for (packed, lowest, highest) in [
        (
            pack_i4_group32_levels(2, 2, &[-8, 7, 0, 8], &mut nibbles),
            -8,
            7,
        ),
        (
            pack_u4_group32_levels(2, 2, &[0, 15, 3, -1], &mut nibbles),
            0,
            15,
        ),
    ] {
        let beyond = PackError::Level {
            row: 1,
            col: 1,
            lowest,
            highest,
        };
        assert_eq!(packed, Err(beyond));
    }
}
