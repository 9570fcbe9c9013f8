//! Naive oracles in f64, for tests and benchmarks: one obvious loop each, no blocking, no SIMD.

pub mod matmul;
