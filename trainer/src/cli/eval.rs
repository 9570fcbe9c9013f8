//! `attentive eval`.

use super::{Kv, backend, beams, task};
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::kernels::Backend;
use attentive::{Block, EncoderOptions, Model, SessionOptions, integer};
use attentive_trainer::eval::{self, Accuracy, Windows, test};
use attentive_trainer::examples::{Example, Thing};
use attentive_trainer::frontend::Frontend;
use attentive_trainer::pairs::Pair;
use attentive_trainer::prepared::Corpus;
use attentive_trainer::produce::{Quality, Source, measure_integers, retrieval};
use attentive_trainer::provenance::Provenance;
use attentive_trainer::questions::{Agreement, Question, answers};
use attentive_trainer::sounds::{Clip, Sounds};
use attentive_trainer::tagging::{Tagged, Tagging, tags};
use attentive_trainer::train::Run;
use attentive_trainer::translation::{Likeness, Search, translations};
use attentive_trainer::{package, parallel};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// What to measure, and how.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file, or a run's directory (its best weights, as f32)
    input: PathBuf,
    /// native, scalar, or another instruction set
    #[arg(long, default_value = "native")]
    backend: String,
    /// Element type of the key-value cache
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    kv: Kv,
    /// Tokens of a window [default: the model's context]
    #[arg(long)]
    context: Option<usize>,
    /// Tokens from one window to the next; the rest of a window is context only [default: half a window]
    #[arg(long)]
    stride: Option<usize>,
    /// The task whose held-out text is scored [default: the one that trained the model]
    #[arg(long)]
    task: Option<PathBuf>,
    /// A text file to score as it is, in the place of a task's text
    #[arg(long, conflicts_with = "task")]
    text: Option<PathBuf>,
    /// A directory of clips in the place of the task's, for a model of sounds: a directory of WAV files for each word
    #[arg(long, conflicts_with = "text")]
    sounds: Option<PathBuf>,
    /// Texts that a translation pursues at once; 1 takes the likeliest next token
    #[arg(long, default_value_t = 1, value_parser = beams())]
    beams: usize,
    /// How much beams prefer long texts: 0 not at all, 1 by the mean of the tokens
    #[arg(long, default_value_t = 1.0)]
    length_penalty: f32,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let backend = backend(&request.backend)?;
    let (packed, mapped);
    let bytes: &[u8] = if request.input.is_dir() {
        packed = Source::of_run(Run::load(&request.input)?)?.f32()?.file;
        Block::bytes(&packed)
    } else {
        mapped = package::open(&request.input)?;
        &mapped
    };
    if let Ok(model) = integer::Model::parse(bytes) {
        return integers(&request, &model);
    }
    let model = Model::parse(bytes).map_err(|error| anyhow!("{error}"))?;
    if model.config().reading().is_some() {
        return classes(&request, &model, backend);
    }
    if model.config().source().is_some() {
        return translator(&request, &model, backend);
    }
    let model = super::decoder(bytes)?;
    let texts = texts(&request, &model)?;
    let context = request.context.unwrap_or(model.config().context_len);
    let stride = request.stride.unwrap_or((context / 2).max(1));
    ensure!(
        stride > 0 && stride <= context,
        "--stride should lie between 1 and the context {context}, not {stride}"
    );
    let windows = Windows { context, stride };
    let options = request.kv.with(SessionOptions::new(context))?;
    let start = Instant::now();
    let score = test(
        &model,
        &texts,
        windows,
        &options,
        backend,
        parallel::threads(),
    )?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}: {} documents, {} bytes, {} tokens; windows of {context}, stride {stride}; backend {}, kv {:?}",
        match &request.text {
            Some(path) => path.display().to_string(),
            None => "held-out text".to_owned(),
        },
        texts.len(),
        score.bytes,
        score.tokens,
        backend.name(),
        request.kv
    );
    println!(
        "bits per byte {:.4}  perplexity {:.3}  loss {:.4} nats a token  ({:.0} tokens/s scored)",
        score.bits_per_byte(),
        score.perplexity(),
        score.nats / score.tokens as f64,
        score.tokens as f64 / seconds
    );
    Ok(ExitCode::SUCCESS)
}

/// Measures a file of the integer profile on its task's held-out part.
fn integers(request: &Request, model: &integer::Model<'_>) -> Result<ExitCode> {
    ensure!(
        request.text.is_none()
            && request.stride.is_none()
            && request.sounds.is_none()
            && request.beams == 1,
        "a file of the integer profile is measured on its task: leave out --text, --stride, --sounds and --beams"
    );
    let recorded = Provenance::parse(model.provenance()).map(|record| record.task);
    let task = task(request.task.as_deref(), &recorded.unwrap_or_default())?;
    let context = request.context.unwrap_or(model.config().context_len);
    let start = Instant::now();
    let kv = request.kv.bits()?;
    let quality = measure_integers(model, &task, &Corpus::load(&task)?, context, kv)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("integer profile, kv {kv:?} bits, held-out part: {quality}  ({seconds:.0} s)");
    Ok(ExitCode::SUCCESS)
}

/// What is scored, by document.
fn texts(request: &Request, model: &Model<'_>) -> Result<Vec<String>> {
    if let Some(path) = &request.text {
        let text = std::fs::read_to_string(path);
        return Ok(vec![text.with_context(|| path.display().to_string())?]);
    }
    let recorded = Provenance::parse(model.provenance()).map(|record| record.task);
    let task = task(request.task.as_deref(), &recorded.unwrap_or_default())?;
    match Corpus::load(&task)? {
        Corpus::Text(parts) => Ok(parts.into_iter().map(|part| part.test).collect()),
        _ => {
            bail!("the task {:?} has examples, no texts", task.name)
        }
    }
}

/// Measures an encoder–decoder that translates.
fn translator(request: &Request, model: &Model<'_>, backend: Backend) -> Result<ExitCode> {
    ensure!(
        request.text.is_none() && request.stride.is_none() && request.context.is_none(),
        "this model is an encoder–decoder, which is measured on its task's pairs: leave out --text, --stride and --context"
    );
    let recorded = Provenance::parse(model.provenance()).map(|record| record.task);
    let task = task(request.task.as_deref(), &recorded.unwrap_or_default())?;
    let Corpus::Pairs(pairs) = Corpus::load(&task)? else {
        bail!("the task {:?} has no pairs to translate", task.name);
    };
    let search = Search {
        beams: request.beams,
        length_penalty: request.length_penalty,
        kv: request.kv.with(SessionOptions::new(1))?.kv,
    };
    let start = Instant::now();
    let made = translations(model, &pairs.test, search, backend, parallel::threads())?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "held-out pairs; backend {}, kv {:?}, beams {}",
        backend.name(),
        request.kv,
        request.beams
    );
    for (file, name) in pairs.files.iter().enumerate() {
        let both = made.iter().cloned().zip(pairs.test.iter().cloned());
        let (made, pairs): (Vec<_>, Vec<_>) = both.filter(|(_, pair)| pair.file == file).unzip();
        let likeness = Likeness::of(&made, &pairs);
        println!("{name}: {}", Quality::Translation(likeness));
    }
    println!(
        "{}  ({:.1} sentences/s)",
        Quality::Translation(Likeness::of(&made, &pairs.test)),
        made.len() as f64 / seconds
    );
    Ok(ExitCode::SUCCESS)
}

/// Measures an encoder of texts on so many `things`, by what `measure` finds.
fn encoder(
    request: &Request,
    model: &Model<'_>,
    backend: Backend,
    (count, things): (usize, &str),
    measure: impl Fn(&EncoderOptions, usize) -> Result<Quality>,
) -> Result<ExitCode> {
    ensure!(
        request.sounds.is_none(),
        "the task has no sounds: leave out --sounds"
    );
    let context = request.context.unwrap_or(model.config().context_len);
    let kv = request.kv.with(SessionOptions::new(context))?.kv;
    let options = EncoderOptions::new(context).with_kv(kv);
    let start = Instant::now();
    let quality = measure(&options, parallel::threads())?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "held-out {things}; backend {}, kv {:?}",
        backend.name(),
        request.kv
    );
    println!("{quality}  ({:.1} {things}/s)", count as f64 / seconds);
    Ok(ExitCode::SUCCESS)
}

/// Measures an encoder that finds answers.
fn answerer(
    request: &Request,
    model: &Model<'_>,
    questions: &[Question],
    backend: Backend,
) -> Result<ExitCode> {
    let things = (questions.len(), "questions");
    encoder(request, model, backend, things, |options, threads| {
        let given = answers(model, questions, options, backend, threads)?;
        Ok(Quality::Answers(Agreement::of(&given, questions)))
    })
}

/// Measures an encoder that finds texts that mean the same.
fn finder(
    request: &Request,
    model: &Model<'_>,
    pairs: &[Pair],
    backend: Backend,
) -> Result<ExitCode> {
    let things = (pairs.len(), "pairs");
    encoder(request, model, backend, things, |options, _| {
        let found = retrieval(model, pairs, options, backend)?;
        Ok(Quality::Alike(found))
    })
}

/// Measures an encoder that tags words.
fn tagger(
    request: &Request,
    model: &Model<'_>,
    tagged: &Tagged,
    backend: Backend,
) -> Result<ExitCode> {
    let words = tagged.test.iter().map(|sentence| sentence.tags.len());
    let things = (words.sum(), "words");
    encoder(request, model, backend, things, |options, threads| {
        let found = tags(model, &tagged.test, options, backend, threads)?;
        let tagging = Tagging::of(&found, &tagged.test, &tagged.labels);
        Ok(Quality::Tags(tagging))
    })
}

/// All clips of a directory, as examples of the model's classes.
fn clips(directory: &Path, sounds: &Sounds, labels: &[String]) -> Result<Vec<Example>> {
    let example = |clip: Clip| {
        let class = labels.iter().position(|label| *label == clip.class);
        let class = class.with_context(|| format!("the model has no class {:?}", clip.class))?;
        Ok(Example {
            thing: Thing::Sound(clip.samples),
            class: class as u32,
        })
    };
    let clips = sounds.clips(directory)?;
    clips.into_iter().map(example).collect()
}

/// Measures an encoder that tells classes apart.
fn classes(request: &Request, model: &Model<'_>, backend: Backend) -> Result<ExitCode> {
    ensure!(
        request.text.is_none() && request.stride.is_none(),
        "this model is an encoder, which is measured on its task's examples: leave out --text and --stride"
    );
    let recorded = Provenance::parse(model.provenance()).map(|record| record.task);
    let task = task(request.task.as_deref(), &recorded.unwrap_or_default())?;
    let examples = match Corpus::load(&task)? {
        Corpus::Labelled(examples) => examples,
        Corpus::Questions(questions) => return answerer(request, model, &questions.test, backend),
        Corpus::Alike(pairs) => return finder(request, model, &pairs.test, backend),
        Corpus::Tagged(tagged) => return tagger(request, model, &tagged, backend),
        _ => bail!("the task {:?} has texts, no examples", task.name),
    };
    let context = request.context.unwrap_or(model.config().context_len);
    let kv = request.kv.with(SessionOptions::new(context))?.kv;
    let options = EncoderOptions::new(context).with_kv(kv);
    let start = Instant::now();
    let frontend = Frontend::of(&task);
    let other = match (&request.sounds, &task.data.sounds) {
        (Some(directory), Some(sounds)) => Some(clips(directory, sounds, &examples.labels)?),
        (Some(_), None) => bail!("the task {:?} has no sounds: leave out --sounds", task.name),
        (None, _) => None,
    };
    let (test, threads) = (
        other.as_ref().unwrap_or(&examples.test),
        parallel::threads(),
    );
    let found = eval::classes(model, test, frontend, &options, backend, threads)?;
    let accuracy = Accuracy::of(&found, test);
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}; backend {}, kv {:?}",
        match &request.sounds {
            Some(directory) => directory.display().to_string(),
            None => "held-out examples".to_owned(),
        },
        backend.name(),
        request.kv
    );
    println!(
        "{}  ({:.0} examples/s)",
        Quality::Classes(accuracy),
        accuracy.examples as f64 / seconds
    );
    Ok(ExitCode::SUCCESS)
}
