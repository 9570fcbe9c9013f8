//! Tokens by how often they followed the tokens before them: an interpolated table with absolute discounts, whose lower
//! orders count contexts and not occurrences (Kneser and Ney 1995; Chen and Goodman 1998, section 2.7).

use std::collections::HashMap;

/// Tokens of the longest entry.
pub(super) const ORDER: usize = 5;

/// What followed a context.
#[derive(Clone, Debug, Default)]
struct Followers {
    counts: HashMap<u32, u32>,
    sum: f64,
}

/// The table.
pub(super) struct Ngrams {
    /// By the length of the context.
    orders: Vec<HashMap<Vec<u32>, Followers>>,
    discounts: Vec<f64>,
    vocab_len: usize,
}

impl Ngrams {
    /// Counts some texts.
    pub(super) fn new(texts: &[Vec<u32>], vocab_len: usize) -> Self {
        let mut orders = vec![HashMap::<Vec<u32>, Followers>::new(); ORDER];
        for text in texts {
            for (at, token) in text.iter().enumerate() {
                // The longest contexts count occurrences; a shorter one counts what stands before it, once each.
                for len in (0..ORDER.min(at + 1)).rev() {
                    let context = &text[at - len..at];
                    let followers = orders[len].entry(context.to_vec()).or_default();
                    let count = followers.counts.entry(*token).or_default();
                    let is_new = *count == 0;
                    *count += 1;
                    followers.sum += 1.0;
                    let begins = at == len;
                    if !is_new && !begins {
                        break;
                    }
                }
            }
        }
        let discount = |order: &HashMap<Vec<u32>, Followers>| {
            let counts = || {
                order
                    .values()
                    .flat_map(|followers| followers.counts.values())
            };
            let of = |n: u32| counts().filter(|count| **count == n).count() as f64;
            let (once, twice) = (of(1), of(2));
            // Where nothing was seen twice, all would be taken away.
            (once / (once + 2.0 * twice).max(1.0)).min(0.95)
        };
        Self {
            discounts: orders.iter().map(discount).collect(),
            orders,
            vocab_len,
        }
    }

    /// Entries.
    pub(super) fn len(&self) -> u64 {
        let of = |order: &HashMap<Vec<u32>, Followers>| {
            let entries = order
                .values()
                .map(|followers| followers.counts.len() as u64);
            entries.sum::<u64>()
        };
        self.orders.iter().map(of).sum()
    }

    /// Probability of the token at `at`, from those before it.
    pub(super) fn probability(&self, text: &[u32], at: usize) -> f64 {
        let mut p = 1.0 / self.vocab_len as f64;
        for len in 0..ORDER.min(at + 1) {
            let followers = self.orders[len].get(&text[at - len..at]);
            // What is longer was not seen either.
            let Some(followers) = followers else { break };
            let discount = self.discounts[len];
            let count = followers.counts.get(&text[at]).copied().unwrap_or(0);
            let own = (f64::from(count) - discount).max(0.0);
            let given = discount * followers.counts.len() as f64;
            p = (own + given * p) / followers.sum;
        }
        p
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up_and_follow_the_counts() {
        let text: Vec<u32> = (0..2000).map(|at| [0, 1, 2, 0, 1, 3][at % 6]).collect();
        let table = Ngrams::new(std::slice::from_ref(&text), 8);
        for context in [vec![], vec![0], vec![0, 1], vec![2, 0, 1], vec![7, 7]] {
            let p = |token| {
                let mut text = context.clone();
                text.push(token);
                table.probability(&text, context.len())
            };
            let sum: f64 = (0..8).map(p).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{context:?}: {sum}");
        }
        assert!(table.probability(&[1, 2, 0, 1, 3], 4) > 0.99);
        assert!(table.probability(&[1, 2, 0, 1, 2], 4) < 0.01);
    }
}
