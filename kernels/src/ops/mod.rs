//! The operations, one module each.

pub mod embed;
pub mod matmul;
