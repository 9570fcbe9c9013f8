//! Generates text without a float: a decoder of the integer profile.
#![no_std]
#![no_main]

use attentive::integer::{Model, Session};
use attentive::kernels::Backend;
use attentive::{Aligned, ArenaTaken, include_integer_weights};
use cortex_m_rt::entry;
use defmt_semihosting as _;
use firmware_example::Failure;
use firmware_example::classifier::BUDGET;
use firmware_example::measure::{self, Instructions, Memory};
use firmware_example::request::LogitsHash;
use firmware_example::tasks::Writing;
use semihosting::process;

static MODEL: Model<'static> = include_integer_weights!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/austen-1m-integer.attn"
));

const BYTES: usize = MODEL.session_bytes(&Writing::OPTIONS);

#[entry]
fn main() -> ! {
    match run() {
        Ok(()) => process::exit(0),
        Err(failure) => failure.exit(),
    }
}

fn run() -> Result<(), Failure> {
    let clock = Instructions::start()?;
    let memory = cortex_m::singleton!(: Aligned<[u8; BYTES]> = Aligned([0; BYTES]));
    let memory = &mut memory.ok_or(ArenaTaken)?.0;
    let options = &Writing::OPTIONS;
    let mut session = Session::new(&MODEL, options, memory, Backend::BASELINE)?;
    let mut logits = LogitsHash::EMPTY;
    let mut tokens = 0u32;
    defmt::println!("prompt: {=str}", Writing::PROMPT);
    let each = |piece: &[u8], row: &[i32]| {
        logits.add_words(row.iter().map(|x| x.cast_unsigned()));
        tokens += 1;
        defmt::println!("token {=[u8]:a}", piece);
    };
    let (begun, reading) = clock.of(|| Writing::begin(&mut session, BUDGET));
    begun?;
    let read = session.tokens().len() as u64;
    let (run, instructions) = clock.of(|| Writing::run(&mut session, BUDGET, each));
    run?;
    defmt::println!("logits: {=u64:016x}", logits.0);
    defmt::println!("tokens = {=u32}", tokens);
    let per_prompt_token = reading / read.max(1);
    defmt::println!("instructions_per_prompt_token = {=u64}", per_prompt_token);
    let per_token = instructions / u64::from(tokens.max(1));
    defmt::println!("instructions_per_token = {=u64}", per_token);
    measure::print_sizes(MODEL.bytes(), Memory::Session(BYTES));
    Ok(())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
