//! Whisper's times: a window's text between tokens that say when it was spoken (Radford et al. 2022, section 2.3), by the
//! rules of its own decoding.

use super::sound::FRAMES_A_SECOND;
use super::{Speech, Written, leave};
use anyhow::{Result, ensure};

/// Frames between two times that follow each other, 20 ms.
const FRAMES_A_TIME: usize = 2;
/// Times of a window: 0 to 30 s.
const TIMES: u32 = 1501;
/// The first time of a window is among the first so many steps, 1 s.
const FIRST_MOST: u32 = 50;

/// A part of a recording in which something is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// When it begins, in seconds from the beginning of the recording.
    pub start: f64,
    /// When it ends.
    pub end: f64,
    /// What is said.
    pub ids: Vec<u32>,
}

impl Speech {
    /// The token of the time 0, after which all others follow.
    fn first_time(&self) -> u32 {
        self.no_timestamps + 1
    }

    /// Whether a model with so many tokens has those of times.
    pub(super) fn check_times(&self, vocab_len: usize) -> Result<()> {
        ensure!(
            vocab_len as u64 >= u64::from(self.first_time()) + u64::from(TIMES),
            "the model has no tokens of times"
        );
        Ok(())
    }

    /// Leaves the tokens that may stand behind these in a text with times; all others get −∞.
    pub(super) fn leave_timed(&self, ids: &[u32], logits: &mut [f32]) {
        let zero = self.first_time();
        let is_time = |id: u32| (zero..zero + TIMES).contains(&id);
        let follows_time = ids.last().is_some_and(|id| is_time(*id));
        // The end of a segment and the beginning of the next are a pair; a window begins with one time.
        let follows_pair = follows_time && ids.iter().rev().nth(1).is_none_or(|id| is_time(*id));
        // No time lies before the last one. At the end of a window it may be the same again and again, with text that
        // takes no time: CTranslate2 allows it, and what begins there is heard whole in the next window.
        let last = ids.iter().rev().copied().find(|id| is_time(*id));
        let least = last.unwrap_or(zero);
        let most = match ids.is_empty() {
            true => zero + FIRST_MOST,
            false => zero + TIMES - 1,
        };
        let may_stand = |id: u32| {
            if is_time(id) {
                return !follows_pair && id >= least && id <= most;
            }
            let of_text = id < self.end && (!follows_time || follows_pair);
            let stands = of_text || id == self.end && !follows_pair;
            stands && !ids.is_empty() && !self.suppress.contains(&id)
        };
        leave(logits, may_stand);
        // Where any time is likelier than every other token, a time stands.
        let (text, times) = logits.split_at_mut(zero as usize);
        let highest = text.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let all_times: f64 = times
            .iter()
            .filter(|logit| **logit > f32::NEG_INFINITY)
            .map(|logit| f64::from(logit - highest).exp())
            .sum();
        if all_times > 1.0 {
            text.fill(f32::NEG_INFINITY);
        }
    }

    /// The segments of a window that begins at frame `at` and has so many frames of the recording, and how many of these
    /// they take: what is said of an unfinished one is heard again, from its beginning.
    pub(super) fn segments(
        &self,
        written: &Written,
        at: usize,
        frames: usize,
    ) -> (Vec<Segment>, usize) {
        let ids = &written.ids;
        let zero = self.first_time();
        let is_time = |id: u32| id >= zero;
        let seconds = |frame: usize| frame as f64 / FRAMES_A_SECOND as f64;
        let frame_of = |id: u32| id.saturating_sub(zero) as usize * FRAMES_A_TIME;
        let segment = |ids: &[u32], start: usize, end: usize| Segment {
            start: seconds(at + start),
            end: seconds(at + end),
            ids: ids.iter().copied().filter(|id| *id < self.end).collect(),
        };
        let mut ends: Vec<usize> = (1..ids.len())
            .filter(|index| is_time(ids[*index]) && is_time(ids[index - 1]))
            .collect();
        let ends_with_one = written.is_complete
            && matches!(ids[..], [.., before, last] if !is_time(before) && is_time(last));
        if ends.is_empty() {
            let last = ids.iter().rev().copied().find(|id| is_time(*id));
            let end = last.map(frame_of).filter(|end| *end > 0);
            return (vec![segment(ids, 0, end.unwrap_or(frames))], frames);
        }
        if ends_with_one {
            ends.push(ids.len());
        }
        let mut segments = Vec::new();
        let mut begin = 0;
        for end in ends {
            let part = &ids[begin..end];
            if let [first, .., last] = part {
                segments.push(segment(part, frame_of(*first), frame_of(*last)));
            }
            begin = end;
        }
        let taken = match ends_with_one {
            // Nobody speaks behind it.
            true => frames,
            false => frame_of(ids[begin - 1]),
        };
        (segments, taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::highest;
    use std::collections::BTreeMap;

    /// Text is 0 to 9, the end 10, times begin with 12.
    fn speech() -> Speech {
        Speech {
            start: 10,
            end: 10,
            transcribe: 10,
            translate: 10,
            no_timestamps: 11,
            no_speech: None,
            suppress: vec![9],
            suppress_first: Vec::new(),
            languages: BTreeMap::new(),
        }
    }

    const ZERO: u32 = 12;

    fn at(time: u32) -> u32 {
        ZERO + time
    }

    /// What follows these tokens, where so many have a logit of their own and all others −20.
    fn follows(ids: &[u32], own: &[(u32, f32)]) -> u32 {
        let mut logits = vec![-20.0; (ZERO + TIMES) as usize];
        own.iter()
            .for_each(|(id, logit)| logits[*id as usize] = *logit);
        speech().leave_timed(ids, &mut logits);
        highest(&logits) as u32
    }

    #[test]
    fn times_stand_where_they_may() {
        // First a time, of the first second.
        assert_eq!(
            follows(&[], &[(1, 9.0), (10, 8.0), (at(70), 7.0), (at(3), 1.0)]),
            at(3)
        );
        // Then text: neither a time nor the end, nor what is suppressed.
        let own = [(at(5), 9.0), (10, 8.0), (9, 7.0), (4, 1.0)];
        assert_eq!(follows(&[at(3)], &own), 4);
        // No time before the last one.
        let own = [(at(20), 9.0), (at(30), 8.0), (at(40), 7.0), (1, 2.0)];
        assert_eq!(follows(&[at(30), 4], &own), at(30));
        // A time that ends a segment is followed by one that begins another, or by the end.
        let own = [(2, 9.0), (at(41), 3.0), (10, 2.0)];
        assert_eq!(follows(&[at(30), 4, at(40)], &own), at(41));
        assert_eq!(follows(&[at(30), 4, at(40)], &[(2, 9.0), (10, 2.0)]), 10);
        assert_eq!(follows(&[at(30), 4, at(40), at(41)], &own), 2);
        // Many unlikely times together outweigh a text that is likelier than each.
        let many: Vec<_> = (31..41)
            .map(|time| (at(time), 1.0))
            .chain([(2, 2.0)])
            .collect();
        assert_eq!(follows(&[at(30), 4], &many), at(31));
        assert_eq!(follows(&[at(30), 4], &many[8..]), 2);
    }

    #[test]
    fn segments_lie_between_times() {
        let of_written = |ids: &[u32], is_complete| {
            let written = Written {
                ids: ids.to_vec(),
                is_complete,
                mean: 0.0,
                silence: 0.0,
            };
            let (segments, taken) = speech().segments(&written, 1000, 3000);
            let each = segments.into_iter().map(|s| (s.start, s.end, s.ids));
            (each.collect::<Vec<_>>(), taken)
        };
        let of = |ids: &[u32]| of_written(ids, true);
        // Two segments; the third has no end, and is heard again.
        let ids = [at(0), 1, 2, at(100), at(150), 3, at(200), at(200), 4];
        let two = vec![(10.0, 12.0, vec![1, 2]), (13.0, 14.0, vec![3])];
        assert_eq!(of(&ids), (two.clone(), 400));
        // With an end behind which nothing follows, nobody speaks there.
        let mut three = two;
        three.push((14.0, 15.0, vec![4]));
        assert_eq!(of(&[&ids[..], &[at(250)]].concat()), (three, 3000));
        // Unless it is where the text was cut.
        let cut = [&ids[..], &[at(250)]].concat();
        assert_eq!(of_written(&cut, false), of(&ids));
        // One, with and without an end.
        assert_eq!(
            of(&[at(0), 1, at(100)]),
            (vec![(10.0, 12.0, vec![1])], 3000)
        );
        assert_eq!(of(&[at(0), 1]), (vec![(10.0, 40.0, vec![1])], 3000));
    }
}
