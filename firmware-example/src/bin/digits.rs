//! Recognizes handwritten digits: an encoder of patches, its weights in flash, and what a picture costs.
#![no_std]
#![no_main]

mod pictures;

use attentive::frontend::PatchSpec;
use attentive::kernels::Backend;
use attentive::{
    Arena, Encoder, EncoderOptions, Fit, Model, Needs, Sequential, SessionError, include_weights,
};
use cortex_m_rt::entry;
use defmt_semihosting as _;
use firmware_example::Failure;
use firmware_example::measure::{self, Instructions};
use firmware_example::request::LogitsHash;
use pictures::DIGITS;
use semihosting::process;

static MODEL: Model<'static> = include_weights!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/digits-int8.attn"
));

/// As the model was trained: `trainer/tasks/digits.toml`.
const PICTURE: PatchSpec = PatchSpec {
    height: 8,
    width: 8,
    channels: 1,
    patch: 2,
    mean: [0.3; 4],
    deviation: [0.38; 4],
};

/// The patches and the model's one token.
const OPTIONS: EncoderOptions = EncoderOptions::new(PICTURE.patches() + 1);

static ARENA: Arena<{ MODEL.encoder_bytes(&OPTIONS) }> = Arena::new();

struct Fitted;

impl Fit for Fitted {
    const NEEDS: Needs = MODEL.encoder_needs(&OPTIONS);
}

#[entry]
fn main() -> ! {
    match recognize() {
        Ok(()) => process::exit(0),
        Err(failure) => failure.exit(),
    }
}

fn recognize() -> Result<(), Failure> {
    let clock = Instructions::start()?;
    let memory = ARENA.take()?;
    let encoder_bytes = memory.len();
    let mut encoder =
        Encoder::<Sequential, Fitted>::fitted(&MODEL, &OPTIONS, memory, Backend::BASELINE)?;
    let mut logits = LogitsHash::EMPTY;
    let mut patches = [0.0; PICTURE.patches() * PICTURE.patch_len()];
    let mut right = 0;
    let mut instructions = 0;
    for (levels, digit) in &DIGITS {
        let pixels = levels.map(|level| (u32::from(level) * 255 / 16) as u8);
        let (run, spent) = clock.of(|| -> Result<(), SessionError> {
            // The sizes are those of the specification.
            let _ = PICTURE.cut(&pixels, &mut patches);
            encoder.run_patches(&patches)
        });
        run?;
        instructions += spent;
        let classes = encoder.classes()?;
        logits.add(classes);
        let found = highest(classes);
        right += u32::from(found == *digit);
        defmt::println!("digit {=usize}: {=usize}", *digit, found);
    }
    defmt::println!("logits: {=u64:016x}", logits.0);
    defmt::println!("right = {=u32}", right);
    let per_picture = instructions / DIGITS.len() as u64;
    defmt::println!("instructions_per_picture = {=u64}", per_picture);
    defmt::println!("flash_bytes = {=usize}", measure::flash_bytes());
    defmt::println!("weights_bytes = {=usize}", MODEL.bytes().len());
    defmt::println!("encoder_bytes = {=usize}", encoder_bytes);
    defmt::println!("static_bytes = {=usize}", measure::static_bytes());
    defmt::println!("stack_bytes = {=usize}", measure::stack_bytes());
    Ok(())
}

/// The place of the highest logit, of equals the first. The model's classes are the digits in their order.
fn highest(logits: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &logit) in logits.iter().enumerate() {
        if logit > best.1 {
            best = (index, logit);
        }
    }
    best.0
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
