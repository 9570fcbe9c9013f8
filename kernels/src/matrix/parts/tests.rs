//! Parts of matrices and vectors.

use std::{vec, vec::Vec};

use crate::ops::matmul::{matmul, matmul_scratch_len};
use crate::testing::{FORMATS, Packed, Rng, backends};
use crate::{ShapeError, Vector};

#[test]
fn parts_of_a_matrix_give_the_bits_of_the_whole() {
    let mut rng = Rng(1);
    for (rows, cols) in [(100, 70), (64, 33), (17, 5), (16, 32)] {
        let (w, x) = (rng.normals(rows * cols), rng.normals(cols));
        let mut scratch = vec![0; matmul_scratch_len(cols, 1)];
        for format in FORMATS {
            let packed = Packed::new(format, rows, cols, &w);
            let whole = packed.matrix();
            for backend in backends() {
                let mut want = vec![0.0; rows];
                matmul(backend, &whole, &x, 1, &mut want, &mut scratch).unwrap();
                for from in (0..rows).step_by(16) {
                    for to in (from + 16..rows).step_by(16).chain([rows]) {
                        let part = whole.rows_part(from, to).unwrap();
                        assert_eq!(
                            (part.rows(), part.cols(), part.format()),
                            (to - from, cols, format)
                        );
                        let mut got = vec![0.0; to - from];
                        matmul(backend, &part, &x, 1, &mut got, &mut scratch).unwrap();
                        let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                        assert_eq!(
                            bits(&got),
                            bits(&want[from..to]),
                            "{format:?} {backend:?} {from}..{to} of {rows}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn parts_are_whole_panels_inside() {
    let packed = Packed::new(FORMATS[0], 40, 8, &vec![1.0; 320]);
    let matrix = packed.matrix();
    let refused = |from, to| matrix.rows_part(from, to).unwrap_err();
    let error = |what, need, have| ShapeError { what, need, have };
    assert_eq!(refused(0, 41), error("end of a matrix' part", 40, 41));
    assert_eq!(refused(0, 24), error("end of a matrix' part", 16, 24));
    assert_eq!(refused(8, 40), error("first row of a matrix' part", 0, 8));
    assert!(matrix.rows_part(16, 16).is_err() && matrix.rows_part(32, 16).is_err());
    assert!(matrix.rows_part(usize::MAX, 40).is_err());
    assert!(matrix.rows_part(32, 40).is_ok());
}

#[test]
fn parts_of_a_vector() {
    let vector = Vector::F32(&[1.0, 2.0, 3.0]);
    assert!(matches!(vector.part(1, 3), Ok(Vector::F32([2.0, 3.0]))));
    assert!(vector.part(1, 4).is_err() && vector.part(3, 2).is_err());
}
