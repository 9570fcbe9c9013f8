//! `attentive classify`.

use super::reader::{self, Lines, shortened};
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::kernels::Backend;
use attentive::{Block, Config, Model, Output, Role, integer};
use attentive_trainer::examples::Thing;
use attentive_trainer::frontend::Frontend;
use attentive_trainer::integer::measure::nats;
use attentive_trainer::loss::highest;
use attentive_trainer::package;
use attentive_trainer::tagging::{Tagger, Words, integer_logits, logits, marks::put_back};
use attentive_trainer::texts::{Wrapped, labels, softmax, words};
use clap::Args;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to classify.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file of an encoder that tells classes of texts, pictures or sounds apart, or tags tokens
    /// or words
    file: PathBuf,
    #[command(flatten)]
    lines: Lines,
    /// A picture, for a model of pictures: PNG, JPEG or PGM; may be given several times. It is scaled, and made grey where
    /// the model is of grey ones
    #[arg(long)]
    picture: Vec<PathBuf>,
    /// A WAV file of any rate, for a model of sounds; may be given several times. Of a long one the loud middle counts
    #[arg(long)]
    sound: Vec<PathBuf>,
    /// A second text beside each, for a model of pairs
    #[arg(long)]
    second: Option<String>,
    /// Backend: native, or one by its name
    #[arg(long, default_value = "native")]
    backend: String,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let backend = super::backend(&request.backend)?;
    let file = package::open(&request.file)?;
    if let Ok(model) = integer::Model::parse(&file) {
        return integers(request, &model, backend);
    }
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let (options, mut memory) = reader::memory(&model, "classify")?;
    let names = names(model.config(), model.provenance())?;
    let count = names.len();
    let mut encoder = reader::encoder(&model, &options, &mut memory, backend)?;
    if model.config().has(Role::PatchWeight) {
        let lines = things(&request, model.provenance(), &names, |frontend, thing| {
            let run = encoder.run_patches(&frontend.cut(thing)?);
            run.map_err(|error| anyhow!("{error}"))?;
            let logits = encoder.classes().map_err(|error| anyhow!("{error}"))?;
            Ok(logits.to_vec())
        })?;
        return print(&lines);
    }
    ensure!(
        request.picture.is_empty() && request.sound.is_empty(),
        "this model reads texts: give --text or --file, and no picture or sound"
    );
    let texts = request.lines.read()?;
    if let Some(words) = words(model.provenance()) {
        ensure!(
            request.second.is_none(),
            "this model tags the words of single texts: leave out --second"
        );
        let tagger = Tagger {
            logits: &mut |ids| logits(&mut encoder, ids),
            tokenizer: model.tokenizer(),
            words,
            context: options.len,
        };
        return print(&tagged(tagger, &texts, &names)?);
    }
    let mut lines = Vec::new();
    for text in &texts {
        let context =
            |error: &dyn std::fmt::Display| anyhow!("the text {:?}: {error}", shortened(text));
        let second = request.second.as_deref();
        let wrapped = Wrapped::new(model.tokenizer(), text, second, options.len);
        let Wrapped { ids, types, .. } = wrapped.map_err(|error| context(&error))?;
        let run = encoder.run_tokens(&ids, &types);
        run.map_err(|error| context(&error))?;
        if let Ok(logits) = encoder.classes() {
            lines.push(line("text", text, &names, logits));
            continue;
        }
        let logits = encoder.tags().map_err(|error| anyhow!("{error}"))?;
        let tags = ids.iter().zip(logits.chunks_exact(count));
        let tags = tags.map(|(id, logits)| {
            let best = highest(logits);
            let token = String::from_utf8_lossy(model.tokenizer().piece(*id)).into_owned();
            json!({ "token": token, "tag": names[best], "probability": softmax(logits)[best] })
        });
        lines.push(json!({ "text": text, "tags": tags.collect::<Vec<_>>() }));
    }
    print(&lines)
}

/// The words of texts and their tags.
fn tagged(mut tagger: Tagger<'_, '_>, texts: &[String], names: &[String]) -> Result<Vec<Value>> {
    let line = |text: &String| {
        let line = tagged_line(&mut tagger, text, names);
        line.with_context(|| format!("the text {:?}", shortened(text)))
    };
    texts.iter().map(line).collect()
}

/// A text's words and their tags; of marks the text with them too.
fn tagged_line(tagger: &mut Tagger<'_, '_>, text: &str, names: &[String]) -> Result<Value> {
    let words = tagger.tag(text)?;
    let tags: Vec<&str> = words
        .iter()
        .map(|(_, logits)| names[highest(logits)].as_str())
        .collect();
    let both = || words.iter().zip(&tags);
    let each = both().map(|((word, logits), tag)| {
        json!({ "word": word, "tag": tag, "probability": softmax(logits)[highest(logits)] })
    });
    let mut line = json!({ "text": text, "tags": each.collect::<Vec<_>>() });
    if tagger.words == Words::Marks {
        let text = put_back(both().map(|((word, _), tag)| (word.as_str(), *tag)));
        line["marked"] = json!(text);
    }
    Ok(line)
}

/// The same by integers.
fn integers(request: Request, model: &integer::Model<'_>, backend: Backend) -> Result<ExitCode> {
    let config = model.config();
    let (names, len, bits) = (
        names(config, model.provenance())?,
        config.context_len,
        model.logit_bits(),
    );
    let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(len))];
    let encoder = integer::Encoder::new(model, len, Block::bytes_mut(&mut memory), backend);
    let mut encoder = encoder.map_err(|error| anyhow!("{error}"))?;
    let classes = |encoder: &mut integer::Encoder<'_>| -> Result<Vec<f32>> {
        encoder.run().map_err(|error| anyhow!("{error}"))?;
        let logits = encoder.classes().map_err(|error| anyhow!("{error}"))?;
        Ok(nats(logits, bits))
    };
    if config.has(Role::PatchWeight) {
        let lines = things(&request, model.provenance(), &names, |frontend, thing| {
            let levels = frontend.levels(thing, model.input_scale())?;
            let begun = encoder.begin_patches(&levels);
            begun.map_err(|error| anyhow!("{error}"))?;
            classes(&mut encoder)
        })?;
        return print(&lines);
    }
    ensure!(
        request.picture.is_empty() && request.sound.is_empty() && request.second.is_none(),
        "this model reads single texts: give --text or --file, and nothing else"
    );
    let texts = request.lines.read()?;
    if let Some(words) = words(model.provenance()) {
        let tagger = Tagger {
            logits: &mut |ids| integer_logits(model, &mut encoder, ids),
            tokenizer: model.tokenizer(),
            words,
            context: len,
        };
        return print(&tagged(tagger, &texts, &names)?);
    }
    let mut lines = Vec::new();
    for text in &texts {
        let begun = encoder.begin_text(text);
        begun.map_err(|error| anyhow!("the text {:?}: {error}", shortened(text)))?;
        lines.push(line("text", text, &names, &classes(&mut encoder)?));
    }
    print(&lines)
}

/// Names of the classes or tags: numbers where the record has none.
fn names(config: &Config, provenance: &str) -> Result<Vec<String>> {
    let count = match config.reading().map(|reading| reading.output) {
        Some(Output::Classes(count) | Output::Tags(count)) => count,
        Some(_) => bail!("this encoder gives neither classes nor tags"),
        None => bail!(
            "this model is a decoder; classify takes an encoder, as `attentive import` makes of a bert directory"
        ),
    };
    let mut names = labels(provenance).unwrap_or_default();
    names.extend((names.len()..count).map(|index| index.to_string()));
    Ok(names)
}

/// A line for each picture or sound that was given.
fn things(
    request: &Request,
    provenance: &str,
    names: &[String],
    mut logits: impl FnMut(&Frontend, &Thing) -> Result<Vec<f32>>,
) -> Result<Vec<Value>> {
    let frontend = Frontend::recorded(provenance);
    let frontend = frontend.context("the model's record does not say how patches are cut")?;
    let kind = frontend.kind();
    let (paths, others) = match frontend {
        Frontend::Picture(_) => (&request.picture, &request.sound),
        Frontend::Sound(_) => (&request.sound, &request.picture),
    };
    ensure!(
        request.lines.is_empty()
            && request.second.is_none()
            && others.is_empty()
            && !paths.is_empty(),
        "this model reads {kind}s: give --{kind}, and nothing else"
    );
    let mut lines = Vec::new();
    for path in paths {
        let thing = frontend.read(path)?;
        let logits = logits(&frontend, &thing).with_context(|| path.display().to_string())?;
        lines.push(line(kind, &path.display().to_string(), names, &logits));
    }
    Ok(lines)
}

/// What is found for a thing.
fn line(kind: &str, thing: &str, names: &[String], logits: &[f32]) -> Value {
    let shares = softmax(logits);
    let shares = names.iter().cloned().zip(shares.iter().map(|p| json!(p)));
    let probabilities: serde_json::Map<String, Value> = shares.collect();
    let label = &names[highest(logits)];
    json!({ kind: thing, "label": label, "probabilities": probabilities })
}

fn print(lines: &[Value]) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}
