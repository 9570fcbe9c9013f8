//! `attentive`: transformer inference where there is no operating system.
#![no_std]
#![forbid(unsafe_code)]

mod config;
mod error;
mod file;
mod memory;
pub mod pack;
mod tensors;
pub mod tokenizer;
mod weights;

pub use attentive_kernels as kernels;

pub use config::{Architecture, Biases, Config, Ffn, Norm, NormPlace, Position, RotaryStyle};
pub use error::{ArenaTaken, ConfigError, SessionError, TensorFault, TokenizeError, WeightsError};
pub use memory::{Arena, Block};
pub use tensors::{Role, TensorKind, TensorShape};
pub use tokenizer::Tokenizer;
pub use weights::{Aligned, Model, TensorInfo};
