//! The stopwatch: batches, rounds, and the limit measured in the same breath.

use crate::case::{Bound, Case, Outcome, Workload};
use crate::contest::{self, Entrant, Invite, Standing};
use crate::data::Rng;
use crate::machine;
use crate::probe::{Arithmetic, Canary, Probe};
use attentive_kernels::Backend;
use core::hint::black_box;
use std::time::{Duration, Instant};

/// A batch shorter than this would measure the clock.
const BATCH: Duration = Duration::from_micros(200);
/// Read at least so much for the bandwidth: 80 µs from L1, 1 ms from DRAM.
const READ_BYTES: usize = 16 << 20;
/// The rounds of one try take about this long.
const TRY: Duration = Duration::from_millis(250);
const ROUNDS: core::ops::RangeInclusive<usize> = 16..=200;
/// Of the batches, in order of time, this share is faster than the one reported.
pub(crate) const PERCENTILE: f64 = 0.10;
/// The canary reaches .97 and more of the FMA peak on a quiet core, whatever its clock.
const CANARY_QUIET: f64 = 0.92;

/// A batch during which the thread had less of its core than this was interrupted.
const SHARE_MIN: f64 = 0.98;

/// How patient to be, and with what.
#[derive(Debug)]
pub struct Stopwatch {
    probe: Probe,
    canary: Canary,
    /// Tries until the machine is quiet; each draws new data at new addresses.
    tries: usize,
}

/// The result of one case.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// In the unit of the case.
    pub value: f64,
    /// The limit, in the unit of the case.
    pub limit: f64,
    /// Of scratch memory lent.
    pub scratch_bytes: usize,
    /// Whether the machine was busy with something else in every try.
    pub disturbed: bool,
}

/// Batches of one kind.
#[derive(Default)]
pub(crate) struct Samples(Vec<Sample>);

#[derive(Clone, Copy)]
pub(crate) struct Sample {
    /// Of the batch, divided by what the batch did.
    pub(crate) seconds: f64,
    /// Whether another thread ran on the core in the meantime.
    interrupted: bool,
}

impl Samples {
    /// Returns the seconds of the whole batch.
    fn push(&mut self, clock: Clock, amount: f64) -> f64 {
        let (elapsed, interrupted) = clock.stop();
        let elapsed = elapsed.as_secs_f64();
        self.0.push(Sample {
            seconds: elapsed / amount,
            interrupted,
        });
        elapsed
    }

    /// A sample that was taken elsewhere.
    pub(crate) fn push_seconds(&mut self, seconds: f64) {
        self.0.push(Sample {
            seconds,
            interrupted: false,
        });
    }

    /// The sample below which `share` of all lie; infinite when there is none.
    pub(crate) fn percentile(&mut self, share: f64) -> Sample {
        self.0.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let index = (self.0.len() as f64 * share) as usize;
        self.0.get(index).copied().unwrap_or(Sample {
            seconds: f64::INFINITY,
            interrupted: false,
        })
    }
}

/// Wall time, and this thread's share of it.
struct Clock {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Clock {
    fn start() -> Self {
        let cpu = machine::thread_time();
        Self {
            wall: Instant::now(),
            cpu,
        }
    }

    /// The wall time, and whether the thread had less of the core than [`SHARE_MIN`].
    fn stop(self) -> (Duration, bool) {
        let wall = self.wall.elapsed();
        let cpu = machine::thread_time().zip(self.cpu);
        let interrupted = cpu.is_some_and(|(end, start)| {
            end.saturating_sub(start).as_secs_f64() < SHARE_MIN * wall.as_secs_f64()
        });
        (wall, interrupted)
    }
}

impl Stopwatch {
    /// A stopwatch that tries up to `tries` times while the machine is disturbed.
    #[must_use]
    pub fn new(tries: usize) -> Self {
        Self {
            probe: Probe::detect(),
            canary: Canary::default(),
            tries: tries.max(1),
        }
    }

    /// Sets the case up, checks its result, and measures it together with its limit.
    ///
    /// # Errors
    /// A wrong result, or whatever the product refuses.
    pub fn measure(&self, case: &Case, backend: Backend) -> Outcome<Figure> {
        let (figure, _) = self.measure_beside(case, backend, &mut |_| Ok(Vec::new()))?;
        Ok(figure)
    }

    /// The same, with contenders that take turns with the case; each keeps its best try.
    ///
    /// # Errors
    /// A wrong result, whatever the product refuses, or what `invite` returns.
    pub fn measure_beside(
        &self,
        case: &Case,
        backend: Backend,
        invite: Invite<'_>,
    ) -> Outcome<(Figure, Vec<Standing>)> {
        let mut best: Option<Figure> = None;
        let mut standings: Vec<Standing> = Vec::new();
        for attempt in 0..self.tries {
            machine::pin(attempt);
            let mut workload = (case.prepare)(backend, &mut Rng::new(attempt as u64))?;
            workload.check()?;
            let mut contenders: Vec<Entrant> = invite(workload.as_ref())?
                .into_iter()
                .map(Entrant::new)
                .collect();
            let figure = self.attempt(case, workload.as_mut(), &mut contenders)?;
            // Both sides keep their best: what a disturbance took from one of them is not what is measured.
            let merged = best.map_or(figure, |best| Figure {
                value: best.value.max(figure.value),
                limit: best.limit.max(figure.limit),
                ..figure
            });
            best = Some(merged);
            for entrant in contenders {
                contest::merge(&mut standings, entrant.standing(case));
            }
            if !figure.disturbed {
                break;
            }
        }
        let figure = best.ok_or("no try was made")?;
        Ok((figure, standings))
    }

    fn attempt(
        &self,
        case: &Case,
        workload: &mut dyn Workload,
        contenders: &mut [Entrant],
    ) -> Outcome<Figure> {
        let (runs, seconds_per_run) = runs_per_batch(|runs| {
            let clock = Instant::now();
            for _ in 0..runs {
                workload.run()?;
            }
            Ok(black_box(clock.elapsed()).as_secs_f64())
        })?;
        let alone = contenders.is_empty();
        let warm = !alone && contest::is_warmed(seconds_per_run);
        let (mut own, mut limit) = (Samples::default(), Samples::default());
        let (mut canary, mut peak) = (Samples::default(), Samples::default());
        let begin = Instant::now();
        let mut spent = 0.0;
        let mut goes_on = true;
        while goes_on {
            self.sample_machine(&mut canary, &mut peak);
            self.sample_limit(case.bound, workload, runs, &mut limit)?;
            if warm {
                workload.run()?;
            }
            let clock = Clock::start();
            for _ in 0..runs {
                workload.run()?;
            }
            spent += own.push(clock, runs as f64);
            contenders.iter_mut().for_each(Entrant::turn);
            let turns = own.0.len();
            goes_on = match alone {
                true => turns < *ROUNDS.start() || (begin.elapsed() < TRY && turns < *ROUNDS.end()),
                false => {
                    contest::has_turns_left(turns, spent)
                        || contenders.iter().any(Entrant::has_turns_left)
                }
            };
        }
        let chosen = own.percentile(PERCENTILE);
        let value = case.work / chosen.seconds * case.unit.scale();
        let limit = match case.bound {
            Bound::Itself => value,
            // The time that the limit allows for one run, turned into the unit of the case.
            _ => {
                let seconds = limit.percentile(PERCENTILE).seconds;
                case.work / (case.bound_work * seconds) * case.unit.scale()
            }
        };
        // Where there is no canary this is no number, and below nothing.
        let quiet = peak.percentile(PERCENTILE).seconds / canary.percentile(0.5).seconds;
        Ok(Figure {
            value,
            limit,
            scratch_bytes: workload.scratch_bytes(),
            disturbed: quiet < CANARY_QUIET || chosen.interrupted,
        })
    }

    /// The canary and the peak it is held against; both stay away where there is no canary.
    fn sample_machine(&self, canary: &mut Samples, peak: &mut Samples) {
        // The case before may have taken the cache: the first products bring the panels back.
        self.probe.canary(&self.canary, 30);
        let clock = Clock::start();
        if let Some(operations) = self.probe.canary(&self.canary, 300) {
            canary.push(clock, operations);
            let clock = Clock::start();
            let operations = self.probe.arithmetic(Arithmetic::F32, 1500);
            peak.push(clock, operations);
        }
    }

    fn sample_limit(
        &self,
        bound: Bound,
        workload: &mut dyn Workload,
        runs: usize,
        samples: &mut Samples,
    ) -> Outcome {
        match bound {
            Bound::Arithmetic(kind) => {
                let clock = Clock::start();
                let operations = self.probe.arithmetic(kind, 3500);
                samples.push(clock, operations);
            }
            Bound::Reading => {
                let streams = workload.streams();
                let bytes: usize = streams.iter().map(|stream| stream.len()).sum();
                // A first pass brings the bytes to the level that can hold them.
                streams.iter().for_each(|stream| self.probe.read(stream));
                let passes = READ_BYTES.div_ceil(bytes.max(1));
                let clock = Clock::start();
                for _ in 0..passes {
                    streams.iter().for_each(|stream| self.probe.read(stream));
                }
                samples.push(clock, (bytes * passes) as f64);
            }
            Bound::Cores(_) => {
                let clock = Clock::start();
                for _ in 0..runs {
                    workload.run_alone()?;
                }
                samples.push(clock, runs as f64);
            }
            Bound::Itself => {}
        }
        Ok(())
    }
}

/// So many runs that a batch, whose seconds `time` tells, is no shorter than [`BATCH`]; and the seconds of one.
pub(crate) fn runs_per_batch(mut time: impl FnMut(usize) -> Outcome<f64>) -> Outcome<(usize, f64)> {
    let batch = BATCH.as_secs_f64();
    let mut runs = 1;
    loop {
        let elapsed = time(runs)?;
        if elapsed >= batch {
            return Ok((runs, elapsed / runs as f64));
        }
        let factor = batch / elapsed.max(1e-9);
        runs = (runs as f64 * factor.clamp(1.1, 100.0)).ceil() as usize;
    }
}
