//! Links only if neither the core nor the kernels can panic.
//!
//! Its panic handler calls a function that exists nowhere. The linker asks for that function if a single panic can be
//! reached from what is called here, which is all of the interface but `pack` (writing files is a PC's business): with
//! fat link-time optimisation a check that can never fail is gone by then, and one that can fail is an undefined
//! symbol. The model is parsed at run time from bytes that the optimiser cannot see through, so every variety of model
//! counts, not only the one in flash.
//!
//! To find a panic: `cargo rustc --release --bin no-panic -- -C link-arg=--defsym=a_panic_can_be_reached=0` links all
//! the same, and the callers of `panic_fmt` in its disassembly are the way there.
#![no_std]
#![no_main]

mod encoders;
mod front_ends;
mod integers;
mod kernels;
mod translators;

use core::hint::black_box;

use attentive::kernels::Backend;
use attentive::kernels::layout::KvDtype;
use attentive::{
    Model, Sampler, SamplerOptions, Session, SessionError, SessionOptions, WeightsError, WhenFull,
};
use firmware_example::processor::entry;
use firmware_example::{ARENA, MODEL};
use semihosting::process;

#[entry]
fn main() -> ! {
    let result = whole_interface();
    process::exit(i32::from(result.is_err()))
}

/// Everything that a firmware can call, with arguments that the optimiser does not know.
fn whole_interface() -> Result<(), SessionError> {
    let backend = black_box(Backend::detect());
    let model = Model::parse(black_box(MODEL.bytes()))?;
    look_around(&model)?;
    kernels::all(backend);
    front_ends::all();

    let Ok(memory) = ARENA.take() else {
        return Err(SessionError::NoPrompt);
    };
    let in_flash = SessionOptions::new(black_box(16)).with_kv(black_box(KvDtype::I8));
    converse(&model, &in_flash, memory, backend)?;
    let ring = in_flash
        .with_prefill_len(black_box(3))
        .with_when_full(black_box(WhenFull::Ring));
    converse(&model, &ring, memory, backend)?;
    black_box(encoders::read(&model, memory, backend).is_ok());
    black_box(translators::translate(&model, memory, backend).is_ok());
    let file = black_box(MODEL.bytes());
    black_box(integers::run(file, memory, backend).is_ok());
    // No memory and a torn file are errors as well.
    let refused = converse(&model, &in_flash, black_box(&mut []), backend).is_err();
    let torn = MODEL.bytes().split_at_checked(black_box(1000));
    let refused = refused && torn.is_some_and(|(head, _)| Model::parse(head).is_err());
    if refused {
        Ok(())
    } else {
        Err(SessionError::NoPrompt)
    }
}

fn look_around(model: &Model<'_>) -> Result<(), WeightsError> {
    model.verify()?;
    model.check_aligned()?;
    black_box(model.provenance());
    for tensor in model.tensors() {
        let shape = tensor.shape;
        black_box(model.matrix(shape.role, shape.layer).is_ok());
        black_box(model.vector(shape.role, shape.layer).is_ok());
    }
    let mut scratch = [0; attentive::tokenizer::ENCODE_SCRATCH_LEN];
    let mut tokens = [0; 8];
    let encoded = model
        .tokenizer()
        .encode_into(black_box("a text"), &mut scratch, &mut tokens);
    black_box(encoded.is_ok());
    let second = black_box(Some("another"));
    let wrapped =
        model
            .tokenizer()
            .encode_wrapped(black_box("a text"), second, &mut scratch, &mut tokens);
    black_box(wrapped.is_ok());
    for part in model.tokenizer().decode(black_box(&[7, 8])) {
        black_box(part);
    }
    black_box(model.tokenizer().piece(black_box(7)));
    Ok(())
}

fn converse(
    model: &Model<'_>,
    options: &SessionOptions,
    memory: &mut [u8],
    backend: Backend,
) -> Result<(), SessionError> {
    options.check(model.config())?;
    let mut sampler = Sampler::new(SamplerOptions {
        temperature: black_box(0.7),
        top_k: black_box(40),
        top_p: black_box(0.9),
        repetition_penalty: black_box(1.1),
        seed: black_box(1813),
    });
    let mut session = Session::new(model, options, memory, backend)?;
    session.prompt(black_box("It is a "))?;
    session.prompt_tokens(black_box(&[1, 2, 3]))?;
    for _ in 0..black_box(3) {
        black_box(session.step(&mut sampler)?);
    }
    black_box((session.tokens(), session.logits()));
    black_box((session.position(), session.context_len()));
    session.score(black_box(&[1, 2]), |index, logits| {
        black_box((index, logits));
    })?;
    session.reset();
    session.prompt_tokens(black_box(&[1]))?;
    black_box(session.step(&mut sampler)?);
    Ok(())
}

unsafe extern "C" {
    fn a_panic_can_be_reached() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: a binary that holds this call does not link, so it never runs.
    unsafe { a_panic_can_be_reached() }
}
