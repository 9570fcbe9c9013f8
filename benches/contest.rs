//! Others who do the work of a case, taking turns with it: nobody is measured in a better hour than the rest.

use crate::case::{Case, Outcome, Workload};
use crate::measure::{PERCENTILE, Samples, runs_per_batch};

/// Somebody else who does the work of a case.
pub trait Contender {
    /// Who it is.
    fn name(&self) -> &str;

    /// Does the work `runs` times, after once more untimed when `warm` (others had the caches meanwhile), and tells the
    /// seconds of the timed runs, taken where the work is done.
    ///
    /// # Errors
    /// Why it cannot; it is not asked again.
    fn batch(&mut self, runs: usize, warm: bool) -> Outcome<f64>;
}

/// Sets contenders up for a workload whose result has just been checked, and holds their results against its own.
pub type Invite<'a> = &'a mut dyn FnMut(&dyn Workload) -> Outcome<Vec<Box<dyn Contender>>>;

/// What became of a contender.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Who it is.
    pub name: String,
    /// In the unit of the case, or why there is none.
    pub figure: Result<f64, String>,
}

/// Runs longer than this do not profit from what the run before left in the caches.
const WARM_BELOW_SECONDS: f64 = 20e-3;
/// Turns that everybody has, however slow.
const TURNS_MIN: usize = 5;
/// Turns after which nothing new is learned.
const TURNS_MAX: usize = 48;
/// Whoever has spent so long has no turns beyond the least.
const BUDGET_SECONDS: f64 = 0.5;

/// Whether someone with so many turns, and so many seconds spent in them, has another one.
pub(crate) fn has_turns_left(turns: usize, spent: f64) -> bool {
    turns < TURNS_MIN || (turns < TURNS_MAX && spent < BUDGET_SECONDS)
}

/// Whether a batch begins with an untimed run, where a run takes so long.
pub(crate) fn is_warmed(seconds_per_run: f64) -> bool {
    seconds_per_run < WARM_BELOW_SECONDS
}

/// A contender in the rounds.
pub(crate) struct Entrant {
    contender: Box<dyn Contender>,
    runs: usize,
    warm: bool,
    samples: Samples,
    turns: usize,
    spent: f64,
    failure: Option<String>,
}

impl Entrant {
    /// Finds out how many runs make a batch.
    pub(crate) fn new(mut contender: Box<dyn Contender>) -> Self {
        let (runs, failure) = match runs_per_batch(|runs| contender.batch(runs, false)) {
            Ok(runs) => (runs, None),
            Err(error) => ((1, 0.0), Some(error.to_string())),
        };
        Self {
            contender,
            runs: runs.0,
            warm: is_warmed(runs.1),
            samples: Samples::default(),
            turns: 0,
            spent: 0.0,
            failure,
        }
    }

    pub(crate) fn has_turns_left(&self) -> bool {
        self.failure.is_none() && has_turns_left(self.turns, self.spent)
    }

    /// One batch, if there is a turn left.
    pub(crate) fn turn(&mut self) {
        if !self.has_turns_left() {
            return;
        }
        match self.contender.batch(self.runs, self.warm) {
            Ok(seconds) => {
                self.samples.push_seconds(seconds / self.runs as f64);
                self.turns += 1;
                self.spent += seconds;
            }
            Err(error) => self.failure = Some(error.to_string()),
        }
    }

    pub(crate) fn standing(mut self, case: &Case) -> Standing {
        let seconds = self.samples.percentile(PERCENTILE).seconds;
        Standing {
            name: self.contender.name().to_owned(),
            figure: match self.failure {
                Some(reason) => Err(reason),
                None => Ok(case.work / seconds * case.unit.scale()),
            },
        }
    }
}

/// Keeps the better figure of two tries.
pub(crate) fn merge(standings: &mut Vec<Standing>, new: Standing) {
    let Some(old) = standings.iter_mut().find(|old| old.name == new.name) else {
        return standings.push(new);
    };
    let better = match (&old.figure, &new.figure) {
        (Ok(old), Ok(new)) => new > old,
        (Err(_), _) => true,
        (Ok(_), Err(_)) => false,
    };
    if better {
        *old = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Steady(Vec<f64>);

    impl Contender for Steady {
        fn name(&self) -> &str {
            "steady"
        }

        fn batch(&mut self, runs: usize, _: bool) -> Outcome<f64> {
            let seconds = self.0.pop().ok_or("out of breath")?;
            Ok(seconds * runs as f64)
        }
    }

    #[test]
    fn the_slow_have_few_turns_and_the_fast_have_many() {
        for (seconds, turns) in [(1.0, TURNS_MIN), (0.0625, 8), (1e-3, TURNS_MAX)] {
            let mut entrant = Entrant::new(Box::new(Steady(vec![seconds; 100])));
            (0..100).for_each(|_| entrant.turn());
            assert_eq!(entrant.turns, turns, "{seconds} s");
        }
    }

    #[test]
    fn who_fails_has_a_reason_until_a_better_try() {
        let mut entrant = Entrant::new(Box::new(Steady(vec![1.0])));
        entrant.turn();
        assert_eq!(entrant.failure.as_deref(), Some("out of breath"));
        let standing = |figure| Standing {
            name: "x".into(),
            figure,
        };
        let mut standings = Vec::new();
        merge(&mut standings, standing(Err("out of breath".into())));
        for (new, kept) in [
            (Ok(2.0), 2.0),
            (Ok(1.0), 2.0),
            (Ok(3.0), 3.0),
            (Err("late".into()), 3.0),
        ] {
            merge(&mut standings, standing(new));
            assert_eq!(standings[0].figure, Ok(kept));
        }
        assert_eq!(standings.len(), 1);
    }
}
