//! The limits themselves, for the report: what 100 % means on this machine.

use crate::case::{Bound, Case, Outcome, Unit, Workload};
use crate::cores::{self, CORES};
use crate::data::{Buffer, Rng};
use crate::probe::{Arithmetic, Probe};
use half::f16;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Sizes that lie well inside the caches of the processors we know (32 KiB, 512 KiB, 16–32 MiB) or well outside all.
const LEVELS: [(&str, usize); 5] = [
    ("l1", 16 * KIB),
    ("l2", 256 * KIB),
    ("l3", 4 * MIB),
    ("16MiB", 16 * MIB),
    ("dram", 128 * MIB),
];

/// Steps of every chain in one run.
const STEPS: usize = 3500;

pub(super) fn cases() -> Vec<Case> {
    let peaks = [
        ("f32", Unit::Gflops, Arithmetic::F32),
        ("i8", Unit::Gops, Arithmetic::I8),
        ("i16", Unit::Gops, Arithmetic::I16),
    ];
    let mut cases: Vec<Case> = peaks
        .into_iter()
        .map(|(name, unit, kind)| peak(name, unit, kind))
        .collect();
    cases.push(cores());
    for (pattern, read) in [
        ("read", Probe::read as fn(Probe, &[u8])),
        ("read-quarters", Probe::read_quarters),
    ] {
        cases.extend(LEVELS.map(|(level, bytes)| reading(pattern, read, level, bytes)));
    }
    let convert = LEVELS
        .into_iter()
        .filter(|(level, _)| ["l2", "l3", "dram"].contains(level));
    cases.extend(convert.map(|(level, bytes)| convert_f16(level, bytes)));
    cases
}

fn peak(name: &str, unit: Unit, kind: Arithmetic) -> Case {
    let probe = Probe::detect();
    Case {
        name: format!("limit/peak/{name}"),
        unit,
        work: probe.arithmetic(kind, STEPS),
        bound: Bound::Itself,
        bound_work: 0.0,
        bytes: 0,
        prepare: Box::new(move |_, _| {
            Ok(Box::new(Loop(move || {
                probe.arithmetic(kind, STEPS);
            })))
        }),
    }
}

/// Multiply-adds on two cores at once, against two times those of one: what the machine lets anything scale to. Two
/// hardware threads of one core reach half of it.
fn cores() -> Case {
    let probe = Probe::detect();
    // Milliseconds, beside which the start of a thread is nothing.
    let steps = 400 * STEPS;
    let work = CORES as f64 * probe.arithmetic(Arithmetic::F32, steps);
    Case {
        name: format!("limit/peak/f32/{CORES}cores"),
        unit: Unit::Gflops,
        work,
        bound: Bound::Cores(CORES),
        bound_work: 1.0 / CORES as f64,
        bytes: 0,
        prepare: Box::new(move |_, _| {
            let pool = cores::pool()?;
            Ok(Box::new(Cores {
                together: move || {
                    pool.broadcast(|_| probe.arithmetic(Arithmetic::F32, steps));
                },
                alone: move || {
                    probe.arithmetic(Arithmetic::F32, CORES * steps);
                },
            }))
        }),
    }
}

fn reading(pattern: &str, read: fn(Probe, &[u8]), level: &str, bytes: usize) -> Case {
    let probe = Probe::detect();
    Case {
        name: format!("limit/{pattern}/{level}"),
        unit: Unit::Gbytes,
        work: bytes as f64,
        bound: Bound::Itself,
        bound_work: 0.0,
        bytes,
        prepare: Box::new(move |_, rng| {
            let mut data = Buffer::<u8>::at_line(bytes, rng);
            fill(&mut data, rng, |rng| rng.below(256) as u8);
            Ok(Box::new(Loop(move || read(probe, &data))))
        }),
    }
}

fn convert_f16(level: &str, bytes: usize) -> Case {
    let probe = Probe::detect();
    Case {
        name: format!("limit/convert-f16/{level}"),
        unit: Unit::Gbytes,
        work: bytes as f64,
        bound: Bound::Itself,
        bound_work: 0.0,
        bytes,
        prepare: Box::new(move |_, rng| {
            let mut data = Buffer::<f16>::at_line(bytes / size_of::<f16>(), rng);
            fill(&mut data, rng, |rng| f16::from_f32(rng.normal()));
            Ok(Box::new(Loop(move || probe.convert_f16(&data))))
        }),
    }
}

/// Random pages: pages of zeros that nobody ever wrote may all be one page of memory.
fn fill<T: Copy>(data: &mut [T], rng: &mut Rng, mut draw: impl FnMut(&mut Rng) -> T) {
    let page: Vec<T> = (0..4096).map(|_| draw(rng)).collect();
    for part in data.chunks_mut(page.len()) {
        part.copy_from_slice(&page[..part.len()]);
    }
}

/// Work without a result, on several cores or one.
struct Cores<F, G> {
    together: F,
    alone: G,
}

impl<F: FnMut(), G: FnMut()> Workload for Cores<F, G> {
    fn run(&mut self) -> Outcome {
        (self.together)();
        Ok(())
    }

    fn run_alone(&mut self) -> Outcome {
        (self.alone)();
        Ok(())
    }

    fn check(&mut self) -> Outcome {
        Ok(())
    }

    fn streams(&self) -> Vec<&[u8]> {
        Vec::new()
    }

    fn scratch_bytes(&self) -> usize {
        0
    }
}

/// A workload without a result.
struct Loop<F>(F);

impl<F: FnMut()> Workload for Loop<F> {
    fn run(&mut self) -> Outcome {
        (self.0)();
        Ok(())
    }

    fn check(&mut self) -> Outcome {
        Ok(())
    }

    fn streams(&self) -> Vec<&[u8]> {
        Vec::new()
    }

    fn scratch_bytes(&self) -> usize {
        0
    }
}
