//! A published encoder, from a weights file: a text's tokens to its vector.

use crate::case::{Bound, Case, Outcome, Problem, Unit, Workload};
use crate::cases::e2e::{layer_products, matrices};
use crate::cases::matmul::short;
use crate::data::Rng;
use crate::probe::Arithmetic;
use crate::verdict::Verdict;
use attentive::kernels::Backend;
use attentive::kernels::layout::WeightFormat;
use attentive::{Block, Encoder, EncoderOptions, Model, Output};
use std::rc::Rc;

/// Tokens of a text: a search query, a sentence, a paragraph.
const LENGTHS: [usize; 3] = [8, 40, 128];

/// The cases of an encoder of texts that gives vectors, `e2e/encoder/<weights>/n<tokens>`.
///
/// # Errors
/// When `file` is no weights file of such an encoder, or has no room for the longest of these texts.
pub fn of_file(file: &[u8]) -> Outcome<Vec<Case>> {
    let mut blocks = vec![Block::ZERO; Block::len_for(file.len())];
    Block::bytes_mut(&mut blocks)[..file.len()].copy_from_slice(file);
    let published = Published {
        blocks: blocks.into(),
        bytes: file.len(),
    };
    let model = published.model()?;
    let config = model.config();
    let longest = LENGTHS[LENGTHS.len() - 1];
    let gives_vectors = config
        .reading()
        .is_some_and(|reading| matches!(reading.output, Output::Embedding { .. }));
    if !gives_vectors || config.context_len < longest {
        return Err(format!(
            "expected an encoder that makes a vector of a text of {longest} tokens"
        )
        .into());
    }
    let Some(first) = matrices(config).find(|shape| shape.layer.is_some()) else {
        return Err("a model without layers".into());
    };
    let format = model.matrix(first.role, first.layer)?.format();
    let arithmetic = match format {
        WeightFormat::F32 | WeightFormat::F16 => Arithmetic::F32,
        _ => Arithmetic::I8,
    };
    let cases = LENGTHS.map(|len| {
        let published = published.clone();
        Case {
            name: format!("e2e/encoder/{}/n{len}", short(format)),
            unit: Unit::Tokens,
            work: len as f64,
            bound: Bound::Arithmetic(arithmetic),
            bound_work: (len * layer_products(config)) as f64,
            bytes: published.bytes,
            prepare: Box::new(move |backend, rng| {
                Ok(Box::new(Embedding::new(
                    published.clone(),
                    format,
                    len,
                    backend,
                    rng,
                )?))
            }),
        }
    });
    Ok(cases.into())
}

/// A weights file in memory.
#[derive(Clone)]
struct Published {
    blocks: Rc<[Block]>,
    bytes: usize,
}

impl Published {
    fn model(&self) -> Outcome<Model<'_>> {
        Ok(Model::parse(&Block::bytes(&self.blocks)[..self.bytes])?)
    }
}

struct Embedding {
    published: Published,
    format: WeightFormat,
    backend: Backend,
    tokens: Vec<u32>,
    memory: Vec<Block>,
    /// What the check computed.
    checked: Vec<f32>,
}

impl Embedding {
    fn new(
        published: Published,
        format: WeightFormat,
        len: usize,
        backend: Backend,
        rng: &mut Rng,
    ) -> Outcome<Self> {
        let model = published.model()?;
        let bytes = model.encoder_bytes(&EncoderOptions::new(len));
        let memory = vec![Block::ZERO; Block::len_for(bytes)];
        let tokens = (0..len).map(|_| rng.below(model.config().vocab_len) as u32);
        let tokens = tokens.collect();
        Ok(Self {
            published,
            format,
            backend,
            tokens,
            memory,
            checked: Vec::new(),
        })
    }

    /// The text's vector, of length 1.
    fn vector(&mut self, backend: Backend) -> Outcome<Vec<f32>> {
        let model = self.published.model()?;
        let memory = Block::bytes_mut(&mut self.memory);
        let options = EncoderOptions::new(self.tokens.len());
        let mut encoder = Encoder::new(&model, &options, memory, backend)?;
        encoder.run_tokens(&self.tokens, &[])?;
        let vector = encoder.embedding()?;
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        Ok(vector.iter().map(|x| x / length).collect())
    }
}

impl Workload for Embedding {
    fn run(&mut self) -> Outcome {
        self.vector(self.backend).map(|_| ())
    }

    /// The scalar kernels are the reference, as for the other models.
    fn check(&mut self) -> Outcome {
        let got = self.vector(self.backend)?;
        let want: Vec<f64> = self
            .vector(Backend::SCALAR)?
            .into_iter()
            .map(f64::from)
            .collect();
        let mut verdict = Verdict::default();
        verdict.row("vector", &got, &want);
        verdict.judge(match self.format {
            WeightFormat::F32 | WeightFormat::F16 => 1e-4,
            // A sum's last bit can turn a rounding of the activations, and layers pass it on.
            _ => 0.05,
        })?;
        self.checked = got;
        Ok(())
    }

    fn problem(&self) -> Option<Problem<'_>> {
        Some(Problem::Embedding {
            weights: short(self.format),
            tokens: &self.tokens,
            vector: &self.checked,
        })
    }

    fn streams(&self) -> Vec<&[u8]> {
        vec![&Block::bytes(&self.published.blocks)[..self.published.bytes]]
    }

    fn scratch_bytes(&self) -> usize {
        self.memory.len() * Block::LEN
    }
}
