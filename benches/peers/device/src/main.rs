//! embedded-nn at the shapes of the firmware's `counts`, on the same numbers.
#![no_std]
#![no_main]

use core::hint::black_box;

use attentive::ArenaTaken;
use cortex_m_rt::entry;
use defmt_semihosting as _;
use embedded_nn::fully_connected::fully_connected_per_channel_s8;
use embedded_nn::transformer::{AttentionParams, scaled_dot_product_attention_s8};
use embedded_nn::types::{Activation, Dims, FcParams, PerChannelQuantParams, PerTensorQuantParams};
use firmware_example::Failure;
use firmware_example::measure::Instructions;
use semihosting::process;

const SIDE: usize = 256;
const TOKENS: usize = 64;
const HEADS: usize = 4;
const DIM_MAX: usize = 32;

struct Room {
    weights: [i8; SIDE * SIDE],
    queries: [i8; TOKENS * HEADS * DIM_MAX],
    keys: [i8; TOKENS * HEADS * DIM_MAX],
    values: [i8; TOKENS * HEADS * DIM_MAX],
    out: [i8; TOKENS * HEADS * DIM_MAX],
    scores: [i8; 2 * TOKENS * TOKENS],
}

#[entry]
fn main() -> ! {
    match run() {
        Ok(true) => process::exit(0),
        Ok(false) => {
            defmt::println!("error: embedded-nn refused a shape");
            process::exit(1)
        }
        Err(failure) => failure.exit(),
    }
}

fn run() -> Result<bool, Failure> {
    let clock = Instructions::start()?;
    let room = cortex_m::singleton!(: Room = Room {
        weights: [0; SIDE * SIDE],
        queries: [0; TOKENS * HEADS * DIM_MAX],
        keys: [0; TOKENS * HEADS * DIM_MAX],
        values: [0; TOKENS * HEADS * DIM_MAX],
        out: [0; TOKENS * HEADS * DIM_MAX],
        scores: [0; 2 * TOKENS * TOKENS],
    });
    let room = room.ok_or(ArenaTaken)?;
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i8
    };
    for all in [
        &mut room.weights[..],
        &mut room.queries,
        &mut room.keys,
        &mut room.values,
    ] {
        all.fill_with(&mut next);
    }
    let mut x = [0i8; SIDE];
    x.fill_with(&mut next);

    let (multipliers, shifts) = ([1 << 30; SIDE], [-9; SIDE]);
    let side = SIDE as i32;
    let parameters = FcParams {
        input_offset: 0,
        filter_offset: 0,
        output_offset: 0,
        activation: Activation::new(-128, 127),
    };
    let dims = |n, c| Dims { n, h: 1, w: 1, c };
    let mut y = [0i8; SIDE];
    let (done, spent) = clock.of(|| {
        fully_connected_per_channel_s8(
            &parameters,
            &PerChannelQuantParams::new(&multipliers, &shifts),
            &dims(1, side),
            black_box(&x),
            &dims(side, side),
            black_box(&room.weights),
            Some(&[0; SIDE]),
            &dims(1, side),
            black_box(&mut y),
        )
    });
    black_box(&y);
    let mut taken = done.is_ok();
    defmt::println!("embedded-nn/gemv/i8/256x256 = {=u64}", spent);

    for head_dim in [16, DIM_MAX] {
        let parameters = AttentionParams {
            batches: 1,
            seq_len: TOKENS,
            num_heads: HEADS,
            head_dim,
            q_offset: 0,
            k_offset: 0,
            v_offset: 0,
            score_offset: 128,
            output_offset: 0,
            softmax_mult: 1 << 30,
            softmax_shift: 22,
            softmax_diff_min: -248,
        };
        let (done, spent) = clock.of(|| {
            scaled_dot_product_attention_s8(
                &parameters,
                &PerTensorQuantParams::new(1 << 30, -9),
                &PerTensorQuantParams::new(1 << 30, -7),
                black_box(&room.queries),
                black_box(&room.keys),
                black_box(&room.values),
                &mut room.scores,
                black_box(&mut room.out),
            )
        });
        taken &= done.is_ok();
        defmt::println!(
            "embedded-nn/attn/i8/t64h4d{=usize} = {=u64}",
            head_dim,
            spent
        );
    }
    Ok(taken)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    firmware_example::panicked(info)
}
