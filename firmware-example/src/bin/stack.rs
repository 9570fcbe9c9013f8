//! How deep the stack gets in calls of the integer profile, against what `attentive::integer::Stack` promises.
#![no_std]
#![no_main]

use core::hint::black_box;

use attentive::frontend::{IntegerListener, Levels, MelSpec, MelTables};
use attentive::integer::{
    Bits, Encoder, Model, Options, Progress, Sampler, SamplerOptions, Session, Stack,
};
use attentive::kernels::integer::{BATCH, Query, Running, Tile, attend};
use attentive::kernels::{Backend, ShapeError};
use attentive::{Aligned, ArenaTaken, SessionError, WhenFull, include_integer_weights};
use defmt_semihosting as _;
use firmware_example::Failure;
use firmware_example::measure::stack_of;
use firmware_example::processor::{entry, singleton};
use firmware_example::tasks::{Classifies, Stories, Translation, Writing};
use semihosting::process;

macro_rules! model {
    ($name:ident, $file:literal) => {
        static $name: Model<'static> =
            include_integer_weights!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/", $file));
    };
}

model!(WRITER, "austen-1m-integer-int4.attn");
model!(TRANSLATOR, "translation-integer.attn");
model!(READER, "stories-integer.attn");
model!(VIEWER, "digits-integer.attn");

const SPEC: MelSpec = MelSpec {
    bins: 40,
    ..MelSpec::WHISPER
};
static WORDS: [i32; SPEC.table_words()] = MelTables::words(
    &SPEC,
    &Levels {
        mean: 0.0,
        deviation: 1.0,
        scale: 0.02,
    },
);

/// Bytes that any of the sessions and encoders takes.
const BYTES: usize = 200 * 1024;
const SNAPSHOT: usize = 64 * 1024;
const WIDEST: usize = Tile::HEAD_DIM_MAX;
const KEYS: usize = 16;

/// What was measured of each of [`Stack::ALL`].
struct Depths([usize; Stack::ALL.len()]);

const NEW: usize = 0;
const PROMPT: usize = 1;
const ADVANCE: usize = 2;
const ADVANCE_WIDE: usize = 3;
const DRAW: usize = 4;
const SNAPSHOTS: usize = 5;
const VERIFY: usize = 6;
const LISTEN: usize = 7;

impl Depths {
    /// Does `work`, which is of that kind.
    fn of<T>(&mut self, kind: usize, work: impl FnOnce() -> T) -> Result<T, Failure> {
        let (mut work, mut result) = (Some(work), None);
        let depth = stack_of(&mut || {
            if let Some(work) = work.take() {
                result = Some(work());
            }
        });
        self.0[kind] = self.0[kind].max(depth);
        result.ok_or(Failure::from(SessionError::Family))
    }
}

fn writes(
    depths: &mut Depths,
    model: &Model<'_>,
    options: &Options,
    memory: &mut [u8],
    snapshot: &mut [u8],
) -> Result<(), Failure> {
    let backend = Backend::BASELINE;
    let mut session = depths.of(NEW, || Session::new(model, options, memory, backend))??;
    if options.source_len > 0 {
        depths.of(PROMPT, || session.read(Translation::SENTENCES[0]))??;
    }
    depths.of(PROMPT, || session.prompt(Writing::PROMPT))??;
    let mut sampler = Sampler::new(SamplerOptions {
        repetition_penalty_thousandths: black_box(1100),
        temperature_thousandths: black_box(900),
        top_k: black_box(40),
        top_p_thousandths: black_box(900),
        seed: 1,
    });
    for _ in 0..4 {
        while depths.of(ADVANCE, || session.advance(1_000_000))?? == Progress::Busy {}
        if (depths.of(DRAW, || session.draw(&mut sampler))??).is_none() {
            break;
        }
    }
    let len = depths.of(SNAPSHOTS, || session.snapshot(snapshot))??;
    depths.of(SNAPSHOTS, || session.restore(&snapshot[..len]))??;
    Ok(())
}

fn reads(depths: &mut Depths, memory: &mut [u8]) -> Result<(), Failure> {
    let backend = Backend::BASELINE;
    let texts = depths.of(NEW, || Encoder::new(&READER, 64, memory, backend))??;
    let mut texts = texts;
    depths.of(PROMPT, || texts.begin_text(Stories::name(0)))??;
    depths.of(ADVANCE, || texts.run())??;
    let len = VIEWER.config().context_len;
    let mut pictures = depths.of(NEW, || Encoder::new(&VIEWER, len, memory, backend))??;
    depths.of(PROMPT, || pictures.begin_patches(&[3; 64]))??;
    depths.of(ADVANCE, || pictures.run())??;
    Ok(())
}

/// A tile for heads of so many dimensions, as the passes ask for it.
fn attends(head_dim: usize, lanes: usize, room: &mut Room) -> Result<(), ShapeError> {
    let numbers = &room.numbers.0[..KEYS * head_dim];
    let tile = Tile::new(head_dim, numbers, numbers)?;
    let queries: [Query<'_>; BATCH] = core::array::from_fn(|_| Query {
        elements: &numbers[..head_dim],
        visible: 0..KEYS,
    });
    let mut running = Running {
        max: [0; BATCH],
        sum: [0; BATCH],
        values: &mut room.sums[..head_dim],
    };
    running.clear();
    let backend = Backend::BASELINE;
    attend(backend, &queries[..lanes], &tile, 1 << 20, &mut running)
}

struct Room {
    numbers: Aligned<[i8; KEYS * WIDEST]>,
    sums: [[i32; BATCH]; WIDEST],
}

fn run() -> Result<bool, Failure> {
    let memory = singleton!(: Aligned<[u8; BYTES]> = Aligned([0; BYTES]));
    let snapshot = singleton!(: [u8; SNAPSHOT] = [0; SNAPSHOT]);
    let room = singleton!(: Room = Room {
        numbers: Aligned([1; KEYS * WIDEST]),
        sums: [[0; BATCH]; WIDEST],
    });
    let memory = &mut memory.ok_or(ArenaTaken)?.0;
    let snapshot = &mut snapshot.ok_or(ArenaTaken)?[..];
    let room = room.ok_or(ArenaTaken)?;
    let mut depths = Depths([0; Stack::ALL.len()]);
    for options in [
        Options::new(64),
        Options::new(64)
            .with_kv(Bits::Four)
            .with_when_full(WhenFull::Ring),
    ] {
        writes(&mut depths, &WRITER, &options, memory, snapshot)?;
    }
    let options = Options::new(48).with_source_len(48);
    writes(&mut depths, &TRANSLATOR, &options, memory, snapshot)?;
    reads(&mut depths, memory)?;
    depths
        .of(VERIFY, || READER.verify())?
        .map_err(SessionError::from)?;

    // What a tile of wide heads takes more.
    let mut tiles = Depths([0; Stack::ALL.len()]);
    for lanes in [1, BATCH] {
        for (kind, head_dim) in [(ADVANCE, 64), (ADVANCE_WIDE, WIDEST)] {
            let done = tiles.of(kind, || attends(head_dim, lanes, room))?;
            done.map_err(SessionError::from)?;
        }
    }
    let more = tiles.0[ADVANCE_WIDE].saturating_sub(tiles.0[ADVANCE]);
    depths.0[ADVANCE_WIDE] = depths.0[ADVANCE] + more;

    let mut words = [0; SPEC.integer_listener_words()];
    // The words are the specification's and the memory its own.
    if let Ok(tables) = MelTables::new(&SPEC, &WORDS)
        && let Ok(mut listener) = IntegerListener::new(&tables, &mut words)
    {
        depths.of(LISTEN, || {
            listener.hear(black_box(&[1000; 600]), |level| {
                black_box(level);
            });
        })?;
    }

    let mut holds = true;
    for ((name, bound), depth) in Stack::ALL.iter().zip(depths.0) {
        defmt::println!("stack of {=str} = {=usize}", *name, depth);
        let most = bound / 8 * 7;
        if depth > most {
            holds = false;
            defmt::println!(
                "{=str}: {=usize} of {=usize}, too near",
                *name,
                depth,
                *bound
            );
        }
    }
    Ok(holds)
}

#[entry]
fn main() -> ! {
    match run() {
        Ok(true) => {
            defmt::println!("all calls stay below their bounds");
            process::exit(0)
        }
        Ok(false) => process::exit(1),
        Err(failure) => failure.exit(),
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
