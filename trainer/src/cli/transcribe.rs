//! `attentive transcribe`.

use super::{Kv, beams};
use anyhow::{Context, Result, anyhow, ensure};
use attentive::{Block, Input, Model, Session, SessionOptions};
use attentive_trainer::package;
use attentive_trainer::speech::{FRAMES, RATE, Speech, read_wav, windows};
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// What to write down.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file of a model that hears
    file: PathBuf,
    /// WAV files of any rate; channels are mixed
    #[arg(required = true, value_name = "CLIP.wav")]
    clips: Vec<PathBuf>,
    /// The language that is spoken, by its code [default: what the model believes to hear]
    #[arg(long)]
    language: Option<String>,
    /// Write English, whatever is spoken
    #[arg(long)]
    translate: bool,
    /// Texts that are pursued at once; 1 takes the likeliest next token
    #[arg(long, default_value_t = 1, value_parser = beams())]
    beams: usize,
    /// Print a line of JSON for each clip: text, language, seconds
    #[arg(long)]
    json: bool,
    /// Element type of the keys and values
    #[arg(long, value_enum, default_value_t = Kv::F32)]
    kv: Kv,
    /// Backend: native, or one by its name
    #[arg(long, default_value = "native")]
    backend: String,
}

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let backend = super::backend(&request.backend)?;
    let file = package::open(&request.file)?;
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let config = model.config();
    let source = config.source();
    let source = source.filter(|source| matches!(source.input, Input::Frames { bins: 80 }));
    let source = source.context(
        "this model does not hear frames of 80 bands; transcribe takes what `attentive import` makes of whisper",
    )?;
    let speech = Speech::of(&model);
    let speech = speech.context("the file's record has no speech table: import the model again")?;
    let language = request.language.as_deref().map(|code| {
        let id = speech.languages.get(code);
        let known = || {
            speech
                .languages
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        id.with_context(|| format!("the model has no language {code:?}; it has {}", known()))
    });
    let language = language.transpose()?;
    ensure!(
        source.len * 2 == FRAMES,
        "the model reads {} frames at a time; supported is {FRAMES}",
        source.len * 2
    );
    let options = SessionOptions::new(config.context_len).with_source_len(source.len);
    let options = match request.beams {
        0 | 1 => request.kv.with(options)?,
        beams => request.kv.with(options.with_beams(beams))?,
    };
    let mut memory = vec![Block::ZERO; Block::len_for(model.session_bytes(&options))];
    let memory = Block::bytes_mut(&mut memory);
    let session = Session::new(&model, &options, memory, backend);
    let mut session = session.map_err(|error| anyhow!("{error}"))?;
    let task = match request.translate {
        true => speech.translate,
        false => speech.transcribe,
    };
    let mut out = std::io::stdout().lock();
    for clip in &request.clips {
        let samples = read_wav(clip)?;
        let begun = Instant::now();
        let named = clip.display();
        let windows = windows(&samples).with_context(|| named.to_string())?;
        let mut spoken = language.copied();
        let mut text = Vec::new();
        for frames in &windows {
            let read = session.read_frames(frames);
            read.map_err(|error| anyhow!("{named}: {error}"))?;
            let id = match spoken {
                Some(id) => id,
                None => {
                    let (code, _) = speech.language(&mut session)?;
                    speech.languages[code]
                }
            };
            spoken = Some(id);
            let written = speech.write(&mut session, id, task, request.beams)?;
            if written.is_silence() {
                continue;
            }
            for id in written.ids {
                text.extend_from_slice(model.tokenizer().piece(id));
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        if request.json {
            let of_code = |id: u32| speech.languages.iter().find(|(_, of)| **of == id);
            let code = spoken.and_then(of_code).map(|(code, _)| code);
            let sound = samples.len() as f64 / f64::from(RATE);
            let line = json!({
                "clip": clip, "text": text, "language": code, "sound_seconds": sound, "seconds": seconds,
                "real_time_factor": seconds / sound,
            });
            writeln!(out, "{line}")?;
        } else if request.clips.len() > 1 {
            writeln!(out, "{named}: {text}")?;
        } else {
            writeln!(out, "{text}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
