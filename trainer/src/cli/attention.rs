//! `attentive attention`.

use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::{Model, integer};
use attentive_trainer::files::write_atomically;
use attentive_trainer::frontend::Frontend;
use attentive_trainer::look::svg::{self, Choice};
use attentive_trainer::look::{self, Subject, Texts, page};
use attentive_trainer::package;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to look at.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file
    file: PathBuf,
    /// The text that attends; with an encoder–decoder what it wrote, which it is searched for if it is not given
    #[arg(long)]
    text: Option<String>,
    /// A second text, for an encoder
    #[arg(long, conflicts_with = "source")]
    second: Option<String>,
    /// The text that an encoder–decoder reads
    #[arg(long)]
    source: Option<String>,
    /// The picture that a model of pictures reads
    #[arg(long, conflicts_with_all = ["text", "second", "source"])]
    picture: Option<PathBuf>,
    /// The WAV file that a model of sounds reads
    #[arg(long, conflicts_with_all = ["text", "second", "source", "picture"])]
    sound: Option<PathBuf>,
    /// Draw this layer alone, counted from 0; the SVG only
    #[arg(long)]
    layer: Option<usize>,
    /// Draw this head alone, counted from 0; the SVG only
    #[arg(long)]
    head: Option<usize>,
    /// Write a drawing
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write a page to point at
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Backend: native, or one by its name
    #[arg(long, default_value = "native")]
    backend: String,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    ensure!(
        request.svg.is_some() || request.html.is_some(),
        "nothing to write: give --svg or --html"
    );
    let backend = super::backend(&request.backend)?;
    let file = package::open(&request.file)?;
    let (floats, integers);
    let (model, provenance) = match integer::Model::parse(&file) {
        Ok(model) => {
            integers = model;
            (Subject::Integers(&integers), integers.provenance())
        }
        Err(_) => {
            floats = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
            (Subject::Floats(&floats), floats.provenance())
        }
    };
    let is_pair = model.config().source().is_some();
    match (&request.second, &request.source) {
        (Some(_), _) if model.config().reading().is_none() => {
            bail!("--second is for encoders, which this model is not")
        }
        (_, Some(_)) if !is_pair => {
            bail!("--source is for encoder–decoders, which this model is not")
        }
        _ => {}
    }
    let of_patches = model
        .config()
        .reading()
        .is_some_and(|reading| reading.patch > 0);
    let thing = request.picture.as_ref().or(request.sound.as_ref());
    let all = match (of_patches, thing) {
        (false, None) => {
            let texts = Texts {
                text: request.text.as_deref(),
                other: request.second.as_deref().or(request.source.as_deref()),
            };
            look::collect(model, &texts, backend)?
        }
        (false, Some(_)) => bail!("this model reads texts: give --text, and no picture or sound"),
        (true, thing) => {
            let frontend = Frontend::recorded(provenance);
            let frontend =
                frontend.context("the model's record does not say how patches are cut")?;
            let kind = frontend.kind();
            let path = thing.filter(|_| (kind == "picture") == request.picture.is_some());
            let path = path.with_context(|| {
                format!("this model reads {kind}s: give --{kind}, and nothing else to read")
            })?;
            look::patches(model, &frontend, &frontend.read(path)?, backend)?
        }
    };
    let choice = Choice {
        layer: request.layer,
        head: request.head,
    };
    // Everything is drawn before anything is written.
    let drawing = match (&request.svg, svg::shown(&all)) {
        (Some(path), Some(maps)) => Some((path, svg::draw(maps, choice)?)),
        _ => None,
    };
    let name = request.file.file_name().unwrap_or_default();
    let page = request
        .html
        .as_ref()
        .map(|path| (path, page::draw(&all, &name.to_string_lossy())));
    for (path, text) in drawing.into_iter().chain(page) {
        write_atomically(path, text.as_bytes())?;
        println!("wrote {}: {} bytes", path.display(), text.len());
    }
    Ok(ExitCode::SUCCESS)
}
