//! The operations, one module each.

pub mod attention;
pub mod convert;
pub mod elementwise;
pub mod embed;
mod levels;
pub mod matmul;
pub mod norm;
pub mod position;
pub mod softmax;
