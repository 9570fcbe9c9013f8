//! From a run's weights to measured weights files.

use crate::corpus::Parts;
use crate::eval::{self, Score, Windows};
use crate::package::{self, Formats, Scales};
use crate::parallel;
use crate::params::Params;
use crate::prepared;
use crate::provenance::{Provenance, Quantization, Test, rounded};
use crate::quantize;
use crate::task::Task;
use crate::train::Run;
use crate::vocabulary::Vocabulary;
use anyhow::{Result, anyhow};
use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::{Block, Model, SessionOptions};
use std::path::{Path, PathBuf};

/// int8 with a scale for each row, vectors as f16. A scale for each 32 columns is 0.01 % better on the default model,
/// and takes 5 % more flash and 9 % more instructions on a Cortex-M4.
pub const INT8: Formats = Formats {
    matrices: WeightFormat::I8Row,
    embedding: WeightFormat::I8Row,
    vectors: WeightFormat::F16,
};

/// int4 in the layers. The embedding, which is also the output, stays int8: its errors cost the most.
pub const INT4: Formats = Formats {
    matrices: WeightFormat::I4Group32,
    embedding: WeightFormat::I8Row,
    vectors: WeightFormat::F16,
};

/// Training sequences that calibration looks at.
const CALIBRATION: usize = 64;

/// A model with everything that packing and measuring needs.
pub struct Source {
    /// Weights.
    pub params: Params,
    /// Tokenizer.
    pub vocabulary: Vocabulary,
    /// Record of the floats.
    pub provenance: Provenance,
    /// The task, for its text.
    pub task: Task,
    /// Its text.
    pub parts: Vec<Parts>,
}

/// A packed and measured model.
pub struct Product {
    /// The file.
    pub file: Vec<Block>,
    /// On the held-out text.
    pub score: Score,
}

impl Source {
    /// The best weights of a run.
    ///
    /// # Errors
    /// When the text cannot be read.
    pub fn of_run(run: Run) -> Result<Self> {
        Ok(Self {
            params: run.state.best_params(),
            provenance: Provenance::of(&run.task, &run.state),
            vocabulary: run.vocabulary,
            parts: prepared::parts(&run.task)?,
            task: run.task,
        })
    }

    /// Positions of the model.
    pub fn context(&self) -> usize {
        self.params.config.context_len
    }

    /// Tokens of the training part.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn train_tokens(&self) -> Result<Vec<u32>> {
        prepared::train_tokens(&self.parts, &self.vocabulary)
    }

    /// How much each column of each matrix matters, from activations on training text.
    ///
    /// # Errors
    /// Those of the forward pass.
    pub fn importance(&self, tokens: &[u32]) -> Result<Vec<Option<Vec<f32>>>> {
        let seq_len = self.task.training.seq_len;
        let mut batches = crate::batches::Batches::new(tokens, seq_len, self.task.training.seed)?;
        let batches = batches.step(0, CALIBRATION.min(batches.per_epoch()), 4);
        quantize::importance(&self.params, &batches, seq_len)
    }

    /// Packs the weights and measures them on the held-out text through the core; the file records the result.
    ///
    /// # Errors
    /// When a weight does not fit its format.
    pub fn product(
        &self,
        params: &Params,
        formats: Formats,
        scales: &Scales,
        quantization: Option<Quantization>,
        f32_bits: Option<f64>,
    ) -> Result<Product> {
        let mut provenance = self.provenance.clone();
        provenance.quantization = quantization;
        let draft = package::pack(params, &self.vocabulary, &provenance, formats, scales)?;
        let score = measure(&draft, &self.parts, self.context())?;
        let bits = score.bits_per_byte();
        provenance.test = Some(Test {
            bits_per_byte: rounded(bits),
            bits_per_byte_f32: rounded(f32_bits.unwrap_or(bits)),
            perplexity: rounded(score.perplexity()),
            bytes: score.bytes as u64,
            context: self.context() as u64,
        });
        let file = package::pack(params, &self.vocabulary, &provenance, formats, scales)?;
        Ok(Product { file, score })
    }

    /// The f32 file.
    ///
    /// # Errors
    /// As [`Source::product`].
    pub fn f32(&self) -> Result<Product> {
        let scales = self.params.tensors.iter().map(|_| Vec::new()).collect();
        self.product(&self.params, Formats::F32, &scales, None, None)
    }

    /// The int8 file by calibration.
    ///
    /// # Errors
    /// As [`Source::product`].
    pub fn int8(&self, command: &str, f32_bits: f64) -> Result<Product> {
        let importance = self.importance(&self.train_tokens()?)?;
        let scales = package::scales(&self.params, INT8, &importance)?;
        let record = record(command, INT8, 0);
        self.product(&self.params, INT8, &scales, Some(record), Some(f32_bits))
    }
}

/// The record of a quantization.
pub fn record(command: &str, formats: Formats, fine_tuning_steps: u64) -> Quantization {
    Quantization {
        command: command.to_owned(),
        matrices: format!("{:?}", formats.matrices),
        embedding: format!("{:?}", formats.embedding),
        fine_tuning_steps,
    }
}

/// Bits per byte and the like of a packed file on the test parts, with f32 keys and values.
fn measure(file: &[Block], parts: &[Parts], context: usize) -> Result<Score> {
    let model = Model::parse(Block::bytes(file)).map_err(|error| anyhow!("{error}"))?;
    let texts: Vec<&str> = parts.iter().map(|part| part.test.as_str()).collect();
    eval::test(
        &model,
        &texts,
        Windows::halves(context),
        &SessionOptions::new(context).with_kv(KvDtype::F32),
        Backend::detect(),
        parallel::threads(),
    )
}

/// Writes the f32 and int8 files of a finished run and prints their paths.
///
/// # Errors
/// As [`Source::product`], and when a file cannot be written.
pub fn finish(run: Run) -> Result<()> {
    let (out, name) = (run.out.clone(), run.task.name.clone());
    let source = Source::of_run(run)?;
    println!("measuring on the held-out text …");
    let f32 = source.f32()?;
    write(&f32, &file_name(&out, &name, "f32"))?;
    let command = source.provenance.command.clone();
    let int8 = source.int8(&command, f32.score.bits_per_byte())?;
    write(&int8, &file_name(&out, &name, "int8"))
}

/// `out/name-format.attn`.
pub fn file_name(out: &Path, name: &str, format: &str) -> PathBuf {
    out.join(format!("{name}-{format}.attn"))
}

/// Writes a product and says so.
///
/// # Errors
/// When the file cannot be written.
pub fn write(product: &Product, path: &Path) -> Result<()> {
    package::write(&product.file, path)?;
    println!(
        "{:.4} bits/byte, perplexity {:.2}, {} bytes: {}",
        product.score.bits_per_byte(),
        product.score.perplexity(),
        Block::bytes(&product.file).len(),
        path.display()
    );
    Ok(())
}

/// RAM of a session for each context, with each kind of cache.
///
/// # Errors
/// When the model cannot have such a context.
pub fn memory_lines(model: &Model<'_>, contexts: &[usize]) -> Result<Vec<String>> {
    let mut out = vec![format!(
        "{:>9} {:>12} {:>12} {:>12}  bytes",
        "context", "kv f32", "kv f16", "kv i8"
    )];
    for &context in contexts {
        let options = match model.config().reading() {
            // An encoder runs a text at once.
            Some(_) => SessionOptions::new(context).with_prefill_len(context),
            None => SessionOptions::new(context),
        };
        options
            .check(model.config())
            .map_err(|error| anyhow!("{error}"))?;
        let bytes = |kv| model.session_bytes(&options.with_kv(kv));
        out.push(format!(
            "{context:>9} {:>12} {:>12} {:>12}",
            bytes(KvDtype::F32),
            bytes(KvDtype::F16),
            bytes(KvDtype::I8)
        ));
    }
    Ok(out)
}
