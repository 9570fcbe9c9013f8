//! What a case is: a name, a unit, the work of one run, the limit it is held against, and how to set it up.

use crate::data::Rng;
use crate::probe::Arithmetic;
use attentive::{Config, TensorShape};
use attentive_kernels::Backend;
use core::fmt;

/// Whatever went wrong, as a sentence.
pub type Outcome<T = ()> = Result<T, Box<dyn core::error::Error>>;

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 10⁹ floating-point operations a second; a multiply-add is two.
    Gflops,
    /// 10⁹ integer operations a second; a multiply-add is two.
    Gops,
    /// 10⁹ bytes a second.
    Gbytes,
    /// Tokens a second.
    Tokens,
}

impl Unit {
    /// How many of the unit a rate of one (operation, byte, token) a second is.
    #[must_use]
    pub fn scale(self) -> f64 {
        match self {
            Self::Gflops | Self::Gops | Self::Gbytes => 1e-9,
            Self::Tokens => 1.0,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gflops => "GFLOP/s",
            Self::Gops => "GOP/s",
            Self::Gbytes => "GB/s",
            Self::Tokens => "tok/s",
        })
    }
}

/// What bounds a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The peak rate of this arithmetic.
    Arithmetic(Arithmetic),
    /// The rate at which the machine reads the very bytes that the case reads ([`Workload::streams`]): the bandwidth
    /// of the cache level that holds them, whatever the machine's caches are.
    Reading,
    /// So many times what one core does ([`Workload::run_alone`]): a fraction of 1 is perfect scaling.
    Cores(usize),
    /// Nothing: the case measures a limit itself.
    Itself,
}

impl Bound {
    /// The name of the limit, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Arithmetic(Arithmetic::F32) => "f32 peak",
            Self::Arithmetic(Arithmetic::I8) => "i8 peak",
            Self::Arithmetic(Arithmetic::I16) => "i16 peak",
            Self::Reading => "read",
            Self::Cores(2) => "2 x 1",
            Self::Cores(_) => "n x 1",
            Self::Itself => "",
        }
    }
}

/// Sets a case up on a backend, with the numbers of this generator.
pub type Prepare = Box<dyn Fn(Backend, &mut Rng) -> Outcome<Box<dyn Workload>>>;

/// One entry of the list.
pub struct Case {
    /// As in the table of targets: `attn-prefill/f32/causal/d64/n512`.
    pub name: String,
    /// The unit of the figure.
    pub unit: Unit,
    /// Operations, bytes or tokens of one run.
    pub work: f64,
    /// What the figure is held against.
    pub bound: Bound,
    /// Operations of that arithmetic, or bytes read, that one run cannot do without.
    pub bound_work: f64,
    /// Bytes that one run must move: weights or keys and values, activations in and out.
    pub bytes: usize,
    /// Draws the data, packs them, and hands over something that can run.
    pub prepare: Prepare,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What a prepared case computes, told to other programs that compute the same beside it.
#[derive(Debug)]
pub enum Problem<'a> {
    /// softmax(q·kᵀ / √head_dim)·v of `group` query heads on one key-value head.
    Attention {
        /// Element type of the cache: f32, f16, bf16 or i8.
        kv: &'static str,
        /// Whether query i sees only the keys up to its own position, the last query being the last key.
        causal: bool,
        /// Elements of a head.
        head_dim: usize,
        /// Query heads.
        group: usize,
        /// (q_len, group, head_dim)
        q: &'a [f32],
        /// (kv_len, head_dim), before any rounding.
        k: &'a [f32],
        /// (kv_len, head_dim), before any rounding.
        v: &'a [f32],
        /// (q_len, group, head_dim): what the last run computed.
        out: &'a [f32],
    },
    /// y = x·wᵀ.
    Product {
        /// Element type of the weights: f32, f16, i8 or i4.
        format: &'static str,
        /// Of the weights.
        rows: usize,
        /// Of the weights.
        cols: usize,
        /// Equal matrices that one run goes through, each elsewhere in memory.
        copies: usize,
        /// (rows, cols), before any rounding.
        weights: &'a [f32],
        /// (n, cols)
        x: &'a [f32],
        /// (n, rows): what the last run computed.
        y: &'a [f32],
    },
    /// A model that reads a prompt or writes an answer.
    Generation {
        /// Shape of the model.
        config: &'a Config,
        /// Element type of the weights, as in the case's name.
        weights: &'a str,
        /// Every weight before any rounding, in file order; empty when the model was read from a file.
        tensors: &'a [(TensorShape, Vec<f32>)],
        /// The prompt that is read, or whose first token begins the answer.
        prompt: &'a [u32],
        /// Tokens of the answer; 0 when the prompt is read.
        answer: usize,
        /// Logits after the whole prompt.
        logits: &'a [f32],
    },
    /// An encoder that turns a text into a vector.
    Embedding {
        /// Element type of the weights, as in the case's name.
        weights: &'static str,
        /// The text's.
        tokens: &'a [u32],
        /// (dim), of length 1.
        vector: &'a [f32],
    },
}

/// A case that is set up.
pub trait Workload {
    /// Does the work once.
    ///
    /// # Errors
    /// Whatever the product refuses; the shapes are the case's own, so this is a defect.
    fn run(&mut self) -> Outcome;

    /// The same work on one core, for [`Bound::Cores`].
    ///
    /// # Errors
    /// As [`Workload::run`].
    fn run_alone(&mut self) -> Outcome {
        self.run()
    }

    /// Runs once and holds sampled rows of the result against a naive computation in f64.
    ///
    /// # Errors
    /// A sentence with the place and the size of the difference.
    fn check(&mut self) -> Outcome;

    /// What it computes, if other programs can be asked to compute the same; the results are those of the last
    /// [`Workload::check`].
    fn problem(&self) -> Option<Problem<'_>> {
        None
    }

    /// The bytes that the work streams through, for [`Bound::Reading`].
    fn streams(&self) -> Vec<&[u8]>;

    /// Bytes of scratch memory that the caller lends.
    fn scratch_bytes(&self) -> usize;
}

/// Whether `pattern` is in `name`; `*` stands for anything. A pattern without `*` that is a whole name selects that
/// case alone.
#[must_use]
pub fn name_matches(pattern: &str, name: &str) -> bool {
    let mut rest = name;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::name_matches;

    #[test]
    fn patterns() {
        let name = "attn-prefill/f32/causal/d64/n512";
        for yes in ["", "f32", name, "prefill/*/causal", "attn*n512"] {
            assert!(name_matches(yes, name), "{yes}");
        }
        for no in ["f16", "causal*f32", "n512*n512"] {
            assert!(!name_matches(no, name), "{no}");
        }
    }
}
