//! `attentive answer`.

use super::reader::{self, shortened};
use anyhow::{Context, Result, anyhow, ensure};
use attentive::{Model, Output};
use attentive_trainer::package;
use attentive_trainer::texts::Wrapped;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to ask.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file of an encoder that finds answers
    file: PathBuf,
    /// The question
    #[arg(long)]
    question: String,
    /// The text that holds the answer
    #[arg(
        long,
        conflicts_with = "passage_file",
        required_unless_present = "passage_file"
    )]
    passage: Option<String>,
    /// A file with that text
    #[arg(long, value_name = "FILE")]
    passage_file: Option<PathBuf>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 30)]
    tokens: usize,
    /// Print JSON: answer, score, first and last token
    #[arg(long)]
    json: bool,
    /// Backend: native, or one by its name
    #[arg(long, default_value = "native")]
    backend: String,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let backend = super::backend(&request.backend)?;
    let passage = match (&request.passage, &request.passage_file) {
        (Some(passage), _) => passage.clone(),
        (_, Some(path)) => {
            let context = || format!("reading {}", path.display());
            std::fs::read_to_string(path).with_context(context)?
        }
        _ => String::new(),
    };
    ensure!(!request.question.trim().is_empty(), "the question is empty");
    ensure!(!passage.trim().is_empty(), "the passage is empty");
    let file = package::open(&request.file)?;
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let (options, mut memory) = reader::memory(&model, "answer")?;
    let output = model.config().reading().map(|reading| reading.output);
    ensure!(
        output == Some(Output::Span),
        "this encoder finds no answers"
    );
    let mut encoder = reader::encoder(&model, &options, &mut memory, backend)?;
    let wrapped = Wrapped::new(
        model.tokenizer(),
        &request.question,
        Some(&passage),
        options.len,
    );
    let Wrapped {
        ids,
        types,
        second_at,
    } = wrapped.with_context(|| format!("the passage {:?}", shortened(&passage)))?;
    let run = encoder.run_tokens(&ids, &types);
    run.map_err(|error| anyhow!("{error}"))?;
    // Behind the passage stands the token that ends it.
    let ending = usize::from(model.tokenizer().template().last.is_some());
    let passage = second_at..ids.len().saturating_sub(ending);
    let found = encoder.span(passage, request.tokens.max(1));
    let found = found.map_err(|error| anyhow!("{error}"))?;
    let answer = found.context("the passage has no token")?;
    let of_answer = &ids[answer.first..=answer.last];
    let parts = model.tokenizer().decode(of_answer);
    let bytes: Vec<u8> = parts.flatten().copied().collect();
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    if request.json {
        let line = json!({
            "answer": text, "score": answer.score, "first": answer.first - second_at, "last": answer.last - second_at,
        });
        println!("{line}");
    } else {
        println!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}
