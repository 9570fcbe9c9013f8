//! `attentive answer`.

use super::reader::{self, shortened};
use anyhow::{Context, Result, anyhow, ensure};
use attentive::{Model, Output};
use attentive_trainer::eval::encode;
use attentive_trainer::package;
use attentive_trainer::questions::{ANSWER_TOKENS, Passage, Reader, span_logits};
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
    /// The text that holds the answer; a longer one than the model takes is read in windows that overlap by half
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
    #[arg(long, default_value_t = ANSWER_TOKENS)]
    tokens: usize,
    /// Print JSON: answer, score, first and last token, and the bytes of the passage that it is
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
    let tokenizer = model.tokenizer();
    let passage_of = Passage::new(tokenizer, &passage);
    let passage_of =
        passage_of.with_context(|| format!("the passage {:?}", shortened(&passage)))?;
    let question = encode(tokenizer, &request.question)?;
    let reader = Reader {
        template: *tokenizer.template(),
        context: options.len,
        most: request.tokens,
    };
    let answer = reader.answer(&question, &passage_of, |wrapped| {
        span_logits(&mut encoder, wrapped)
    })?;
    let answer = answer.context("the passage has no token")?;
    let bytes = passage_of.bytes(answer.first, answer.last);
    let text = passage.get(bytes.clone()).unwrap_or_default();
    if request.json {
        let line = json!({
            "answer": text, "score": answer.score, "first": answer.first, "last": answer.last,
            "bytes": [bytes.start, bytes.end],
        });
        println!("{line}");
    } else {
        println!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}
