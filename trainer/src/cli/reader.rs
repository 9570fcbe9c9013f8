//! What the commands that read texts have in common: the texts, and an encoder.

use anyhow::{Context, Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::{Block, Encoder, EncoderOptions, Model};
use clap::Args;
use std::path::PathBuf;

/// Texts, of the command line and of a file.
#[derive(Args)]
pub(crate) struct Lines {
    /// A text; may be given several times
    #[arg(long)]
    text: Vec<String>,
    /// A file with a text in each line; empty lines are skipped
    #[arg(long = "file", value_name = "FILE")]
    lines: Option<PathBuf>,
}

impl Lines {
    /// Whether neither was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.lines.is_none()
    }

    /// All of them, one at least, none empty.
    pub(crate) fn read(self) -> Result<Vec<String>> {
        let mut texts = self.text;
        if let Some(path) = &self.lines {
            let context = || format!("reading {}", path.display());
            let all = std::fs::read_to_string(path).with_context(context)?;
            let lines = all.lines().filter(|line| !line.trim().is_empty());
            texts.extend(lines.map(str::to_owned));
        }
        ensure!(!texts.is_empty(), "no text: give --text or --file");
        let empty = texts.iter().any(|text| text.trim().is_empty());
        ensure!(!empty, "a text is empty");
        Ok(texts)
    }
}

/// Memory for texts as long as the model takes; `needs` is what the command wants of a model.
pub(crate) fn memory(model: &Model<'_>, needs: &str) -> Result<(EncoderOptions, Vec<Block>)> {
    ensure!(
        model.config().reading().is_some(),
        "this model is a decoder; {needs} takes an encoder, as `attentive import` makes of a bert directory"
    );
    let options = EncoderOptions::new(model.config().context_len);
    let memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
    Ok((options, memory))
}

/// The encoder in that memory.
pub(crate) fn encoder<'m>(
    model: &'m Model<'m>,
    options: &EncoderOptions,
    memory: &'m mut [Block],
    backend: Backend,
) -> Result<Encoder<'m>> {
    let encoder = Encoder::new(model, options, Block::bytes_mut(memory), backend);
    encoder.map_err(|error| anyhow!("{error}"))
}

/// The beginning of a text, for messages.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
