//! Puts marks and capitals into texts without a float: an encoder of the integer profile that tags words.
#![no_std]
#![no_main]

use attentive::integer::{Encoder, Fit, Model, Needs};
use attentive::kernels::Backend;
use attentive::{Aligned, ArenaTaken, include_integer_weights};
use defmt_semihosting as _;
use firmware_example::Failure;
use firmware_example::classifier::BUDGET;
use firmware_example::measure::{self, Instructions, Memory};
use firmware_example::processor::{entry, singleton};
use firmware_example::request::LogitsHash;
use firmware_example::tasks::Marks;
use firmware_example::text::Text;
use semihosting::process;

static MODEL: Model<'static> = include_integer_weights!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/marks-integer.attn"
));

const LEN: usize = Marks::OPTIONS.len;
const BYTES: usize = MODEL.encoder_bytes(LEN);

struct Fitted;

impl Fit for Fitted {
    const NEEDS: Needs = MODEL.encoder_needs();
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
    let mut encoder = Encoder::<Fitted>::fitted(&MODEL, LEN, memory, Backend::BASELINE)?;
    let mut logits = LogitsHash::EMPTY;
    let (mut instructions, mut hashing) = (0, 0);
    for index in 0..Marks::TEXTS.len() {
        let mut text = Text::<256>::EMPTY;
        let add = |row: &[i32]| {
            let hash = || logits.add_words(row.iter().map(|x| x.cast_unsigned()));
            hashing += clock.of(hash).1;
        };
        let each = |piece: &str| text.push(piece.as_bytes());
        let work = || Marks::run_integers(index, &mut encoder, BUDGET, add, each);
        let (run, spent) = clock.of(work);
        run?;
        instructions += spent;
        defmt::println!("{=str}", text.as_str());
    }
    defmt::println!("logits: {=u64:016x}", logits.0);
    // To hash the logits is no part of tagging.
    let each = instructions.saturating_sub(hashing) / Marks::TEXTS.len() as u64;
    defmt::println!("instructions_each = {=u64}", each);
    measure::print_sizes(MODEL.bytes(), Memory::Encoder(BYTES));
    Ok(())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
