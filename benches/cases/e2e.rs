//! Whole models: reading a prompt of 128 tokens (`pp128`) and writing 128 (`tg128`), as llama.cpp's benchmark names them.

use crate::case::{Bound, Case, Outcome, Unit, Workload};
use crate::data::Rng;
use crate::probe::Arithmetic;
use crate::verdict::Verdict;
use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::pack::{PackError, Recipe, ScaleMethod, TokenizerParts};
use attentive::{
    Architecture, Biases, Block, Config, Ffn, Model, Norm, NormPlace, Position, Role, RotaryStyle,
    Sampler, SamplerOptions, Session, SessionOptions, TensorKind, TensorShape,
};

/// Tokens of a prompt, and of an answer.
const TOKENS: usize = 128;
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
        for (weights, format) in [("i8", WeightFormat::I8Row), ("i4", WeightFormat::I4Group32)] {
            for (job, suffix) in [(Job::Prompt, "pp128"), (Job::Answer, "tg128")] {
                cases.push(case(
                    format!("e2e/{model}/{weights}/{suffix}"),
                    config,
                    format,
                    job,
                ));
            }
        }
    }
    cases
}

/// A prompt is bound by the products of its layers, an answer by reading all weights once a token.
fn case(name: String, config: &'static Config, format: WeightFormat, job: Job) -> Case {
    let weight_bytes = matrices(config)
        .map(|shape| bytes(&shape, format))
        .sum::<usize>();
    let layer_products = matrices(config)
        .filter(|shape| shape.layer.is_some())
        .map(|shape| 2 * shape.rows * shape.cols)
        .sum::<usize>();
    let (bound, bound_work) = match job {
        Job::Prompt => (Bound::Arithmetic(Arithmetic::I8), TOKENS * layer_products),
        Job::Answer => (Bound::Reading, TOKENS * weight_bytes),
    };
    Case {
        name,
        unit: Unit::Tokens,
        work: TOKENS as f64,
        bound,
        bound_work: bound_work as f64,
        bytes: weight_bytes * if job == Job::Prompt { 1 } else { TOKENS },
        prepare: Box::new(move |backend, rng| {
            Ok(Box::new(Generation::new(
                config, format, job, backend, rng,
            )?))
        }),
    }
}

/// The matrices that a token is multiplied with: every one, the embedding being the logits' when tied.
fn matrices(config: &Config) -> impl Iterator<Item = TensorShape> + '_ {
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
    file: Vec<Block>,
    memory: Vec<Block>,
    prompt: Vec<u32>,
    sampler: Sampler,
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
        recipe.write::<PackError>(Block::bytes_mut(&mut file), |mut tensor| {
            let shape = tensor.shape;
            let len = shape.rows * shape.cols;
            // Activations keep unit variance through the layers, so scores are neither flat nor peaked.
            let values = match (shape.kind, shape.role) {
                (TensorKind::Vector, _) => vec![1.0; len],
                (_, Role::TokenEmbedding) => rng.normals(len, 0.5),
                _ => rng.normals(len, 1.0 / (shape.cols as f32).sqrt()),
            };
            tensor.write(&values, ScaleMethod::AbsMax)
        })?;
        let model = Model::parse(Block::bytes(&file))?;
        let memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&OPTIONS))];
        let prompt = (0..TOKENS)
            .map(|_| rng.below(config.vocab_len) as u32)
            .collect();
        Ok(Self {
            job,
            backend,
            file,
            memory,
            prompt,
            sampler: Sampler::new(SamplerOptions::GREEDY),
        })
    }

    /// Logits at the end.
    fn logits(&mut self, backend: Backend) -> Outcome<Vec<f32>> {
        let model = Model::parse(Block::bytes(&self.file))?;
        let memory = Block::bytes_mut(&mut self.memory);
        let mut session = Session::new(&model, &OPTIONS, memory, backend)?;
        match self.job {
            Job::Prompt => session.prompt_tokens(&self.prompt)?,
            Job::Answer => {
                session.prompt_tokens(&self.prompt[..1])?;
                // A step runs the token of the step before: one more than there are passes.
                for _ in 0..TOKENS {
                    session.step(&mut self.sampler)?;
                }
            }
        }
        Ok(session.logits().to_vec())
    }
}

impl Workload for Generation {
    fn run(&mut self) -> Outcome {
        self.logits(self.backend).map(|_| ())
    }

    /// A model has no naive twin here (the core's tests have); the scalar kernels, which have, are the reference.
    fn check(&mut self) -> Outcome {
        let job = std::mem::replace(&mut self.job, Job::Prompt);
        let got = self.logits(self.backend)?;
        let want = self.logits(Backend::SCALAR)?;
        self.job = job;
        let want: Vec<f64> = want.into_iter().map(f64::from).collect();
        let mut verdict = Verdict::default();
        verdict.row("logits", &got, &want);
        // Both round the activations; a sum's last bit can turn a rounding, and layers pass it on.
        verdict.judge(0.05)
    }

    fn streams(&self) -> Vec<&[u8]> {
        vec![Block::bytes(&self.file)]
    }

    fn scratch_bytes(&self) -> usize {
        self.memory.len() * Block::LEN
    }
}
