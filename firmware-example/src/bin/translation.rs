//! Translates sentences: an encoder–decoder, its weights in flash, its memory in one static arena, and what that costs.
#![no_std]
#![no_main]

use attentive::kernels::Backend;
use attentive::{Arena, Fit, Model, Needs, Sequential, Session, include_weights};
use defmt_semihosting as _;
use firmware_example::Failure;
use firmware_example::measure::{self, Instructions, Memory};
use firmware_example::processor::entry;
use firmware_example::request::LogitsHash;
use firmware_example::tasks::Translation;
use firmware_example::text::Text;
use semihosting::process;

static MODEL: Model<'static> = include_weights!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/translation-int8.attn"
));

static ARENA: Arena<{ MODEL.session_bytes(&Translation::OPTIONS) }> = Arena::new();

struct Fitted;

impl Fit for Fitted {
    const NEEDS: Needs = MODEL.needs(&Translation::OPTIONS);
}

#[entry]
fn main() -> ! {
    match translate() {
        Ok(()) => process::exit(0),
        Err(failure) => failure.exit(),
    }
}

fn translate() -> Result<(), Failure> {
    let clock = Instructions::start()?;
    let memory = ARENA.take()?;
    let session_bytes = memory.len();
    let (options, backend) = (&Translation::OPTIONS, Backend::BASELINE);
    let mut session = Session::<Sequential, Fitted>::fitted(&MODEL, options, memory, backend)?;
    let mut logits = LogitsHash::EMPTY;
    let (mut instructions, mut hashing) = (0, 0);
    let mut tokens = 0u32;
    for (index, sentence) in Translation::SENTENCES.iter().enumerate() {
        let mut text = Text::<256>::EMPTY;
        let each = |piece: &[u8], row: &[f32]| {
            hashing += clock.of(|| logits.add(row)).1;
            tokens += 1;
            text.push(piece);
        };
        let (run, spent) = clock.of(|| Translation::run(index, &mut session, each));
        run?;
        instructions += spent;
        defmt::println!("{=str} {=str}", *sentence, text.as_str());
    }
    defmt::println!("logits: {=u64:016x}", logits.0);
    defmt::println!("tokens = {=u32}", tokens);
    // To hash the logits is no part of translating.
    let per_token = instructions.saturating_sub(hashing) / u64::from(tokens.max(1));
    defmt::println!("instructions_per_token = {=u64}", per_token);
    measure::print_sizes(MODEL.bytes(), Memory::Session(session_bytes));
    Ok(())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
