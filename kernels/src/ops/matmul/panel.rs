//! Sixteen rows at a time: loads and stores of a panel's two registers.

use half::f16;

pub(super) use crate::isa::{GROUP_STEPS, group_steps};

use crate::isa::Isa;
use crate::layout::PANEL;

/// A value for each row of a panel, in the halves that vectors take.
pub(super) type Panel<T> = [[T; 8]; 2];

/// The bytes of one step, four columns of a panel: rows 0..8, rows 8..16, each `[8 rows][4 cols]`.
pub(super) type Step<T> = [[T; 32]; 2];

/// One value a row, rows rounded up to panels.
#[inline(always)]
pub(super) fn as_panels<T>(from: &[T]) -> &[Panel<T>] {
    from.as_chunks::<8>().0.as_chunks::<2>().0
}

/// Packed bytes as steps.
#[inline(always)]
pub(super) fn as_steps<T>(from: &[T]) -> &[Step<T>] {
    from.as_chunks::<32>().0.as_chunks::<2>().0
}

#[inline(always)]
pub(super) fn load_f16<I: Isa>(isa: I, from: &Panel<f16>) -> [I::F32; 2] {
    [isa.load_f16(&from[0]), isa.load_f16(&from[1])]
}

#[inline(always)]
pub(super) fn load_i32<I: Isa>(isa: I, from: &Panel<i32>) -> [I::I32; 2] {
    [isa.load_i32(&from[0]), isa.load_i32(&from[1])]
}

/// Sixteen floats, or as many as there are and zeros beyond.
#[inline(always)]
pub(super) fn load<I: Isa>(isa: I, from: &[f32]) -> [I::F32; 2] {
    match from.as_chunks::<8>() {
        ([a, b, ..], _) => [isa.load(a), isa.load(b)],
        ([a], rest) => [isa.load(a), isa.load_partial(rest)],
        ([], rest) => [isa.load_partial(rest), isa.splat(0.0)],
    }
}

/// Outputs times a vector's scale, an f32's bits.
#[inline(always)]
pub(super) fn times<I: Isa>(isa: I, outputs: [I::F32; 2], scale: u32) -> [I::F32; 2] {
    let scale = isa.splat(f32::from_bits(scale));
    [isa.mul(outputs[0], scale), isa.mul(outputs[1], scale)]
}

/// Sixteen floats, or the first of them that `to` has room for: the last panel may have fewer rows.
#[inline(always)]
pub(super) fn store<I: Isa>(isa: I, values: [I::F32; 2], to: &mut [f32]) {
    match to.as_chunks_mut::<8>() {
        ([a, b, ..], _) => {
            isa.store(values[0], a);
            isa.store(values[1], b);
        }
        ([a], rest) => {
            isa.store(values[0], a);
            isa.store_partial(values[1], rest);
        }
        ([], rest) => isa.store_partial(values[0], rest),
    }
}

/// Where a panel's outputs of one vector go: sixteen from `at`, or the `left` that there are.
#[inline(always)]
pub(super) fn panel_of(y: &mut [f32], at: usize, left: usize) -> &mut [f32] {
    let len = left.min(PANEL);
    y.get_mut(at..at + len).unwrap_or_default()
}
