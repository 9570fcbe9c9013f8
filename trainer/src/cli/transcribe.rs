//! `attentive transcribe`.

use super::{Kv, beams};
use anyhow::{Context, Result, anyhow, bail, ensure};
use attentive::{Block, Input, Model, Session, SessionOptions};
use attentive_trainer::files::write_atomically;
use attentive_trainer::package;
use attentive_trainer::speech::{
    FRAMES, Frames, Listening, RATE, Segment, Speech, read_wav, transcribe,
};
use attentive_trainer::word_errors::WordErrors;
use clap::Args;
use serde::Serialize;
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
    /// Tell when what was said: a line for each part, with its beginning and end in seconds
    #[arg(long)]
    times: bool,
    /// Write subtitles of the one clip there, as its ending says: .srt or .vtt
    #[arg(long, value_name = "FILE")]
    subtitles: Option<PathBuf>,
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
    let times = request.times || request.subtitles.is_some();
    let subtitles = match &request.subtitles {
        Some(path) => Some(Subtitles::of(path, &request.clips)?),
        None => None,
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
        let frames = Frames::new(&samples).with_context(|| named.to_string())?;
        let listening = Listening {
            language: language.copied(),
            task,
            beams: request.beams,
            times,
        };
        let said = transcribe(&speech, &mut session, &frames, listening);
        let said = said.with_context(|| named.to_string())?;
        let text = |ids: &[u32]| {
            let pieces = ids.iter().flat_map(|id| model.tokenizer().piece(*id));
            let bytes: Vec<u8> = pieces.copied().collect();
            String::from_utf8_lossy(&bytes).trim().to_owned()
        };
        let parts: Vec<Part> = said
            .segments
            .iter()
            .map(|segment| Part::new(segment, &text))
            .collect();
        let seconds = begun.elapsed().as_secs_f64();
        let text = text(&said.ids);
        let sound = samples.len() as f64 / f64::from(RATE);
        (sound_seconds, all_seconds) = (sound_seconds + sound, all_seconds + seconds);
        let errors = expected
            .as_ref()
            .map(|said| WordErrors::of(&text, &said[index]));
        all.extend(errors);
        if request.json {
            let of_code = |id: u32| speech.languages.iter().find(|(_, of)| **of == id);
            let code = of_code(said.language).map(|(code, _)| code);
            let mut line = json!({
                "clip": clip, "text": text, "language": code, "sound_seconds": sound, "seconds": seconds,
                "real_time_factor": seconds / sound,
            });
            if times {
                line["segments"] = json!(parts);
            }
            if let Some(errors) = errors {
                line["words"] = errors.words.into();
                line["word_errors"] = errors.errors.into();
            }
            writeln!(out, "{line}")?;
        } else if request.times {
            if request.clips.len() > 1 {
                writeln!(out, "{named}:")?;
            }
            for part in &parts {
                writeln!(out, "{:.2} – {:.2}: {}", part.start, part.end, part.text)?;
            }
        } else if request.clips.len() > 1 {
            writeln!(out, "{named}: {text}")?;
        } else {
            writeln!(out, "{text}")?;
        }
        if let (Some(kind), Some(path)) = (subtitles, &request.subtitles) {
            write_atomically(path, kind.write(&parts).as_bytes())?;
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

/// What is said between two times, in seconds.
#[derive(Serialize)]
struct Part {
    start: f64,
    end: f64,
    text: String,
}

impl Part {
    fn new(segment: &Segment, text: &impl Fn(&[u32]) -> String) -> Self {
        Self {
            start: segment.start,
            end: segment.end,
            text: text(&segment.ids),
        }
    }
}

/// Formats of subtitles.
#[derive(Clone, Copy)]
enum Subtitles {
    SubRip,
    WebVtt,
}

impl Subtitles {
    fn of(path: &Path, clips: &[PathBuf]) -> Result<Self> {
        ensure!(
            clips.len() == 1,
            "--subtitles takes one clip, not {}",
            clips.len()
        );
        match path.extension().and_then(|end| end.to_str()) {
            Some("srt") => Ok(Self::SubRip),
            Some("vtt") => Ok(Self::WebVtt),
            _ => bail!(
                "{}: expected a name that ends with .srt or .vtt",
                path.display()
            ),
        }
    }

    fn write(self, parts: &[Part]) -> String {
        let (mut out, point) = match self {
            Self::SubRip => (String::new(), ','),
            Self::WebVtt => ("WEBVTT\n\n".to_owned(), '.'),
        };
        let time = |seconds: f64| {
            let all = (seconds * 1000.0).round() as u64;
            let (minutes, rest) = (all / 60_000, all % 60_000);
            let (hours, minutes) = (minutes / 60, minutes % 60);
            format!(
                "{hours:02}:{minutes:02}:{:02}{point}{:03}",
                rest / 1000,
                rest % 1000
            )
        };
        for (part, number) in parts.iter().zip(1..) {
            if let Self::SubRip = self {
                out += &format!("{number}\n");
            }
            out += &format!(
                "{} --> {}\n{}\n\n",
                time(part.start),
                time(part.end),
                part.text
            );
        }
        out
    }
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

#[cfg(test)]
mod tests {
    use super::{Part, Subtitles};

    #[test]
    fn subtitles_have_the_times_of_their_format() {
        let part = |start, end, text: &str| Part {
            start,
            end,
            text: text.to_owned(),
        };
        let parts = [part(0.0, 5.96, "One."), part(3725.1, 3727.999, "Two?")];
        assert_eq!(
            Subtitles::SubRip.write(&parts),
            "1\n00:00:00,000 --> 00:00:05,960\nOne.\n\n2\n01:02:05,100 --> 01:02:07,999\nTwo?\n\n"
        );
        assert_eq!(
            Subtitles::WebVtt.write(&parts[..1]),
            "WEBVTT\n\n00:00:00.000 --> 00:00:05.960\nOne.\n\n"
        );
    }
}
