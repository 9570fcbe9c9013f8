//! The command `attentive`.
#![forbid(unsafe_code)]

mod cli;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Trains, imports, quantizes, measures and runs the models of attentive.
#[derive(Parser)]
#[command(name = "attentive", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model, or go on where a run was stopped; writes f32 and int8 files at its end
    Train(cli::train::Request),
    /// Write what PyTorch needs to train a task, on many machines
    Prepare(cli::prepare::Request),
    /// Turn floats into integers: calibrate, fine-tune, measure, write
    Quantize(cli::quantize::Request),
    /// Measure a model on what its training did not see
    Eval(cli::eval::Request),
    /// Compare a model with simpler ways and with recurrent networks
    Compare(cli::compare::Request),
    /// Show what a weights file holds
    Inspect(cli::inspect::Request),
    /// Continue a text
    Generate(cli::generate::Request),
    /// Turn a published model (GGUF, or a directory of Hugging Face's bert or of CTranslate2's whisper) into a weights
    /// file
    Import(cli::import::Request),
    /// Turn texts into vectors, or compare them
    Embed(cli::embed::Request),
    /// Tell which class a text or a picture is of, or which tag each token of a text has
    Classify(cli::classify::Request),
    /// Find the answer to a question in a text
    Answer(cli::answer::Request),
    /// Have synthetic voices speak words, to learn keywords from
    Speak(cli::speak::Request),
    /// Write down what is said
    Transcribe(cli::transcribe::Request),
    /// Write texts in another language
    Translate(cli::translate::Request),
    /// Draw what each token of a text attends to, in every layer and head
    Attention(cli::attention::Request),
    /// Talk with a model that was trained to converse
    Chat(cli::chat::Request),
}

/// Status of every error.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train(request) => cli::train::run(request),
        Command::Prepare(request) => cli::prepare::run(request),
        Command::Quantize(request) => cli::quantize::run(request),
        Command::Eval(request) => cli::eval::run(request),
        Command::Compare(request) => cli::compare::run(request),
        Command::Inspect(request) => cli::inspect::run(request),
        Command::Generate(request) => cli::generate::run(request),
        Command::Import(request) => cli::import::run(request),
        Command::Embed(request) => cli::embed::run(request),
        Command::Classify(request) => cli::classify::run(request),
        Command::Answer(request) => cli::answer::run(request),
        Command::Speak(request) => cli::speak::run(request),
        Command::Transcribe(request) => cli::transcribe::run(request),
        Command::Translate(request) => cli::translate::run(request),
        Command::Attention(request) => cli::attention::run(request),
        Command::Chat(request) => cli::chat::run(request),
    }
}
