//! SIMD kernels of attention inference: slices in, slices out.
#![no_std]
