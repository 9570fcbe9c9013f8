//! Puts marks and capitals into texts that have none: an encoder that tags words, its weights in flash, and what that costs.
#![no_std]
#![no_main]

use attentive::kernels::Backend;
use attentive::{Arena, Encoder, Fit, Model, Needs, Sequential, include_weights};
use defmt_semihosting as _;
use firmware_example::Failure;
use firmware_example::measure::{self, Instructions, Memory};
use firmware_example::processor::entry;
use firmware_example::request::LogitsHash;
use firmware_example::tasks::Marks;
use firmware_example::text::Text;
use semihosting::process;

static MODEL: Model<'static> = include_weights!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/marks-int8.attn"
));

static ARENA: Arena<{ MODEL.encoder_bytes(&Marks::OPTIONS) }> = Arena::new();

struct Fitted;

impl Fit for Fitted {
    const NEEDS: Needs = MODEL.encoder_needs(&Marks::OPTIONS);
}

#[entry]
fn main() -> ! {
    match tag() {
        Ok(()) => process::exit(0),
        Err(failure) => failure.exit(),
    }
}

fn tag() -> Result<(), Failure> {
    let clock = Instructions::start()?;
    let memory = ARENA.take()?;
    let bytes = memory.len();
    let (options, backend) = (&Marks::OPTIONS, Backend::BASELINE);
    let mut encoder = Encoder::<Sequential, Fitted>::fitted(&MODEL, options, memory, backend)?;
    let mut logits = LogitsHash::EMPTY;
    let (mut instructions, mut hashing) = (0, 0);
    for index in 0..Marks::TEXTS.len() {
        let mut text = Text::<256>::EMPTY;
        let add = |row: &[f32]| hashing += clock.of(|| logits.add(row)).1;
        let (run, spent) = clock.of(|| {
            Marks::run(index, &mut encoder, add, |piece| {
                text.push(piece.as_bytes())
            })
        });
        run?;
        instructions += spent;
        defmt::println!("{=str}", text.as_str());
    }
    defmt::println!("logits: {=u64:016x}", logits.0);
    // To hash the logits is no part of tagging.
    let each = instructions.saturating_sub(hashing) / Marks::TEXTS.len() as u64;
    defmt::println!("instructions_each = {=u64}", each);
    measure::print_sizes(MODEL.bytes(), Memory::Encoder(bytes));
    Ok(())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
