//! Pictures as sequences of patches, which a vision transformer reads as tokens (Dosovitskiy et al. 2020).

use core::fmt;

/// The most channels of a picture.
const CHANNELS_MAX: usize = 4;

/// How a picture is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PatchSpec {
    /// Rows of the picture: a multiple of the patch's side.
    pub height: usize,
    /// Columns of the picture: a multiple of the patch's side.
    pub width: usize,
    /// Values of a pixel: 1 (grey) to 4. Those of a pixel lie side by side.
    pub channels: usize,
    /// Side of a patch in pixels.
    pub patch: usize,
    /// What is subtracted from each channel, whose values are 0 to 1.
    pub mean: [f32; CHANNELS_MAX],
    /// What each channel is then divided by: above 0.
    pub deviation: [f32; CHANNELS_MAX],
}

impl PatchSpec {
    /// Patches of a picture.
    pub const fn patches(&self) -> usize {
        match (
            self.height.checked_div(self.patch),
            self.width.checked_div(self.patch),
        ) {
            (Some(rows), Some(columns)) => rows * columns,
            _ => 0,
        }
    }

    /// Values of a patch.
    pub const fn patch_len(&self) -> usize {
        self.patch * self.patch * self.channels
    }

    /// Writes the patches of a picture, `(patches, patch_len)`, row by row of patches.
    ///
    /// `pixels` are `(height, width, channels)`. The values of a patch are ordered by channel, row, column, as those of
    /// a convolution's kernel in PyTorch's files are, so that a patch embedding is a product with these kernels.
    ///
    /// # Errors
    /// [`PatchError`] when the specification is impossible or a slice has another length.
    pub fn cut(&self, pixels: &[u8], out: &mut [f32]) -> Result<(), PatchError> {
        let positive = |x: &f32| x.is_normal() && *x > 0.0;
        if !self.deviation.iter().take(self.channels).all(positive) {
            return Err(PatchError::Spec {
                field: "deviation (above 0)",
            });
        }
        let normal =
            |channel: usize, x: u8| match self.mean.get(channel).zip(self.deviation.get(channel)) {
                Some((mean, deviation)) => normalized(x, *mean, *deviation),
                None => 0.0,
            };
        self.cut_as(pixels, out, normal)
    }

    /// The levels of a channel's values for a model of the integer profile, whose
    /// [`input_scale`](crate::integer::Model::input_scale) is `scale`: those that
    /// [`quantize_input`](crate::integer::quantize_input) makes of [`PatchSpec::cut`]'s. Computed while compiling, they
    /// spare the device all floats.
    ///
    /// ```
    /// use attentive::frontend::PatchSpec;
    ///
    /// const SPEC: PatchSpec = PatchSpec {
    ///     height: 2, width: 2, channels: 1, patch: 2, mean: [0.5; 4], deviation: [0.25; 4],
    /// };
    /// const LEVELS: [i8; 256] = SPEC.levels(0, 0.02);
    /// let mut patches = [0; 4];
    /// SPEC.cut_levels(&[LEVELS], &[0, 255, 128, 51], &mut patches)?;
    /// assert_eq!(patches, [-100, 100, 0, -60]);
    /// # Ok::<(), attentive::frontend::PatchError>(())
    /// ```
    pub const fn levels(&self, channel: usize, scale: f32) -> [i8; 256] {
        let mut levels = [0; 256];
        let mut x = 0;
        while x < 256 {
            // Beyond the four channels there is nothing.
            let channel = if channel < CHANNELS_MAX { channel } else { 0 };
            let steps = normalized(x as u8, self.mean[channel], self.deviation[channel]) / scale;
            // A cast cuts off and saturates.
            levels[x] = (if steps < 0.0 {
                steps - 0.5
            } else {
                steps + 0.5
            }) as i8;
            x += 1;
        }
        levels
    }

    /// As [`PatchSpec::cut`], by the levels of each channel.
    ///
    /// # Errors
    /// As [`PatchSpec::cut`], and for other than one table a channel.
    pub fn cut_levels(
        &self,
        levels: &[[i8; 256]],
        pixels: &[u8],
        out: &mut [i8],
    ) -> Result<(), PatchError> {
        length("levels", self.channels, levels.len())?;
        let level = |channel: usize, x: u8| {
            let level = levels
                .get(channel)
                .and_then(|levels| levels.get(x as usize));
            level.copied().unwrap_or(0)
        };
        self.cut_as(pixels, out, level)
    }

    fn cut_as<T>(
        &self,
        pixels: &[u8],
        out: &mut [T],
        value: impl Fn(usize, u8) -> T,
    ) -> Result<(), PatchError> {
        self.check()?;
        let (width, channels, side) = (self.width, self.channels, self.patch);
        length("pixels", self.height * width * channels, pixels.len())?;
        length("patches", self.height * width * channels, out.len())?;
        let columns = width.checked_div(side).unwrap_or(1).max(1);
        for (index, patch) in out.chunks_exact_mut(self.patch_len().max(1)).enumerate() {
            let row = index.checked_div(columns).unwrap_or(0);
            let column = index - row * columns;
            let channels_of_patch = patch.chunks_exact_mut((side * side).max(1));
            for (channel, plane) in channels_of_patch.enumerate() {
                for (y, line) in plane.chunks_exact_mut(side.max(1)).enumerate() {
                    let first = (row * side + y) * width + column * side;
                    let from = pixels.get(first * channels + channel..).unwrap_or(&[]);
                    for (to, x) in line.iter_mut().zip(from.iter().step_by(channels.max(1))) {
                        *to = value(channel, *x);
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), PatchError> {
        let wrong = |field| Err(PatchError::Spec { field });
        let is_multiple = |len: usize| len > 0 && len.is_multiple_of(self.patch);
        if self.patch == 0 {
            return wrong("patch (at least 1)");
        }
        if !is_multiple(self.height) {
            return wrong("height (a multiple of the patch)");
        }
        if !is_multiple(self.width) {
            return wrong("width (a multiple of the patch)");
        }
        if !(1..=CHANNELS_MAX).contains(&self.channels) {
            return wrong("channels (1 to 4)");
        }
        let pixels = self.height.checked_mul(self.width);
        if pixels
            .and_then(|pixels| pixels.checked_mul(self.channels))
            .is_none()
        {
            return wrong("size (more than memory can be)");
        }
        Ok(())
    }
}

/// A value of 0 to 255 with the mean taken off, in deviations.
const fn normalized(x: u8, mean: f32, deviation: f32) -> f32 {
    (x as f32 / 255.0 - mean) * (1.0 / deviation)
}

fn length(what: &'static str, need: usize, have: usize) -> Result<(), PatchError> {
    match need == have {
        true => Ok(()),
        false => Err(PatchError::Length { what, need, have }),
    }
}

/// What can go wrong between a picture and a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PatchError {
    /// A field of the [`PatchSpec`] is outside its limits.
    Spec {
        /// Its name and its limit.
        field: &'static str,
    },
    /// A slice has another length.
    Length {
        /// Which.
        what: &'static str,
        /// Elements needed.
        need: usize,
        /// Elements there.
        have: usize,
    },
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Spec { field } => write!(f, "patches of an impossible {field}"),
            Self::Length { what, need, have } => {
                write!(f, "{what}: {need} values are needed, {have} are there")
            }
        }
    }
}

impl core::error::Error for PatchError {}
