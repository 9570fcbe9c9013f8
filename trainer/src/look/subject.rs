//! What is looked at: a model of either profile, run so that it hands over its rows.

use crate::examples::Thing;
use crate::frontend::Frontend;
use crate::texts::Wrapped;
use anyhow::{Result, anyhow};
use attentive::kernels::Backend;
use attentive::tokenizer::Tokenizer;
use attentive::{
    AttentionRow, BeamOptions, Block, Config, Encoder, EncoderOptions, Model, Session,
    SessionError, SessionOptions, integer,
};

/// A model.
#[derive(Clone, Copy)]
pub enum Subject<'m> {
    /// Of the float profile.
    Floats(&'m Model<'m>),
    /// Of the integer profile.
    Integers(&'m integer::Model<'m>),
}

/// Where rows go.
pub(super) type Each<'e> = &'e mut (dyn FnMut(&AttentionRow<'_>) + Send);

impl<'m> Subject<'m> {
    /// Its dimensions.
    pub fn config(self) -> &'m Config {
        match self {
            Self::Floats(model) => model.config(),
            Self::Integers(model) => model.config(),
        }
    }

    pub(super) fn tokenizer(self) -> &'m Tokenizer<'m> {
        match self {
            Self::Floats(model) => model.tokenizer(),
            Self::Integers(model) => model.tokenizer(),
        }
    }

    /// Runs a decoder over a text.
    pub(super) fn write(self, ids: &[u32], backend: Backend, each: Each<'_>) -> Result<()> {
        let mut row = vec![0.0; ids.len()];
        match self {
            Self::Floats(model) => {
                let options = SessionOptions::new(ids.len());
                with_session(model, &options, backend, |session| {
                    session.watch(ids, &mut row, each)
                })
            }
            Self::Integers(model) => {
                let options = integer::Options::new(ids.len());
                with_integer_session(model, &options, backend, |session| {
                    session.prompt_tokens(ids)?;
                    session.watch(&mut row, each)
                })
            }
        }
    }

    /// Runs an encoder over a text.
    pub(super) fn read(self, text: &Wrapped, backend: Backend, each: Each<'_>) -> Result<()> {
        let ids = &text.ids;
        let mut row = vec![0.0; ids.len()];
        match self {
            Self::Floats(model) => with_encoder(model, ids.len(), backend, |encoder| {
                encoder.watch(ids, &text.types, &mut row, each)
            }),
            Self::Integers(model) => with_integer_encoder(model, ids.len(), backend, |encoder| {
                encoder.begin_tokens(ids)?;
                encoder.watch(&mut row, each)
            }),
        }
    }

    /// Runs a model of patches, of which there are `n`.
    pub(super) fn read_patches(
        self,
        frontend: &Frontend,
        thing: &Thing,
        n: usize,
        backend: Backend,
        each: Each<'_>,
    ) -> Result<()> {
        let mut row = vec![0.0; n + 1];
        match self {
            Self::Floats(model) => {
                let patches = frontend.cut(thing)?;
                with_encoder(model, n + 1, backend, |encoder| {
                    encoder.watch_patches(&patches, &mut row, each)
                })
            }
            Self::Integers(model) => {
                let patches = frontend.levels(thing, model.input_scale())?;
                with_integer_encoder(model, n + 1, backend, |encoder| {
                    encoder.begin_patches(&patches)?;
                    encoder.watch(&mut row, each)
                })
            }
        }
    }

    /// Runs an encoder–decoder over a source and what it wrote.
    pub(super) fn translate(
        self,
        source: &[u32],
        target: &[u32],
        backend: Backend,
        each: Each<'_>,
    ) -> Result<()> {
        let mut row = vec![0.0; source.len().max(target.len())];
        match self {
            Self::Floats(model) => {
                let options = SessionOptions::new(target.len()).with_source_len(source.len());
                with_session(model, &options, backend, |session| {
                    session.watch_source(source, &mut row, &mut *each)?;
                    session.watch(target, &mut row, each)
                })
            }
            Self::Integers(model) => {
                let options = integer::Options::new(target.len()).with_source_len(source.len());
                with_integer_session(model, &options, backend, |session| {
                    session.read_tokens(source)?;
                    session.prompt_tokens(target)?;
                    session.watch(&mut row, each)
                })
            }
        }
    }

    /// What an encoder–decoder writes behind `begin`, up to `most` tokens: the best of four beams, or, without floats,
    /// each time the likeliest.
    pub(super) fn found(
        self,
        source: &[u32],
        begin: &[u32],
        most: usize,
        backend: Backend,
    ) -> Result<Vec<u32>> {
        let len = most.min(self.config().context_len);
        match self {
            Self::Floats(model) => {
                let options = SessionOptions::new(len)
                    .with_source_len(source.len())
                    .with_beams(4);
                with_session(model, &options, backend, |session| {
                    session.read_tokens(source)?;
                    session.prompt_tokens(begin)?;
                    Ok(session.search(&BeamOptions::new(most))?.tokens.to_vec())
                })
            }
            Self::Integers(model) => {
                let options = integer::Options::new(len).with_source_len(source.len());
                with_integer_session(model, &options, backend, |session| {
                    session.read_tokens(source)?;
                    session.prompt_tokens(begin)?;
                    let mut greedy = integer::Sampler::new(integer::SamplerOptions::GREEDY);
                    while session.tokens().len() < len && session.draw(&mut greedy)?.is_some() {}
                    Ok(session.tokens()[begin.len()..].to_vec())
                })
            }
        }
    }
}

fn with_session<T>(
    model: &Model<'_>,
    options: &SessionOptions,
    backend: Backend,
    then: impl FnOnce(&mut Session<'_>) -> Result<T, SessionError>,
) -> Result<T> {
    let run = || {
        options.check(model.config())?;
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))];
        let memory = Block::bytes_mut(&mut memory);
        then(&mut Session::new(model, options, memory, backend)?)
    };
    run().map_err(|error| anyhow!("{error}"))
}

fn with_integer_session<T>(
    model: &integer::Model<'_>,
    options: &integer::Options,
    backend: Backend,
    then: impl FnOnce(&mut integer::Session<'_>) -> Result<T, SessionError>,
) -> Result<T> {
    let run = || {
        let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(options))];
        let memory = Block::bytes_mut(&mut memory);
        then(&mut integer::Session::new(model, options, memory, backend)?)
    };
    run().map_err(|error| anyhow!("{error}"))
}

fn with_encoder<T>(
    model: &Model<'_>,
    len: usize,
    backend: Backend,
    then: impl FnOnce(&mut Encoder<'_>) -> Result<T, SessionError>,
) -> Result<T> {
    let options = EncoderOptions::new(len);
    let run = || {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(&options))];
        let memory = Block::bytes_mut(&mut memory);
        then(&mut Encoder::new(model, &options, memory, backend)?)
    };
    run().map_err(|error| anyhow!("{error}"))
}

fn with_integer_encoder<T>(
    model: &integer::Model<'_>,
    len: usize,
    backend: Backend,
    then: impl FnOnce(&mut integer::Encoder<'_>) -> Result<T, SessionError>,
) -> Result<T> {
    let run = || {
        let mut memory = vec![Block::ZERO; Block::len_for(model.encoder_bytes(len))];
        let memory = Block::bytes_mut(&mut memory);
        then(&mut integer::Encoder::new(model, len, memory, backend)?)
    };
    run().map_err(|error| anyhow!("{error}"))
}
