//! Instructions of the integer kernels at the shapes that others publish: a bar against growth, since
//! `cargo xtask test` compares them with what stands beside this file.
#![no_std]
#![no_main]

use core::hint::black_box;

use attentive::kernels::integer::{
    BATCH, Function, Norm, OutScale, Product, QUAD, Query, Running, Scores, Tile, Weights, attend,
    finish, norm, pack_quads, pair_sums, plain, product, quad_sums, scores,
};
use attentive::kernels::{Backend, ShapeError};
use attentive::{Aligned, ArenaTaken};
use defmt_semihosting as _;
use firmware_example::Failure;
use firmware_example::measure::Instructions;
use firmware_example::processor::{entry, singleton};
use semihosting::process;

const SIDE: usize = 256;
const TOKENS: usize = 64;
const HEADS: usize = 4;
const DIM_MAX: usize = 32;
const PLANE: usize = TOKENS * DIM_MAX;

struct Room {
    weights: Aligned<[i8; SIDE * SIDE]>,
    pairs: [i32; SIDE],
    quads: Aligned<[u16; SIDE * SIDE / QUAD]>,
    sums: [i32; SIDE],
    /// Queries, keys and transposed values of the heads, one after the other; queries become outputs.
    heads: Aligned<[[[i8; PLANE]; 3]; HEADS]>,
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
    let room = singleton!(: Room = Room {
        weights: Aligned([0; SIDE * SIDE]),
        pairs: [0; SIDE],
        quads: Aligned([0; SIDE * SIDE / QUAD]),
        sums: [0; SIDE],
        heads: Aligned([[[0; PLANE]; 3]; HEADS]),
    });
    let room = room.ok_or(ArenaTaken)?;
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i8
    };
    room.weights.0.fill_with(&mut next);
    let planes = room.heads.0.as_flattened_mut().as_flattened_mut();
    planes.fill_with(&mut next);
    let mut x = [0i8; SIDE];
    x.fill_with(&mut next);
    kernels(&clock, room, &x).map_err(attentive::SessionError::from)?;
    Ok(())
}

fn kernels(clock: &Instructions, room: &mut Room, x: &[i8; SIDE]) -> Result<(), ShapeError> {
    let backend = Backend::BASELINE;
    pair_sums(SIDE, &room.weights.0, &mut room.pairs)?;
    let (multipliers, biases) = ([1 << 24; SIDE], [0; SIDE]);
    let weights = Weights::I8(&room.weights.0);
    let matrix = Product::new(SIDE, SIDE, weights, &multipliers, &biases, &room.pairs)?;
    let (done, spent) = clock.of(|| product(backend, &matrix, x, 0, &mut room.sums));
    done?;
    defmt::println!("gemv/i8/256x256 = {=u64}", spent);
    let (four, rows) = (
        &room.heads.0.as_flattened().as_flattened()[..BATCH * SIDE],
        SIDE / 4,
    );
    let (done, spent) =
        clock.of(|| product(backend, &matrix, four, 0, &mut room.sums[..BATCH * rows]));
    done?;
    defmt::println!("gemm/i8/n4/64x256 = {=u64}", spent);

    for level in &mut room.weights.0 {
        *level >>= 4;
    }
    pack_quads(SIDE, &room.weights.0, &mut room.quads.0)?;
    let pairs = &mut room.pairs[..SIDE / 2];
    quad_sums(SIDE, &room.quads.0, pairs)?;
    let quads = Weights::I4(&room.quads.0);
    let narrow = Product::new(SIDE, SIDE, quads, &multipliers, &biases, pairs)?;
    let (done, spent) = clock.of(|| product(backend, &narrow, x, 0, &mut room.sums));
    done?;
    defmt::println!("gemv/i4/256x256 = {=u64}", spent);

    for head_dim in [16, DIM_MAX] {
        let (done, spent) = clock.of(|| attention(backend, &mut room.heads.0, head_dim));
        done?;
        defmt::println!("attn/i8/t64h4d{=usize} = {=u64}", head_dim, spent);
    }

    let mut of_tile = Scores([[0; TOKENS]; BATCH]);
    let (done, spent) = clock.of(|| all_scores(backend, &room.heads.0[0], &mut of_tile));
    done?;
    defmt::println!("qk/i8/t64d16 = {=u64}", spent);

    let stream = x.map(|x| i16::from(x) * 50);
    let (gains, biases) = ([2000; SIDE], [0; SIDE]);
    for (name, centred) in [("rmsnorm", false), ("layernorm", true)] {
        let parameters = Norm {
            gains: &gains,
            biases: &biases,
            centred,
            eps: 1000,
        };
        let mut out = [0; SIDE];
        let (done, spent) = clock.of(|| norm(&stream, &parameters, black_box(&mut out)));
        done?;
        black_box(&out);
        defmt::println!("{=str}/256 = {=u64}", name, spent);
    }
    let mut out = [0; SIDE];
    let z = black_box(&room.sums);
    let ((), spent) = clock.of(|| plain(Function::GeluTanh, z, 1 << 24, black_box(&mut out)));
    black_box(&out);
    defmt::println!("gelu/256 = {=u64}", spent);
    Ok(())
}

/// Scores of all tokens of a head, each with every other.
fn all_scores(
    backend: Backend,
    [queries, keys, values]: &[[i8; PLANE]; 3],
    out: &mut Scores,
) -> Result<(), ShapeError> {
    const HEAD_DIM: usize = 16;
    let len = TOKENS * HEAD_DIM;
    let tile = Tile::new(HEAD_DIM, &keys[..len], &values[..len])?;
    for queries in queries[..len].chunks_exact(BATCH * HEAD_DIM) {
        let batch: [Query<'_>; BATCH] = core::array::from_fn(|lane| Query {
            elements: &queries[lane * HEAD_DIM..][..HEAD_DIM],
            visible: 0..TOKENS,
        });
        scores(backend, &batch, &tile, 1 << 20, black_box(out))?;
    }
    Ok(())
}

/// All tokens of all heads, each seeing every other.
fn attention(
    backend: Backend,
    heads: &mut [[[i8; PLANE]; 3]; HEADS],
    head_dim: usize,
) -> Result<(), ShapeError> {
    let scale = OutScale {
        mantissa: 1 << 14,
        shift: 14,
    };
    let len = TOKENS * head_dim;
    for [queries, keys, values] in heads {
        let tile = Tile::new(head_dim, &keys[..len], &values[..len])?;
        for queries in queries[..len].chunks_exact_mut(BATCH * head_dim) {
            let mut sums = [[0; BATCH]; DIM_MAX];
            let mut running = Running {
                max: [0; BATCH],
                sum: [0; BATCH],
                values: &mut sums[..head_dim],
            };
            running.clear();
            let batch: [Query<'_>; BATCH] = core::array::from_fn(|lane| Query {
                elements: &queries[lane * head_dim..][..head_dim],
                visible: 0..TOKENS,
            });
            attend(backend, &batch, &tile, 1 << 20, &mut running)?;
            for (lane, out) in queries.chunks_exact_mut(head_dim).enumerate() {
                finish(&running, lane, scale, out)?;
            }
        }
    }
    Ok(())
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
