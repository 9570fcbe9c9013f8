//! Continues a text on a PC, with the very request, memory and report of the firmware example.
//!
//! ```text
//! cargo run --release --features std --example generate -- --model models/austen-1m-int8.attn --prompt "It is a truth"
//! ```
//! Each token is printed as `token ID b"bytes"`, followed by figures as `name = value` and a hash of all logits, so
//! that the runs of two machines can be compared line by line.

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Instant;

#[path = "../firmware-example/src/request.rs"]
#[allow(
    unreachable_pub,
    reason = "public in the firmware, which it is shared with"
)]
mod request;

use attentive::kernels::Backend;
use attentive::{Block, Model, Sampler, Session};
use request::{LogitsHash, SESSION};

struct Request {
    backend: String,
    model: String,
    prompt: String,
    tokens: u32,
    temperature_thousandths: u32,
    seed: u64,
}

fn main() -> ExitCode {
    match asked().and_then(|request| generate(&request)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn asked() -> Result<Request, Box<dyn Error>> {
    let mut request = Request {
        backend: "native".into(),
        model: "models/austen-1m-int8.attn".into(),
        prompt: request::PROMPT.into(),
        tokens: request::TOKENS,
        temperature_thousandths: request::TEMPERATURE_THOUSANDTHS,
        seed: request::SEED,
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or(format!("{name} needs a value"))?;
        let malformed = |_| format!("{name} needs a whole number, not {value:?}");
        match name.as_str() {
            "--backend" => request.backend = value,
            "--model" => request.model = value,
            "--prompt" => request.prompt = value,
            "--tokens" => request.tokens = value.parse().map_err(malformed)?,
            "--temperature-thousandths" => {
                request.temperature_thousandths = value.parse().map_err(malformed)?;
            }
            "--seed" => request.seed = value.parse().map_err(malformed)?,
            _ => {
                return Err(format!(
                    "{name} is unknown; there are --backend, --model, --prompt, --tokens, --temperature-thousandths, --seed"
                )
                .into());
            }
        }
    }
    Ok(request)
}

fn generate(request: &Request) -> Result<(), Box<dyn Error>> {
    let backend = match request.backend.as_str() {
        "native" => Backend::detect(),
        name => Backend::by_name(name).ok_or_else(|| {
            let names: Vec<_> = Backend::available().map(Backend::name).collect();
            format!(
                "no backend {name:?} here; there are native, {}",
                names.join(", ")
            )
        })?,
    };
    let file = read(&request.model).map_err(|error| format!("{}: {error}", request.model))?;
    let model = Model::parse(Block::bytes(&file))?;
    model.verify()?;
    let session_bytes = model.session_bytes(&SESSION);
    let mut memory = vec![Block::ZERO; Block::len_for(session_bytes)];
    let mut session = Session::new(&model, &SESSION, Block::bytes_mut(&mut memory), backend)?;
    let mut sampler = Sampler::new(request::sampler(
        request.temperature_thousandths,
        request.seed,
    ));
    println!("backend: {}", backend.name());

    let mut out = std::io::stdout().lock();
    let start = Instant::now();
    session.prompt(&request.prompt)?;
    let prompt_s = start.elapsed().as_secs_f64();
    let prompt_tokens = session.position();
    let mut hash = LogitsHash::EMPTY;
    let mut generation_s = 0.0;
    let mut tokens = 0;
    for _ in 0..request.tokens {
        let start = Instant::now();
        let piece = session.step(&mut sampler)?;
        generation_s += start.elapsed().as_secs_f64();
        hash.add(session.logits());
        let Some(piece) = piece else { break };
        tokens += 1;
        let id = session.tokens().last().copied().unwrap_or_default();
        writeln!(out, "token {id} b\"{}\"", piece.escape_ascii())?;
        out.flush()?;
    }
    writeln!(out, "logits: {:016x}", hash.0)?;
    for (name, value) in [
        ("tokens", f64::from(tokens)),
        ("prompt_tokens", prompt_tokens as f64),
        ("tokens_per_s", f64::from(tokens) / generation_s),
        ("prompt_tokens_per_s", prompt_tokens as f64 / prompt_s),
        ("weights_bytes", model.bytes().len() as f64),
        ("session_bytes", session_bytes as f64),
    ] {
        writeln!(out, "{name} = {value:.0}")?;
    }
    Ok(())
}

/// A file in memory that begins at a multiple of 64.
fn read(path: &str) -> std::io::Result<Vec<Block>> {
    let mut file = std::fs::File::open(path)?;
    let len = usize::try_from(file.metadata()?.len()).map_err(std::io::Error::other)?;
    let mut blocks = vec![Block::ZERO; Block::len_for(len)];
    // A file is whole blocks; one that is not gets zeros at its end, and the parser refuses it.
    file.read_exact(&mut Block::bytes_mut(&mut blocks)[..len])?;
    Ok(blocks)
}
