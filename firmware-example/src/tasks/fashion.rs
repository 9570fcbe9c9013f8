//! Pieces of clothing: the first of each class in Fashion-MNIST's test part.

use attentive::frontend::PatchSpec;
use attentive::{Encoder, EncoderOptions, Fit, Sequential, SessionError, integer};

use super::{Classifies, Inputs};

/// As `trainer/tasks/fashion.toml` has it.
const PICTURE: PatchSpec = PatchSpec {
    height: 28,
    width: 28,
    channels: 1,
    patch: 4,
    mean: [0.286; 4],
    deviation: [0.353; 4],
};

/// Which piece of clothing a picture of 28 by 28 pixels shows.
pub struct Fashion;

/// Bytes before the pixels of a PGM file of this size.
const HEADER: usize = b"P5 28 28 255\n".len();

/// In the order of the labels.
const PICTURES: [&[u8; HEADER + 28 * 28]; 10] = [
    include_bytes!("../../inputs/fashion-bag.pgm"),
    include_bytes!("../../inputs/fashion-boot.pgm"),
    include_bytes!("../../inputs/fashion-coat.pgm"),
    include_bytes!("../../inputs/fashion-dress.pgm"),
    include_bytes!("../../inputs/fashion-pullover.pgm"),
    include_bytes!("../../inputs/fashion-sandal.pgm"),
    include_bytes!("../../inputs/fashion-shirt.pgm"),
    include_bytes!("../../inputs/fashion-sneaker.pgm"),
    include_bytes!("../../inputs/fashion-t-shirt.pgm"),
    include_bytes!("../../inputs/fashion-trousers.pgm"),
];

impl Classifies for Fashion {
    /// The patches and the model's one token.
    const OPTIONS: EncoderOptions = EncoderOptions::new(PICTURE.patches() + 1);
    const LABELS: &'static [&'static str] = &[
        "bag", "boot", "coat", "dress", "pullover", "sandal", "shirt", "sneaker", "t-shirt",
        "trousers",
    ];
    const PICTURE: Option<PatchSpec> = Some(PICTURE);
    const COUNT: usize = PICTURES.len();

    fn name(_: usize) -> &'static str {
        "picture"
    }

    fn wanted(index: usize) -> &'static str {
        Self::LABELS[index]
    }

    fn run<F: Fit>(
        index: usize,
        encoder: &mut Encoder<'_, Sequential, F>,
    ) -> Result<(), SessionError> {
        let mut patches = [0.0; PICTURE.patches() * PICTURE.patch_len()];
        // The sizes are those of the specification.
        let _ = PICTURE.cut(&PICTURES[index][HEADER..], &mut patches);
        encoder.run_patches(&patches)
    }

    fn begin<F: integer::Fit>(
        index: usize,
        inputs: Inputs<'_>,
        encoder: &mut integer::Encoder<'_, F>,
    ) -> Result<(), SessionError> {
        let mut patches = [0; PICTURE.patches() * PICTURE.patch_len()];
        // The sizes are those of the specification.
        let _ = PICTURE.cut_levels(
            core::slice::from_ref(inputs.pixels),
            &PICTURES[index][HEADER..],
            &mut patches,
        );
        encoder.begin_patches(&patches)
    }
}
