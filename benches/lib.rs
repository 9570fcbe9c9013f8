//! One list of cases for every benchmark of the workspace, and the limits of the machine they are held against.
//!
//! [`cases::all`] is the list: the binary `perf` measures it with its own stopwatch beside the limits ([`measure`]),
//! and the Criterion target `kernels` runs the same cases for before-and-after comparisons. A case draws realistic
//! data at a random place in memory, checks its result against a naive computation in f64, and names its backend.
//! `docs/benchmarks.md` tells how to read the figures.

pub mod case;
pub mod cases;
pub mod contest;
pub mod cores;
pub mod data;
pub mod machine;
pub mod measure;
pub mod probe;
pub mod verdict;
