//! Trains, quantizes and evaluates the models that the core runs.
