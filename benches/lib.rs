//! Benchmarks of the kernels.
