//! `attentive`: transformer inference where there is no operating system.
//!
//! # Principles
//! 1. No heap, no `std`, no global state; no `unsafe` here, and no panic path once linked.
//! 2. Memory is a constant: [`Model::session_bytes`] is what a session takes, to the byte, known when it compiles.
//! 3. A hostile or truncated weights file is an `Err` (a compile error when embedded), never a panic.
//! 4. Work is done in bounded pieces: [`Session::step`] draws one token and returns.
//!
//! # The way of a token
//! [`Session`] turns a text into tokens ([`Tokenizer`]) and runs them in batches: `decoder` takes them through the
//! layers, `attention` and `ffn` being the two blocks, `linear`, `norm` and `position` what they are made of and `run`
//! what they share. Each calls a kernel of [`kernels`], which reads the weights where they lie ([`Model`]) and writes
//! the session's memory (`workspace`, `kv_cache`). `part` and `spread` cut all that for an [`Executor`], which by
//! default keeps it whole. `source` reads what an encoder–decoder attends to. A [`Sampler`] draws the next token from the
//! logits; `session::search` looks for the likeliest text. Dimensions come from [`Config`], sizes
//! from `workspace`, bytes of a file from `file`: each in one place. [`pack`] writes files. [`frontend`] makes frames of
//! sound, and patches of pictures. [`integer`] is the same once more, without a float: the profile of microcontrollers.
#![no_std]
#![forbid(unsafe_code)]

mod attention;
mod config;
mod decoder;
mod encoder;
mod error;
mod executor;
mod ffn;
mod file;
mod fits;
pub mod frontend;
mod heads;
pub mod integer;
mod kv_cache;
mod linear;
mod memory;
mod needs;
mod norm;
mod options;
pub mod pack;
mod parse;
mod part;
mod position;
mod run;
mod sampler;
mod session;
mod source;
mod spread;
mod stem;
mod tensors;
pub mod tokenizer;
mod watch;
mod weights;
mod workspace;

pub use attentive_kernels as kernels;

pub use config::{
    Architecture, Attention, Biases, Config, Ffn, Input, Norm, NormPlace, Output, Pooling,
    Position, Reading, RotaryStyle, Source, Window,
};
pub use encoder::{Answer, Encoder};
pub use error::{
    ArenaTaken, ConfigError, SessionError, SnapshotFault, TensorFault, TokenizeError, WeightsError,
};
#[cfg(feature = "rayon")]
pub use executor::Rayon;
pub use executor::{Executor, Sequential};
#[doc(hidden)]
pub use fits::Unfit;
#[cfg(target_has_atomic = "ptr")]
pub use memory::Arena;
pub use memory::Block;
pub use needs::{Anything, Fit, Needs};
pub use options::{EncoderOptions, SessionOptions, WhenFull};
pub use sampler::{Sampler, SamplerOptions};
pub use session::{BeamOptions, Hypothesis, LengthPenalty, Session};
pub use tensors::{Role, TensorKind, TensorShape};
pub use tokenizer::Tokenizer;
pub use watch::{Attends, AttentionRow};
pub use weights::{Aligned, Model, TensorInfo};

/// The README's examples compile and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
