//! How a picture or a clip becomes the patches that a model reads.

use crate::examples::Thing;
use crate::provenance::Picture;
use crate::sounds::{Sound, to_f32, to_i16};
use crate::speech::read_wav;
use crate::task::Task;
use anyhow::{Context, Result, bail};
use attentive::integer::quantize_input;
use image::codecs::png::PngEncoder;
use image::imageops::{FilterType, resize};
use image::{ExtendedColorType, ImageEncoder};
use serde::Deserialize;
use std::path::Path;

/// The part of a record that this module reads.
#[derive(Deserialize)]
struct Record {
    picture: Option<Picture>,
    sound: Option<Sound>,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Frontend {
    /// Squares of a picture.
    Picture(Picture),
    /// Some frames of a clip's spectrum.
    Sound(Sound),
}

impl Frontend {
    /// A task's; none of texts.
    pub fn of(task: &Task) -> Option<Self> {
        let (pictures, sounds) = (&task.data.pictures, &task.data.sounds);
        let picture = pictures.as_ref().map(|pictures| pictures.record());
        let sound = sounds.as_ref().map(|sounds| sounds.sound);
        picture.map(Self::Picture).or(sound.map(Self::Sound))
    }

    /// The one that a weights file's record names.
    pub fn recorded(provenance: &str) -> Option<Self> {
        let Record { picture, sound } = toml::from_str(provenance).ok()?;
        picture.map(Self::Picture).or(sound.map(Self::Sound))
    }

    /// Whether it is of pictures or of sounds, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Picture(_) => "picture",
            Self::Sound(_) => "sound",
        }
    }

    /// A thing of a file: a picture, scaled to the size that the model reads and grey where the model is of grey ones; or
    /// a recording, fitted to a clip.
    ///
    /// # Errors
    /// When the file is none.
    pub fn read(&self, path: &Path) -> Result<Thing> {
        let picture = match self {
            Self::Sound(sound) => return Ok(Thing::Sound(to_i16(&sound.fitted(&read_wav(path)?)))),
            Self::Picture(picture) => picture,
        };
        let image = image::open(path).with_context(|| {
            let path = path.display();
            format!("{path} should be a picture: PNG, JPEG, or PGM")
        })?;
        let (width, height) = (picture.width as u32, picture.height as u32);
        Ok(Thing::Picture(match picture.channels {
            1 => resize(&image.to_luma8(), width, height, FilterType::Triangle).into_raw(),
            _ => resize(&image.to_rgb8(), width, height, FilterType::Triangle).into_raw(),
        }))
    }

    /// Columns and rows of patches.
    pub fn grid(&self) -> (usize, usize) {
        match self {
            Self::Picture(Picture {
                width,
                height,
                patch,
                ..
            }) => {
                let side = (*patch).max(1);
                (width / side, height / side)
            }
            Self::Sound(sound) => (sound.patches(), 1),
        }
    }

    /// What the patches show, as a PNG: the picture, or the spectrum with low tones below.
    ///
    /// # Errors
    /// When the thing is of another kind or size.
    pub fn png(&self, thing: &Thing) -> Result<Vec<u8>> {
        let (pixels, width, height, colour) = match (self, thing) {
            (Self::Picture(picture), Thing::Picture(pixels)) => {
                let colour = match picture.channels {
                    1 => ExtendedColorType::L8,
                    _ => ExtendedColorType::Rgb8,
                };
                (pixels.clone(), picture.width, picture.height, colour)
            }
            (Self::Sound(sound), thing) => {
                let values = self.cut(thing)?;
                let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let least = values.iter().copied().fold(f32::INFINITY, f32::min);
                let width = values.len() / sound.bins;
                let pixel = |at: usize| {
                    let (band, frame) = (sound.bins - 1 - at / width, at % width);
                    let level =
                        (values[frame * sound.bins + band] - least) / (most - least).max(1e-6);
                    (255.0 * level) as u8
                };
                let pixels = (0..values.len()).map(pixel).collect();
                (pixels, width, sound.bins, ExtendedColorType::L8)
            }
            _ => bail!("a model of pictures reads pictures, one of sounds reads sounds"),
        };
        let mut png = Vec::new();
        let encoder = PngEncoder::new(&mut png);
        encoder.write_image(&pixels, width as u32, height as u32, colour)?;
        Ok(png)
    }

    /// Patches of a thing.
    pub fn patches(&self) -> usize {
        match self {
            Self::Picture(picture) => picture.spec().patches(),
            Self::Sound(sound) => sound.patches(),
        }
    }

    /// Values of a patch.
    pub fn patch_len(&self) -> usize {
        match self {
            Self::Picture(picture) => picture.spec().patch_len(),
            Self::Sound(sound) => sound.patch_len(),
        }
    }

    /// The patches of a thing, `(patches, patch_len)`.
    ///
    /// # Errors
    /// When it has another size, or is of another kind.
    pub fn cut(&self, thing: &Thing) -> Result<Vec<f32>> {
        match (self, thing) {
            (Self::Picture(picture), Thing::Picture(pixels)) => picture.cut(pixels),
            (Self::Sound(sound), Thing::Sound(samples)) => sound.cut(&to_f32(samples)),
            _ => bail!("a model of pictures reads pictures, one of sounds reads sounds"),
        }
    }

    /// The same as levels of an integer model's input, as a device makes them.
    ///
    /// # Errors
    /// As [`Frontend::cut`].
    pub fn levels(&self, thing: &Thing, scale: f32) -> Result<Vec<i8>> {
        match (self, thing) {
            (Self::Sound(sound), Thing::Sound(samples)) => sound.levels(samples, scale),
            _ => {
                let patches = self.cut(thing)?;
                Ok(patches.iter().map(|&x| quantize_input(x, scale)).collect())
            }
        }
    }
}
