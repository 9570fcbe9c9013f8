//! The integer profile: its kernels against plain code, its files and sessions against what goes wrong.

use attentive::integer::{Model, Options, Progress, Session};
use attentive::kernels::Backend;
use attentive::kernels::integer::{
    BATCH, Product, QUAD, Query, Running, Scores, TILE, Tile, Weights, attend, pack_quads,
    pair_sums, power, product, quad_sums, quads_len, scaled, scores, stride, to_i16,
};
use attentive::{Aligned, Block, SessionError, WeightsError, include_integer_weights};

use crate::{Bench, Fault, ensure};
use firmware_example::processor::singleton;

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

const ROWS_MAX: usize = 40;
const VECTORS_MAX: usize = 6;
const COLS_MAX: usize = 608;
const QUADS_MAX: usize = 3;

pub(crate) fn products(_: &mut Bench) -> Result<(), Fault> {
    let mut numbers = Numbers(1);
    let storage = singleton!(: [Block; ROWS_MAX * COLS_MAX / 64 + 1] = [Block::ZERO; ROWS_MAX * COLS_MAX / 64 + 1]);
    let x = singleton!(: [i8; VECTORS_MAX * COLS_MAX] = [0; VECTORS_MAX * COLS_MAX]);
    let (Some(storage), Some(x)) = (storage, x) else {
        return ensure(false, "the check was run twice");
    };
    for cols in (1..=70).chain([127, 128, 129, 255, 256, 257, 511, 600]) {
        for (rows, vectors) in [
            (1, 1),
            (2, 6),
            (3, 3),
            (4, 2),
            (5, 1),
            (33, 4),
            (34, 5),
            (ROWS_MAX, 3),
        ] {
            let bytes = Block::bytes_mut(storage);
            bytes.fill(0);
            let x = &mut x[..vectors * cols];
            x.fill_with(|| numbers.byte());
            for row in bytes.chunks_exact_mut(stride(cols)).take(rows) {
                row[..cols].fill_with(|| numbers.byte().cast_unsigned());
            }
            let all: &[i8] = as_signed(&bytes[..rows * stride(cols)]);
            let biases: [i32; ROWS_MAX] = core::array::from_fn(|row| row as i32);
            let multiplier = 1 << 30;
            let (multipliers, mut pairs) = ([multiplier; ROWS_MAX], [0; ROWS_MAX]);
            let mut out = [0; VECTORS_MAX * ROWS_MAX];
            let out = &mut out[..vectors * rows];
            let done = pair_sums(cols, all, &mut pairs[..rows]).and_then(|()| {
                let (m, b, p) = (&multipliers[..rows], &biases[..rows], &pairs[..rows]);
                let matrix = Product::new(rows, cols, Weights::I8(all), m, b, p)?;
                product(Backend::BASELINE, &matrix, x, 0, out)
            });
            ensure(done.is_ok(), "a product was refused")?;
            for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact(rows)) {
                let weights = all.chunks_exact(stride(cols));
                for ((weights, bias), out) in weights.zip(biases).zip(out) {
                    let pairs = weights.iter().zip(x);
                    let sum: i32 = pairs.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
                    ensure(*out == scaled(sum + bias, multiplier), "another product")?;
                }
            }
        }
    }
    Ok(())
}

/// Products of four bits are those of bytes whose lower halves are 0.
pub(crate) fn quads(_: &mut Bench) -> Result<(), Fault> {
    const WORDS: usize = QUADS_MAX * stride(COLS_MAX) / 2;
    let mut numbers = Numbers(3);
    let room = singleton!(: ([u32; WORDS], [i8; QUAD * QUADS_MAX * COLS_MAX]) = ([0; WORDS], [0; QUAD * QUADS_MAX * COLS_MAX]));
    let Some((words, levels)) = room else {
        return ensure(false, "the check was run twice");
    };
    for cols in (1..=70).chain([127, 128, 129, 255, 256, 257, 511, 512, 513, COLS_MAX]) {
        for (rows, vectors, first) in [(4, 3, 0), (8, 1, 4), (12, 2, 0)] {
            let quads = as_halves(words);
            let quads = &mut quads[..quads_len(rows, cols)];
            let mut x = [0; 3 * COLS_MAX];
            let x = &mut x[..vectors * cols];
            x.fill_with(|| numbers.byte());
            let levels = &mut levels[..rows * cols];
            levels.fill_with(|| numbers.byte() >> 4);
            let biases: [i32; QUAD * QUADS_MAX] = core::array::from_fn(|row| row as i32);
            let multiplier = 1 << 30;
            let (multipliers, mut pairs) = ([multiplier; QUAD * QUADS_MAX], [0; 2 * QUADS_MAX]);
            let mut out = [0; 3 * QUAD * QUADS_MAX];
            let out = &mut out[..vectors * (rows - first)];
            let pairs = &mut pairs[..rows / QUAD * 2];
            let done = pack_quads(cols, levels, quads)
                .and_then(|()| quad_sums(cols, quads, pairs))
                .and_then(|()| {
                    let (multipliers, biases) = (&multipliers[..rows], &biases[..rows]);
                    let quads = Weights::I4(quads);
                    let matrix = Product::new(rows, cols, quads, multipliers, biases, pairs)?;
                    product(Backend::BASELINE, &matrix, x, first, out)
                });
            ensure(done.is_ok(), "a product of four bits was refused")?;
            for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact(rows - first)) {
                let weights = levels.chunks_exact(cols).zip(biases).skip(first);
                for ((weights, bias), out) in weights.zip(out) {
                    let pairs = weights.iter().zip(x);
                    let sum: i32 = pairs.map(|(w, x)| 16 * i32::from(*w) * i32::from(*x)).sum();
                    ensure(*out == scaled(sum + bias, multiplier), "another product")?;
                }
            }
        }
    }
    Ok(())
}

/// The same words.
fn as_halves(words: &mut [u32]) -> &mut [u16] {
    // SAFETY: a word is two halves, whose alignment is less, and every word is a value of both.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 2 * words.len()) }
}

/// The same bytes.
fn as_signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: i8 and u8 have the same size and alignment, and every byte is a value of both.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

const KEYS_MAX: usize = 80;
const DIM_MAX: usize = 72;

/// Keys and values of a head, which begin at words, and what queries have seen of them: by the kernel, and by the text of the contract.
struct Head {
    keys: Aligned<[i8; KEYS_MAX * DIM_MAX]>,
    /// Tile by tile, (head_dim, width).
    values: Aligned<[i8; KEYS_MAX * DIM_MAX]>,
    queries: [[i8; DIM_MAX]; BATCH],
    sums: [[i32; BATCH]; DIM_MAX],
    plain: [Plain; BATCH],
}

#[derive(Clone, Copy)]
struct Plain {
    max: i16,
    sum: u32,
    values: [i32; DIM_MAX],
}

impl Plain {
    const NOTHING: Self = Self {
        max: i16::MIN,
        sum: 0,
        values: [0; DIM_MAX],
    };
}

pub(crate) fn attention(_: &mut Bench) -> Result<(), Fault> {
    let head = singleton!(: Head = Head {
        keys: Aligned([0; KEYS_MAX * DIM_MAX]),
        values: Aligned([0; KEYS_MAX * DIM_MAX]),
        queries: [[0; DIM_MAX]; BATCH],
        sums: [[0; BATCH]; DIM_MAX],
        plain: [Plain::NOTHING; BATCH],
    });
    let Some(head) = head else {
        return ensure(false, "the check was run twice");
    };
    let mut numbers = Numbers(2);
    for head_dim in [8, 16, 24, DIM_MAX] {
        for n in (1..=9).chain([63, 64, 65, 79]) {
            for lanes in 1..=BATCH {
                for all in [
                    &mut head.keys.0[..],
                    &mut head.values.0,
                    head.queries.as_flattened_mut(),
                ] {
                    all.fill_with(|| numbers.byte());
                }
                // All see everything, or each one key more than the one before and not the first.
                compare(head, head_dim, n, lanes, false, 1 << 20)?;
                compare(head, head_dim, n, lanes, true, 1 << 20)?;
                // Every score is the least that there is, and so is that of what is hidden.
                head.queries.as_flattened_mut().fill(127);
                head.keys.0.fill(-128);
                compare(head, head_dim, n, lanes, true, i32::MAX)?;
            }
        }
    }
    Ok(())
}

fn compare(
    head: &mut Head,
    head_dim: usize,
    n: usize,
    lanes: usize,
    causal: bool,
    multiplier: i32,
) -> Result<(), Fault> {
    let Head {
        queries,
        keys,
        values,
        sums,
        plain,
    } = head;
    let mut running = Running {
        max: [0; BATCH],
        sum: [0; BATCH],
        values: &mut sums[..head_dim],
    };
    running.clear();
    plain.fill(Plain::NOTHING);
    let tiles = keys.0[..n * head_dim].chunks(TILE * head_dim);
    let mut of_tile = Scores([[0; TILE]; BATCH]);
    for (index, (keys, values)) in tiles.zip(values.0.chunks(TILE * head_dim)).enumerate() {
        let here = keys.len() / head_dim;
        let width = here.next_multiple_of(8);
        let values = &values[..head_dim * width];
        let visible = |lane: usize| match causal {
            true => {
                let end = (n + lane + 1).saturating_sub(lanes);
                (lane.min(end)..end, index * TILE)
            }
            false => (0..n, index * TILE),
        };
        let visible = |lane: usize| {
            let (keys, first) = visible(lane);
            let inside = |key: usize| key.saturating_sub(first).min(here);
            inside(keys.start)..inside(keys.end)
        };
        let batch: [Query<'_>; BATCH] = core::array::from_fn(|lane| Query {
            elements: &queries[lane][..head_dim],
            visible: visible(lane),
        });
        let done = Tile::new(head_dim, keys, values).and_then(|tile| {
            let (backend, batch) = (Backend::BASELINE, &batch[..lanes]);
            scores(backend, batch, &tile, multiplier, &mut of_tile)?;
            attend(backend, batch, &tile, multiplier, &mut running)
        });
        ensure(done.is_ok(), "a tile was refused")?;
        for (lane, query) in batch.iter().enumerate() {
            let of_query = plainly(query, keys, values, multiplier, &mut plain[lane]);
            let same = lane >= lanes || of_query == of_tile.0[lane];
            ensure(same, "another score")?;
        }
    }
    for (lane, plain) in plain.iter().enumerate().take(lanes) {
        let same = running.max[lane] == plain.max && running.sum[lane] == plain.sum;
        ensure(same, "another sum")?;
        let values = running.values.iter().zip(&plain.values);
        for (lanes, value) in values {
            ensure(lanes[lane] == *value, "another value")?;
        }
    }
    Ok(())
}

/// A tile as `docs/integer.md` has it. Returns the scores.
fn plainly(
    query: &Query<'_>,
    keys: &[i8],
    values: &[i8],
    multiplier: i32,
    seen: &mut Plain,
) -> [i16; TILE] {
    let head_dim = query.elements.len();
    let width = values.len() / head_dim;
    let mut scores = [i16::MIN; TILE];
    let mut max = i16::MIN;
    for key in query.visible.clone() {
        let products = query.elements.iter().zip(&keys[key * head_dim..]);
        let sum = products.map(|(q, k)| i32::from(*q) * i32::from(*k)).sum();
        scores[key] = to_i16(scaled(sum, multiplier));
        max = max.max(scores[key]);
    }
    if max > seen.max {
        let factor = i64::from(power((i32::from(max) - i32::from(seen.max)) as u32));
        let shrunk = |x: i64| (x * factor + (1 << 13)) >> 14;
        if seen.sum > 0 {
            seen.sum = shrunk(seen.sum.into()) as u32;
            for value in &mut seen.values {
                *value = shrunk((*value).into()) as i32;
            }
        }
        seen.max = max;
    }
    let max = i32::from(seen.max);
    let weight = |key: usize| power((max - i32::from(scores[key])) as u32);
    seen.sum += query
        .visible
        .clone()
        .map(|key| u32::from(weight(key)))
        .sum::<u32>();
    for (row, total) in values.chunks_exact(width).zip(&mut seen.values) {
        let keys = query.visible.clone();
        let sum: i32 = keys
            .map(|key| i32::from(weight(key)) * i32::from(row[key]))
            .sum();
        if !query.visible.is_empty() {
            *total += (sum + 32) >> 6;
        }
    }
    scores
}

pub(crate) fn files(_: &mut Bench) -> Result<(), Fault> {
    let copy = singleton!(: [Block; 1200] = [Block::ZERO; 1200]);
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
