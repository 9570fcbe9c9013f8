//! How a picture or a clip becomes the patches that a model reads.

use crate::examples::Thing;
use crate::provenance::Picture;
use crate::sounds::{Sound, to_f32};
use crate::task::Task;
use anyhow::{Result, bail};
use attentive::Model;
use serde::Deserialize;

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
    pub fn recorded(model: &Model<'_>) -> Option<Self> {
        let Record { picture, sound } = toml::from_str(model.provenance()).ok()?;
        picture.map(Self::Picture).or(sound.map(Self::Sound))
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
}
