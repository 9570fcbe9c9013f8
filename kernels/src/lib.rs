//! SIMD kernels of attention inference: slices in, slices out.
//!
//! Every operation is a free function that takes a [`Backend`] first, checks its shapes once at entry and returns
//! [`ShapeError`] when they disagree. Kernels are written once, over the eight logical lanes of [`isa::Isa`]; all
//! `unsafe` code of the workspace's inference lives in [`isa`].
//!
//! The crate needs no operating system and no allocator.
#![no_std]

#[cfg(any(feature = "std", test))]
extern crate std;

mod backend;
pub mod constants;
mod error;
pub mod integer;
pub mod isa;
mod kinds;
pub mod layout;
mod math;
mod matrix;
pub mod ops;
pub mod pack;
pub mod reference;
#[cfg(test)]
mod testing;

pub use backend::Backend;
pub use error::ShapeError;
pub use kinds::{Everything, Kinds, Linked};
pub use matrix::{Matrix, MatrixData, Vector};
