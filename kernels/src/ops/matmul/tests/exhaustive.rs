//! Every number of rows against every number of columns.

use super::*;
use crate::testing::{SIZE_MAX, for_each_on_all_cores};

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn all_shapes_equal_exact_arithmetic() {
    for_each_on_all_cores(SIZE_MAX, |index| {
        let rows = SIZE_MAX - index;
        // 7 is prime to the 20 counts of vectors: neighbours have other counts, and each count meets every size.
        let shapes: Vec<_> = (1..=SIZE_MAX)
            .map(|cols| (rows, cols, 1 + (rows + 7 * cols) % 20))
            .collect();
        check_products(&mut Rng(0x5eed + rows as u64), &shapes);
        std::format!("{rows} rows, 1 to {SIZE_MAX} columns")
    });
}
