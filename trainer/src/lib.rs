//! Trains, quantizes and evaluates the models that the core runs.
#![deny(unsafe_code)]

pub mod alike;
pub mod batches;
pub mod chat;
pub mod checkpoint;
pub mod compare;
pub mod corpus;
pub mod eval;
pub mod examples;
pub mod files;
pub mod frontend;
pub mod import;
pub mod integer;
pub mod look;
pub mod loss;
pub mod mapped;
pub mod metrics;
pub mod network;
pub mod ops;
pub mod optimizer;
pub mod package;
pub mod pairs;
pub mod parallel;
pub mod params;
pub mod prepared;
pub mod produce;
pub mod progress;
pub mod provenance;
pub mod pytorch;
pub mod quantize;
pub mod questions;
pub mod random;
pub mod shares;
pub mod sounds;
pub mod speak;
pub mod speech;
pub mod start;
pub mod stories;
pub mod tagging;
pub mod task;
pub mod texts;
pub mod train;
pub mod translation;
pub mod vocabulary;
pub mod word_errors;

/// A step allocates in the same order what the step before it freed: megabytes at a time, which the system's allocator
/// gives back to the kernel and gets again page by page. This one keeps them (see `.cargo/config.toml`).
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
