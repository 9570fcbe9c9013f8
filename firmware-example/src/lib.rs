//! A language model in a firmware: the weights in flash, the session in one static arena, no allocator.
//!
//! [`MODEL`], [`Fitted`] and [`ARENA`] are all that a firmware of your own has to have; `src/bin/generate.rs` shows
//! their use. The rest is about the host that asks (`command_line`), about what a run costs (`measure`), and about the
//! other small models, a binary for each ([`tasks`], [`classifier`]).
#![no_std]

pub mod classifier;
pub mod command_line;
mod failure;
pub mod measure;
pub mod processor;
pub mod request;
pub mod tasks;
pub mod text;
pub mod writer;

pub use failure::{Failure, panicked};

#[cfg(target_has_atomic = "ptr")]
use attentive::Arena;
use attentive::{Fit, Model, Needs, include_weights};

/// The weights, read where they lie in flash; a damaged file would not compile.
pub static MODEL: Model<'static> = include_weights!(env!("ATTENTIVE_MODEL"));

/// What sessions of that model need: `Session::<Sequential, Fitted>::fitted` links the code for nothing else.
pub struct Fitted;

impl Fit for Fitted {
    const NEEDS: Needs = MODEL.needs(&request::SESSION);
}

/// The session's memory: key-value cache and scratch, to the byte.
#[cfg(target_has_atomic = "ptr")]
pub static ARENA: Arena<{ MODEL.session_bytes(&request::SESSION) }> = Arena::new();
