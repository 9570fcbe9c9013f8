//! What is reported, and the bar that each case has to reach.

use attentive_benches::case::name_matches;

/// A bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// Of the limit measured in the same rounds.
    Limit(f64),
    /// Of the best peer's figure in the same rounds.
    Peer(f64),
}

/// Cases whose name begins or matches like this, and their bars; the first that matches counts. Peaks are those of the
/// instruction set that the probe of the limits found.
const BARS: [(&str, Bar); 37] = [
    ("attn-prefill/f32/full/d64/n128", NONE),
    ("attn-prefill/f32/full/d64/*", Bar::Limit(0.87)),
    ("attn-prefill/f32/full/d128/n128", NONE),
    ("attn-prefill/f32/full/d128/*", Bar::Limit(0.90)),
    ("attn-prefill/f32/causal/d64/n128", Bar::Limit(0.74)),
    ("attn-prefill/f32/causal/d64/n512", Bar::Limit(0.83)),
    ("attn-prefill/f32/causal/d64/n2048", Bar::Limit(0.85)),
    ("attn-prefill/f32/causal/d128/n2048", Bar::Limit(0.85)),
    ("attn-prefill/f16/causal/d64/n512", Bar::Limit(0.78)),
    ("attn-prefill/i8/full/d64/n512", Bar::Limit(1.40)),
    ("attn-prefill/i8/full/d128/n512", Bar::Limit(1.55)),
    ("attn-prefill/i8/causal/d64/n128", Bar::Limit(1.05)),
    ("attn-prefill/i8/causal/d64/n512", Bar::Limit(1.25)),
    ("attn-prefill/i8/causal/d64/n2048", Bar::Limit(1.35)),
    ("attn-decode/f32/d128/n8192", Bar::Limit(0.80)),
    ("attn-decode/f32/*", Bar::Limit(0.90)),
    ("attn-decode/f16/d64/n1024", Bar::Limit(0.55)),
    ("attn-decode/f16/d64/n8192", Bar::Limit(0.60)),
    ("attn-decode/i8/d64/n1024", Bar::Limit(0.60)),
    ("attn-decode/i8/d64/n8192", Bar::Limit(0.70)),
    ("attn-decode-gqa8/f16/d64/n1024", Bar::Limit(0.80)),
    ("attn-decode-gqa8/i8/*/n1024", Bar::Limit(1.35)),
    ("gemv/i8/4096x4096", Bar::Limit(0.95)),
    ("gemv/i8/768x288", Bar::Limit(0.80)),
    // 155 of the 198 GOP/s at which the bar was set.
    ("gemv/i4/768x288", Bar::Limit(0.78)),
    ("gemm/i8/*/n128", Bar::Limit(0.93)),
    ("gemm/i4/*/n128", Bar::Limit(1.15)),
    ("gemm/f32/512x512/k64", Bar::Limit(0.93)),
    ("e2e/llama-15m/i8/pp128", Bar::Peer(2.5)),
    ("e2e/llama-15m/i8/tg128", Bar::Peer(2.0)),
    ("e2e/llama-15m/i4/pp128", Bar::Peer(2.0)),
    ("e2e/llama-15m/i4/tg128", Bar::Peer(1.6)),
    ("e2e/smollm2-135m/*/pp128", Bar::Peer(3.0)),
    ("e2e/smollm2-135m/*/tg128", Bar::Peer(1.6)),
    ("e2e/encoder/*", Bar::Peer(1.0)),
    (crate::training::CASE, Bar::Peer(1.0)),
    ("", NONE),
];

/// No bar.
const NONE: Bar = Bar::Limit(0.0);

/// What a run without a filter measures.
const REPORTED: [&str; 12] = [
    "limit/peak/",
    "limit/read/",
    "attn-prefill/*/d64/",
    "attn-prefill/*/d128/",
    "attn-decode/*/d64/",
    "attn-decode/*/d128/n8192",
    "attn-decode-gqa8/",
    "gemv/i8/",
    "gemv/i4/",
    "gemm/i8/",
    "gemm/i4/",
    "gemm/f32/512x512/k64",
];

/// Whether a run without a filter measures this case.
pub(crate) fn is_reported(name: &str) -> bool {
    name.starts_with("e2e/")
        || REPORTED.iter().any(|pattern| {
            let first = pattern.split('*').next().unwrap_or("");
            name.starts_with(first) && name_matches(pattern, name)
        })
}

/// The bar of a case.
pub(crate) fn bar(name: &str) -> Option<Bar> {
    let (_, bar) = BARS
        .iter()
        .find(|(pattern, _)| name_matches(pattern, name))?;
    (*bar != NONE).then_some(*bar)
}

#[cfg(test)]
mod tests {
    use super::{BARS, Bar, NONE, bar, is_reported};
    use attentive_benches::case::name_matches;
    use attentive_benches::cases;

    #[test]
    fn every_bar_belongs_to_a_case_that_is_reported() {
        let all = cases::all();
        for (pattern, bar) in BARS {
            let elsewhere = ["smollm2", "encoder", crate::training::CASE]
                .iter()
                .any(|name| pattern.contains(name))
                || bar == NONE;
            let reported = |name: &str| is_reported(name) && name_matches(pattern, name);
            assert!(
                elsewhere || all.iter().any(|case| reported(&case.name)),
                "{pattern}"
            );
        }
    }

    #[test]
    fn the_narrow_pattern_comes_first() {
        assert_eq!(bar("attn-decode/f32/d128/n8192"), Some(Bar::Limit(0.80)));
        assert_eq!(bar("attn-decode/f32/d64/n8192"), Some(Bar::Limit(0.90)));
        assert_eq!(bar("attn-prefill/f32/full/d64/n128"), None);
        assert_eq!(bar("attn-prefill/f16/full/d64/n512"), None);
    }
}
