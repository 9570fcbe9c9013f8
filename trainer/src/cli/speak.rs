//! `attentive speak`.

use anyhow::{Context, Result};
use attentive_trainer::speak::{Request as Words, speak};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is spoken, and how often.
#[derive(Args)]
pub(crate) struct Request {
    /// Directory of the clips, OUT/WORD/VOICE_TAKE.wav; those that are there already stay
    out: PathBuf,
    /// A word; may be given several times, or with commas
    #[arg(long = "word", required = true, value_delimiter = ',')]
    words: Vec<String>,
    /// Clips of each word by each voice
    #[arg(long, default_value_t = 4)]
    takes: usize,
    /// Clips of noise without a voice
    #[arg(long, default_value_t = 0)]
    noises: usize,
    /// Decides accents, speeds, pitches and bandwidths
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("asking for Ctrl-C")?;
    let words = Words {
        words: request.words,
        takes: request.takes,
        noises: request.noises,
        seed: request.seed,
    };
    let (voices, clips) = speak(&words, &request.out, &stop)?;
    println!(
        "{clips} clips by {voices} voices in {}",
        request.out.display()
    );
    Ok(ExitCode::SUCCESS)
}
