//! The operations, one module each.

pub mod attention;
pub mod embed;
pub mod matmul;
pub mod softmax;
