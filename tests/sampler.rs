//! Drawing tokens: each filter against its definition by sorting, frequencies against probabilities.

mod common;

use attentive::kernels::Backend;
use attentive::{Sampler, SamplerOptions};
use common::Random;

fn draw(options: SamplerOptions, logits: &[f32], context: &[u32]) -> Option<u32> {
    let mut probabilities = vec![0.0; logits.len()];
    Sampler::new(options).draw(Backend::SCALAR, logits, context, &mut probabilities)
}

/// The probabilities that the filters leave, by sorting, in f64.
fn oracle(options: &SamplerOptions, logits: &[f32], context: &[u32]) -> Vec<f64> {
    let mut x: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
    let penalty = f64::from(options.repetition_penalty);
    for (id, x) in x.iter_mut().enumerate() {
        if context.contains(&(id as u32)) {
            *x = if *x > 0.0 { *x / penalty } else { *x * penalty };
        }
    }
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| x[b].total_cmp(&x[a]));
    let mut p: Vec<f64> = x
        .iter()
        .map(|x| (x / f64::from(options.temperature)).exp())
        .collect();
    if options.top_k > 0 {
        order.iter().skip(options.top_k).for_each(|&id| p[id] = 0.0);
    }
    let sum: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= sum);
    let mut mass = 0.0;
    for (rank, id) in order.into_iter().enumerate() {
        if rank > 0 && mass >= f64::from(options.top_p) {
            p[id] = 0.0;
        }
        mass += p[id];
    }
    let sum: f64 = p.iter().sum();
    p.iter().map(|p| p / sum).collect()
}

#[test]
fn frequencies_are_the_probabilities() {
    let logits = [0.5, -1.0, 2.0, 1.9, -3.0, 0.0, 1.0];
    let context = [2, 1, 2, 2];
    let plain = SamplerOptions::DEFAULT;
    for options in [
        plain,
        SamplerOptions {
            temperature: 0.6,
            ..plain
        },
        SamplerOptions { top_k: 3, ..plain },
        SamplerOptions { top_k: 1, ..plain },
        SamplerOptions { top_k: 99, ..plain },
        SamplerOptions {
            top_p: 0.7,
            ..plain
        },
        SamplerOptions {
            top_p: 0.0,
            ..plain
        },
        SamplerOptions {
            top_p: 0.8,
            top_k: 5,
            temperature: 1.4,
            ..plain
        },
        SamplerOptions {
            repetition_penalty: 1.5,
            top_p: 0.9,
            ..plain
        },
    ] {
        let want = oracle(&options, &logits, &context);
        let draws = 40_000;
        for backend in Backend::available() {
            let mut sampler = Sampler::new(SamplerOptions {
                seed: 11,
                ..options
            });
            let mut counts = [0; 7];
            let mut probabilities = [0.0; 7];
            for _ in 0..draws {
                let id = sampler.draw(backend, &logits, &context, &mut probabilities);
                counts[id.expect("finite logits") as usize] += 1;
            }
            for (count, p) in counts.iter().zip(&want) {
                let deviation = (p * (1.0 - p) / f64::from(draws)).sqrt();
                let frequency = f64::from(*count) / f64::from(draws);
                // Five standard deviations; what a filter removed never comes.
                assert!(
                    (frequency - p).abs() <= 5.0 * deviation,
                    "{options:?}: {counts:?}, {want:?}"
                );
            }
        }
    }
}

#[test]
fn the_filters_keep_what_sorting_keeps() {
    let mut random = Random(4);
    for len in [1usize, 2, 9, 100, 1000] {
        let logits: Vec<f32> = (0..len).map(|_| 6.0 * random.symmetric()).collect();
        for top_k in [0, 1, 2, 7, 50] {
            for top_p in [1.0, 0.3, 0.9] {
                let options = SamplerOptions {
                    top_k,
                    top_p,
                    ..SamplerOptions::DEFAULT
                };
                let mut probabilities = vec![0.0; len];
                Sampler::new(options)
                    .draw(Backend::SCALAR, &logits, &[], &mut probabilities)
                    .expect("finite logits");
                let kept = probabilities.iter().map(|p| *p > 0.0);
                let want = oracle(&options, &logits, &[]);
                assert!(
                    kept.eq(want.iter().map(|p| *p > 0.0)),
                    "{len} {top_k} {top_p}"
                );
            }
        }
    }
}

#[test]
fn greedy_takes_the_first_of_the_highest() {
    let greedy = SamplerOptions::GREEDY;
    assert_eq!(draw(greedy, &[1.0, 3.0, 3.0, 2.0], &[]), Some(1));
    assert_eq!(draw(greedy, &[-5.0], &[]), Some(0));
    for len in 1..70 {
        for first in 0..len {
            let mut logits = vec![-3.0_f32; len];
            logits[first] = -2.0;
            logits[(first + 7).min(len - 1)] = -2.0;
            logits[len / 2] = logits[len / 2].max(-2.5);
            assert_eq!(draw(greedy, &logits, &[]), Some(first as u32), "{len}");
        }
    }
    let penalised = SamplerOptions {
        repetition_penalty: 2.0,
        ..greedy
    };
    assert_eq!(draw(penalised, &[1.0, 3.0, 2.9], &[1, 1]), Some(2));
    assert_eq!(draw(penalised, &[-1.0, -0.9], &[1]), Some(0));
    // A token that the model has not is nobody's business.
    assert_eq!(draw(penalised, &[1.0, 0.0], &[7]), Some(0));
    let odd = SamplerOptions {
        temperature: f32::NAN,
        ..greedy
    };
    assert_eq!(draw(odd, &[1.0, 3.0], &[]), Some(1));
}

#[test]
fn what_is_not_finite_is_never_drawn() {
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for options in [SamplerOptions::GREEDY, SamplerOptions::DEFAULT] {
        assert_eq!(draw(options, &bad, &[]), None);
        assert_eq!(draw(options, &[], &[]), None);
        for seed in 0..50 {
            let options = SamplerOptions { seed, ..options };
            assert_eq!(draw(options, &[bad[0], bad[1], -2.0, bad[2]], &[]), Some(2));
        }
    }
    // Small temperatures and extreme logits end in certainty, not in NaN.
    let cold = SamplerOptions {
        temperature: 1e-30,
        ..SamplerOptions::DEFAULT
    };
    assert_eq!(draw(cold, &[3e38, -3e38, 2.9e38], &[]), Some(0));
}

#[test]
fn the_same_seed_draws_the_same() {
    let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
    let run = |seed| {
        let mut sampler = Sampler::new(SamplerOptions {
            seed,
            ..SamplerOptions::DEFAULT
        });
        let mut probabilities = vec![0.0; 50];
        (0..30)
            .map(|_| sampler.draw(Backend::SCALAR, &logits, &[], &mut probabilities))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
