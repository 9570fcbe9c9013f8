//! `attentive transcribe`.

use super::{Kv, beams};
use anyhow::{Context, Result, anyhow, ensure};
use attentive::{Block, Input, Model, Session, SessionOptions};
use attentive_trainer::package;
use attentive_trainer::speech::{FRAMES, RATE, Speech, read_wav, windows};
use attentive_trainer::word_errors::WordErrors;
use clap::Args;
use serde_json::json;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
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
    /// A file with a clip's name, a tab and what is said in it in each line: the word error rate is told at the end
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// Print a line of JSON for each clip: text, language, seconds, and with --expected its words and how many are wrong
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
    let expected = match &request.expected {
        Some(path) => Some(expected(path, &request.clips)?),
        None => None,
    };
    let mut out = std::io::stdout().lock();
    let mut all = Vec::new();
    let (mut sound_seconds, mut all_seconds) = (0.0, 0.0);
    for (index, clip) in request.clips.iter().enumerate() {
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
        let sound = samples.len() as f64 / f64::from(RATE);
        (sound_seconds, all_seconds) = (sound_seconds + sound, all_seconds + seconds);
        let errors = expected
            .as_ref()
            .map(|said| WordErrors::of(&text, &said[index]));
        all.extend(errors);
        if request.json {
            let of_code = |id: u32| speech.languages.iter().find(|(_, of)| **of == id);
            let code = spoken.and_then(of_code).map(|(code, _)| code);
            let mut line = json!({
                "clip": clip, "text": text, "language": code, "sound_seconds": sound, "seconds": seconds,
                "real_time_factor": seconds / sound,
            });
            if let Some(errors) = errors {
                line["words"] = errors.words.into();
                line["word_errors"] = errors.errors.into();
            }
            writeln!(out, "{line}")?;
        } else if request.clips.len() > 1 {
            writeln!(out, "{named}: {text}")?;
        } else {
            writeln!(out, "{text}")?;
        }
    }
    if expected.is_some() {
        let sum: WordErrors = all.into_iter().sum();
        eprintln!(
            "word error rate {:.2} % ({} of {} words); {sound_seconds:.1} s of sound in {all_seconds:.1} s, a real-time \
             factor of {:.3}",
            100.0 * sum.rate(),
            sum.errors,
            sum.words,
            all_seconds / sound_seconds
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said in each of the clips.
fn expected(path: &Path, clips: &[PathBuf]) -> Result<Vec<String>> {
    let named = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {named}"))?;
    let mut said = HashMap::new();
    for (line, number) in text.lines().zip(1..) {
        if line.trim().is_empty() {
            continue;
        }
        let both = line.split_once('\t');
        let (clip, words) = both.with_context(|| {
            format!("{named}, line {number}: expected a clip's name, a tab and what is said in it")
        })?;
        said.insert(clip, words);
    }
    let of = |clip: &PathBuf| {
        let name = clip.file_name().unwrap_or_default().to_string_lossy();
        let words = said
            .get(&*name)
            .or_else(|| said.get(&*clip.to_string_lossy()));
        let words =
            words.with_context(|| format!("{named} has no line that begins with {name}"))?;
        Ok((*words).to_owned())
    };
    clips.iter().map(of).collect()
}
