//! Translates sentences without a float: an encoder–decoder of the integer profile.
#![no_std]
#![no_main]

use attentive::integer::{Fit, Model, Needs, Session};
use attentive::kernels::Backend;
use attentive::{Aligned, ArenaTaken, include_integer_weights};
use defmt_semihosting as _;
use firmware_example::Failure;
use firmware_example::classifier::BUDGET;
use firmware_example::measure::{self, Instructions, Memory};
use firmware_example::processor::{entry, singleton};
use firmware_example::request::LogitsHash;
use firmware_example::tasks::Translation;
use firmware_example::text::Text;
use semihosting::process;

static MODEL: Model<'static> = include_integer_weights!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/translation-integer.attn"
));

const BYTES: usize = MODEL.session_bytes(&Translation::INTEGER_OPTIONS);

struct Fitted;

impl Fit for Fitted {
    const NEEDS: Needs = MODEL.needs(&Translation::INTEGER_OPTIONS);
}

#[entry]
fn main() -> ! {
    match run() {
        Ok(()) => process::exit(0),
        Err(failure) => failure.exit(),
    }
}

fn run() -> Result<(), Failure> {
    let clock = Instructions::start()?;
    let memory = singleton!(: Aligned<[u8; BYTES]> = Aligned([0; BYTES]));
    let memory = &mut memory.ok_or(ArenaTaken)?.0;
    let options = &Translation::INTEGER_OPTIONS;
    let mut session = Session::<Fitted>::fitted(&MODEL, options, memory, Backend::BASELINE)?;
    let mut logits = LogitsHash::EMPTY;
    let mut tokens = 0u32;
    let (mut instructions, mut hashing) = (0, 0);
    for (index, sentence) in Translation::SENTENCES.iter().enumerate() {
        let mut text = Text::<256>::EMPTY;
        let each = |piece: &[u8], row: &[i32]| {
            let hash = || logits.add_words(row.iter().map(|x| x.cast_unsigned()));
            hashing += clock.of(hash).1;
            tokens += 1;
            text.push(piece);
        };
        let work = || Translation::run_integers(index, &mut session, BUDGET, each);
        let (run, spent) = clock.of(work);
        run?;
        instructions += spent;
        defmt::println!("{=str} {=str}", *sentence, text.as_str());
    }
    defmt::println!("logits: {=u64:016x}", logits.0);
    defmt::println!("tokens = {=u32}", tokens);
    // To hash the logits is no part of translating.
    let per_token = instructions.saturating_sub(hashing) / u64::from(tokens.max(1));
    defmt::println!("instructions_per_token = {=u64}", per_token);
    measure::print_sizes(MODEL.bytes(), Memory::Session(BYTES));
    Ok(())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
