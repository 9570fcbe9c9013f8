//! Attention to look at: the weights of a run, collected, and drawn as an SVG or as a page.

pub mod page;
mod subject;
pub mod svg;

use crate::examples::Thing;
use crate::frontend::Frontend;
use crate::texts::Wrapped;
use anyhow::{Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::{Attends, AttentionRow, Config, Pooling};
pub use subject::Subject;

/// Most weights that are collected: 256 MB of them.
const WEIGHTS_MAX: usize = 1 << 26;

/// Tokens that a target is searched for, where none is given.
const FOUND_MAX: usize = 128;

/// The weights of one kind of attention, of all layers and heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Maps {
    /// Who attends to whom.
    pub attends: Attends,
    /// Layers.
    pub layers: usize,
    /// Query heads of each.
    pub heads: usize,
    /// Labels of the tokens that attend.
    pub queries: Vec<String>,
    /// Labels of those that they attend to.
    pub keys: Vec<String>,
    /// What the tokens are patches of, but for the first.
    pub board: Option<Board>,
    /// `[layers][heads][queries][keys]`.
    weights: Vec<f32>,
}

/// A picture or a spectrum under its patches.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// What it is, in a word.
    pub kind: &'static str,
    /// Patches side by side.
    pub columns: usize,
    /// Patches one below the other.
    pub rows: usize,
    /// The picture.
    pub png: Vec<u8>,
    /// Whether the class is read from the first token, whose attention says what counted; else from the mean of all.
    pub first: bool,
}

impl Maps {
    fn new(
        attends: Attends,
        layers: usize,
        heads: usize,
        queries: &[String],
        keys: &[String],
    ) -> Result<Self> {
        let len = layers * heads * queries.len() * keys.len();
        ensure!(
            len <= WEIGHTS_MAX,
            "{layers} layers of {heads} heads with {} tokens that attend to {} have {len} weights, more than the \
             {WEIGHTS_MAX} that are drawn: give a shorter text",
            queries.len(),
            keys.len(),
        );
        Ok(Self {
            attends,
            layers,
            heads,
            queries: queries.to_vec(),
            keys: keys.to_vec(),
            board: None,
            weights: vec![0.0; len],
        })
    }

    /// What query `query` gives each key.
    pub fn row(&self, layer: usize, head: usize, query: usize) -> &[f32] {
        let row = (layer * self.heads + head) * self.queries.len() + query;
        &self.weights[row * self.keys.len()..][..self.keys.len()]
    }

    /// What each patch of a board gets in a head: from the first token, or on average from all.
    pub fn on_board(&self, layer: usize, head: usize) -> Vec<f32> {
        let first = self.board.as_ref().is_some_and(|board| board.first);
        let queries = if first { 1 } else { self.queries.len() };
        let mut sum = vec![0.0; self.keys.len()];
        for query in 0..queries {
            for (sum, weight) in sum.iter_mut().zip(self.row(layer, head, query)) {
                *sum += weight / queries as f32;
            }
        }
        sum.split_off(1.min(sum.len()))
    }

    fn take(&mut self, row: &AttentionRow<'_>) {
        let at = (row.layer * self.heads + row.head) * self.queries.len() + row.position;
        let to = &mut self.weights[at * self.keys.len()..][..self.keys.len()];
        // Keys that no query of the batch sees are not in the row.
        for (to, weight) in to.iter_mut().zip(row.weights) {
            *to = *weight;
        }
    }

    /// Where what the last layers hold of a token came from, layer by layer, `[layers][tokens][tokens]` (Abnar and
    /// Zuidema 2020, "attention rollout"): each layer passes on half of a token by its residual connection and half by
    /// the mean of its heads, each row divided by its sum. `None` where a text attends to another.
    pub fn rollout(&self) -> Option<Vec<f32>> {
        if self.attends == Attends::TextToSource {
            return None;
        }
        let n = self.queries.len();
        let mut all = Vec::with_capacity(self.layers * n * n);
        let mut before = vec![0f32; n * n];
        for token in 0..n {
            before[token * n + token] = 1.0;
        }
        for layer in 0..self.layers {
            let mut after = vec![0f32; n * n];
            for (query, out) in after.chunks_exact_mut(n).enumerate() {
                let mut mixed = vec![0f32; n];
                for head in 0..self.heads {
                    for (mixed, weight) in mixed.iter_mut().zip(self.row(layer, head, query)) {
                        *mixed += 0.5 * weight / self.heads as f32;
                    }
                }
                mixed[query] += 0.5;
                let sum: f32 = mixed.iter().sum();
                for (share, row) in mixed.iter().zip(before.chunks_exact(n)) {
                    for (out, from) in out.iter_mut().zip(row) {
                        *out += share / sum * from;
                    }
                }
            }
            all.extend_from_slice(&after);
            before = after;
        }
        Some(all)
    }
}

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// The text that attends; with an encoder–decoder the target, which is searched for where there is none.
    pub text: Option<&'a str>,
    /// An encoder's second text, or an encoder–decoder's source.
    pub other: Option<&'a str>,
}

/// Runs a model over texts and collects all weights of its attention: a decoder's and an encoder's to the text, an
/// encoder–decoder's of the source to itself, of the target to itself, and to the source.
///
/// # Errors
/// Texts that are missing, empty, of no use to this model, or too long for it or to be drawn.
pub fn collect(model: Subject<'_>, texts: &Texts<'_>, backend: Backend) -> Result<Vec<Maps>> {
    for text in [texts.text, texts.other].into_iter().flatten() {
        ensure!(!text.trim().is_empty(), "a text is empty");
    }
    let config = model.config();
    if config.source().is_some() {
        return translator(model, texts, backend);
    }
    let text = texts.text;
    let text = text.ok_or_else(|| anyhow!("nothing to look at: give a text with --text"))?;
    match config.reading() {
        Some(_) => encoder(model, text, texts.other, backend),
        None => {
            ensure!(
                texts.other.is_none(),
                "this model is a decoder, which has one text: --second is for encoders, --source for encoder–decoders"
            );
            decoder(model, text, backend)
        }
    }
}

fn decoder(model: Subject<'_>, text: &str, backend: Backend) -> Result<Vec<Maps>> {
    let config = model.config();
    let ids = tokens(model, config.begin_of_text, text)?;
    check_len(config, ids.len())?;
    let labels = labels(model, &ids);
    let mut maps = Maps::new(Attends::Text, config.layers, config.heads, &labels, &labels)?;
    model.write(&ids, backend, &mut |row| maps.take(row))?;
    Ok(vec![maps])
}

fn encoder(
    model: Subject<'_>,
    text: &str,
    second: Option<&str>,
    backend: Backend,
) -> Result<Vec<Maps>> {
    let config = model.config();
    let wrapped = Wrapped::new(model.tokenizer(), text, second, config.context_len)?;
    let labels = labels(model, &wrapped.ids);
    let mut maps = Maps::new(Attends::Text, config.layers, config.heads, &labels, &labels)?;
    model.read(&wrapped, backend, &mut |row| maps.take(row))?;
    Ok(vec![maps])
}

/// Runs a model of patches over a picture or a clip, and collects all weights of its attention.
///
/// # Errors
/// When the thing is not what the model reads.
pub fn patches(
    model: Subject<'_>,
    frontend: &Frontend,
    thing: &Thing,
    backend: Backend,
) -> Result<Vec<Maps>> {
    let config = model.config();
    let (columns, rows) = frontend.grid();
    let patch = |at: usize| match rows {
        1 => format!("patch {at}"),
        _ => format!("row {}, column {}", at / columns, at % columns),
    };
    let first = std::iter::once("[class]".to_owned());
    let labels: Vec<String> = first.chain((0..columns * rows).map(patch)).collect();
    let mut maps = Maps::new(Attends::Text, config.layers, config.heads, &labels, &labels)?;
    let each = &mut |row: &AttentionRow<'_>| maps.take(row);
    model.read_patches(frontend, thing, columns * rows, backend, each)?;
    let pooling = config.reading().map(|reading| reading.pooling);
    maps.board = Some(Board {
        kind: frontend.kind(),
        columns,
        rows,
        png: frontend.png(thing)?,
        first: pooling == Some(Pooling::First),
    });
    Ok(vec![maps])
}

fn translator(model: Subject<'_>, texts: &Texts<'_>, backend: Backend) -> Result<Vec<Maps>> {
    let config = model.config();
    let source = texts.other.ok_or_else(|| {
        anyhow!("this model is an encoder–decoder: give what it reads with --source, and what it wrote with --text if \
                 it should not search for it")
    })?;
    let source_len = config.source().map_or(1, |source| source.len);
    let source = Wrapped::new(model.tokenizer(), source, None, source_len)?.ids;
    let target = match texts.text {
        Some(text) => tokens(model, config.begin_of_text, text)?,
        None => {
            let begin: Vec<u32> = config.begin_of_text.into_iter().collect();
            ensure!(
                !begin.is_empty(),
                "this model begins with no token of its own: give what it wrote with --text"
            );
            let found = model.found(&source, &begin, FOUND_MAX, backend)?;
            [begin, found].concat()
        }
    };
    check_len(config, target.len())?;
    let (sources, targets) = (labels(model, &source), labels(model, &target));
    let (layers, heads) = (config.layers, config.heads);
    let source_layers = config.source_layers();
    let mut cross = Maps::new(Attends::TextToSource, layers, heads, &targets, &sources)?;
    let mut own = Maps::new(Attends::Text, layers, heads, &targets, &targets)?;
    let mut of_source = Maps::new(Attends::Source, source_layers, heads, &sources, &sources)?;
    let each = &mut |row: &AttentionRow<'_>| match row.attends {
        Attends::TextToSource => cross.take(row),
        Attends::Text => own.take(row),
        Attends::Source => of_source.take(row),
    };
    model.translate(&source, &target, backend, each)?;
    Ok(vec![cross, own, of_source])
}

/// That a model was trained for so many tokens.
fn check_len(config: &Config, tokens: usize) -> Result<()> {
    ensure!(
        tokens <= config.context_len,
        "the text has {tokens} tokens, more than the {} that the model was trained for",
        config.context_len
    );
    Ok(())
}

/// The tokens of a text behind the one that the model begins with.
fn tokens(model: Subject<'_>, begin: Option<u32>, text: &str) -> Result<Vec<u32>> {
    let mut scratch = [0; attentive::tokenizer::ENCODE_SCRATCH_LEN];
    let ids = model.tokenizer().encode(text, &mut scratch);
    let ids = ids.map_err(|error| anyhow!("{error}"))?;
    let ids: Result<Vec<u32>, _> = begin.into_iter().map(Ok).chain(ids).collect();
    let ids = ids.map_err(|error| anyhow!("{error}"))?;
    ensure!(!ids.is_empty(), "the text has no token");
    Ok(ids)
}

/// Tokens as people read them: bytes that are no UTF-8 as `\xNN`, spaces and line ends made visible.
fn labels(model: Subject<'_>, ids: &[u32]) -> Vec<String> {
    let label = |id: &u32| {
        let piece = model.tokenizer().piece(*id);
        if piece.is_empty() {
            return format!("[{id}]");
        }
        let mut label = String::new();
        for chunk in piece.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    ' ' => label.push('\u{b7}'),
                    '\n' => label.push('\u{21b5}'),
                    '\t' => label.push('\u{2192}'),
                    c if c.is_control() => label.extend(c.escape_unicode()),
                    c => label.push(c),
                }
            }
            for byte in chunk.invalid() {
                label.push_str(&format!("\\x{byte:02x}"));
            }
        }
        label
    };
    ids.iter().map(label).collect()
}

/// Text for XML and HTML, in content and in attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Who attends to whom, for a heading.
fn title(maps: &Maps) -> &'static str {
    match (&maps.board, maps.attends) {
        (Some(Board { kind: "sound", .. }), _) => "sound to itself",
        (Some(_), _) => "picture to itself",
        (None, Attends::Text) => "text to itself",
        (None, Attends::TextToSource) => "text to source",
        (None, Attends::Source) => "source to itself",
    }
}
