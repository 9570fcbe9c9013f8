//! 2^(−d/16) in 14 bits: what softmax and rescaling are made of.

/// 1 in the unit of [`power`].
pub const POWER_ONE: u16 = 1 << 14;

/// `round(2^(−d/16) · 2¹⁴)`, where the sixteen fractions are rounded first and halved, with rounding, afterwards; 0
/// from d = 256 on. At most 2⁻¹⁴ from 2^(−d/16).
#[inline(always)]
pub const fn power(d: u32) -> u16 {
    if d < 256 { POWERS[d as usize] } else { 0 }
}

/// All that are not 0, and the last of those that are. An instruction set without fast look-ups computes them from [`FRACTIONS`].
pub(super) static POWERS: [u16; 256] = {
    let mut powers = [0; 256];
    let mut d = 0;
    while d < 256 {
        let halvings = d >> 4;
        let half = (1u32 << halvings) >> 1;
        powers[d] = ((FRACTIONS[d & 15] as u32 + half) >> halvings) as u16;
        d += 1;
    }
    powers
};

/// `round(2^(−i/16) · 2¹⁴)`.
const FRACTIONS: [u16; 16] = [
    16384, 15689, 15024, 14387, 13777, 13193, 12633, 12098, 11585, 11094, 10624, 10173, 9742, 9329,
    8933, 8555,
];
