//! Draws from integer logits have the shares that softmax, filters and penalty give.

use attentive::integer::{Sampler, SamplerOptions};

/// Shares of each token in many draws.
fn shares(options: SamplerOptions, logits: &[i32], bits: u8) -> Vec<f64> {
    let mut sampler = Sampler::new(options);
    let mut counts = vec![0.0; logits.len()];
    const DRAWS: usize = 100_000;
    for _ in 0..DRAWS {
        let drawn = sampler.draw(&mut logits.to_vec(), bits, &[]);
        counts[drawn.expect("a token") as usize] += 1.0 / DRAWS as f64;
    }
    counts
}

#[test]
fn draws_have_the_shares_of_softmax() {
    let logits = [0, 700, -300, 650, 699, i32::MIN, 512, 100];
    for (bits, thousandths) in [(8u8, 1000u32), (8, 500), (10, 2000), (9, 1)] {
        let options = SamplerOptions {
            temperature_thousandths: thousandths,
            seed: 5,
            ..SamplerOptions::DEFAULT
        };
        let unit = 2f64.powi(-i32::from(bits)) * 1000.0 / f64::from(thousandths);
        let weights = logits.map(|l| ((f64::from(l) - 700.0) * unit).exp2());
        let sum: f64 = weights.iter().sum();
        for (have, weight) in shares(options, &logits, bits).iter().zip(weights) {
            // Four deviations of a count, and the error of a weight.
            let want = weight / sum;
            let slack = 4.0 * (want * (1.0 - want) / 1e5).sqrt() + 0.004 * want;
            assert!(
                (have - want).abs() <= slack,
                "{bits} {thousandths}: {want} {have}"
            );
        }
    }
}

#[test]
fn filters_keep_what_they_say() {
    // In powers of two: shares 1/2, 1/4, 1/8, 1/16, 1/16.
    let logits = [-3 * 256, 0, -4 * 256, -256, -2 * 256, -4 * 256].map(|l| l + 77);
    let kept = |top_k, top_p_thousandths| {
        let options = SamplerOptions {
            top_k,
            top_p_thousandths,
            seed: 3,
            ..SamplerOptions::DEFAULT
        };
        let shares = shares(options, &logits, 8);
        (0..6).filter(|&id| shares[id] > 0.0).collect::<Vec<_>>()
    };
    assert_eq!(kept(0, 1000), [0, 1, 2, 3, 4, 5]);
    assert_eq!(kept(1, 1000), [1]);
    assert_eq!(kept(3, 1000), [1, 3, 4]);
    // The fifth equals the sixth.
    assert_eq!(kept(5, 1000), [0, 1, 2, 3, 4, 5]);
    assert_eq!(kept(0, 400), [1]);
    assert_eq!(kept(0, 700), [1, 3]);
    assert_eq!(kept(0, 860), [1, 3, 4]);
    assert_eq!(kept(2, 990), [1, 3]);
    assert_eq!(kept(0, 0), [1]);
    assert_eq!(
        Sampler::new(SamplerOptions::DEFAULT).draw(&mut [], 8, &[]),
        None
    );
    let same = |seed| {
        let options = SamplerOptions {
            seed,
            ..SamplerOptions::DEFAULT
        };
        let mut sampler = Sampler::new(options);
        [0; 20].map(|_| sampler.draw(&mut logits.clone(), 8, &[1]))
    };
    assert_eq!(same(9), same(9));
    assert_ne!(same(9), same(10));
}

#[test]
fn a_token_of_the_context_is_penalised_once() {
    let penalised = |thousandths, context: &[u32]| {
        let options = SamplerOptions {
            repetition_penalty_thousandths: thousandths,
            ..SamplerOptions::GREEDY
        };
        let mut logits = [1000, -1000, 0, 801, i32::MIN, i32::MAX];
        let drawn = Sampler::new(options).draw(&mut logits[..5], 8, context);
        let again = Sampler::new(options).draw(&mut logits, 8, &[]);
        assert_eq!(again, Some(5));
        (drawn, logits)
    };
    let untouched = [1000, -1000, 0, 801, i32::MIN, i32::MAX];
    for (thousandths, context) in [(1000, &[0, 1, 3][..]), (0, &[0, 1]), (1500, &[])] {
        assert_eq!(penalised(thousandths, context), (Some(0), untouched));
    }
    let [_, _, zero, _, _, highest] = untouched;
    assert_eq!(
        penalised(1250, &[4, 0, 1, 0, 1, 2, 77, 0]),
        (Some(3), [800, -1250, zero, 801, -i32::MAX, highest])
    );
    assert_eq!(penalised(500, &[3, 1]).0, Some(3));
    assert_eq!(penalised(500, &[3, 1]).1[..4], [1000, -500, 0, 1602]);
}
