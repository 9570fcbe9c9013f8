//! A task's text as tokens.

use crate::batches::Batch;
use crate::corpus::{self, Parts};
use crate::task::Task;
use crate::vocabulary::Vocabulary;
use anyhow::{Result, ensure};

/// Tokens of the training part and of the validation part.
pub struct Prepared {
    /// The tokenizer.
    pub vocabulary: Vocabulary,
    /// All documents' training parts, each after [`END_OF_TEXT`](crate::vocabulary::END_OF_TEXT).
    pub train: Vec<u32>,
    /// Windows over each document's validation part.
    pub validation: Vec<Batch>,
    /// Bytes that the validation's targets stand for.
    pub validation_bytes: usize,
    /// Bytes of the cleaned training part.
    pub train_bytes: usize,
}

/// Loads, cleans and splits the task's documents.
///
/// # Errors
/// When they cannot be read or are too short to be split.
pub fn parts(task: &Task) -> Result<Vec<Parts>> {
    let data = &task.data;
    let documents = corpus::load(&data.texts)?;
    let split =
        |document: &corpus::Document| document.split(data.validation_share, data.test_share);
    documents.iter().map(split).collect()
}

impl Prepared {
    /// Encodes the parts, after training the tokenizer on the training part unless one is given.
    ///
    /// # Errors
    /// When the text is too small for the vocabulary, or the tokenizer fails.
    pub fn new(task: &Task, parts: &[Parts], vocabulary: Option<Vocabulary>) -> Result<Self> {
        let vocab_len = task.model.vocab_len;
        let texts: Vec<&str> = parts.iter().map(|part| part.train.as_str()).collect();
        let vocabulary = match vocabulary {
            Some(vocabulary) => vocabulary,
            None => Vocabulary::train(&texts, vocab_len)?,
        };
        ensure!(
            vocabulary.len() <= vocab_len,
            "the tokenizer has {} tokens, the model {vocab_len}",
            vocabulary.len()
        );
        let seq_len = task.training.seq_len;
        let train = train_tokens(parts, &vocabulary)?;
        let mut validation = Vec::new();
        let mut validation_bytes = 0;
        for part in parts {
            let mut tokens = vec![vocabulary.end_of_text()];
            tokens.extend(vocabulary.encode(&part.validation)?);
            for batch in windows(&tokens, seq_len, task.training.micro_batch) {
                let bytes = |token: &u32| vocabulary.pieces()[*token as usize].len();
                validation_bytes += batch.targets.iter().map(bytes).sum::<usize>();
                validation.push(batch);
            }
        }
        ensure!(
            !validation.is_empty(),
            "no document's validation part has a whole sequence of {seq_len} tokens"
        );
        Ok(Self {
            vocabulary,
            train,
            validation,
            validation_bytes,
            train_bytes: texts.iter().map(|text| text.len()).sum(),
        })
    }
}

/// Tokens of all documents' training parts, each after the token that ends a text.
///
/// # Errors
/// When the tokenizer fails.
pub fn train_tokens(parts: &[Parts], vocabulary: &Vocabulary) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for part in parts {
        tokens.push(vocabulary.end_of_text());
        tokens.extend(vocabulary.encode(&part.train)?);
    }
    Ok(tokens)
}

/// Successive windows without overlap, `micro` a batch; a rest shorter than a window is left out.
pub fn windows(tokens: &[u32], seq_len: usize, micro: usize) -> Vec<Batch> {
    let mut out = Vec::new();
    let count = tokens.len().saturating_sub(1) / seq_len;
    for index in 0..count {
        if index % micro == 0 {
            out.push(Batch::default());
        }
        let start = index * seq_len;
        if let Some(batch) = out.last_mut() {
            batch.inputs.extend(&tokens[start..start + seq_len]);
            batch.targets.extend(&tokens[start + 1..=start + seq_len]);
        }
    }
    out
}
