//! From a run's weights to measured weights files.

use crate::alike::{Retrieval, embeddings};
use crate::batches::Batch;
use crate::eval::{self, Accuracy, Score, Windows};
use crate::frontend::Frontend;
use crate::integer;
use crate::package::{self, Formats, Scales};
use crate::pairs::Pair;
use crate::parallel;
use crate::params::Params;
use crate::prepared::{Corpus, Prepared};
use crate::provenance::{
    AlikeTest, AnswerTest, ClassTest, Provenance, Quantization, TagTest, Test, TextTest,
    TranslationTest, rounded,
};
use crate::quantize;
use crate::questions::{self, Agreement};
use crate::tagging::{Tagging, integer_tags, tags};
use crate::task::{Task, Training};
use crate::train::Run;
use crate::translation::{Likeness, Search, translations};
use crate::vocabulary::Vocabulary;
use anyhow::{Result, anyhow, bail, ensure};
use attentive::integer::Bits;
use attentive::kernels::Backend;
use attentive::kernels::layout::{KvDtype, WeightFormat};
use attentive::{Block, EncoderOptions, Model, SessionOptions};
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
    /// Tokenizer, of texts.
    pub vocabulary: Option<Vocabulary>,
    /// Record of the floats.
    pub provenance: Provenance,
    /// The task, for its data.
    pub task: Task,
    /// Its data.
    pub corpus: Corpus,
}

/// A packed and measured model.
pub struct Product {
    /// The file.
    pub file: Vec<Block>,
    /// On what was held out.
    pub quality: Quality,
}

/// How good a model is.
#[derive(Clone, Copy, Debug)]
pub enum Quality {
    /// On a text.
    Text(Score),
    /// On examples.
    Classes(Accuracy),
    /// On pairs.
    Translation(Likeness),
    /// On questions.
    Answers(Agreement),
    /// On words.
    Tags(Tagging),
    /// On texts that mean the same.
    Alike(Retrieval),
}

impl Quality {
    /// Bits per byte, or the share of examples that are right, or chrF, or F1.
    pub fn figure(&self) -> f64 {
        match self {
            Self::Text(score) => score.bits_per_byte(),
            Self::Classes(accuracy) => accuracy.share(),
            Self::Translation(likeness) => likeness.chrf,
            Self::Answers(agreement) => agreement.f1,
            Self::Tags(tagging) => tagging.f1,
            Self::Alike(retrieval) => retrieval.nearest,
        }
    }
}

impl std::fmt::Display for Quality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(score) => {
                let (bits, perplexity) = (score.bits_per_byte(), score.perplexity());
                write!(f, "{bits:.4} bits/byte, perplexity {perplexity:.2}")
            }
            Self::Classes(Accuracy { right, examples }) => {
                let percent = 100.0 * self.figure();
                write!(f, "accuracy {percent:.2} % ({right} of {examples})")
            }
            Self::Translation(Likeness {
                chrf,
                bleu,
                sentences,
            }) => write!(f, "chrF {chrf:.2}, BLEU {bleu:.2} ({sentences} sentences)"),
            Self::Answers(Agreement {
                exact,
                f1,
                questions,
            }) => {
                let (exact, f1) = (100.0 * exact, 100.0 * f1);
                write!(
                    f,
                    "exact match {exact:.2} %, F1 {f1:.2} % ({questions} questions)"
                )
            }
            Self::Tags(Tagging {
                f1,
                accuracy,
                words,
            }) => {
                let (f1, accuracy) = (100.0 * f1, 100.0 * accuracy);
                write!(f, "F1 {f1:.2} %, accuracy {accuracy:.2} % ({words} words)")
            }
            Self::Alike(Retrieval {
                nearest,
                reciprocal_rank,
                pairs,
            }) => {
                let nearest = 100.0 * nearest;
                write!(
                    f,
                    "nearest {nearest:.2} %, mean reciprocal rank {reciprocal_rank:.4} ({pairs} pairs)"
                )
            }
        }
    }
}

impl Source {
    /// The best weights of a run.
    ///
    /// # Errors
    /// When the text cannot be read.
    pub fn of_run(run: Run) -> Result<Self> {
        let corpus = Corpus::load(&run.task)?;
        Ok(Self {
            params: run.state.best_params(),
            provenance: Provenance::of(&run.task, &run.state, corpus.labels()),
            vocabulary: run.vocabulary,
            corpus,
            task: run.task,
        })
    }

    /// Positions of the model.
    pub fn context(&self) -> usize {
        self.params.config.context_len
    }

    /// The data as the model reads it.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn prepared(&self) -> Result<Prepared> {
        Prepared::new(&self.task, &self.corpus, self.vocabulary.clone())
    }

    /// How much each column of each matrix matters, from activations on some of what it is trained on.
    ///
    /// # Errors
    /// Those of the forward pass.
    pub fn importance(&self, prepared: &Prepared) -> Result<Vec<Option<Vec<f32>>>> {
        quantize::importance(
            &self.params,
            &self.calibration_batches(prepared, CALIBRATION)?,
        )
    }

    /// Some sequences of what the model is trained on.
    ///
    /// # Errors
    /// When there is too little of it.
    pub fn calibration_batches(&self, prepared: &Prepared, count: usize) -> Result<Vec<Batch>> {
        let training = Training {
            dropout: 0.0,
            ..self.task.training.clone()
        };
        let mut samples = prepared.samples(&training, training.seed)?;
        samples.step(0, count.min(samples.per_epoch()), 4)
    }

    /// Packs the weights and measures them on what was held out through the core; the file records the result.
    ///
    /// # Errors
    /// When a weight does not fit its format.
    pub fn product(
        &self,
        params: &Params,
        formats: Formats,
        scales: &Scales,
        quantization: Option<Quantization>,
        f32_figure: Option<f64>,
    ) -> Result<Product> {
        let vocabulary = self.vocabulary.as_ref();
        self.measured(quantization, f32_figure, |provenance| {
            package::pack(params, vocabulary, provenance, formats, scales)
        })
    }

    /// The same of the integer profile.
    ///
    /// # Errors
    /// When the record is too long, or the model cannot be run.
    pub fn integer_product(
        &self,
        rounded: &integer::Rounded,
        quantization: Quantization,
        f32_figure: f64,
    ) -> Result<Product> {
        let vocabulary = self.vocabulary.as_ref();
        self.measured(Some(quantization), Some(f32_figure), |provenance| {
            rounded.pack(vocabulary, &provenance.to_toml()?)
        })
    }

    fn measured(
        &self,
        quantization: Option<Quantization>,
        f32_figure: Option<f64>,
        pack: impl Fn(&Provenance) -> Result<Vec<Block>>,
    ) -> Result<Product> {
        let mut provenance = self.provenance.clone();
        provenance.quantization = quantization;
        let draft = pack(&provenance)?;
        let quality = measure(&draft, &self.task, &self.corpus, self.context())?;
        let figure = quality.figure();
        let floats = rounded(f32_figure.unwrap_or(figure));
        provenance.test = Some(match quality {
            Quality::Text(score) => Test::Text(TextTest {
                bits_per_byte: rounded(figure),
                bits_per_byte_f32: floats,
                perplexity: rounded(score.perplexity()),
                bytes: score.bytes as u64,
                context: self.context() as u64,
            }),
            Quality::Classes(accuracy) => Test::Classes(ClassTest {
                accuracy: rounded(figure),
                accuracy_f32: floats,
                examples: accuracy.examples as u64,
            }),
            Quality::Translation(likeness) => Test::Translation(TranslationTest {
                chrf: rounded(figure),
                chrf_f32: floats,
                bleu: rounded(likeness.bleu),
                sentences: likeness.sentences as u64,
            }),
            Quality::Answers(agreement) => Test::Answers(AnswerTest {
                f1: rounded(figure),
                f1_f32: floats,
                exact_match: rounded(agreement.exact),
                questions: agreement.questions as u64,
            }),
            Quality::Tags(tagging) => Test::Tags(TagTest {
                f1: rounded(figure),
                f1_f32: floats,
                tag_accuracy: rounded(tagging.accuracy),
                words: tagging.words as u64,
            }),
            Quality::Alike(retrieval) => Test::Alike(AlikeTest {
                nearest: rounded(figure),
                nearest_f32: floats,
                reciprocal_rank: rounded(retrieval.reciprocal_rank),
                pairs: retrieval.pairs as u64,
            }),
        });
        let file = pack(&provenance)?;
        Ok(Product { file, quality })
    }

    /// A file with these formats by calibration, not measured yet.
    ///
    /// # Errors
    /// When a weight does not fit its format.
    pub fn draft(&self, formats: Formats, importance: &[Option<Vec<f32>>]) -> Result<Vec<Block>> {
        let scales = package::scales(&self.params, formats, importance)?;
        let vocabulary = self.vocabulary.as_ref();
        package::pack(&self.params, vocabulary, &self.provenance, formats, &scales)
    }

    /// The f32 file.
    ///
    /// # Errors
    /// As [`Source::product`].
    pub fn f32(&self) -> Result<Product> {
        let scales = self.params.tensors.iter().map(|_| Vec::new()).collect();
        self.product(&self.params, Formats::F32, &scales, None, None)
    }

    /// The file with these formats by calibration.
    ///
    /// # Errors
    /// As [`Source::product`].
    pub fn calibrated(
        &self,
        formats: Formats,
        importance: &[Option<Vec<f32>>],
        f32_figure: f64,
    ) -> Result<Product> {
        let scales = package::scales(&self.params, formats, importance)?;
        let record = record(&self.provenance.command, formats, 0);
        let params = &self.params;
        self.product(params, formats, &scales, Some(record), Some(f32_figure))
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

/// Quality of a packed file on the test parts, with f32 keys and values, of translations by the likeliest next token.
fn measure(file: &[Block], task: &Task, corpus: &Corpus, context: usize) -> Result<Quality> {
    let (backend, threads) = (Backend::detect(), parallel::threads());
    if let Ok(model) = attentive::integer::Model::parse(Block::bytes(file)) {
        return measure_integers(&model, task, corpus, context, Bits::Eight);
    }
    let model = Model::parse(Block::bytes(file)).map_err(|error| anyhow!("{error}"))?;
    match corpus {
        Corpus::Text(parts) => {
            let texts: Vec<&str> = parts.iter().map(|part| part.test.as_str()).collect();
            let options = SessionOptions::new(context).with_kv(KvDtype::F32);
            let windows = Windows::halves(context);
            let score = eval::test(&model, &texts, windows, &options, backend, threads)?;
            Ok(Quality::Text(score))
        }
        Corpus::Labelled(examples) => {
            let frontend = Frontend::of(task);
            let options = EncoderOptions::new(context);
            let examples = &examples.test;
            let found = eval::classes(&model, examples, frontend, &options, backend, threads)?;
            Ok(Quality::Classes(Accuracy::of(&found, examples)))
        }
        Corpus::Pairs(pairs) => {
            let pairs = &pairs.test;
            let made = translations(&model, pairs, Search::GREEDY, backend, threads)?;
            Ok(Quality::Translation(Likeness::of(&made, pairs)))
        }
        Corpus::Alike(pairs) => {
            let options = EncoderOptions::new(context);
            let found = retrieval(&model, &pairs.test, &options, backend)?;
            Ok(Quality::Alike(found))
        }
        Corpus::Questions(questions) => {
            let asked = &questions.test;
            let options = EncoderOptions::new(context);
            let given = questions::answers(&model, asked, &options, backend, threads)?;
            Ok(Quality::Answers(Agreement::of(&given, asked)))
        }
        Corpus::Tagged(tagged) => {
            let options = EncoderOptions::new(context);
            let found = tags(&model, &tagged.test, &options, backend, threads)?;
            Ok(Quality::Tags(Tagging::of(
                &found,
                &tagged.test,
                &tagged.labels,
            )))
        }
    }
}

/// How well sources find their targets by the vectors that an encoder gives them.
///
/// # Errors
/// When the model gives no vectors, or a text is not what it reads.
pub fn retrieval(
    model: &Model<'_>,
    pairs: &[Pair],
    options: &EncoderOptions,
    backend: Backend,
) -> Result<Retrieval> {
    let [sources, targets] = [
        pairs
            .iter()
            .map(|pair| pair.source.as_str())
            .collect::<Vec<_>>(),
        pairs.iter().map(|pair| pair.target.as_str()).collect(),
    ];
    let vectors = |texts: &[&str]| embeddings(model, texts, options, backend, parallel::threads());
    Ok(Retrieval::of(&vectors(&sources)?, &vectors(&targets)?))
}

/// The same of the integer profile, with keys and values of so many bits.
///
/// # Errors
/// When the model is of another kind than the task, and four bits for an encoder, which keeps one layer's at a time.
pub fn measure_integers(
    model: &attentive::integer::Model<'_>,
    task: &Task,
    corpus: &Corpus,
    context: usize,
    kv: Bits,
) -> Result<Quality> {
    let (backend, threads) = (Backend::detect(), parallel::threads());
    ensure!(
        kv == Bits::Eight || !matches!(corpus, Corpus::Labelled(_) | Corpus::Tagged(_)),
        "an encoder of the integer profile keeps one layer's keys at a time, as bytes"
    );
    Ok(match corpus {
        Corpus::Text(parts) => {
            let texts: Vec<&str> = parts.iter().map(|part| part.test.as_str()).collect();
            let windows = Windows::halves(context);
            let score = integer::measure::texts(model, &texts, windows, kv, backend, threads)?;
            Quality::Text(score)
        }
        Corpus::Labelled(examples) => {
            let (frontend, examples) = (Frontend::of(task), &examples.test);
            let found =
                integer::measure::classes(model, examples, frontend, context, backend, threads)?;
            Quality::Classes(Accuracy::of(&found, examples))
        }
        Corpus::Pairs(pairs) => {
            let pairs = &pairs.test;
            let made = integer::measure::translations(model, pairs, kv, backend, threads)?;
            Quality::Translation(Likeness::of(&made, pairs))
        }
        Corpus::Tagged(tagged) => {
            let found = integer_tags(model, &tagged.test, context, backend, threads)?;
            Quality::Tags(Tagging::of(&found, &tagged.test, &tagged.labels))
        }
        Corpus::Questions(_) | Corpus::Alike(_) => {
            bail!("files of the integer profile are not measured on questions and on vectors yet")
        }
    })
}

/// Writes the f32 and int8 files of a finished run, of all but texts int4 too, and prints their paths.
///
/// # Errors
/// As [`Source::product`], and when a file cannot be written.
pub fn finish(run: Run) -> Result<()> {
    let (out, name) = (run.out.clone(), run.task.name.clone());
    let source = Source::of_run(run)?;
    println!("measuring on what was held out …");
    let f32 = source.f32()?;
    write(&f32, &file_name(&out, &name, "f32"))?;
    let importance = source.importance(&source.prepared()?)?;
    let floats = f32.quality.figure();
    let int8 = source.calibrated(INT8, &importance, floats)?;
    write(&int8, &file_name(&out, &name, "int8"))?;
    if !matches!(source.corpus, Corpus::Text(_)) {
        let int4 = source.calibrated(INT4, &importance, floats)?;
        write(&int4, &file_name(&out, &name, "int4"))?;
    }
    Ok(())
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
        "{}, {} bytes: {}",
        product.quality,
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
    let source_len = model.config().source().map_or(0, |source| source.len);
    let beside = match source_len {
        0 => String::new(),
        len => format!(", with a source of {len}"),
    };
    let mut out = vec![format!(
        "{:>9} {:>12} {:>12} {:>12}  bytes{beside}",
        "context", "kv f32", "kv f16", "kv i8"
    )];
    for &context in contexts {
        let options = match model.config().reading() {
            // An encoder runs a text at once.
            Some(_) => SessionOptions::new(context).with_prefill_len(context),
            None => SessionOptions::new(context).with_source_len(source_len),
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
