//! Scales of rows of four bits a number.

/// Steps of a row that are tried: its largest weight is 7 of the first of them and 4.5 of the last.
const TRIED: [f64; 2] = [7.0, 4.5];
/// How many.
const TRIES: usize = 50;

/// The level of a weight.
pub(super) fn level(weight: f32, step: f64) -> i8 {
    (f64::from(weight) / step).round().clamp(-8.0, 7.0) as i8
}

/// The step of each row with the least square error, weighed by the importance of each column where that is known. Of a row
/// of zeros it is 0.
pub(super) fn steps(cols: usize, weights: &[f32], importance: Option<&[f32]>) -> Vec<f64> {
    let rows = weights.chunks_exact(cols.max(1));
    rows.map(|row| step(row, importance)).collect()
}

fn step(row: &[f32], importance: Option<&[f32]>) -> f64 {
    let weight = |col: usize| {
        let importance = importance.and_then(|importance| importance.get(col));
        importance.map_or(1.0, |importance| f64::from(*importance))
    };
    let most = row.iter().fold(0.0, |most: f32, w| most.max(w.abs()));
    if most == 0.0 {
        return 0.0;
    }
    let error = |step: f64| -> f64 {
        let off = |w: &f32| f64::from(*w) - step * f64::from(level(*w, step));
        let errors = row
            .iter()
            .enumerate()
            .map(|(col, w)| weight(col) * off(w).powi(2));
        errors.sum()
    };
    // The best for the levels that another step leads to: Σ h·w·q / Σ h·q².
    let refined = |step: f64| {
        let (mut above, mut below) = (0.0, 0.0);
        for (col, w) in row.iter().enumerate() {
            let q = f64::from(level(*w, step));
            above += weight(col) * f64::from(*w) * q;
            below += weight(col) * q * q;
        }
        if above > 0.0 { above / below } else { step }
    };
    let [first, last] = TRIED;
    let tried = (0..TRIES).flat_map(|at| {
        let peak = first + (last - first) * at as f64 / (TRIES - 1) as f64;
        let step = f64::from(most) / peak;
        [step, refined(step)]
    });
    let best = tried.map(|step| (error(step), step));
    let best = best.min_by(|(one, _), (other, _)| one.total_cmp(other));
    best.map_or(0.0, |(_, step)| step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_four_bits_hold_is_kept() {
        let row: Vec<f32> = (-7..=7).map(|level| level as f32 * 0.3).collect();
        let steps = steps(row.len(), &row, None);
        assert!((steps[0] - 0.3).abs() < 1e-6, "{steps:?}");
        let levels: Vec<i8> = row.iter().map(|w| level(*w, steps[0])).collect();
        assert_eq!(levels, (-7..=7).collect::<Vec<i8>>());
    }

    #[test]
    fn what_matters_more_is_nearer() {
        let row = [1.0, 0.33, -0.21, 0.08];
        let error = |importance: &[f32], col: usize| {
            let step = steps(4, &row, Some(importance))[0];
            (f64::from(row[col]) - step * f64::from(level(row[col], step))).abs()
        };
        for col in 0..4 {
            let mut importance = [1e-3; 4];
            importance[col] = 1.0;
            let (own, even) = (error(&importance, col), error(&[1.0; 4], col));
            assert!(own <= even, "{col}: {own} {even}");
            // The last is less than half of any step that is tried, or not much more.
            assert!(own < 1e-3 || col == 3, "{col}: {own}");
        }
        assert_eq!(steps(4, &[0.0; 4], None), [0.0]);
    }
}
