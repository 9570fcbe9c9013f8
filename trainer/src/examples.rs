//! Labelled examples: loading them, what is held out, and batches of them.

use crate::batches::{Batch, Deck};
use crate::frontend::Frontend;
use crate::random::Random;
use crate::sounds::{Clip, Sounds};
use crate::task::{Data, Pictures, Task};
use crate::texts::wrap;
use crate::vocabulary::Vocabulary;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::HashSet;
use std::path::Path;

/// What is told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Thing {
    /// A text.
    Text(String),
    /// Pixels of a picture, row by row.
    Picture(Vec<u8>),
    /// Samples of a clip.
    Sound(Vec<i16>),
}

/// A thing and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The thing.
    pub thing: Thing,
    /// Place of its class's name.
    pub class: u32,
}

/// Examples in three parts, none of which shares a thing with another.
#[derive(Clone, Debug)]
pub struct Examples {
    /// Names of the classes.
    pub labels: Vec<String>,
    /// What the model learns from.
    pub train: Vec<Example>,
    /// What decides when to stop.
    pub validation: Vec<Example>,
    /// What no training sees.
    pub test: Vec<Example>,
}

/// Decides which examples are held out, whatever the seed of the training.
const SPLIT_SEED: u64 = 0x5eed;

impl Examples {
    /// Reads a task's examples and splits them. Of equal things the first counts.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else, or its classes are not as many as the model's.
    pub fn load(task: &Task) -> Result<Self> {
        let mut held = Vec::new();
        let data = &task.data;
        if let Some(sounds) = &data.sounds {
            return Self::of_sounds(sounds, task);
        }
        let (source, rows) = match (&data.sentences, &data.pictures, &data.stories) {
            (Some(path), ..) => (path.display().to_string(), sentences(path)?),
            (_, _, Some(stories)) => {
                let row = |(text, answer)| (answer, Thing::Text(text));
                let rows = stories.examples().into_iter().map(row).collect();
                ("the task's stories".to_owned(), rows)
            }
            (_, Some(pictures), _) => {
                if let (Some(file), Some(labels)) = (&pictures.test_file, &pictures.test_labels) {
                    held = idx_rows(pictures, file, labels)?;
                }
                let rows = match &pictures.labels {
                    Some(labels) => idx_rows(pictures, &pictures.file, labels)?,
                    None => pixels(pictures)?,
                };
                (pictures.file.display().to_string(), rows)
            }
            _ => bail!("the task has no labelled examples"),
        };
        let mut labels = Labels::new(&rows, task.model.classes, &source)?;
        // The test first: what is in both is not trained on.
        let mut test_file = labels.distinct(held)?;
        let [train, validation, mut test] = split(labels.distinct(rows)?, data)?;
        test.append(&mut test_file);
        Ok(Self {
            labels: labels.names,
            train,
            validation,
            test,
        })
    }
}

impl Examples {
    /// Clips, of which whole speakers are held out.
    fn of_sounds(sounds: &Sounds, task: &Task) -> Result<Self> {
        let row = |clip: Clip| (clip.class, Thing::Sound(clip.samples));
        let parts = sounds.split(&task.data)?;
        let [train, validation, test] =
            parts.map(|clips| clips.into_iter().map(row).collect::<Vec<_>>());
        let source = sounds.directory.display().to_string();
        let mut labels = Labels::new(&train, task.model.classes, &source)?;
        Ok(Self {
            test: labels.distinct(test)?,
            validation: labels.distinct(validation)?,
            train: labels.distinct(train)?,
            labels: labels.names,
        })
    }
}

/// Names of classes, and the things that have one.
struct Labels {
    names: Vec<String>,
    seen: HashSet<Thing>,
}

impl Labels {
    /// The names in rows of `source`.
    fn new(rows: &[(String, Thing)], classes: usize, source: &str) -> Result<Self> {
        let mut names: Vec<String> = rows.iter().map(|(label, _)| label.clone()).collect();
        names.sort();
        names.dedup();
        ensure!(
            names.len() == classes,
            "{source} holds {} classes, the model has {classes}",
            names.len()
        );
        let seen = HashSet::new();
        Ok(Self { names, seen })
    }

    /// The rows whose thing was not seen before.
    fn distinct(&mut self, rows: Vec<(String, Thing)>) -> Result<Vec<Example>> {
        let mut out = Vec::new();
        for (label, thing) in rows {
            let class = self.names.binary_search(&label);
            let class = class.map_err(|_| anyhow!("the test has another class: {label:?}"))?;
            if self.seen.insert(thing.clone()) {
                let class = class as u32;
                out.push(Example { thing, class });
            }
        }
        Ok(out)
    }
}

/// What is trained on, what decides when to stop, and what no training sees.
///
/// # Errors
/// When nothing is left to train on.
pub(crate) fn split<T>(mut all: Vec<T>, data: &Data) -> Result<[Vec<T>; 3]> {
    Random::new(SPLIT_SEED).shuffle(&mut all);
    let share = |share: f64| (all.len() as f64 * share).ceil() as usize;
    let (test, validation) = (share(data.test_share), share(data.validation_share));
    let test = all.split_off(all.len().saturating_sub(test));
    let validation = all.split_off(all.len().saturating_sub(validation));
    ensure!(
        !all.is_empty(),
        "the data holds too few examples to hold some out"
    );
    Ok([all, validation, test])
}

/// Lines of a label, a tab and a text.
fn sentences(path: &Path) -> Result<Vec<(String, Thing)>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the sentences in {}", path.display()))?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let row = line.split_once('\t');
        let row = row.filter(|(label, text)| !label.is_empty() && !text.trim().is_empty());
        let (label, text) = row.with_context(|| {
            format!(
                "{}, line {}: a label, a tab and a text should stand here",
                path.display(),
                index + 1
            )
        })?;
        rows.push((label.to_owned(), Thing::Text(text.trim().to_owned())));
    }
    Ok(rows)
}

/// Lines of pixels and a label, separated by commas.
fn pixels(pictures: &Pictures) -> Result<Vec<(String, Thing)>> {
    let path = &pictures.file;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading the pictures in {}", path.display()))?;
    let need = pictures.height * pictures.width;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let row = || -> Option<(String, Thing)> {
            let (values, label) = line.rsplit_once(',')?;
            let level = |value: &str| {
                let level: u32 = value.trim().parse().ok()?;
                let level = (level <= pictures.levels).then_some(level)?;
                Some((level * 255 / pictures.levels) as u8)
            };
            let pixels: Option<Vec<u8>> = values.split(',').map(level).collect();
            let pixels = pixels.filter(|pixels| pixels.len() == need)?;
            Some((label.trim().to_owned(), Thing::Picture(pixels)))
        };
        rows.push(row().with_context(|| {
            format!(
                "{}, line {}: {need} numbers from 0 to {} and a label should stand here, with commas between them",
                path.display(),
                index + 1,
                pictures.levels
            )
        })?);
    }
    Ok(rows)
}

/// Pictures and labels of two IDX files.
fn idx_rows(pictures: &Pictures, file: &Path, labels: &Path) -> Result<Vec<(String, Thing)>> {
    let (height, width) = (pictures.height, pictures.width);
    let things = idx(file, &[height, width])?;
    let labels = idx(labels, &[])?;
    let count = things.len() / (height * width);
    ensure!(
        count == labels.len(),
        "{} holds {count} pictures, but there are {} labels",
        file.display(),
        labels.len()
    );
    let name = |label: &u8| match &pictures.names {
        Some(names) => {
            let name = names.get(usize::from(*label)).cloned();
            name.with_context(|| format!("the label {label} has no name"))
        }
        None => Ok(label.to_string()),
    };
    let things = things.chunks_exact(height * width);
    let row = |(thing, label): (&[u8], &u8)| Ok((name(label)?, Thing::Picture(thing.to_vec())));
    things.zip(&labels).map(row).collect()
}

/// The bytes of an IDX file whose items have those dimensions.
fn idx(path: &Path, dims: &[usize]) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let values = || -> Option<Vec<u8>> {
        // Two zeros, 8 for unsigned bytes, the number of dimensions, then these.
        let ([0, 0, 8, rank], mut rest) = bytes.split_first_chunk::<4>()? else {
            return None;
        };
        let mut have = Vec::new();
        for _ in 0..*rank {
            let (dim, after) = rest.split_first_chunk::<4>()?;
            have.push(u32::from_be_bytes(*dim) as usize);
            rest = after;
        }
        let (count, item) = have.split_first()?;
        let whole = count.checked_mul(dims.iter().product())? == rest.len();
        (item == dims && whole).then(|| rest.to_vec())
    };
    values().with_context(|| {
        format!(
            "{} should be an IDX file of bytes, (items{}); unpack it if it is compressed",
            path.display(),
            dims.iter()
                .map(|dim| format!(", {dim}"))
                .collect::<String>()
        )
    })
}

/// What the model reads of an example, and its class.
#[derive(Clone, Debug, PartialEq)]
enum Reads {
    Tokens(Vec<u32>),
    /// As it is: varied when it is trained on.
    Thing(Thing),
}

/// Examples as the model reads them.
#[derive(Clone, Debug)]
pub struct Encoded {
    examples: Vec<(Reads, u32)>,
    frontend: Option<Frontend>,
    variation: Variation,
    /// Tokens of the longest.
    pub longest: usize,
    /// Texts that were cut to the model's context.
    pub cut: usize,
}

/// What is varied about an example when it is trained on.
#[derive(Clone, Debug)]
enum Variation {
    None,
    /// A picture of that width is moved by up to so many pixels.
    Shift {
        by: usize,
        width: usize,
    },
    /// A clip is recorded otherwise.
    Sound(Box<Sounds>),
}

impl Encoded {
    /// Encodes some examples; texts are cut to the model's context.
    ///
    /// # Errors
    /// When a text has no tokens, or the tokenizer fails.
    pub fn new(task: &Task, examples: &[Example], vocabulary: Option<&Vocabulary>) -> Result<Self> {
        let frontend = Frontend::of(task);
        let variation = match (&task.data.pictures, &task.data.sounds) {
            (Some(pictures), _) => Variation::Shift {
                by: pictures.shift,
                width: pictures.width,
            },
            (_, Some(sounds)) => Variation::Sound(Box::new(sounds.clone())),
            _ => Variation::None,
        };
        let mut out = Self {
            examples: Vec::new(),
            frontend,
            variation,
            longest: frontend.map_or(0, |frontend| frontend.patches() + 1),
            cut: 0,
        };
        for Example { thing, class } in examples {
            let reads = match (thing, vocabulary) {
                (Thing::Text(text), Some(vocabulary)) => {
                    let tokens = vocabulary.encode(text)?;
                    ensure!(!tokens.is_empty(), "{text:?} has no tokens");
                    let most = task.model.context_len;
                    let (tokens, is_cut) = wrap(&vocabulary.template()?, tokens, most);
                    out.cut += usize::from(is_cut);
                    out.longest = out.longest.max(tokens.len());
                    Reads::Tokens(tokens)
                }
                (Thing::Text(_), None) => bail!("texts need a vocabulary"),
                (thing, _) => Reads::Thing(thing.clone()),
            };
            out.examples.push((reads, *class));
        }
        Ok(out)
    }

    /// All of them in order, `micro` a batch.
    ///
    /// # Errors
    /// When a picture or a clip has another size.
    pub fn batches(&self, micro: usize) -> Result<Vec<Batch>> {
        let of = |examples: &[(Reads, u32)]| {
            let mut batch = Batch::default();
            for example in examples {
                self.add(example, None, &mut batch)?;
            }
            Ok(batch)
        };
        self.examples.chunks(micro).map(of).collect()
    }

    /// Appends an example to a batch, varied by the random numbers, if there are any.
    fn add(
        &self,
        (reads, class): &(Reads, u32),
        random: Option<&mut Random>,
        batch: &mut Batch,
    ) -> Result<()> {
        batch.targets.push(*class);
        match (reads, &self.frontend) {
            (Reads::Thing(thing), Some(frontend)) => {
                let mut patches = match random {
                    Some(random) => self.varied(thing, frontend, random)?,
                    None => frontend.cut(thing)?,
                };
                batch.patches.append(&mut patches);
                let tokens = frontend.patches() + 1;
                batch.lens.push(tokens);
                batch.inputs.extend(std::iter::repeat_n(0, tokens));
            }
            (Reads::Tokens(tokens), _) => {
                batch.lens.push(tokens.len());
                batch.inputs.extend(tokens);
            }
            (Reads::Thing(_), None) => bail!("pictures and sounds need to be cut"),
        }
        Ok(())
    }

    fn varied(&self, thing: &Thing, frontend: &Frontend, random: &mut Random) -> Result<Vec<f32>> {
        match (&self.variation, thing) {
            (Variation::Shift { by, width }, Thing::Picture(pixels)) => {
                let mut by = || random.below(2 * by + 1) as i64 - *by as i64;
                let by = [by(), by()];
                frontend.cut(&Thing::Picture(moved(pixels, *width, by)))
            }
            (Variation::Sound(sounds), Thing::Sound(samples)) => sounds.varied(samples, random),
            _ => frontend.cut(thing),
        }
    }
}

/// The picture moved down and to the right; what comes in is black.
fn moved(pixels: &[u8], width: usize, [down, right]: [i64; 2]) -> Vec<u8> {
    let height = pixels.len() / width;
    let from = |place: usize, by: i64, len: usize| {
        let from = usize::try_from(place as i64 - by).ok()?;
        (from < len).then_some(from)
    };
    let at = |index: usize| {
        let row = from(index / width, down, height)?;
        let column = from(index % width, right, width)?;
        pixels.get(row * width + column).copied()
    };
    (0..pixels.len())
        .map(|index| at(index).unwrap_or(0))
        .collect()
}

impl Deck for Encoded {
    fn len(&self) -> usize {
        self.examples.len()
    }

    fn is_slow(&self) -> bool {
        matches!(self.variation, Variation::Sound(_))
    }

    /// A picture is moved, a clip recorded otherwise.
    fn deal(&self, index: usize, random: &mut Random, batch: &mut Batch) -> Result<()> {
        self.add(&self.examples[index], Some(random), batch)
    }
}
