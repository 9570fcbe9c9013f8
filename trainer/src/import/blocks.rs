//! How GGUF stores numbers: floats, and blocks of integers that share a scale (ggml's `ggml-common.h`).
//!
//! A dequantized number is computed in f32 in the order in which ggml computes it, so that both have the same bits.

use half::{bf16, f16};

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are ggml's")]
#[allow(non_camel_case_types, reason = "the names are ggml's")]
pub enum Dtype {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// ggml's names by code, for messages; what is missing was removed from the format.
const NAMES: [(u32, &str); 32] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (8, "Q8_0"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (12, "Q4_K"),
    (13, "Q5_K"),
    (14, "Q6_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (30, "BF16"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

impl Dtype {
    /// All that can be read.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// The type of that code, if it can be read.
    pub fn of(code: u32) -> Option<Self> {
        let name = NAMES.iter().find(|(known, _)| *known == code)?.1;
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// ggml's name of a code.
    pub fn name_of(code: u32) -> String {
        match NAMES.iter().find(|(known, _)| *known == code) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("code {code}, which is unknown"),
        }
    }

    /// ggml's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
        }
    }

    /// Elements of a block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4_K => 2 + 2 + 12 + 128,
            Self::Q5_K => 2 + 2 + 12 + 32 + 128,
            Self::Q6_K => 128 + 64 + 16 + 2,
        }
    }

    /// Bytes of `len` elements, which are whole blocks.
    pub const fn bytes(self, len: usize) -> usize {
        len / self.block_len() * self.block_bytes()
    }

    /// Writes the numbers that whole blocks stand for.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        let blocks = bytes.chunks_exact(self.block_bytes());
        for (block, out) in blocks.zip(out.chunks_exact_mut(self.block_len())) {
            match self {
                Self::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
                Self::F16 => out[0] = half_at(block, 0),
                Self::BF16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
                Self::Q4_0 => {
                    let d = half_at(block, 0);
                    nibbles(&block[2..], out, |q| (f32::from(q) - 8.0) * d);
                }
                Self::Q4_1 => {
                    let (d, m) = (half_at(block, 0), half_at(block, 2));
                    nibbles(&block[4..], out, |q| f32::from(q) * d + m);
                }
                Self::Q5_0 => {
                    let d = half_at(block, 0);
                    fives(&block[2..], out, |q| (f32::from(q) - 16.0) * d);
                }
                Self::Q5_1 => {
                    let (d, m) = (half_at(block, 0), half_at(block, 2));
                    fives(&block[4..], out, |q| f32::from(q) * d + m);
                }
                Self::Q8_0 => {
                    let d = half_at(block, 0);
                    for (out, &q) in out.iter_mut().zip(&block[2..]) {
                        *out = f32::from(q as i8) * d;
                    }
                }
                Self::Q4_K => q4_k(block, out),
                Self::Q5_K => q5_k(block, out),
                Self::Q6_K => q6_k(block, out),
            }
        }
    }

    /// Writes the integers of a block of 32 and returns its scale and its minimum (0 for a type without): a number is
    /// integer · scale + minimum. Types without such blocks write nothing.
    pub fn levels(self, block: &[u8], out: &mut [i8]) -> (f16, f16) {
        let f16_at = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]);
        match self {
            Self::Q4_0 => nibbles(&block[2..], out, |q| q as i8 - 8),
            Self::Q4_1 => {
                nibbles(&block[4..], out, |q| q as i8);
                return (f16_at(0), f16_at(2));
            }
            Self::Q5_0 => fives(&block[2..], out, |q| q as i8 - 16),
            Self::Q8_0 => {
                for (out, &q) in out.iter_mut().zip(&block[2..]) {
                    *out = q as i8;
                }
            }
            _ => return (f16::ZERO, f16::ZERO),
        }
        (f16_at(0), f16::ZERO)
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Low nibbles are the first half, high ones the second.
fn nibbles<T>(bytes: &[u8], out: &mut [T], value: impl Fn(u8) -> T) {
    let (low, high) = out.split_at_mut(out.len() / 2);
    for ((low, high), &byte) in low.iter_mut().zip(high).zip(bytes) {
        *low = value(byte & 15);
        *high = value(byte >> 4);
    }
}

/// Four bytes of fifth bits, element by element, then nibbles.
fn fives<T>(bytes: &[u8], out: &mut [T], value: impl Fn(u8) -> T) {
    let fifths = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (i, out) in out.iter_mut().enumerate() {
        let byte = bytes[4 + i % 16];
        let four = if i < 16 { byte & 15 } else { byte >> 4 };
        *out = value(four | (((fifths >> i) & 1) << 4) as u8);
    }
}

/// Scale and minimum, six bits each, of sub-block `j` of eight.
fn six_bits(j: usize, packed: &[u8]) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4),
            (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4),
        )
    };
    (f32::from(scale), f32::from(minimum))
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = six_bits(j, &block[4..16]);
        let (d, m) = (d * scale, dmin * minimum);
        let nibbles = &block[16 + j / 2 * 32..];
        for (out, &byte) in out.iter_mut().zip(nibbles) {
            *out = d * f32::from((byte >> (4 * (j % 2))) & 15) - m;
        }
    }
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    let fifths = &block[16..48];
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = six_bits(j, &block[4..16]);
        let (d, m) = (d * scale, dmin * minimum);
        let nibbles = &block[48 + j / 2 * 32..];
        for ((out, &byte), &fifth) in out.iter_mut().zip(nibbles).zip(fifths) {
            let q = ((byte >> (4 * (j % 2))) & 15) | (((fifth >> j) & 1) << 4);
            *out = d * f32::from(q) - m;
        }
    }
}

fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (scales, d) = rest.split_at(16);
    let d = half_at(d, 0);
    for (i, out) in out.iter_mut().enumerate() {
        // Halves of 128 elements; in each, four rows of 32 share the bytes.
        let (half, row, col) = (i / 128, i % 128 / 32, i % 32);
        let four = (low[half * 64 + row % 2 * 32 + col] >> (4 * (row / 2))) & 15;
        let two = (high[half * 32 + col] >> (2 * row)) & 3;
        let q = f32::from(four | (two << 4)) - 32.0;
        *out = d * f32::from(scales[i / 16] as i8) * q;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks whose byte i is 37·i + 11, with 0.1 and −0.2 (in half precision) as scale and minimum.
    fn sample(dtype: Dtype, halves: &[usize]) -> Vec<u8> {
        let len = dtype.block_bytes();
        let mut bytes: Vec<u8> = (0..2 * len).map(|i| (37 * i + 11) as u8).collect();
        for block in bytes.chunks_exact_mut(len) {
            for (&at, half) in halves.iter().zip([0x2e66u16, 0xb266]) {
                block[at..at + 2].copy_from_slice(&half.to_le_bytes());
            }
        }
        bytes
    }

    /// Elements 0, 1 and 17, the last of the first block, the first of the second, the fifth from the end, and
    /// Σ (i + 1)·x_i, by the PyPI package `gguf` 0.19.0 (`gguf.quants.dequantize`).
    const KNOWN: [(Dtype, &[usize], [f64; 7]); 8] = [
        (
            Dtype::Q4_0,
            &[0],
            [
                -0.2999267578125,
                0.199951171875,
                -0.0999755859375,
                0.0,
                0.6998291015625,
                0.0,
                -107.0738525390625,
            ],
        ),
        (
            Dtype::Q4_1,
            &[0, 2],
            [
                1.2996826171875,
                0.199951171875,
                0.999755859375,
                0.999755859375,
                0.0999755859375,
                -0.0999755859375,
                1201.70654296875,
            ],
        ),
        (
            Dtype::Q5_0,
            &[0],
            [
                0.8997802734375,
                -0.199951171875,
                0.0,
                0.0999755859375,
                0.6998291015625,
                -0.599853515625,
                -10.8973388671875,
            ],
        ),
        (
            Dtype::Q5_1,
            &[0, 2],
            [
                1.6995849609375,
                2.199462890625,
                0.2999267578125,
                0.2999267578125,
                2.4993896484375,
                0.199951171875,
                2679.145751953125,
            ],
        ),
        (
            Dtype::Q8_0,
            &[0],
            [
                8.4979248046875,
                12.197021484375,
                -5.398681640625,
                -4.798828125,
                6.2984619140625,
                3.799072265625,
                -1369.265625,
            ],
        ),
        (
            Dtype::Q4_K,
            &[0, 2],
            [
                44.2891845703125,
                10.197509765625,
                10.197509765625,
                13.5966796875,
                52.2872314453125,
                84.179443359375,
                4262416.716796875,
            ],
        ),
        (
            Dtype::Q5_K,
            &[0, 2],
            [
                93.8770751953125,
                10.197509765625,
                10.197509765625,
                19.59521484375,
                47.4884033203125,
                43.789306640625,
                6361899.22265625,
            ],
        ),
        (
            Dtype::Q6_K,
            &[208],
            [
                -143.0650634765625,
                169.55859375,
                51.1875,
                -5.99853515625,
                -40.6900634765625,
                -111.97265625,
                180838.63916015625,
            ],
        ),
    ];

    #[test]
    fn blocks_stand_for_what_ggml_reads() {
        for (dtype, halves, want) in KNOWN {
            let bytes = sample(dtype, halves);
            let len = dtype.block_len();
            let mut out = vec![0.0; 2 * len];
            dtype.dequantize(&bytes, &mut out);
            for (at, want) in [0, 1, 17, len - 1, len, 2 * len - 5].into_iter().zip(want) {
                assert_eq!(f64::from(out[at]), want, "{dtype:?}, element {at}");
            }
            let terms = out.iter().zip(1u16..);
            let sum: f64 = terms.map(|(x, i)| f64::from(i) * f64::from(*x)).sum();
            assert!(
                (sum - want[6]).abs() < 1e-9 * want[6].abs(),
                "{dtype:?}: {sum}"
            );
        }
        let mut out = [0.0; 2];
        Dtype::F32.dequantize(&[0, 0, 128, 63, 0, 0, 0, 192], &mut out);
        assert_eq!(out, [1.0, -2.0]);
        Dtype::F16.dequantize(&[0, 60, 0, 192], &mut out);
        assert_eq!(out, [1.0, -2.0]);
        Dtype::BF16.dequantize(&[128, 63, 0, 192], &mut out);
        assert_eq!(out, [1.0, -2.0]);
    }

    #[test]
    fn levels_are_what_the_numbers_were_made_of() {
        for (dtype, halves, _) in KNOWN {
            if dtype.block_len() != 32 || dtype == Dtype::Q5_1 {
                continue;
            }
            let bytes = sample(dtype, halves);
            let block = &bytes[..dtype.block_bytes()];
            let (mut numbers, mut levels) = ([0.0; 32], [0; 32]);
            dtype.dequantize(block, &mut numbers);
            let (scale, minimum) = dtype.levels(block, &mut levels);
            for (number, level) in numbers.iter().zip(levels) {
                assert_eq!(
                    *number,
                    f32::from(level) * scale.to_f32() + minimum.to_f32()
                );
            }
        }
    }

    #[test]
    fn types_have_ggmls_codes() {
        for dtype in Dtype::ALL {
            let code = (0..40).find(|code| Dtype::name_of(*code) == dtype.name());
            assert_eq!(Dtype::of(code.expect("a code")), Some(dtype));
        }
        assert_eq!(Dtype::of(10), None);
        assert_eq!(Dtype::name_of(10), "Q2_K");
        assert!(Dtype::name_of(4).contains("unknown"));
    }
}
