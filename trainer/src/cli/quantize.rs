//! `attentive quantize`.

use super::{Format, task};
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::integer::Bits;
use attentive::{Block, Model};
use attentive_trainer::integer::{Calibration, RowGrid, equalized, round};
use attentive_trainer::package;
use attentive_trainer::params::Params;
use attentive_trainer::prepared::{Corpus, Prepared};
use attentive_trainer::produce::{self, Product, Source, file_name, memory_lines, record};
use attentive_trainer::provenance::{Provenance, Quantization};
use attentive_trainer::quantize::{FileGrid, FineTuning, Grid, error_table, fine_tune, importance};
use attentive_trainer::task::Task;
use attentive_trainer::train::{Run, TOKENIZER};
use attentive_trainer::vocabulary::Vocabulary;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Training sequences that the integer profile's scales come from.
const CALIBRATION: usize = 256;

/// A profile of numbers.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq)]
enum Profile {
    /// Integers throughout: weights of eight or four bits, i8 activations with calibrated scales
    Integer,
}

/// What to quantize, and how.
#[derive(Args)]
pub(crate) struct Request {
    /// A run's directory (its best weights), or an .attn file that was trained here
    input: PathBuf,
    /// Format of the matrices; of the integer profile int8, unless int4 is asked for
    #[arg(long, value_enum, required_unless_present = "profile")]
    format: Option<Format>,
    /// The profile: with floats between products, or the same bits everywhere without any
    #[arg(long, value_enum, conflicts_with_all = ["embedding", "context"])]
    profile: Option<Profile>,
    /// Format of the embedding, if another
    #[arg(long, value_enum)]
    embedding: Option<Format>,
    /// Steps of quantization-aware fine-tuning [default: 600 for int4, else 0]
    #[arg(long)]
    fine_tune: Option<u64>,
    /// Largest learning rate of the fine-tuning
    #[arg(long, default_value_t = 5e-4)]
    learning_rate: f32,
    /// Where to write [default: beside the input]
    #[arg(long)]
    out: Option<PathBuf>,
    /// The context whose RAM is printed [default: the model's]
    #[arg(long)]
    context: Option<usize>,
    /// The task whose text calibrates and measures [default: the one that trained the model]
    #[arg(long)]
    task: Option<PathBuf>,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    match (request.profile, request.format) {
        (Some(Profile::Integer), None | Some(Format::Int8)) => integers(&request, Bits::Eight),
        (Some(Profile::Integer), Some(Format::Int4)) => integers(&request, Bits::Four),
        (Some(Profile::Integer), Some(format)) => bail!(
            "the integer profile has matrices of int8 or int4, not {}; give --format int8 or int4",
            format.name()
        ),
        (None, Some(format)) => floats(&request, format),
        (None, None) => bail!("nothing says what to round to; give --format or --profile"),
    }
}

/// With floats between products.
fn floats(request: &Request, format: Format) -> Result<ExitCode> {
    let source = source(request)?;
    let formats = format.formats(request.embedding);
    let command = command(request, format);
    println!("measuring the floats on what was held out …");
    let before = source.f32()?.quality;
    println!("{before} before");
    let prepared = source.prepared()?;
    let importance = source.importance(&prepared)?;
    let importance = &importance;
    let grid = FileGrid {
        formats,
        importance,
    };
    let (params, scales) = tuned(request, &source, &prepared, source.params.clone(), &grid)?;
    for line in error_table(&params, &grid.rounded(&params, &scales), formats) {
        println!("{line}");
    }
    let quantization = record(&command, formats, request.steps());
    let figure = before.figure();
    let product = source.product(&params, formats, &scales, Some(quantization), Some(figure))?;
    let context = request.context.unwrap_or(source.context());
    let model = Model::parse(Block::bytes(&product.file)).map_err(|error| anyhow!("{error}"))?;
    for line in memory_lines(&model, &[context])? {
        println!("{line}");
    }
    let change = 100.0 * (product.quality.figure() / figure - 1.0);
    println!("{before} before, {} after: {change:+.2} %", product.quality);
    write(request, &source, &product, format.name())
}

/// The integer profile.
fn integers(request: &Request, bits: Bits) -> Result<ExitCode> {
    let source = source(request)?;
    let figure = match &source.provenance.test {
        // The file was rounded before: what counts is what the floats were.
        Some(test) if source.provenance.quantization.is_some() => test.f32_figure(),
        _ => {
            println!("measuring the floats on what was held out …");
            source.f32()?.quality.figure()
        }
    };
    let prepared = source.prepared()?;
    let batches = source.calibration_batches(&prepared, CALIBRATION)?;
    let params = equalized(&source.params, &batches)?;
    let importance = importance(&params, &batches)?;
    let importance = &importance;
    let grid = RowGrid { bits, importance };
    let (params, scales) = tuned(request, &source, &prepared, params, &grid)?;
    let calibration = Calibration::new(&params, &batches)?;
    let rounded = round(&params, &calibration, scales, bits)?;
    let (matrices, name) = match bits {
        Bits::Eight => ("I8Integer", "integer"),
        Bits::Four => ("I4Integer", "integer-int4"),
    };
    let record = Quantization {
        command: command(request, request.format.unwrap_or(Format::Int8)),
        matrices: matrices.to_owned(),
        embedding: "I8Integer".to_owned(),
        fine_tuning_steps: request.steps(),
    };
    let product = source.integer_product(&rounded, record, figure)?;
    let change = 100.0 * (product.quality.figure() / figure - 1.0);
    println!("{change:+.2} % of the floats' {figure:.4}");
    write(request, &source, &product, name)
}

/// The weights, fine-tuned against the rounding if that is asked for, and the scales they have then.
fn tuned<G: Grid>(
    request: &Request,
    source: &Source,
    prepared: &Prepared,
    params: Params,
    grid: &G,
) -> Result<(Params, G::Scales)> {
    let steps = request.steps();
    if steps == 0 {
        let scales = grid.scales(&params)?;
        return Ok((params, scales));
    }
    let tuning = FineTuning {
        steps,
        learning_rate: request.learning_rate,
    };
    let training = &source.task.training;
    // Another order than the training's.
    let mut samples = prepared.samples(training, !training.seed)?;
    fine_tune(params, grid, samples.as_mut(), training, tuning)
}

fn write(request: &Request, source: &Source, product: &Product, format: &str) -> Result<ExitCode> {
    let default = || {
        let directory = directory(&request.input);
        file_name(&directory, &source.provenance.name, format)
    };
    produce::write(product, &request.out.clone().unwrap_or_else(default))?;
    Ok(ExitCode::SUCCESS)
}

impl Request {
    /// Steps of fine-tuning.
    fn steps(&self) -> u64 {
        match (self.fine_tune, self.format) {
            (Some(steps), _) => steps,
            (None, Some(Format::Int4)) => 600,
            (None, _) => 0,
        }
    }
}

fn directory(input: &Path) -> PathBuf {
    match input.is_dir() {
        true => input.to_owned(),
        false => input.parent().map(Path::to_owned).unwrap_or_default(),
    }
}

fn source(request: &Request) -> Result<Source> {
    let input = &request.input;
    if input.is_dir() {
        return Source::of_run(Run::load(input)?);
    }
    let file = package::open(input)?;
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let provenance = Provenance::parse(model.provenance()).with_context(|| {
        format!(
            "{} was not trained here, so no text calibrates it; an imported model is rounded by import --format",
            input.display()
        )
    })?;
    let task = task(request.task.as_deref(), &provenance.task)?;
    let corpus = Corpus::load(&task)?;
    Ok(Source {
        params: Params::from_model(&model)?,
        vocabulary: vocabulary(input, &model, &task, &corpus)?,
        corpus,
        provenance,
        task,
    })
}

/// The tokenizer of a file: the one beside it, or else the one that its task's texts lead to.
fn vocabulary(
    input: &Path,
    model: &Model<'_>,
    task: &Task,
    corpus: &Corpus,
) -> Result<Option<Vocabulary>> {
    if model.config().vocab_len == 1 {
        // A model of patches has no texts.
        return Ok(None);
    }
    let path = directory(input).join(TOKENIZER);
    if path.exists() {
        return Ok(Some(Vocabulary::from_json(&std::fs::read_to_string(
            &path,
        )?)?));
    }
    if task.start.is_some() {
        return Vocabulary::of_model(model).map(Some);
    }
    let vocabulary = Prepared::new(task, corpus, None)?.vocabulary;
    let vocabulary = vocabulary.context("a model of texts has a tokenizer")?;
    let mut tokens = vocabulary.pieces().iter().zip(0..);
    let same = |(piece, id): (&Vec<u8>, u32)| model.tokenizer().piece(id) == piece;
    ensure!(
        vocabulary.len() <= model.config().vocab_len && tokens.all(same),
        "the texts of the task {:?} lead to another tokenizer than the file's, and there is no {} beside the file",
        task.name,
        path.display()
    );
    Ok(Some(vocabulary))
}

/// The command, with what it was by default spelt out.
fn command(request: &Request, format: Format) -> String {
    let mut command = format!("attentive quantize {}", request.input.display());
    match (request.profile, format) {
        (Some(Profile::Integer), Format::Int8) => command += " --profile integer",
        (Some(Profile::Integer), _) => {
            command += &format!(" --profile integer --format {}", format.name());
        }
        (None, _) => command += &format!(" --format {}", format.name()),
    }
    if let Some(embedding) = request.embedding {
        command += &format!(" --embedding {}", embedding.name());
    }
    let steps = request.steps();
    if steps > 0 {
        let rate = request.learning_rate;
        command += &format!(" --fine-tune {steps} --learning-rate {rate}");
    }
    command
}
