//! Every number of queries against every number of keys.

use super::*;
use crate::testing::{SIZE_MAX, for_each_on_all_cores};

/// One pair of lengths: every type of cache and mask, the head's width in rotation, whatever else a call has by lot.
fn check_pair(q_len: usize, kv_len: usize, random: &mut Rng) {
    // 7 is prime to the 32 widths, so neighbours have other widths and each width meets every length.
    let head_dim = 8 + 8 * ((q_len + 7 * kv_len) % 32);
    let window = Mask::Window {
        len: 1 + random.index(SIZE_MAX),
        keep: [0, 1, 20][random.index(3)],
    };
    for dtype in DTYPES {
        for mask in [Mask::Full, Mask::Causal, window] {
            if mask != Mask::Full && q_len > kv_len {
                continue;
            }
            // Many heads repeat what one does, at a multiple of the price.
            let drawn = core::iter::repeat_with(|| Case::random(random))
                .find(|case| case.shape.q_heads <= 2)
                .unwrap();
            let shape = AttentionShape {
                q_len,
                kv_len,
                mask,
                scale: 1.0 / (head_dim as f32).sqrt(),
                ..drawn.shape
            };
            let case = Case {
                dtype,
                head_dim,
                shape,
                capacity: kv_len + random.index(40),
                ..drawn
            };
            case.check(random);
        }
    }
}

/// A sample of the long test below.
#[test]
#[cfg_attr(miri, ignore = "equals_the_oracle is the one for Miri")]
fn sampled_lengths_equal_the_oracle() {
    let mut random = Rng(2);
    for _ in 0..24 {
        let (q_len, kv_len) = (1 + random.index(SIZE_MAX), 1 + random.index(SIZE_MAX));
        check_pair(q_len, kv_len, &mut random);
    }
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn all_lengths_equal_the_oracle() {
    for_each_on_all_cores(SIZE_MAX, |index| {
        // The long rows first, so that no core ends up alone with one.
        let q_len = SIZE_MAX - index;
        let mut random = Rng(0x5eed + q_len as u64);
        (1..=SIZE_MAX).for_each(|kv_len| check_pair(q_len, kv_len, &mut random));
        std::format!("{q_len} queries, 1 to {SIZE_MAX} keys")
    });
}
