//! Realistic inputs: unit variance, nothing denormal, nothing all equal, and at a place in memory drawn by lot.

use core::ops::{Deref, DerefMut};

/// The panels of weights and of the KV cache begin at a cache line: the file format and the arena promise it.
const LINE_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;

/// A small generator of random numbers (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers, on every machine.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of 0..`end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Normal with mean 0 and variance 1 (Box and Muller, 1958); its magnitude is far from the denormals.
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        let value = radius * (core::f64::consts::TAU * self.uniform()).cos();
        (value as f32) + 1e-12
    }

    /// `len` normal numbers, each times `scale`.
    pub fn normals(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.normal() * scale).collect()
    }
}

/// Elements at a chosen alignment, at a place drawn by lot, so that no figure stands on a lucky address.
#[derive(Debug)]
pub struct Buffer<T> {
    storage: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Copy + Default> Buffer<T> {
    /// `len` default elements that begin at a cache line, at any line of a page.
    #[must_use]
    pub fn at_line(len: usize, rng: &mut Rng) -> Self {
        Self::placed(len, LINE_BYTES, rng)
    }

    /// `len` default elements that begin anywhere the type allows.
    #[must_use]
    pub fn anywhere(len: usize, rng: &mut Rng) -> Self {
        Self::placed(len, size_of::<T>(), rng)
    }

    /// The elements of `source`, anywhere the type allows.
    #[must_use]
    pub fn copied_anywhere(source: &[T], rng: &mut Rng) -> Self {
        let mut buffer = Self::anywhere(source.len(), rng);
        buffer.copy_from_slice(source);
        buffer
    }

    /// The elements of `source`, from a cache line on.
    #[must_use]
    pub fn copied_at_line(source: &[T], rng: &mut Rng) -> Self {
        let mut buffer = Self::at_line(source.len(), rng);
        buffer.copy_from_slice(source);
        buffer
    }

    fn placed(len: usize, align_bytes: usize, rng: &mut Rng) -> Self {
        let size = size_of::<T>();
        let storage = vec![T::default(); len + (PAGE_BYTES + LINE_BYTES).div_ceil(size)];
        let to_line = storage.as_ptr().addr().wrapping_neg() % LINE_BYTES;
        let offset = rng.below(PAGE_BYTES / align_bytes) * align_bytes;
        Self {
            start: (to_line + offset) / size,
            storage,
            len,
        }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.storage[self.start..][..self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.storage[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_begin_at_a_line_and_activations_anywhere() {
        let mut rng = Rng::new(1);
        let mut odd = false;
        for len in 0..100 {
            let panels = Buffer::<f32>::at_line(len, &mut rng);
            assert_eq!(panels.as_ptr().addr() % LINE_BYTES, 0);
            assert_eq!(panels.len(), len);
            let activations = Buffer::<f32>::anywhere(len, &mut rng);
            odd |= !activations.as_ptr().addr().is_multiple_of(LINE_BYTES);
        }
        assert!(odd, "100 draws never left the line");
    }

    #[test]
    fn numbers_have_unit_variance_and_no_denormals() {
        let values = Rng::new(2).normals(100_000, 1.0);
        let square: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        assert!((square / values.len() as f64 - 1.0).abs() < 0.02);
        assert!(values.iter().all(|x| x.is_normal()));
    }
}
