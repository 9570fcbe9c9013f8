//! Translating with a weights file, as the core does it, and how good that is.

mod score;

use crate::eval::encode;
use crate::package::session_memory;
use crate::pairs::Pair;
use crate::shares::shares;
use anyhow::{Context, Result, anyhow, ensure};
use attentive::kernels::Backend;
use attentive::kernels::layout::KvDtype;
use attentive::{
    BeamOptions, Block, LengthPenalty, Model, Sampler, SamplerOptions, Session, SessionOptions,
};

pub use score::{Bleu, ChrF, bleu, chrf};

/// How a translation is looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search {
    /// Texts that are pursued at once; 1 always takes the likeliest next token.
    pub beams: usize,
    /// See [`LengthPenalty::Wu`].
    pub length_penalty: f32,
    /// Element type of the keys and values.
    pub kv: KvDtype,
}

impl Search {
    /// The likeliest next token, with f32 keys and values.
    pub const GREEDY: Self = Self {
        beams: 1,
        length_penalty: 1.0,
        kv: KvDtype::F32,
    };

    /// Options of a session that can do it.
    ///
    /// # Errors
    /// When the model reads no source of tokens.
    pub fn options(&self, model: &Model<'_>) -> Result<SessionOptions> {
        let config = model.config();
        let source = config.source();
        let source = source.filter(|source| source.bins() == 0);
        let source = source.context(
            "this model does not translate: an encoder–decoder that reads tokens does, as `attentive train` makes of a \
             task of pairs",
        )?;
        let options = SessionOptions::new(config.context_len)
            .with_source_len(source.len)
            .with_kv(self.kv);
        let options = match self.beams {
            0 | 1 => options,
            beams => options.with_beams(beams),
        };
        options.check(config).map_err(|error| anyhow!("{error}"))?;
        Ok(options)
    }
}

/// What the session makes of a text; `is_cut` where the context ended before the translation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The translation.
    pub text: String,
    /// Whether the context ended before the translation did.
    pub is_cut: bool,
}

/// Translates a text, of which what is longer than the session's source is an error.
///
/// # Errors
/// What the session refuses.
pub fn translate(session: &mut Session<'_>, text: &str, search: Search) -> Result<Translation> {
    session.read(text).map_err(|error| anyhow!("{error}"))?;
    written(session, search)
}

/// Translates what the session has read.
fn written(session: &mut Session<'_>, search: Search) -> Result<Translation> {
    session.prompt("").map_err(|error| anyhow!("{error}"))?;
    let tokenizer = session.model().tokenizer();
    let mut bytes = Vec::new();
    let mut is_cut = false;
    if search.beams > 1 {
        let options = BeamOptions {
            tokens: session.context_len(),
            length_penalty: LengthPenalty::Wu(search.length_penalty),
        };
        let found = session.search(&options);
        let found = found.map_err(|error| anyhow!("{error}"))?;
        for id in found.tokens {
            bytes.extend_from_slice(tokenizer.piece(*id));
        }
        is_cut = !found.is_complete;
    } else {
        let mut sampler = Sampler::new(SamplerOptions::GREEDY);
        loop {
            if session.tokens().len() >= session.context_len() {
                is_cut = true;
                break;
            }
            match session
                .step(&mut sampler)
                .map_err(|error| anyhow!("{error}"))?
            {
                Some(piece) => bytes.extend_from_slice(piece),
                None => break,
            }
        }
    }
    Ok(Translation {
        text: String::from_utf8_lossy(&bytes).trim().to_owned(),
        is_cut,
    })
}

/// Translates every source, side by side on `threads` threads. A source that is too long is cut.
///
/// # Errors
/// What a session refuses.
pub fn translations(
    model: &Model<'_>,
    pairs: &[Pair],
    search: Search,
    backend: Backend,
    threads: usize,
) -> Result<Vec<String>> {
    let options = search.options(model)?;
    shares(pairs, threads, |pairs| {
        let mut memory = session_memory(model, &options)?;
        let session = Session::new(model, &options, Block::bytes_mut(&mut memory), backend);
        let mut session = session.map_err(|error| anyhow!("{error}"))?;
        let each = |pair: &Pair| {
            let mut tokens = encode(model.tokenizer(), &pair.source)?;
            ensure!(!tokens.is_empty(), "{:?} has no tokens", pair.source);
            tokens.truncate(options.source_len);
            let read = session.read_tokens(&tokens);
            read.map_err(|error| anyhow!("{error}"))?;
            Ok(written(&mut session, search)?.text)
        };
        pairs.iter().map(each).collect()
    })
}

/// How alike translations and references are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likeness {
    /// chrF of all, 0 to 100.
    pub chrf: f64,
    /// BLEU of all, 0 to 100.
    pub bleu: f64,
    /// How many.
    pub sentences: usize,
}

impl Likeness {
    /// Of translations to those of the pairs, as many.
    pub fn of(translations: &[String], pairs: &[Pair]) -> Self {
        let both = || {
            let references = pairs.iter().map(|pair| pair.target.as_str());
            translations.iter().map(String::as_str).zip(references)
        };
        Self {
            chrf: chrf(both()),
            bleu: bleu(both()),
            sentences: pairs.len(),
        }
    }
}
