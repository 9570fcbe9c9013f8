//! `attentive classify`.

use super::reader::{self, Lines, shortened};
use anyhow::{Result, anyhow, bail};
use attentive::{Model, Output};
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
    /// An .attn file of an encoder that tells classes apart, or tags tokens
    file: PathBuf,
    #[command(flatten)]
    lines: Lines,
    /// A second text beside each, for a model of pairs
    #[arg(long)]
    second: Option<String>,
    /// Backend: native, or one by its name
    #[arg(long, default_value = "native")]
    backend: String,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let backend = super::backend(&request.backend)?;
    let texts = request.lines.read()?;
    let file = package::open(&request.file)?;
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let (options, mut memory) = reader::memory(&model, "classify")?;
    let output = model.config().reading().map(|reading| reading.output);
    let count = match output {
        Some(Output::Classes(count) | Output::Tags(count)) => count,
        _ => bail!("this encoder gives neither classes nor tags"),
    };
    let mut names = labels(&model).unwrap_or_default();
    names.extend((names.len()..count).map(|index| index.to_string()));
    let mut encoder = reader::encoder(&model, &options, &mut memory, backend)?;
    let mut lines = Vec::new();
    for text in &texts {
        let context =
            |error: &dyn std::fmt::Display| anyhow!("the text {:?}: {error}", shortened(text));
        let second = request.second.as_deref();
        let wrapped = Wrapped::new(&model, text, second, options.len);
        let Wrapped { ids, types, .. } = wrapped.map_err(|error| context(&error))?;
        let run = encoder.run_tokens(&ids, &types);
        run.map_err(|error| context(&error))?;
        if let Ok(logits) = encoder.classes() {
            let shares = softmax(logits);
            let probabilities: serde_json::Map<String, Value> = names
                .iter()
                .cloned()
                .zip(shares.iter().map(|p| json!(p)))
                .collect();
            let label = &names[highest(logits)];
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
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}
