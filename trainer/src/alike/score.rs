//! How well texts are found by their vectors.

/// Over some pairs: each source looks for its target among all targets, by the cosine of their vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Retrieval {
    /// Share of the sources to which their target is nearer than all others.
    pub nearest: f64,
    /// Mean of one over the place of its target, the nearest having place 1 (Voorhees 1999).
    pub reciprocal_rank: f64,
    /// Pairs.
    pub pairs: usize,
}

impl Retrieval {
    /// Of the vectors of sources and of their targets, as many.
    ///
    /// # Panics
    /// When there are fewer targets.
    pub fn of(sources: &[Vec<f32>], targets: &[Vec<f32>]) -> Self {
        let targets: Vec<Vec<f64>> = targets.iter().map(|target| unit(target)).collect();
        let place = |(index, source): (usize, &Vec<f32>)| {
            let (source, own) = (unit(source), &targets[index]);
            let cosine =
                |target: &[f64]| -> f64 { source.iter().zip(target).map(|(a, b)| a * b).sum() };
            // Of as near ones its own counts last, so that vectors which tell nothing find nothing; an equal one is its own.
            let least = cosine(own) - 1e-9;
            let nearer = targets
                .iter()
                .filter(|target| cosine(target) >= least && *target != own);
            nearer.count() + 1
        };
        let places: Vec<usize> = sources.iter().enumerate().map(place).collect();
        let count = places.len().max(1) as f64;
        Self {
            nearest: places.iter().filter(|place| **place == 1).count() as f64 / count,
            reciprocal_rank: places.iter().map(|place| 1.0 / *place as f64).sum::<f64>() / count,
            pairs: places.len(),
        }
    }
}

fn unit(vector: &[f32]) -> Vec<f64> {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let length = square.sqrt().max(f64::MIN_POSITIVE);
    vector.iter().map(|x| f64::from(*x) / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_what_is_nearer() {
        let sources = [vec![1.0, 0.0], vec![0.0, 2.0], vec![1.0, 1.0]];
        let targets = [vec![3.0, 0.1], vec![1.0, 0.0], vec![0.1, 0.1]];
        let found = Retrieval::of(&sources, &targets);
        // The second source is nearest to the third target, then to the first, then to its own.
        let want = (1.0 / 2.0 + 1.0 / 3.0 + 1.0) / 3.0;
        assert_eq!((found.nearest, found.pairs), (1.0 / 3.0, 3));
        assert!((found.reciprocal_rank - want).abs() < 1e-12);
        let same = [vec![1.0, 2.0], vec![1.0, 2.0]];
        let nothing = [vec![0.0, 0.0], vec![0.0, 0.0]];
        assert_eq!(Retrieval::of(&nothing, &targets[..2]).nearest, 0.0);
        assert_eq!(
            Retrieval::of(&same, &same).nearest,
            1.0,
            "equal ones are no nearer"
        );
    }
}
