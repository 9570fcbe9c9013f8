//! Words spoken by synthetic voices, as clips to learn keywords from: espeak-ng's voices with its accents, and flite's.

use crate::files::write_atomically;
use crate::progress::{Progress, clock};
use crate::random::Random;
use crate::sounds::{noise, to_i16};
use crate::speech::{RATE, read_wav, resampled};
use anyhow::{Context, Result, anyhow, bail, ensure};
use hound::{SampleFormat, WavSpec, WavWriter};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is spoken, and how often.
#[derive(Clone, Debug)]
pub struct Request {
    /// Words, each a directory of clips.
    pub words: Vec<String>,
    /// Clips of each word by each voice.
    pub takes: usize,
    /// Clips of noise without a voice.
    pub noises: usize,
    /// Decides accents, speeds, pitches, rates.
    pub seed: u64,
}

/// Accents of English that espeak-ng has.
const ACCENTS: [&str; 8] = [
    "en-gb",
    "en-us",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-rp",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
];

/// Voices of flite that say any word.
const FLITE: [&str; 4] = ["kal16", "awb", "rms", "slt"];

/// Parts of names of espeak-ng's variants that are effects and not people.
const EFFECTS: [&str; 7] = [
    "demonic", "robo", "robot", "fast", "tweaky", "storm", "croak",
];

/// The directory of clips without a voice.
const SILENCE: &str = "_silence_";

#[derive(Clone, Debug)]
enum Voice {
    /// A variant.
    Espeak(String),
    Flite(&'static str),
}

impl Voice {
    fn name(&self) -> String {
        match self {
            Self::Espeak(variant) => format!("espeak-{}", variant.to_lowercase()),
            Self::Flite(voice) => format!("flite-{voice}"),
        }
    }

    /// Says a word into a WAV file.
    fn say(&self, word: &str, path: &Path, random: &mut Random) -> Result<()> {
        let (speed, pitch) = (random.unit(), random.unit());
        let mut command = match self {
            Self::Espeak(variant) => {
                let accent = ACCENTS[random.below(ACCENTS.len())];
                let mut command = Command::new("espeak-ng");
                command
                    .args(["-v", &format!("{accent}+{variant}")])
                    .args(["-s", &(120.0 + 90.0 * speed).round().to_string()])
                    .args(["-p", &(25.0 + 50.0 * pitch).round().to_string()])
                    .arg("-w")
                    .arg(path)
                    .arg(word);
                command
            }
            Self::Flite(voice) => {
                let mut command = Command::new("flite");
                command
                    .args(["-voice", voice])
                    .args([
                        "--setf",
                        &format!("duration_stretch={:.2}", 0.8 + 0.6 * speed),
                    ])
                    .args([
                        "--setf",
                        &format!("int_f0_target_mean={:.0}", 90.0 + 90.0 * pitch),
                    ])
                    .args(["-t", word, "-o"])
                    .arg(path);
                command
            }
        };
        run(&mut command)?;
        Ok(())
    }
}

fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| {
        format!("starting {program}: install it, with Debian by `apt-get install espeak-ng flite`")
    })?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}

/// All voices: espeak-ng's variants that are people, and flite's.
fn voices() -> Result<Vec<Voice>> {
    let output = run(Command::new("espeak-ng").arg("--voices=variant"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut out = Vec::new();
    for line in text.lines() {
        let variant = line
            .split_whitespace()
            .find_map(|part| part.strip_prefix("!v/"));
        let Some(variant) = variant else { continue };
        let small = variant.to_lowercase();
        if !EFFECTS.iter().any(|effect| small.contains(effect)) {
            out.push(Voice::Espeak(variant.to_owned()));
        }
    }
    ensure!(out.len() > 1, "espeak-ng names no variants of its voices");
    run(Command::new("flite").arg("-lv"))?;
    out.extend(FLITE.map(Voice::Flite));
    out.sort_by_key(Voice::name);
    out.dedup_by_key(|voice| voice.name());
    Ok(out)
}

/// A clip that is to be made.
struct Job {
    voice: Option<Voice>,
    word: String,
    name: String,
}

impl Job {
    /// The same whatever else is spoken (FNV-1a of the name).
    fn number(&self) -> u64 {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let bytes = self.word.bytes().chain([b'/']).chain(self.name.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, step)
    }
}

/// Speaks every word with every voice into `out/WORD/VOICE_TAKE.wav`; clips that are there already stay, so a call that
/// was stopped goes on. Every third clip is of telephone's bandwidth. Returns the number of voices and of clips.
///
/// # Errors
/// When a program is missing or fails, or a file cannot be written.
pub fn speak(request: &Request, out: &Path, stop: &AtomicBool) -> Result<(usize, usize)> {
    let plain = |c: char| c.is_ascii_lowercase();
    for word in &request.words {
        ensure!(
            !word.is_empty() && word.chars().all(plain),
            "a word should be of small letters, not {word:?}"
        );
    }
    let voices = voices()?;
    let mut jobs = Vec::new();
    for word in &request.words {
        std::fs::create_dir_all(out.join(word))?;
        for voice in &voices {
            for take in 0..request.takes {
                jobs.push(Job {
                    name: format!("{}_{take}.wav", voice.name()),
                    voice: Some(voice.clone()),
                    word: word.clone(),
                });
            }
        }
    }
    if request.noises > 0 {
        std::fs::create_dir_all(out.join(SILENCE))?;
    }
    // As many kinds of noise as there are voices, so that some are held out.
    jobs.extend((0..request.noises).map(|index| Job {
        name: format!("noise{}_{}.wav", index % voices.len(), index / voices.len()),
        voice: None,
        word: SILENCE.to_owned(),
    }));
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let (progress, start) = (Mutex::new(Progress::new()), Instant::now());
    let work = || {
        while let Some((index, job)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(index).map(|job| (index, job))
        } {
            let path = out.join(&job.word).join(&job.name);
            let random = Random::new(request.seed ^ job.number());
            let made = match stop.load(Ordering::Relaxed) {
                true => Err(anyhow!("stopped; the same command goes on from there")),
                false if path.exists() => Ok(()),
                false => make(job, &path, random).with_context(|| path.display().to_string()),
            };
            if let Err(error) = made {
                next.store(jobs.len(), Ordering::Relaxed);
                if let Ok(mut failed) = failed.lock() {
                    failed.get_or_insert(error);
                }
                return;
            }
            let done = (index + 1) as f64 / jobs.len() as f64;
            let spent = start.elapsed().as_secs_f64();
            let left = Duration::from_secs_f64(spent * (1.0 - done) / done);
            if let Ok(progress) = progress.lock() {
                let speed = (index + 1) as f64 / spent;
                let text = format!("{speed:.0} clips/s  {} left", clock(left));
                progress.share(done, &text);
                if (index + 1).is_multiple_of(jobs.len().div_ceil(10)) {
                    progress.line(&format!("{} of {} clips  {text}", index + 1, jobs.len()));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..crate::parallel::threads() {
            scope.spawn(work);
        }
        work();
    });
    if let Ok(progress) = progress.into_inner() {
        progress.end();
    }
    match failed.into_inner() {
        Ok(None) => Ok((voices.len(), jobs.len())),
        Ok(Some(error)) => Err(error),
        Err(_) => bail!("a thread stopped"),
    }
}

fn make(job: &Job, path: &Path, mut random: Random) -> Result<()> {
    let rate = match random.below(3) {
        0 => RATE / 2,
        _ => RATE,
    };
    let mut samples = match &job.voice {
        Some(voice) => {
            let raw = temporary(path);
            voice.say(&job.word, &raw, &mut random)?;
            let samples = read_wav(&raw);
            std::fs::remove_file(&raw)?;
            spoken(&samples?)?
        }
        None => {
            let level = 10f32.powf(-1.0 - 3.0 * random.unit() as f32);
            let redness = random.unit() as f32;
            let noise = noise(RATE as usize, redness, &mut random);
            noise.iter().map(|x| (x * level).clamp(-1.0, 1.0)).collect()
        }
    };
    if rate != RATE {
        samples = resampled(samples, RATE, rate)?;
    }
    let spec = WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec)?;
    for sample in to_i16(&samples) {
        writer.write_sample(sample)?;
    }
    writer.finalize()?;
    write_atomically(path, bytes.get_ref())
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.tmp", std::process::id()))
}

/// Without the silence around it, with a peak of a third.
fn spoken(samples: &[f32]) -> Result<Vec<f32>> {
    let peak = samples.iter().fold(0f32, |peak, x| peak.max(x.abs()));
    ensure!(peak > 0.0, "the voice says nothing");
    let loud = |x: &f32| x.abs() > 0.02 * peak;
    let first = samples.iter().position(loud).unwrap_or(0);
    let last = samples.iter().rposition(loud).unwrap_or(0);
    let scaled = samples[first..=last].iter().map(|x| x / peak / 3.0);
    Ok(scaled.collect())
}
