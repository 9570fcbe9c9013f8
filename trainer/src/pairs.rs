//! Pairs of a text and its translation: loading them, what is held out, and batches of them.

use crate::batches::{Batch, Deck};
use crate::examples::split;
use crate::random::Random;
use crate::task::{Data, Task};
use crate::vocabulary::Vocabulary;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;

/// Files of pairs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Lines of a text, a tab and its translation.
    pub files: Vec<PathBuf>,
}

/// A text and its translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is read.
    pub source: String,
    /// What is written.
    pub target: String,
    /// Place of the file that it stands in.
    pub file: usize,
}

/// Pairs in three parts, none of which shares a source with another.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// Names of the files, without their directory and ending.
    pub files: Vec<String>,
    /// What the model learns from.
    pub train: Vec<Pair>,
    /// What decides when to stop.
    pub validation: Vec<Pair>,
    /// What no training sees.
    pub test: Vec<Pair>,
}

impl Pairs {
    /// Reads a task's pairs and splits them. Of equal sources the first counts.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else.
    pub fn load(files: &Files, data: &Data) -> Result<Self> {
        let mut seen = HashSet::new();
        let mut pairs = Vec::new();
        let mut names = Vec::new();
        for (file, path) in files.files.iter().enumerate() {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("reading the pairs in {}", path.display()))?;
            for (index, line) in text.lines().enumerate() {
                let pair = line.split_once('\t').map(|(a, b)| (a.trim(), b.trim()));
                let pair = pair.filter(|(source, target)| {
                    !source.is_empty() && !target.is_empty() && !target.contains('\t')
                });
                let (source, target) = pair.with_context(|| {
                    format!(
                        "{}, line {}: a text, a tab and its translation should stand here",
                        path.display(),
                        index + 1
                    )
                })?;
                if seen.insert(source.to_owned()) {
                    pairs.push(Pair {
                        source: source.to_owned(),
                        target: target.to_owned(),
                        file,
                    });
                }
            }
            let name = path.file_stem().unwrap_or(path.as_os_str());
            names.push(name.to_string_lossy().into_owned());
        }
        let [train, validation, test] = split(pairs, data)?;
        Ok(Self {
            files: names,
            train,
            validation,
            test,
        })
    }
}

/// Pairs as the model reads and writes them.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedPairs {
    pairs: Vec<[Vec<u32>; 2]>,
    end_of_text: u32,
    /// Bytes of the translations, the end of each counted as one.
    pub bytes: usize,
    /// Tokens of the longest text, and of the longest translation.
    pub longest: [usize; 2],
    /// Pairs that are left out: they are longer than what the model reads or writes.
    pub left_out: usize,
}

impl EncodedPairs {
    /// Encodes some pairs.
    ///
    /// # Errors
    /// When the tokenizer fails, or no pair is short enough.
    pub fn new(task: &Task, pairs: &[Pair], vocabulary: &Vocabulary) -> Result<Self> {
        let most = [task.model.source_len(), task.model.context_len - 1];
        let mut out = Self {
            pairs: Vec::new(),
            end_of_text: vocabulary.need_end_of_text()?,
            bytes: 0,
            longest: [0; 2],
            left_out: 0,
        };
        for Pair { source, target, .. } in pairs {
            let tokens = [vocabulary.encode(source)?, vocabulary.encode(target)?];
            let lens = [0, 1].map(|side| tokens[side].len());
            if lens.iter().zip(most).any(|(len, most)| *len > most) {
                out.left_out += 1;
                continue;
            }
            out.longest = [0, 1].map(|side| out.longest[side].max(lens[side]));
            out.bytes += target.len() + 1;
            out.pairs.push(tokens);
        }
        ensure!(
            !out.pairs.is_empty(),
            "all of {} pairs are longer than {most:?} tokens, which the model reads and writes",
            pairs.len()
        );
        Ok(out)
    }

    /// All of them in order, `micro` a batch.
    pub fn batches(&self, micro: usize) -> Vec<Batch> {
        let of = |pairs: &[[Vec<u32>; 2]]| {
            let mut batch = Batch::default();
            for pair in pairs {
                self.put(pair, &mut batch);
            }
            batch
        };
        self.pairs.chunks(micro).map(of).collect()
    }

    /// The translation goes in behind the token that ends a text, which it begins with, and comes out before it.
    fn put(&self, [source, target]: &[Vec<u32>; 2], batch: &mut Batch) {
        batch.sources.extend(source);
        batch.source_lens.push(source.len());
        batch.inputs.push(self.end_of_text);
        batch.inputs.extend(target);
        batch.targets.extend(target);
        batch.targets.push(self.end_of_text);
        batch.lens.push(target.len() + 1);
    }
}

impl Deck for EncodedPairs {
    fn len(&self) -> usize {
        self.pairs.len()
    }

    fn deal(&self, index: usize, _: &mut Random, batch: &mut Batch) -> Result<()> {
        self.put(&self.pairs[index], batch);
        Ok(())
    }
}
