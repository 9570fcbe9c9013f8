//! The last samples of a sound that never ends.

/// A window over samples as they come, moved on by a hop each time it is full.
#[derive(Debug)]
pub(super) struct Window<'a, T> {
    samples: &'a mut [T],
    hop: usize,
    /// Samples that are there.
    filled: usize,
    /// Samples to pass over first, where a hop is longer than a window.
    skip: usize,
}

impl<'a, T: Copy> Window<'a, T> {
    /// As long as that memory.
    pub(super) fn new(samples: &'a mut [T], hop: usize) -> Self {
        Self {
            samples,
            hop,
            filled: 0,
            skip: 0,
        }
    }

    /// Takes samples, as many as there are, and gives each window that they complete to `each`.
    pub(super) fn hear(&mut self, samples: impl Iterator<Item = T>, mut each: impl FnMut(&[T])) {
        for sample in samples {
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            if let Some(to) = self.samples.get_mut(self.filled) {
                *to = sample;
            }
            self.filled += 1;
            if self.filled < self.samples.len() {
                continue;
            }
            each(self.samples);
            let from = self.hop.min(self.samples.len());
            self.samples.copy_within(from.., 0);
            (self.filled, self.skip) = (self.samples.len() - from, self.hop - from);
        }
    }

    /// Forgets what was heard.
    pub(super) fn forget(&mut self) {
        (self.filled, self.skip) = (0, 0);
    }
}
