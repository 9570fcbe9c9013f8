//! Every operation of every instruction set against plain Rust.

use super::{Isa, Kernel};
use crate::Backend;
use crate::testing::{Rng, backends};
use half::{bf16, f16};
use std::vec::Vec;

struct Floats {
    a: [f32; 8],
    b: [f32; 8],
    c: [f32; 8],
}

impl Kernel for Floats {
    type Output = ();
    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { a, b, c } = self;
        let [x, y, z] = [isa.load(&a), isa.load(&b), isa.load(&c)];
        let out = |v: I::F32| {
            let mut lanes = [0.0; 8];
            isa.store(v, &mut lanes);
            lanes
        };
        let two = |f: fn(f32, f32) -> f32| core::array::from_fn::<f32, 8, _>(|i| f(a[i], b[i]));
        let one = |f: fn(f32) -> f32| a.map(f);
        assert_eq!(out(isa.splat(a[0])), [a[0]; 8]);
        assert_eq!(out(isa.iota()), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(out(isa.add(x, y)), two(|a, b| a + b));
        assert_eq!(out(isa.sub(x, y)), two(|a, b| a - b));
        assert_eq!(out(isa.mul(x, y)), two(|a, b| a * b));
        assert_eq!(out(isa.div(x, y)), two(|a, b| a / b));
        assert_eq!(out(isa.min(x, y)), two(f32::min));
        assert_eq!(out(isa.max(x, y)), two(f32::max));
        assert_eq!(out(isa.neg(x)), one(|a| -a));
        assert_eq!(out(isa.abs(x)), one(f32::abs));
        assert_eq!(out(isa.sqrt(isa.abs(x))), one(|a| a.abs().sqrt()));
        assert_eq!(out(isa.round_even(x)), one(f32::round_ties_even));
        for (got, (a, b)) in out(isa.max_if_positive(x, y)).iter().zip(a.iter().zip(&b)) {
            let max = a.max(*b);
            assert!(if max > 0.0 { *got == max } else { *got <= 0.0 });
        }
        for (got, ((a, b), c)) in out(isa.fma(x, y, z)).iter().zip(a.iter().zip(&b).zip(&c)) {
            let exact = f64::from(*a) * f64::from(*b) + f64::from(*c);
            let fused = I::NAME != "scalar";
            assert_eq!(*got, if fused { exact as f32 } else { a * b + c });
        }
        let gt = isa.gt(x, y);
        assert_eq!(
            out(isa.select(gt, z, y)),
            core::array::from_fn(|i| if a[i] > b[i] { c[i] } else { b[i] })
        );
        assert_eq!(isa.all(gt), a.iter().zip(&b).all(|(a, b)| a > b));
        assert!(isa.all(isa.lt(x, isa.splat(1e9))) && isa.first(x) == a[0]);
        assert_eq!(isa.any(gt), a.iter().zip(&b).any(|(a, b)| a > b));
        assert_eq!(isa.any(isa.lt(x, y)), a.iter().zip(&b).any(|(a, b)| a < b));
        assert!((isa.sum(x) - a.iter().sum::<f32>()).abs() <= 1e-3);
        assert_eq!(isa.max_lane(x), a.into_iter().fold(f32::MIN, f32::max));
        let bits = a.map(|a| a.abs().to_bits());
        assert_eq!(Some(isa.max_bits(isa.abs(x))), bits.into_iter().max());
        for lane in 0..8 {
            let mut with_nan = a.map(f32::abs);
            with_nan[lane] = f32::NAN;
            with_nan[(lane + 1) % 8] = f32::INFINITY;
            assert_eq!(isa.max_bits(isa.load(&with_nan)), f32::NAN.to_bits());
        }
        for k in [-3i32, 0, 5] {
            let t = isa.splat(12_582_912.0 + k as f32);
            assert_eq!(
                out(isa.add_exponent(x, t)),
                one(|a| a).map(|a| a * (k as f32).exp2())
            );
        }
        let mut halves = [f16::ZERO; 8];
        isa.store_f16(x, &mut halves);
        assert_eq!(halves, a.map(f16::from_f32));
        assert_eq!(out(isa.load_f16(&halves)), halves.map(f16::to_f32));
        let upper = a.map(bf16::from_f32);
        assert_eq!(out(isa.load_bf16(&upper)), upper.map(bf16::to_f32));
        for len in 0..=8 {
            let mut part = [9.0; 8];
            isa.store_partial(isa.load_partial(&a[..len]), &mut part[..len]);
            assert_eq!(
                part,
                core::array::from_fn(|i| if i < len { a[i] } else { 9.0 })
            );
        }
        let mut ints = [0; 8];
        isa.store_i32(isa.round_i32(x), &mut ints);
        assert_eq!(ints, one(f32::round_ties_even).map(|a| a as i32));
        assert_eq!(out(isa.to_f32(isa.load_i32(&ints))), ints.map(|a| a as f32));
        let mut bytes = [0; 8];
        isa.store_i8(
            isa.add_i32(isa.load_i32(&ints), isa.splat_i32(100)),
            &mut bytes,
        );
        assert_eq!(bytes, ints.map(|a| (a + 100).clamp(-128, 127) as i8));
        assert_eq!(out(isa.load_i8(&bytes)), bytes.map(f32::from));
    }
}

struct Integers {
    u: [u8; 32],
    s: [i8; 32],
    acc: [i32; 8],
}

impl Kernel for Integers {
    type Output = ();
    const PRODUCTS: bool = true;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self { u, s, acc } = self;
        let [bytes, signed] = [isa.load_bytes_u8(&u), isa.load_bytes_i8(&s)];
        let acc_v = isa.load_i32(&acc);
        let dot = |i: usize, u: &dyn Fn(usize) -> i32, s: &dyn Fn(usize) -> i32| {
            acc[i] + (4 * i..4 * i + 4).map(|k| u(k) * s(k)).sum::<i32>()
        };
        let ints = |v| {
            let mut lanes = [0; 8];
            isa.store_i32(v, &mut lanes);
            lanes
        };
        let sum = acc.iter().fold(0, |sum: i32, acc| sum.wrapping_add(*acc));
        assert_eq!(isa.sum_i32(acc_v), sum);
        assert_eq!(isa.sum_i32(isa.splat_i32(i32::MAX)), -8);
        let (u7, s7) = (u.map(|u| u & 127), s.map(|s| s / 2));
        let want = core::array::from_fn(|i| dot(i, &|k| i32::from(u7[k]), &|k| i32::from(s[k])));
        assert_eq!(
            ints(isa.dot4_u7(acc_v, isa.load_bytes_u8(&u7), signed)),
            want
        );
        let want = core::array::from_fn(|i| dot(i, &|k| i32::from(u[k]), &|k| i32::from(s7[k])));
        assert_eq!(
            ints(isa.dot4_u8(acc_v, bytes, isa.load_bytes_i8(&s7))),
            want
        );

        let s6 = s.map(|s| s.clamp(-126, 126) / 2);
        let offset = |k: usize| i32::from(s[k]) + I::WEIGHT_OFFSET;
        let want = core::array::from_fn(|i| dot(i, &offset, &|k| i32::from(s6[k])));
        assert_eq!(
            ints(isa.dot4_weights(acc_v, isa.load_weights(&s), isa.load_bytes_i8(&s6))),
            want
        );

        let four = [s[0], s[1], s[2], s[3]];
        let want =
            core::array::from_fn(|i| dot(i, &|k| i32::from(u7[k]), &|k| i32::from(four[k % 4])));
        assert_eq!(
            ints(isa.dot4_u7(acc_v, isa.load_bytes_u8(&u7), isa.splat4_i8(four))),
            want
        );
        let four = [u7[0], u7[1], u7[2], u7[3]];
        let want =
            core::array::from_fn(|i| dot(i, &|k| i32::from(four[k % 4]), &|k| i32::from(s[k])));
        assert_eq!(ints(isa.dot4_u7(acc_v, isa.splat4_u8(four), signed)), want);

        let (low, high) = (isa.low_nibbles(bytes), isa.high_nibbles(bytes));
        let mut out = [0; 32];
        isa.store_bytes(low, &mut out);
        assert_eq!(out, u.map(|u| u & 15));
        isa.store_bytes(high, &mut out);
        assert_eq!(out, u.map(|u| u >> 4));
        let mut pairs = isa.splat2_i16(0);
        for _ in 0..4 {
            pairs = isa.dot2_u4(isa.dot2_u4(pairs, low, signed), high, signed);
        }
        let both = |k: usize| i32::from(u[k] & 15) + i32::from(u[k] >> 4);
        let want = core::array::from_fn(|i| 4 * (dot(i, &both, &|k| i32::from(s[k])) - acc[i]));
        let (zero, ones) = (isa.splat_i32(0), isa.splat2_i16(1 << 16 | 1));
        assert_eq!(ints(isa.dot2_i16(zero, pairs, ones)), want);

        let two = u32::from((-4 * i16::from(s[0])) as u16) | 5 << 16;
        let same = isa.dot2_i16(zero, isa.splat2_i16(two), ones);
        assert_eq!(ints(same), [5 - 4 * i32::from(s[0]); 8]);
        // Acc as it is saturates; shifted down, it does not.
        for shift in [0, 24] {
            let lanes: [[i32; 8]; 4] =
                core::array::from_fn(|i| acc.map(|a| (a >> shift) - i as i32));
            isa.store_bytes(
                isa.narrow(lanes.map(|lanes| isa.load_i32(&lanes))),
                &mut out,
            );
            let want: Vec<u8> = lanes
                .as_flattened()
                .iter()
                .map(|a| (*a).clamp(-128, 127) as u8)
                .collect();
            assert_eq!(out, want[..]);
        }

        let words = |v| {
            let mut lanes = [0; 16];
            isa.store_i16(v, &mut lanes);
            lanes
        };
        let (wide_u, wide_s) = (isa.widen_u8(bytes), isa.widen_i8(signed));
        for (odd, (wide_u, wide_s)) in wide_u.into_iter().zip(wide_s).enumerate() {
            assert_eq!(
                words(wide_u),
                core::array::from_fn(|i| i16::from(u[2 * i + odd]))
            );
            assert_eq!(
                words(wide_s),
                core::array::from_fn(|i| i16::from(s[2 * i + odd]))
            );
        }
        let pair = [acc[0] as i16, acc[1] as i16];
        let word = u32::from(pair[0] as u16) | u32::from(pair[1] as u16) << 16;
        assert_eq!(
            words(isa.splat2_i16(word)),
            core::array::from_fn(|i| pair[i % 2])
        );
        let want = core::array::from_fn(|i| {
            let at = |k: usize| i32::from(u[4 * i + k]);
            acc[i].wrapping_add(at(0) * i32::from(pair[0]) + at(2) * i32::from(pair[1]))
        });
        assert_eq!(
            ints(isa.dot2_i16(acc_v, wide_u[0], isa.splat2_i16(word))),
            want
        );
        for shift in [0, 14] {
            let lanes: [[i32; 8]; 2] =
                core::array::from_fn(|i| acc.map(|a| (a >> shift) - i as i32));
            let narrow = words(isa.narrow_i16(lanes.map(|lanes| isa.load_i32(&lanes))));
            let lanes = lanes.as_flattened();
            let want = core::array::from_fn(|i| {
                let from = i / 4 * 4 + [0, 2, 1, 3][i % 4];
                lanes[from].clamp(-32_768, 32_767) as i16
            });
            assert_eq!(narrow, want);
        }
        assert_eq!(
            isa.apart(Sum(acc)),
            acc.iter().fold(0, |sum: i32, a| sum.wrapping_add(*a))
        );
    }
}

struct Sum([i32; 8]);

impl Kernel for Sum {
    type Output = i32;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> i32 {
        let mut lanes = [0; 8];
        isa.store_i32(isa.load_i32(&self.0), &mut lanes);
        lanes.iter().fold(0, |sum, a| sum.wrapping_add(*a))
    }
}

#[test]
fn operations_equal_plain_rust() {
    let mut random = Rng(1);
    let cases = if cfg!(miri) { 4 } else { 1000 };
    for backend in backends() {
        for _ in 0..cases {
            // Never 0: its sign is unspecified in a few operations.
            let mut float = || (random.bits() % 40_001) as f32 / 128.0 - 156.001;
            let floats = Floats {
                a: core::array::from_fn(|_| float()),
                b: core::array::from_fn(|_| float()),
                c: core::array::from_fn(|_| float()),
            };
            backend.run(floats);
            let integers = Integers {
                u: core::array::from_fn(|_| random.bits() as u8),
                s: core::array::from_fn(|_| random.bits() as i8),
                acc: core::array::from_fn(|_| random.bits() as i32 / 2),
            };
            backend.run(integers);
        }
        let extremes = [127, -128].map(|s| Integers {
            u: [255; 32],
            s: [s; 32],
            acc: [0; 8],
        });
        for extreme in extremes {
            backend.run(extreme);
        }
    }
}

#[test]
fn names_find_their_backends() {
    for backend in backends() {
        assert_eq!(Backend::by_name(backend.name()), Some(backend));
    }
    assert_eq!(Backend::by_name("avx1024"), None);
    assert!(Backend::available().any(|one| one == Backend::BASELINE));
}
