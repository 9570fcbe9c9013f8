//! Trains, quantizes and evaluates the models that the core runs.
#![forbid(unsafe_code)]

pub mod network;
pub mod ops;
pub mod params;
pub mod random;
