//! The integer profile: its kernels against plain code, its files and sessions against what goes wrong.

use attentive::integer::{Model, Options, Progress, Session};
use attentive::kernels::Backend;
use attentive::kernels::integer::{
    OutScale, Product, Running, TILE, attend, finish, pair_sums, power, product, scaled, stride,
    to_i16,
};
use attentive::{Block, SessionError, WeightsError, include_integer_weights};

use crate::{Bench, Fault, ensure};

static MODEL: Model<'static> = include_integer_weights!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/austen-1m-integer.attn"
));

/// The smallest file.
static SMALL: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../models/digits-integer.attn"
));

const OPTIONS: Options = Options::new(16);

/// Numbers of a linear congruence (Knuth 1997, section 3.3.4).
struct Numbers(u32);

impl Numbers {
    fn byte(&mut self) -> i8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Every seventh is an extreme.
        match (self.0 >> 8).is_multiple_of(7) {
            true => i8::MIN,
            false => (self.0 >> 24) as i8,
        }
    }
}

const ROWS_MAX: usize = 5;
const COLS_MAX: usize = 608;

pub(crate) fn products(_: &mut Bench) -> Result<(), Fault> {
    let mut numbers = Numbers(1);
    for cols in (1..=70).chain([255, 256, 257, 511, 600]) {
        for rows in 1..=ROWS_MAX {
            let mut storage = [Block::ZERO; ROWS_MAX * COLS_MAX / 64 + 1];
            let bytes = Block::bytes_mut(&mut storage);
            let mut weights = [0i8; COLS_MAX];
            let mut x = [0i8; COLS_MAX];
            x[..cols].fill_with(|| numbers.byte());
            let mut wanted = [0i32; ROWS_MAX];
            let multiplier = 1 << 30;
            for (row, wanted) in wanted.iter_mut().enumerate().take(rows) {
                weights[..cols].fill_with(|| numbers.byte());
                let pairs = weights[..cols].iter().zip(&x);
                let sum: i32 = pairs.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
                *wanted = scaled(sum + row as i32, multiplier);
                for (to, from) in bytes[row * stride(cols)..].iter_mut().zip(&weights[..cols]) {
                    *to = from.cast_unsigned();
                }
            }
            let all: &[i8] = as_signed(&bytes[..rows * stride(cols)]);
            let biases = [0, 1, 2, 3, 4];
            let (multipliers, mut pairs) = ([multiplier; ROWS_MAX], [0; ROWS_MAX]);
            let mut out = [0; ROWS_MAX];
            let done = pair_sums(cols, all, &mut pairs[..rows]).and_then(|()| {
                let (m, b, p) = (&multipliers[..rows], &biases[..rows], &pairs[..rows]);
                let matrix = Product::new(rows, cols, all, m, b, p)?;
                product(Backend::BASELINE, &matrix, &x[..cols], 0, &mut out[..rows])
            });
            ensure(done.is_ok() && out == wanted, "another product")?;
        }
    }
    Ok(())
}

/// The same bytes.
fn as_signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: i8 and u8 have the same size and alignment, and every byte is a value of both.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

pub(crate) fn attention(_: &mut Bench) -> Result<(), Fault> {
    const KEYS_MAX: usize = 70;
    const DIM_MAX: usize = 40;
    let mut numbers = Numbers(2);
    for head_dim in [8, 16, 24, 40] {
        for n in (1..=7).chain([63, 64, 65, KEYS_MAX]) {
            let mut keys = [0i8; KEYS_MAX * DIM_MAX];
            let mut values = [0i8; KEYS_MAX * DIM_MAX];
            let mut query = [0i8; DIM_MAX];
            for all in [&mut keys[..], &mut values[..], &mut query[..]] {
                all.fill_with(|| numbers.byte());
            }
            let (keys, values) = (&keys[..n * head_dim], &values[..n * head_dim]);
            let query = &query[..head_dim];
            let multiplier = 1 << 20;
            let scale = OutScale {
                mantissa: 20_000,
                shift: 14,
            };
            let mut sums = [[0i32; DIM_MAX]; 2];
            let mut outs = [[0i8; DIM_MAX]; 2];
            let [mine, plain] = &mut sums;
            let mut running = [mine, plain].map(|values| Running {
                max: 0,
                sum: 0,
                values: &mut values[..head_dim],
            });
            running.iter_mut().for_each(Running::clear);
            let [mine, plain] = &mut running;
            let tiles = keys.chunks(TILE * head_dim);
            for (keys, values) in tiles.zip(values.chunks(TILE * head_dim)) {
                let done = attend(Backend::BASELINE, query, keys, values, multiplier, mine);
                ensure(done.is_ok(), "a tile was refused")?;
                plainly(query, keys, values, multiplier, plain);
            }
            for (running, out) in running.iter().zip(&mut outs) {
                let done = finish(running, scale, &mut out[..head_dim]);
                ensure(done.is_ok(), "an end was refused")?;
            }
            ensure(outs[0] == outs[1] && sums[0] == sums[1], "another sum")?;
        }
    }
    Ok(())
}

/// A tile as `docs/integer.md` has it.
fn plainly(query: &[i8], keys: &[i8], values: &[i8], multiplier: i32, running: &mut Running<'_>) {
    let score = |key: &[i8]| {
        let products = query.iter().zip(key);
        let sum = products.map(|(q, k)| i32::from(*q) * i32::from(*k)).sum();
        to_i16(scaled(sum, multiplier))
    };
    let keys = || keys.chunks_exact(query.len());
    let max = keys().map(score).max().unwrap_or(i16::MIN);
    if max > running.max {
        let factor = i64::from(power((i32::from(max) - i32::from(running.max)) as u32));
        let shrunk = |x: i64| (x * factor + (1 << 13)) >> 14;
        if running.sum > 0 {
            running.sum = shrunk(running.sum.into()) as u32;
            for value in &mut *running.values {
                *value = shrunk((*value).into()) as i32;
            }
        }
        running.max = max;
    }
    let max = i32::from(running.max);
    let weight = |key| i32::from(power((max - i32::from(score(key))) as u32));
    running.sum += keys().map(|key| weight(key) as u32).sum::<u32>();
    for (index, total) in running.values.iter_mut().enumerate() {
        let rows = keys().zip(values.chunks_exact(query.len()));
        let sum: i32 = rows
            .map(|(key, row)| weight(key) * i32::from(row[index]))
            .sum();
        *total += (sum + 32) >> 6;
    }
}

pub(crate) fn files(_: &mut Bench) -> Result<(), Fault> {
    let copy = cortex_m::singleton!(: [Block; 1200] = [Block::ZERO; 1200]);
    let copy = copy.and_then(|copy| Block::bytes_mut(copy).get_mut(..SMALL.len()));
    let Some(copy) = copy else {
        return ensure(false, "the file does not fit the check's memory");
    };
    copy.copy_from_slice(SMALL);
    Model::parse(copy)?.verify()?;
    for len in (0..SMALL.len()).step_by(997) {
        ensure(Model::parse(&copy[..len]).is_err(), "a torn file was taken")?;
    }
    for at in (0..SMALL.len()).step_by(1013) {
        copy[at] ^= 0x10;
        let checked = Model::parse(copy).and_then(|model| model.verify());
        // Filling between sections is covered by the checksum as well.
        ensure(checked.is_err(), "a changed byte was not noticed")?;
        copy[at] ^= 0x10;
    }
    Model::parse(copy)?.verify()?;
    let float = attentive::Model::parse(copy).map(|_| ());
    let other = WeightsError::Profile { integer: true };
    ensure(float == Err(other), "the float profile took it")
}

/// The last logits after a prompt, summed up.
fn sum_after(session: &mut Session<'_>, text: &str) -> Result<i64, Fault> {
    session.prompt(text)?;
    while session.advance(5000)? == Progress::Busy {}
    let logits = session.logits().unwrap_or_default();
    Ok(logits.iter().map(|logit| i64::from(*logit)).sum())
}

pub(crate) fn sessions(bench: &mut Bench) -> Result<(), Fault> {
    let mut session = Session::new(&MODEL, &OPTIONS, bench.session, Backend::BASELINE)?;
    let wanted = sum_after(&mut session, "She was")?;
    // A prompt that is too long changes nothing.
    session.reset();
    let long = "a b c d e f g h i j k l m n o p q r s t";
    let full = session.prompt(long);
    let is_full = matches!(full, Err(SessionError::ContextFull { .. }));
    ensure(is_full && session.tokens().is_empty(), "a long prompt")?;
    let unknown = session.prompt_tokens(&[5000]);
    let is_unknown = matches!(unknown, Err(SessionError::Token { have: 5000, .. }));
    ensure(is_unknown, "a token that there is not")?;
    // Left in the middle of a token.
    session.prompt("It is a truth")?;
    for _ in 0..20 {
        ensure(session.advance(1)? == Progress::Busy, "too short a work")?;
    }
    session.reset();
    ensure(sum_after(&mut session, "She was")? == wanted, "a reset")?;
    // Taken back.
    session.prompt_tokens(&[7, 8, 9])?;
    while session.advance(5000)? == Progress::Busy {}
    let len = session.tokens().len();
    session.truncate(len - 3);
    while session.advance(5000)? == Progress::Busy {}
    let logits = session.logits().unwrap_or_default();
    let sum: i64 = logits.iter().map(|logit| i64::from(*logit)).sum();
    ensure(sum == wanted, "tokens that were taken back")
}
