//! Beam search: the likeliest of several texts that are pursued at once (Wu et al. 2016, section 7).

use core::cell::Cell;

use heapless::Vec;

use super::Session;
use super::beams::BeamLogits;
use crate::error::SessionError;
use crate::executor::Executor;
use crate::kernels::ops::elementwise::exp;
use crate::needs::Fit;
use crate::options::SessionOptions;
use crate::run::floats;

/// How far a search goes, and what it prefers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BeamOptions {
    /// Most tokens of a text, the one that ends it not counted; the context may end it earlier.
    pub tokens: usize,
    /// What long texts have over short ones.
    pub length_penalty: LengthPenalty,
}

/// What the logarithmic probability of a text is divided by, so that texts of any length compare.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LengthPenalty {
    /// ((5 + n) / 6)^α of n tokens, the one that ends the text among them (Wu et al. 2016, equation 14): 0 prefers short
    /// texts, 1 nearly averages.
    Wu(f32),
    /// The tokens, without the one that ends the text: the mean, as Whisper ranks texts (Radford et al. 2022).
    Mean,
}

impl LengthPenalty {
    /// Of so many tokens, and perhaps one that ends the text.
    fn of(self, tokens: usize, ends: bool) -> f64 {
        match self {
            Self::Wu(alpha) => {
                let n = tokens.saturating_add(usize::from(ends));
                libm::pow((5.0 + n as f64) / 6.0, f64::from(alpha))
            }
            Self::Mean => tokens.max(1) as f64,
        }
    }
}

impl BeamOptions {
    /// Texts of up to so many tokens, by Wu et al. with α = 1.
    pub const fn new(tokens: usize) -> Self {
        Self {
            tokens,
            length_penalty: LengthPenalty::Wu(1.0),
        }
    }
}

/// Moves the last candidate before those that it is better than.
fn rise(candidates: &mut [Candidate]) {
    let cells = Cell::from_mut(candidates).as_slice_of_cells();
    for pair in cells.windows(2).rev() {
        let [before, last] = pair else { return };
        if last.get().score <= before.get().score {
            return;
        }
        before.swap(last);
    }
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hypothesis<'a> {
    /// Its tokens, without the one that ends it.
    pub tokens: &'a [u32],
    /// Its logarithmic probability, penalised for its length.
    pub score: f32,
    /// Whether it ended by itself; if none did, this is the best of those that were cut off.
    pub is_complete: bool,
}

const BEAMS_MAX: usize = SessionOptions::BEAMS_MAX;

/// A text that is pursued.
#[derive(Clone, Copy, Debug)]
struct Beam {
    /// Where its keys and values and its tokens lie.
    set: usize,
    /// Logarithmic probability.
    score: f64,
}

/// A beam and a token after it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    beam: usize,
    token: u32,
    score: f64,
}

/// The best text so far that ended.
#[derive(Clone, Copy, Debug)]
struct Best {
    score: f64,
    len: usize,
    is_complete: bool,
}

impl<E: Executor, F: Fit> Session<'_, E, F> {
    /// Searches for the likeliest continuation, [`SessionOptions::beams`] at a time; of equals the one whose tokens
    /// were lower. The session stays where it was: the hypothesis is not appended.
    ///
    /// A step runs the tokens of all beams at once, so that weights are read once for all, and where one beam becomes two
    /// it copies the text's keys and values. The search ends when as many texts have ended as there are beams, or none can
    /// still overtake the best of these. (Kasai et al. 2022, a patience of 1: whoever goes on until the bound is certain finds
    /// texts that repeat themselves, whose tokens cost next to nothing.)
    ///
    /// ```
    /// # fn translate(session: &mut attentive::Session<'_>) -> Result<(), attentive::SessionError> {
    /// use attentive::BeamOptions;
    ///
    /// session.read("Where is the library?")?;
    /// session.prompt("")?;
    /// let found = session.search(&BeamOptions::new(40))?;
    /// assert!(found.tokens.len() <= 40);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SessionError::NoPrompt`] at the beginning, [`SessionError::NoLogit`], [`SessionError::Beams`] for a session
    /// without beams.
    pub fn search(&mut self, options: &BeamOptions) -> Result<Hypothesis<'_>, SessionError> {
        self.search_with(options, |_, _| ())
    }

    /// As [`Session::search`], where `process` may change the logits of what follows a text: it gets the tokens that this
    /// one has beyond where the session stands, and the logits, (vocab). A token that may not stand there gets −∞, and has
    /// no share of the probability. Whisper, for one, may not write the tokens that steer it, nor end a text at once.
    ///
    /// # Errors
    /// As [`Session::search`]; [`SessionError::NoLogit`] where no token may stand, too.
    pub fn search_with(
        &mut self,
        options: &BeamOptions,
        mut process: impl FnMut(&[u32], &mut [f32]),
    ) -> Result<Hypothesis<'_>, SessionError> {
        let at = self.begin_search()?;
        let found = self.pursue(options, at, &mut process);
        self.end_search(at);
        let Best {
            score,
            len,
            is_complete,
        } = found?;
        let best = self.beam_tokens(self.beams());
        Ok(Hypothesis {
            tokens: best.get(..len).unwrap_or_default(),
            score: score as f32,
            is_complete,
        })
    }

    fn pursue(
        &mut self,
        options: &BeamOptions,
        at: usize,
        process: &mut impl FnMut(&[u32], &mut [f32]),
    ) -> Result<Best, SessionError> {
        let end_of_text = self.model().config().end_of_text;
        let width = self.beams();
        let most = options.tokens.min(self.context_len().saturating_sub(at));
        let mut beams: Vec<Beam, BEAMS_MAX> = Vec::new();
        // There is room, here and below: a push is refused where a vector is full.
        let _ = beams.push(Beam { set: 0, score: 0.0 });
        let mut best: Option<Best> = None;
        let (mut len, mut ended) = (0, 0_usize);
        while len <= most {
            let candidates = self.candidates(&beams, width, (at, len), process)?;
            let mut next: Vec<Candidate, BEAMS_MAX> = Vec::new();
            for (rank, candidate) in candidates.iter().enumerate() {
                if Some(candidate.token) == end_of_text {
                    // One that is no beam's best choice would displace better texts that go on.
                    let score = candidate.score / options.length_penalty.of(len, true);
                    let from = beams.get(candidate.beam).map_or(0, |beam| beam.set);
                    if rank >= width {
                        continue;
                    }
                    ended = ended.saturating_add(1);
                    if best.is_none_or(|best| score > best.score) {
                        self.keep(from, len);
                        best = Some(Best {
                            score,
                            len,
                            is_complete: true,
                        });
                    }
                } else if next.len() < width {
                    let _ = next.push(*candidate);
                }
            }
            if len == most || ended >= width {
                break;
            }
            let Some(first) = next.first() else { break };
            // A score only falls; the penalty is one-sided in the length.
            let bound = [len.saturating_add(1), most]
                .map(|len| first.score / options.length_penalty.of(len, true));
            if best.is_some_and(|best| bound.iter().all(|bound| *bound <= best.score)) {
                break;
            }
            beams = self.fork(&beams, &next, (at, len));
            len = len.saturating_add(1);
        }
        let cut_off = || {
            let beam = beams.first()?;
            Some((beam.set, beam.score / options.length_penalty.of(len, false)))
        };
        match (best, cut_off()) {
            (Some(best), _) => Ok(best),
            (None, Some((set, score))) => {
                self.keep(set, len);
                Ok(Best {
                    score,
                    len,
                    is_complete: false,
                })
            }
            (None, None) => Err(SessionError::NoLogit),
        }
    }

    /// The best continuations of all beams, twice as many as there may be beams: so many stay where all others end.
    /// Best first, of equals the earlier beam's and then the lower token.
    fn candidates(
        &mut self,
        beams: &[Beam],
        width: usize,
        (at, len): (usize, usize),
        process: &mut impl FnMut(&[u32], &mut [f32]),
    ) -> Result<Vec<Candidate, { 2 * BEAMS_MAX }>, SessionError> {
        if let Some(last) = len.checked_sub(1) {
            let mut tokens: Vec<u32, BEAMS_MAX> = Vec::new();
            let mut sets: Vec<u32, BEAMS_MAX> = Vec::new();
            for beam in beams {
                let token = self.beam_tokens(beam.set).get(last).copied();
                let _ = tokens.push(token.unwrap_or_default());
                let _ = sets.push(beam.set as u32);
            }
            self.run_beams(&tokens, &sets, at.saturating_add(last))?;
        }
        let mut candidates: Vec<Candidate, { 2 * BEAMS_MAX }> = Vec::new();
        for (index, beam) in beams.iter().enumerate() {
            let mut next = self.beam_logits(index, beam.set, len);
            process(next.tokens, next.logits);
            let total = log_sum(&mut next)?;
            for (token, &logit) in (0u32..).zip(&*next.logits) {
                let score = beam.score + (f64::from(logit) - total);
                let full = candidates.len() >= 2 * width;
                let worst = candidates
                    .last()
                    .map_or(f64::NEG_INFINITY, |last| last.score);
                // False for a NaN.
                if !(score > worst || !full && score > f64::NEG_INFINITY) {
                    continue;
                }
                if full {
                    candidates.pop();
                }
                let _ = candidates.push(Candidate {
                    beam: index,
                    token,
                    score,
                });
                rise(&mut candidates);
            }
        }
        Ok(candidates)
    }

    /// The beams that the candidates make. A beam's first one goes on in its place, others in copies, for which there
    /// are the places of beams that no candidate comes from.
    fn fork(
        &mut self,
        beams: &[Beam],
        next: &[Candidate],
        (at, len): (usize, usize),
    ) -> Vec<Beam, BEAMS_MAX> {
        let mut is_taken = [false; BEAMS_MAX];
        let mut sets = [None; BEAMS_MAX];
        let parent = |candidate: &Candidate| beams.get(candidate.beam).map_or(0, |beam| beam.set);
        for (set, candidate) in sets.iter_mut().zip(next) {
            let own = parent(candidate);
            if let Some(taken) = is_taken.get_mut(own)
                && !*taken
            {
                *taken = true;
                *set = Some(own);
            }
        }
        let mut made = Vec::new();
        for (set, candidate) in sets.iter_mut().zip(next) {
            if set.is_none() {
                let free = is_taken.iter().position(|taken| !taken).unwrap_or(0);
                if let Some(taken) = is_taken.get_mut(free) {
                    *taken = true;
                }
                self.copy_beam(parent(candidate), free, at, len);
                *set = Some(free);
            }
        }
        for (set, candidate) in sets.iter().zip(next) {
            let set = set.unwrap_or(0);
            if let Some(token) = self.beam_tokens_mut(set).get_mut(len) {
                *token = candidate.token;
            }
            let score = candidate.score;
            let _ = made.push(Beam { set, score });
        }
        made
    }
}

/// ln Σ exp over the logits that are finite.
fn log_sum(next: &mut BeamLogits<'_>) -> Result<f64, SessionError> {
    let BeamLogits {
        backend,
        logits,
        scratch,
        ..
    } = next;
    let finite = logits.iter().copied().filter(|logit| logit.is_finite());
    let highest = finite.reduce(f32::max).ok_or(SessionError::NoLogit)?;
    let scratch = floats(scratch)?;
    let powers = scratch.get_mut(..logits.len()).unwrap_or_default();
    for (power, logit) in powers.iter_mut().zip(&**logits) {
        *power = match logit.is_finite() {
            true => logit - highest,
            false => f32::NEG_INFINITY,
        };
    }
    exp(*backend, powers);
    let sum: f64 = powers.iter().map(|power| f64::from(*power)).sum();
    Ok(f64::from(highest) + libm::log(sum))
}
