//! `attentive`: transformer inference where there is no operating system.
#![no_std]
#![forbid(unsafe_code)]

pub use attentive_kernels as kernels;
