//! `attentive classify`.

use super::reader::{self, Lines, shortened};
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::{Model, Output};
use attentive_trainer::frontend::Frontend;
use attentive_trainer::network::highest;
use attentive_trainer::package;
use attentive_trainer::texts::{Wrapped, labels, softmax};
use clap::Args;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to classify.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file of an encoder that tells classes of texts, pictures or sounds apart, or tags tokens
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
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let (options, mut memory) = reader::memory(&model, "classify")?;
    let reading = model.config().reading();
    let count = match reading.map(|reading| reading.output) {
        Some(Output::Classes(count) | Output::Tags(count)) => count,
        _ => bail!("this encoder gives neither classes nor tags"),
    };
    let mut names = labels(&model).unwrap_or_default();
    names.extend((names.len()..count).map(|index| index.to_string()));
    let mut encoder = reader::encoder(&model, &options, &mut memory, backend)?;
    let class = |logits: &[f32]| {
        let shares = softmax(logits);
        let shares = names.iter().cloned().zip(shares.iter().map(|p| json!(p)));
        let probabilities: serde_json::Map<String, Value> = shares.collect();
        (names[highest(logits)].clone(), probabilities)
    };
    let mut lines = Vec::new();
    if reading.is_some_and(|reading| reading.patch > 0) {
        let frontend = Frontend::recorded(&model);
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
        for path in paths {
            let patches = frontend.cut(&frontend.read(path)?)?;
            let run = encoder.run_patches(&patches);
            run.map_err(|error| anyhow!("{}: {error}", path.display()))?;
            let logits = encoder.classes().map_err(|error| anyhow!("{error}"))?;
            let (label, probabilities) = class(logits);
            let path = path.display().to_string();
            lines.push(json!({ kind: path, "label": label, "probabilities": probabilities }));
        }
        return print(&lines);
    }
    ensure!(
        request.picture.is_empty() && request.sound.is_empty(),
        "this model reads texts: give --text or --file, and no picture or sound"
    );
    let texts = request.lines.read()?;
    for text in &texts {
        let context =
            |error: &dyn std::fmt::Display| anyhow!("the text {:?}: {error}", shortened(text));
        let second = request.second.as_deref();
        let wrapped = Wrapped::new(&model, text, second, options.len);
        let Wrapped { ids, types, .. } = wrapped.map_err(|error| context(&error))?;
        let run = encoder.run_tokens(&ids, &types);
        run.map_err(|error| context(&error))?;
        if let Ok(logits) = encoder.classes() {
            let (label, probabilities) = class(logits);
            lines.push(json!({ "text": text, "label": label, "probabilities": probabilities }));
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

fn print(lines: &[Value]) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}
