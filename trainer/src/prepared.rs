//! A task's data as tokens and patches.

use crate::alike::EncodedAlike;
use crate::batches::{Batch, Batches, Deck, Samples, Shuffled};
use crate::corpus::{self, Parts};
use crate::examples::{Encoded, Example, Examples, Thing};
use crate::pairs::{EncodedPairs, Pairs};
use crate::questions::{EncodedQuestions, Questions};
use crate::tagging::{EncodedTags, Tagged};
use crate::task::{Task, Training};
use crate::vocabulary::Vocabulary;
use anyhow::{Context, Result, ensure};

/// What a task's data is, in three parts.
pub enum Corpus {
    /// Documents, to continue.
    Text(Vec<Parts>),
    /// Examples, to tell apart.
    Labelled(Examples),
    /// Texts and their translations.
    Pairs(Pairs),
    /// Texts that mean the same.
    Alike(Pairs),
    /// Questions, and passages that hold the answers.
    Questions(Questions),
    /// Words and their tags.
    Tagged(Tagged),
}

impl Corpus {
    /// Loads, cleans and splits the task's data.
    ///
    /// # Errors
    /// When it cannot be read or is too short to be split.
    pub fn load(task: &Task) -> Result<Self> {
        let data = &task.data;
        if let Some(files) = &data.pairs {
            return Ok(Self::Pairs(Pairs::load(files, data)?));
        }
        if let Some(files) = &data.alike {
            return Ok(Self::Alike(Pairs::load(files, data)?));
        }
        if let Some(file) = &data.questions {
            return Ok(Self::Questions(Questions::load(file, data)?));
        }
        let tags = task.model.tags;
        if let Some(file) = &data.tagged {
            return Ok(Self::Tagged(Tagged::load(file, data, tags)?));
        }
        if let Some(marks) = &data.marks {
            return Ok(Self::Tagged(Tagged::of_marks(marks, data, tags)?));
        }
        let Some(texts) = &data.texts else {
            return Ok(Self::Labelled(Examples::load(task)?));
        };
        let documents = corpus::load(texts)?;
        let split =
            |document: &corpus::Document| document.split(data.validation_share, data.test_share);
        let parts: Result<_> = documents.iter().map(split).collect();
        Ok(Self::Text(parts?))
    }

    /// Names of the classes or tags.
    pub fn labels(&self) -> Option<Vec<String>> {
        match self {
            Self::Text(_) | Self::Pairs(_) | Self::Alike(_) | Self::Questions(_) => None,
            Self::Labelled(examples) => Some(examples.labels.clone()),
            Self::Tagged(tagged) => Some(tagged.labels.clone()),
        }
    }

    /// Texts to train a tokenizer on; none of pictures.
    fn texts(&self) -> Vec<&str> {
        match self {
            Self::Text(parts) => parts.iter().map(|part| part.train.as_str()).collect(),
            Self::Labelled(examples) => examples.train.iter().filter_map(text_of).collect(),
            Self::Pairs(pairs) | Self::Alike(pairs) => {
                let sides = pairs
                    .train
                    .iter()
                    .map(|pair| [&*pair.source, &*pair.target]);
                sides.flatten().collect()
            }
            Self::Tagged(tagged) => {
                let sentences = tagged.train.iter();
                sentences.map(|sentence| sentence.text.as_str()).collect()
            }
            // The task begins with a file that has its own.
            Self::Questions(_) => Vec::new(),
        }
    }
}

fn text_of(example: &Example) -> Option<&str> {
    match &example.thing {
        Thing::Text(text) => Some(text),
        Thing::Picture(_) | Thing::Sound(_) => None,
    }
}

/// What a model is trained on.
enum Train {
    /// All documents' training parts, each after [`END_OF_TEXT`](crate::vocabulary::END_OF_TEXT).
    Tokens(Vec<u32>),
    Examples(Encoded),
    Pairs(EncodedPairs),
    Alike(EncodedAlike),
    Questions(EncodedQuestions),
    Tags(EncodedTags),
}

/// What is trained on and what is measured in between, as the model reads it.
pub struct Prepared {
    /// The tokenizer; none of pictures.
    pub vocabulary: Option<Vocabulary>,
    train: Train,
    /// Windows over each document's validation part, or the examples of that part.
    pub validation: Vec<Batch>,
    /// Bytes that the validation's targets stand for; 0 of classes.
    pub validation_bytes: usize,
    /// A line about it.
    pub summary: String,
}

impl Prepared {
    /// Encodes the parts, by the tokenizer that is given, or else that of the file that the task begins with, or else one that
    /// is trained on the training part.
    ///
    /// # Errors
    /// When the text is too small for the vocabulary, or the tokenizer fails.
    pub fn new(task: &Task, corpus: &Corpus, vocabulary: Option<Vocabulary>) -> Result<Self> {
        let vocab_len = task.model.vocab_len;
        let texts = corpus.texts();
        let vocabulary = match (vocabulary, &task.start) {
            (Some(vocabulary), _) => Some(vocabulary),
            (None, Some(start)) => Some(start.vocabulary()?),
            (None, None) if texts.is_empty() => None,
            (None, None) => Some(Vocabulary::train(&texts, vocab_len)?),
        };
        let tokens = vocabulary.as_ref().map_or(0, Vocabulary::len);
        ensure!(
            tokens <= vocab_len,
            "the tokenizer has {tokens} tokens, the model {vocab_len}"
        );
        match corpus {
            Corpus::Text(parts) => {
                let vocabulary = vocabulary.context("a text needs a tokenizer")?;
                Self::of_text(task, parts, vocabulary)
            }
            Corpus::Labelled(examples) => Self::of_examples(task, examples, vocabulary),
            Corpus::Pairs(pairs) => {
                let vocabulary = vocabulary.context("pairs need a tokenizer")?;
                Self::of_pairs(task, pairs, vocabulary)
            }
            Corpus::Alike(pairs) => {
                let vocabulary = vocabulary.context("texts need a tokenizer")?;
                Self::of_alike(task, pairs, vocabulary)
            }
            Corpus::Questions(questions) => {
                let vocabulary = vocabulary.context("questions need a tokenizer")?;
                Self::of_questions(task, questions, vocabulary)
            }
            Corpus::Tagged(tagged) => {
                let vocabulary = vocabulary.context("words need a tokenizer")?;
                Self::of_tagged(task, tagged, vocabulary)
            }
        }
    }

    fn of_text(task: &Task, parts: &[Parts], vocabulary: Vocabulary) -> Result<Self> {
        let seq_len = task.training.seq_len;
        let mut train = Vec::new();
        let mut validation = Vec::new();
        let mut validation_bytes = 0;
        for part in parts {
            train.push(vocabulary.need_end_of_text()?);
            train.extend(vocabulary.encode(&part.train)?);
            let mut tokens = vec![vocabulary.need_end_of_text()?];
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
        let bytes: usize = parts.iter().map(|part| part.train.len()).sum();
        let each = bytes as f64 / train.len() as f64;
        let summary = format!("{} training tokens ({each:.2} bytes each)", train.len());
        Ok(Self {
            vocabulary: Some(vocabulary),
            train: Train::Tokens(train),
            validation,
            validation_bytes,
            summary,
        })
    }

    fn of_examples(
        task: &Task,
        examples: &Examples,
        vocabulary: Option<Vocabulary>,
    ) -> Result<Self> {
        let train = Encoded::new(task, &examples.train, vocabulary.as_ref())?;
        let validation = Encoded::new(task, &examples.validation, vocabulary.as_ref())?;
        let summary = format!(
            "{} training examples of {} classes, {} tokens at most ({} cut)",
            train.len(),
            examples.labels.len(),
            train.longest,
            train.cut
        );
        Ok(Self {
            validation: validation.batches(task.training.micro_batch)?,
            train: Train::Examples(train),
            vocabulary,
            validation_bytes: 0,
            summary,
        })
    }

    fn of_pairs(task: &Task, pairs: &Pairs, vocabulary: Vocabulary) -> Result<Self> {
        let train = EncodedPairs::new(task, &pairs.train, &vocabulary)?;
        let validation = EncodedPairs::new(task, &pairs.validation, &vocabulary)?;
        let [source, target] = train.longest;
        let summary = format!(
            "{} training pairs of {source} and {target} tokens at most ({} longer ones left out)",
            train.len(),
            train.left_out
        );
        Ok(Self {
            validation: validation.batches(task.training.micro_batch),
            validation_bytes: validation.bytes,
            train: Train::Pairs(train),
            vocabulary: Some(vocabulary),
            summary,
        })
    }

    fn of_alike(task: &Task, pairs: &Pairs, vocabulary: Vocabulary) -> Result<Self> {
        let train = EncodedAlike::new(task, &pairs.train, &vocabulary)?;
        let validation = EncodedAlike::new(task, &pairs.validation, &vocabulary)?;
        let summary = format!(
            "{} training pairs, texts of {} tokens at most ({} cut)",
            train.len(),
            train.longest,
            train.cut
        );
        Ok(Self {
            validation: validation.batches(task.training.micro_batch),
            validation_bytes: 0,
            train: Train::Alike(train),
            vocabulary: Some(vocabulary),
            summary,
        })
    }

    fn of_questions(task: &Task, questions: &Questions, vocabulary: Vocabulary) -> Result<Self> {
        let train = EncodedQuestions::new(task, &questions.train, &vocabulary)?;
        let validation = EncodedQuestions::new(task, &questions.validation, &vocabulary)?;
        let summary = format!(
            "{} training questions about passages of {} tokens at most ({} of the file have no answer there)",
            train.len(),
            train.longest,
            questions.unanswered
        );
        Ok(Self {
            validation: validation.batches(task.training.micro_batch),
            validation_bytes: 0,
            train: Train::Questions(train),
            vocabulary: Some(vocabulary),
            summary,
        })
    }

    fn of_tagged(task: &Task, tagged: &Tagged, vocabulary: Vocabulary) -> Result<Self> {
        let train = EncodedTags::new(task, &tagged.train, &vocabulary)?;
        let validation = EncodedTags::new(task, &tagged.validation, &vocabulary)?;
        let words: usize = tagged
            .train
            .iter()
            .map(|sentence| sentence.tags.len())
            .sum();
        let summary = format!(
            "{words} training words with {} tags, {} tokens at most at once",
            tagged.labels.len(),
            train.longest
        );
        Ok(Self {
            validation: validation.batches(task.training.micro_batch),
            validation_bytes: 0,
            train: Train::Tags(train),
            vocabulary: Some(vocabulary),
            summary,
        })
    }

    /// The token that ends a text, where the tokenizer has one.
    pub fn end_of_text(&self) -> Option<u32> {
        self.vocabulary.as_ref().and_then(Vocabulary::end_of_text)
    }

    /// The whole training part once, as it is; texts in windows side by side.
    ///
    /// # Errors
    /// When an example is not what the model reads.
    pub fn training_batch(&self, task: &Task) -> Result<Batch> {
        let all = usize::MAX;
        let batches = match &self.train {
            Train::Tokens(tokens) => windows(tokens, task.training.seq_len, all),
            Train::Examples(encoded) => encoded.batches(all)?,
            Train::Pairs(encoded) => encoded.batches(all),
            Train::Alike(encoded) => encoded.batches(all),
            Train::Questions(encoded) => encoded.batches(all),
            Train::Tags(encoded) => encoded.batches(all),
        };
        batches.into_iter().next().context("nothing to train on")
    }

    /// The training part in the order of that seed.
    ///
    /// # Errors
    /// When there is too little of it.
    pub fn samples(&self, training: &Training, seed: u64) -> Result<Box<dyn Samples + '_>> {
        Ok(match &self.train {
            Train::Tokens(tokens) => Box::new(Batches::new(tokens, training.seq_len, seed)?),
            Train::Examples(encoded) => Box::new(Shuffled::new(encoded, training.dropout, seed)),
            Train::Pairs(encoded) => Box::new(Shuffled::new(encoded, training.dropout, seed)),
            Train::Alike(encoded) => Box::new(Shuffled::new(encoded, training.dropout, seed)),
            Train::Questions(encoded) => Box::new(Shuffled::new(encoded, training.dropout, seed)),
            Train::Tags(encoded) => Box::new(Shuffled::new(encoded, training.dropout, seed)),
        })
    }
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
            batch.lens.push(seq_len);
        }
    }
    out
}
