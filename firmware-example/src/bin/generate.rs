//! Generates text: takes a request from the host, streams tokens through defmt, says what it cost.
#![no_std]
#![no_main]

use core::mem::MaybeUninit;

use attentive::kernels::Backend;
use attentive::{Sampler, Sequential, Session};
use defmt_semihosting as _;
use firmware_example::command_line::{COMMAND_LINE_BYTES_MAX, Request};
use firmware_example::measure::{self, Instructions, Memory};
use firmware_example::processor::entry;
use firmware_example::request::{self, LogitsHash};
use firmware_example::{ARENA, Failure, Fitted, MODEL};
use semihosting::process;

#[entry]
fn main() -> ! {
    // `entry` makes this a `&'static mut`; it is kept off the stack, whose peak is measured.
    static mut COMMAND_LINE: [MaybeUninit<u8>; COMMAND_LINE_BYTES_MAX] =
        [MaybeUninit::uninit(); COMMAND_LINE_BYTES_MAX];
    let result = Request::from_host(COMMAND_LINE)
        .map_err(Failure::from)
        .and_then(|request| generate(&request));
    match result {
        Ok(()) => process::exit(0),
        Err(failure) => failure.exit(),
    }
}

fn generate(request: &Request<'_>) -> Result<(), Failure> {
    let clock = Instructions::start()?;
    let memory = ARENA.take()?;
    let session_bytes = memory.len();
    let (options, backend) = (&request::SESSION, Backend::BASELINE);
    let mut session = Session::<Sequential, Fitted>::fitted(&MODEL, options, memory, backend)?;
    let mut sampler = Sampler::new(request::sampler(
        request.temperature_thousandths,
        request.seed,
    ));
    let mut logits = LogitsHash::EMPTY;

    defmt::println!("prompt: {=str}", request.prompt);
    let (prompted, prompt_instructions) = clock.of(|| session.prompt(request.prompt));
    prompted?;
    let prompt_tokens = session.position();

    let mut tokens = 0;
    let mut instructions = 0;
    while tokens < request.tokens {
        let (piece, spent) = clock.of(|| session.step(&mut sampler));
        let piece = piece?;
        logits.add(session.logits());
        // The first step draws from the prompt's logits; those after it run the model once each.
        instructions += if tokens == 0 { 0 } else { spent };
        let (Some(piece), Some(id)) = (piece, session.tokens().last()) else {
            break;
        };
        tokens += 1;
        defmt::println!("token {=u32} {=[u8]:a}", id, piece);
    }

    defmt::println!("logits: {=u64:016x}", logits.0);
    defmt::println!("tokens = {=u32}", tokens);
    defmt::println!("prompt_tokens = {=usize}", prompt_tokens);
    let per_token = instructions / u64::from(tokens.max(2) - 1);
    defmt::println!("instructions_per_token = {=u64}", per_token);
    let per_prompt_token = prompt_instructions / (prompt_tokens.max(1) as u64);
    defmt::println!("instructions_per_prompt_token = {=u64}", per_prompt_token);
    measure::print_sizes(MODEL.bytes(), Memory::Session(session_bytes));
    Ok(())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
