//! Whole models: reading a prompt of 128 tokens (`pp128`) and writing 128 (`tg128`), as llama.cpp's benchmark names
//! them.

use crate::case::{Bound, Case, Outcome, Problem, Unit, Workload};
use crate::cases::matmul::short;
use crate::cores::{self, CORES};
use crate::data::Rng;
use crate::probe::Arithmetic;
use crate::verdict::Verdict;
use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::pack::{PackError, Recipe, ScaleMethod, TokenizerParts};
use attentive::{
    Architecture, Attention, Biases, Block, Config, Executor, Ffn, Model, Norm, NormPlace,
    Position, Rayon, Role, RotaryStyle, Sampler, SamplerOptions, Session, SessionError,
    SessionOptions, TensorKind, TensorShape,
};
use std::rc::Rc;

/// Tokens of a prompt, and of an answer.
const TOKENS: usize = 128;
/// A model of this size is held against the scalar kernels on a few tokens only.
const LARGE_BYTES: usize = 32 << 20;
/// The whole prompt in one pass, as the peers do by default.
const OPTIONS: SessionOptions = SessionOptions::new(2 * TOKENS).with_prefill_len(TOKENS);

/// The shape of the default model.
const AUSTEN_1M: Config = Config {
    architecture: Architecture::Decoder,
    vocab_len: 1024,
    dim: 128,
    layers: 4,
    heads: 4,
    kv_heads: 4,
    head_dim: 32,
    hidden_dim: 384,
    context_len: 256,
    norm: Norm::Rms,
    norm_place: NormPlace::Pre,
    norm_eps: 1e-5,
    final_norm: true,
    ffn: Ffn::SwiGlu,
    position: Position::Rotary {
        style: RotaryStyle::Half,
        base: 10_000.0,
    },
    tied: true,
    biases: Biases::NONE,
    attention: Attention::PLAIN,
    embedding_scale: 1.0,
    begin_of_text: None,
    end_of_text: None,
};

/// The llama shape of 15 M parameters that the targets name.
const LLAMA_15M: Config = Config {
    vocab_len: 32_000,
    dim: 288,
    layers: 6,
    heads: 6,
    kv_heads: 6,
    head_dim: 48,
    hidden_dim: 768,
    ..AUSTEN_1M
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    Prompt,
    Answer,
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (model, config) in [("austen-1m", &AUSTEN_1M), ("llama-15m", &LLAMA_15M)] {
        for format in [WeightFormat::I8Row, WeightFormat::I4Group32] {
            for (job, suffix) in [(Job::Prompt, "pp128"), (Job::Answer, "tg128")] {
                let name = format!("e2e/{model}/{}/{suffix}", short(format));
                let one = case(name, config, format, job, 1);
                if model == "llama-15m" {
                    let name = format!("{}/{CORES}cores", one.name);
                    cases.push(one);
                    cases.push(case(name, config, format, job, CORES));
                } else {
                    cases.push(one);
                }
            }
        }
    }
    cases
}

/// A prompt is bound by the products of its layers, an answer by reading all weights once a token, several cores by
/// one.
fn case(
    name: String,
    config: &'static Config,
    format: WeightFormat,
    job: Job,
    cores: usize,
) -> Case {
    let weight_bytes = matrices(config)
        .map(|shape| bytes(&shape, format))
        .sum::<usize>();
    let layer_products = layer_products(config);
    let (bound, bound_work) = match job {
        _ if cores > 1 => (Bound::Cores(cores), 1.0 / cores as f64),
        Job::Prompt => {
            let operations = TOKENS * layer_products;
            (Bound::Arithmetic(Arithmetic::I8), operations as f64)
        }
        Job::Answer => (Bound::Reading, (TOKENS * weight_bytes) as f64),
    };
    Case {
        name,
        unit: Unit::Tokens,
        work: TOKENS as f64,
        bound,
        bound_work,
        bytes: weight_bytes * if job == Job::Prompt { 1 } else { TOKENS },
        prepare: Box::new(move |backend, rng| {
            let mut generation = Generation::new(config, format, job, backend, rng)?;
            generation.set_cores(cores)?;
            Ok(Box::new(generation))
        }),
    }
}

/// The same two cases for a model in a weights file, `e2e/<model>/<weights>/…`; `weights` is only a name.
///
/// # Errors
/// When `file` is no weights file of a decoder with room for 256 tokens.
pub fn of_file(model: &str, weights: &'static str, file: &[u8]) -> Outcome<Vec<Case>> {
    let mut blocks = vec![Block::ZERO; Block::len_for(file.len())];
    Block::bytes_mut(&mut blocks)[..file.len()].copy_from_slice(file);
    let blocks: Rc<[Block]> = blocks.into();
    let len = file.len();
    let config = *Model::parse(&Block::bytes(&blocks)[..len])?.config();
    let layer_products = layer_products(&config);
    let cases = [(Job::Prompt, "pp128"), (Job::Answer, "tg128")].map(|(job, suffix)| {
        let blocks = blocks.clone();
        let (bound, bound_work) = match job {
            Job::Prompt => (Bound::Arithmetic(Arithmetic::I8), TOKENS * layer_products),
            Job::Answer => (Bound::Reading, TOKENS * len),
        };
        Case {
            name: format!("e2e/{model}/{weights}/{suffix}"),
            unit: Unit::Tokens,
            work: TOKENS as f64,
            bound,
            bound_work: bound_work as f64,
            bytes: len * if job == Job::Prompt { 1 } else { TOKENS },
            prepare: Box::new(move |backend, rng| {
                let parts = (blocks.clone(), len);
                let generation =
                    Generation::of_file(parts, weights, Vec::new(), job, backend, rng)?;
                Ok(Box::new(generation))
            }),
        }
    });
    Ok(cases.into())
}

/// Operations that a token's layers need in matrix products.
pub(super) fn layer_products(config: &Config) -> usize {
    matrices(config)
        .filter(|shape| shape.layer.is_some())
        .map(|shape| 2 * shape.rows * shape.cols)
        .sum()
}

/// The matrices that a token is multiplied with: every one, the embedding being the logits' when tied.
pub(super) fn matrices(config: &Config) -> impl Iterator<Item = TensorShape> + '_ {
    (0..config.tensors_len())
        .filter_map(|index| config.tensor(index))
        .filter(|shape| shape.kind == TensorKind::Matrix)
}

fn bytes(shape: &TensorShape, format: WeightFormat) -> usize {
    let bits = if format == WeightFormat::I4Group32 {
        4
    } else {
        8
    };
    shape.rows * shape.cols * bits / 8
}

struct Generation {
    job: Job,
    backend: Backend,
    config: Config,
    weights: &'static str,
    /// Every weight before packing, where it is known.
    tensors: Vec<(TensorShape, Vec<f32>)>,
    file: Rc<[Block]>,
    file_bytes: usize,
    memory: Vec<Block>,
    prompt: Vec<u32>,
    sampler: Sampler,
    cores: usize,
    /// What the check computed.
    checked: Vec<f32>,
}

impl Generation {
    fn new(
        config: &Config,
        format: WeightFormat,
        job: Job,
        backend: Backend,
        rng: &mut Rng,
    ) -> Outcome<Self> {
        let recipe = Recipe {
            config,
            tokenizer: TokenizerParts::None,
            provenance: "data = \"random numbers\"\n",
            format: &|shape| match shape.kind {
                TensorKind::Matrix => format,
                TensorKind::Vector => WeightFormat::F16,
            },
        };
        let mut file = vec![Block::ZERO; Block::len_for(recipe.file_bytes()?)];
        let mut tensors = Vec::new();
        recipe.write::<PackError>(Block::bytes_mut(&mut file), |mut tensor| {
            let shape = tensor.shape;
            let len = shape.rows * shape.cols;
            // Activations keep unit variance through the layers, so scores are neither flat nor peaked.
            let values = match (shape.kind, shape.role) {
                (TensorKind::Vector, _) => vec![1.0; len],
                (_, Role::TokenEmbedding) => rng.normals(len, 0.5),
                _ => rng.normals(len, 1.0 / (shape.cols as f32).sqrt()),
            };
            tensor.write(&values, ScaleMethod::AbsMax)?;
            tensors.push((shape, values));
            Ok(())
        })?;
        let len = Block::bytes(&file).len();
        Self::of_file(
            (file.into(), len),
            short(format),
            tensors,
            job,
            backend,
            rng,
        )
    }

    /// Of a weights file and its length in bytes.
    fn of_file(
        (file, file_bytes): (Rc<[Block]>, usize),
        weights: &'static str,
        tensors: Vec<(TensorShape, Vec<f32>)>,
        job: Job,
        backend: Backend,
        rng: &mut Rng,
    ) -> Outcome<Self> {
        let model = Model::parse(&Block::bytes(&file)[..file_bytes])?;
        let config = *model.config();
        let memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&OPTIONS))];
        let prompt = (0..TOKENS)
            .map(|_| rng.below(config.vocab_len) as u32)
            .collect();
        Ok(Self {
            job,
            backend,
            config,
            weights,
            tensors,
            file,
            file_bytes,
            memory,
            prompt,
            sampler: Sampler::new(SamplerOptions::GREEDY),
            cores: 1,
            checked: Vec::new(),
        })
    }

    /// Runs on so many cores from now on.
    fn set_cores(&mut self, cores: usize) -> Outcome {
        if cores > 1 {
            cores::pool()?;
        }
        let model = Model::parse(&Block::bytes(&self.file)[..self.file_bytes])?;
        let bytes = model.session_bytes(&OPTIONS.with_parts(cores));
        self.memory = vec![Block::ZERO; Block::len_for(bytes)];
        self.cores = cores;
        Ok(())
    }

    /// Logits after the work of `job` on this prompt, on so many cores.
    fn logits(
        &mut self,
        job: Job,
        backend: Backend,
        prompt_len: usize,
        cores: usize,
    ) -> Outcome<Vec<f32>> {
        let model = Model::parse(&Block::bytes(&self.file)[..self.file_bytes])?;
        let memory = Block::bytes_mut(&mut self.memory);
        let session = Session::new(&model, &OPTIONS.with_parts(cores), memory, backend)?;
        let prompt = &self.prompt[..prompt_len];
        let logits = match cores {
            1 => logits(session, job, prompt, &mut self.sampler),
            _ => {
                let session = session.with_executor(Rayon::current());
                logits(session, job, prompt, &mut self.sampler)
            }
        };
        Ok(logits?)
    }

    fn run_on(&mut self, cores: usize) -> Outcome {
        let prompt_len = match self.job {
            Job::Prompt => TOKENS,
            Job::Answer => 1,
        };
        self.logits(self.job, self.backend, prompt_len, cores)
            .map(|_| ())
    }
}

/// Logits at the end of the work.
fn logits<E: Executor>(
    mut session: Session<'_, E>,
    job: Job,
    prompt: &[u32],
    sampler: &mut Sampler,
) -> Result<Vec<f32>, SessionError> {
    session.prompt_tokens(prompt)?;
    if job == Job::Answer {
        // A step runs the token of the step before: one more than there are passes.
        for _ in 0..TOKENS {
            session.step(sampler)?;
        }
    }
    Ok(session.logits().to_vec())
}

impl Workload for Generation {
    fn run(&mut self) -> Outcome {
        self.run_on(self.cores)
    }

    fn run_alone(&mut self) -> Outcome {
        self.run_on(1)
    }

    /// A model has no naive twin here (the core's tests have); the scalar kernels, which have, are the reference.
    fn check(&mut self) -> Outcome {
        // The scalar kernels would take minutes for the whole prompt of a large model.
        let checked = match self.file_bytes > LARGE_BYTES {
            true => 8,
            false => TOKENS,
        };
        let got = self.logits(Job::Prompt, self.backend, checked, 1)?;
        let want = self.logits(Job::Prompt, Backend::SCALAR, checked, 1)?;
        let want: Vec<f64> = want.into_iter().map(f64::from).collect();
        let mut verdict = Verdict::default();
        verdict.row("logits", &got, &want);
        // Both round the activations; a sum's last bit can turn a rounding, and layers pass it on.
        verdict.judge(0.05)?;
        self.checked = self.logits(Job::Prompt, self.backend, TOKENS, 1)?;
        if self.logits(Job::Prompt, self.backend, TOKENS, self.cores)? != self.checked {
            return Err("several cores give other bits than one".into());
        }
        Ok(())
    }

    fn problem(&self) -> Option<Problem<'_>> {
        // Others are asked on one core.
        (self.cores == 1).then_some(Problem::Generation {
            config: &self.config,
            weights: self.weights,
            tensors: &self.tensors,
            prompt: &self.prompt,
            answer: match self.job {
                Job::Prompt => 0,
                Job::Answer => TOKENS,
            },
            logits: &self.checked,
        })
    }

    fn streams(&self) -> Vec<&[u8]> {
        vec![&Block::bytes(&self.file)[..self.file_bytes]]
    }

    fn scratch_bytes(&self) -> usize {
        self.memory.len() * Block::LEN
    }
}
