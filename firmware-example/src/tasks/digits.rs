//! Handwritten digits: the last twelve of `data/digits.csv`.

use attentive::frontend::PatchSpec;
use attentive::{Encoder, EncoderOptions, Fit, Sequential, SessionError, integer};

use super::{Classifies, Inputs};

/// As `trainer/tasks/digits.toml` has it.
const PICTURE: PatchSpec = PatchSpec {
    height: 8,
    width: 8,
    channels: 1,
    patch: 2,
    mean: [0.3; 4],
    deviation: [0.38; 4],
};

/// Which digit a picture of 8 by 8 pixels is.
pub struct Digits;

impl Classifies for Digits {
    /// The patches and the model's one token.
    const OPTIONS: EncoderOptions = EncoderOptions::new(PICTURE.patches() + 1);
    const LABELS: &'static [&'static str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    const PICTURE: Option<PatchSpec> = Some(PICTURE);
    const COUNT: usize = DIGITS.len();

    fn name(_: usize) -> &'static str {
        "digit"
    }

    fn wanted(index: usize) -> &'static str {
        Self::LABELS[DIGITS[index].1]
    }

    fn run<F: Fit>(
        index: usize,
        encoder: &mut Encoder<'_, Sequential, F>,
    ) -> Result<(), SessionError> {
        let pixels = pixels(index);
        let mut patches = [0.0; PICTURE.patches() * PICTURE.patch_len()];
        // The sizes are those of the specification.
        let _ = PICTURE.cut(&pixels, &mut patches);
        encoder.run_patches(&patches)
    }

    fn begin<F: integer::Fit>(
        index: usize,
        inputs: Inputs<'_>,
        encoder: &mut integer::Encoder<'_, F>,
    ) -> Result<(), SessionError> {
        let pixels = pixels(index);
        let mut patches = [0; PICTURE.patches() * PICTURE.patch_len()];
        // The sizes are those of the specification.
        let _ = PICTURE.cut_levels(core::slice::from_ref(inputs.pixels), &pixels, &mut patches);
        encoder.begin_patches(&patches)
    }
}

/// Of 0 to 255.
fn pixels(index: usize) -> [u8; 64] {
    DIGITS[index]
        .0
        .map(|level| (u32::from(level) * 255 / 16) as u8)
}

/// Pixels, row by row, 0 to 16; and the digit.
const DIGITS: [([u8; 64], usize); 12] = [
    (
        [
            0, 1, 10, 16, 15, 2, 0, 0, 0, 1, 12, 13, 16, 4, 0, 0, 0, 0, 0, 0, 16, 8, 0, 0, 0, 0, 7,
            11, 16, 13, 8, 0, 0, 8, 16, 16, 16, 16, 6, 0, 0, 2, 10, 16, 9, 0, 0, 0, 0, 0, 3, 16, 4,
            0, 0, 0, 0, 0, 10, 15, 2, 0, 0, 0,
        ],
        7,
    ),
    (
        [
            0, 0, 4, 14, 15, 6, 0, 0, 0, 5, 16, 16, 16, 16, 0, 0, 0, 5, 16, 16, 16, 16, 3, 0, 0, 0,
            2, 8, 13, 16, 5, 0, 0, 0, 0, 0, 8, 16, 6, 0, 0, 0, 0, 0, 4, 16, 8, 0, 0, 0, 1, 6, 13,
            16, 6, 0, 0, 0, 4, 13, 15, 9, 0, 0,
        ],
        9,
    ),
    (
        [
            0, 0, 10, 16, 15, 1, 0, 0, 0, 0, 16, 12, 5, 0, 0, 0, 0, 2, 16, 9, 4, 0, 0, 0, 0, 4, 16,
            16, 16, 14, 2, 0, 0, 1, 10, 4, 1, 16, 4, 0, 0, 0, 0, 0, 2, 16, 7, 0, 0, 0, 7, 8, 14,
            16, 3, 0, 0, 0, 6, 13, 10, 4, 0, 0,
        ],
        5,
    ),
    (
        [
            0, 0, 0, 1, 12, 6, 0, 0, 0, 0, 0, 11, 15, 2, 0, 0, 0, 0, 8, 16, 6, 1, 2, 0, 0, 4, 16,
            9, 1, 15, 9, 0, 0, 13, 15, 6, 10, 16, 6, 0, 0, 12, 16, 16, 16, 16, 1, 0, 0, 1, 7, 4,
            14, 13, 0, 0, 0, 0, 0, 0, 14, 9, 0, 0,
        ],
        4,
    ),
    (
        [
            0, 0, 8, 16, 3, 0, 1, 0, 0, 0, 16, 14, 5, 14, 12, 0, 0, 0, 8, 16, 16, 9, 0, 0, 0, 0, 3,
            16, 14, 1, 0, 0, 0, 0, 12, 16, 16, 2, 0, 0, 0, 0, 16, 11, 16, 4, 0, 0, 0, 3, 16, 16,
            16, 6, 0, 0, 0, 0, 10, 16, 10, 1, 0, 0,
        ],
        8,
    ),
    (
        [
            0, 0, 5, 12, 8, 0, 1, 0, 0, 0, 11, 16, 5, 13, 6, 0, 0, 0, 2, 15, 16, 12, 1, 0, 0, 0, 0,
            10, 16, 6, 0, 0, 0, 0, 1, 15, 16, 7, 0, 0, 0, 0, 8, 16, 16, 11, 0, 0, 0, 0, 11, 16, 16,
            9, 0, 0, 0, 0, 6, 12, 12, 3, 0, 0,
        ],
        8,
    ),
    (
        [
            0, 0, 0, 3, 15, 4, 0, 0, 0, 0, 4, 16, 12, 0, 0, 0, 0, 0, 12, 15, 3, 4, 3, 0, 0, 7, 16,
            5, 3, 15, 8, 0, 0, 13, 16, 13, 15, 16, 2, 0, 0, 12, 16, 16, 16, 13, 0, 0, 0, 0, 4, 5,
            16, 8, 0, 0, 0, 0, 0, 1, 16, 4, 0, 0,
        ],
        4,
    ),
    (
        [
            0, 0, 4, 10, 13, 6, 0, 0, 0, 1, 16, 14, 12, 16, 3, 0, 0, 4, 16, 6, 3, 16, 4, 0, 0, 0,
            12, 16, 16, 16, 5, 0, 0, 0, 0, 4, 4, 16, 8, 0, 0, 0, 0, 0, 0, 15, 5, 0, 0, 0, 5, 7, 7,
            16, 4, 0, 0, 0, 2, 14, 15, 9, 0, 0,
        ],
        9,
    ),
    (
        [
            0, 0, 6, 16, 13, 11, 1, 0, 0, 0, 16, 15, 12, 16, 1, 0, 0, 3, 16, 7, 0, 13, 6, 0, 0, 4,
            16, 0, 0, 10, 8, 0, 0, 8, 16, 0, 0, 14, 6, 0, 0, 5, 16, 7, 9, 16, 5, 0, 0, 1, 15, 16,
            16, 16, 1, 0, 0, 0, 6, 16, 14, 6, 0, 0,
        ],
        0,
    ),
    (
        [
            0, 0, 1, 11, 15, 1, 0, 0, 0, 0, 13, 16, 8, 2, 1, 0, 0, 0, 16, 15, 10, 16, 5, 0, 0, 0,
            8, 16, 16, 7, 0, 0, 0, 0, 9, 16, 16, 4, 0, 0, 0, 0, 16, 14, 16, 15, 0, 0, 0, 0, 15, 15,
            15, 16, 0, 0, 0, 0, 2, 9, 13, 6, 0, 0,
        ],
        8,
    ),
    (
        [
            0, 0, 2, 10, 7, 0, 0, 0, 0, 0, 14, 16, 16, 15, 1, 0, 0, 4, 16, 7, 3, 16, 7, 0, 0, 5,
            16, 10, 7, 16, 4, 0, 0, 0, 5, 14, 14, 16, 4, 0, 0, 0, 0, 0, 0, 16, 2, 0, 0, 0, 4, 7, 7,
            16, 2, 0, 0, 0, 5, 12, 16, 12, 0, 0,
        ],
        9,
    ),
    (
        [
            0, 0, 10, 14, 8, 1, 0, 0, 0, 2, 16, 14, 6, 1, 0, 0, 0, 0, 15, 15, 8, 15, 0, 0, 0, 0, 5,
            16, 16, 10, 0, 0, 0, 0, 12, 15, 15, 12, 0, 0, 0, 4, 16, 6, 4, 16, 6, 0, 0, 8, 16, 10,
            8, 16, 8, 0, 0, 1, 8, 12, 14, 12, 1, 0,
        ],
        8,
    ),
];
