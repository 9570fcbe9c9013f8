//! Naive oracles in f64, for tests and benchmarks: one obvious loop each, no blocking, no SIMD.
//!
//! Unlike the operations they panic on slices that are too short.

pub mod attention;
pub mod elementwise;
pub mod matmul;
pub mod norm;
pub mod position;
pub mod softmax;
