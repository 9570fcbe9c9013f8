//! The list of cases.

mod attention;
pub mod e2e;
pub mod encoder;
mod limits;
mod matmul;

use crate::case::{Case, Outcome};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Every case that this checkout can run, in the order of the report.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = limits::cases();
    cases.extend(attention::cases());
    cases.extend(matmul::cases());
    cases.extend(e2e::cases());
    cases
}

/// Bytes as the kernels' element type; the buffers begin at cache lines, so they are aligned for any.
fn typed<T: FromBytes + Immutable>(bytes: &[u8]) -> Outcome<&[T]> {
    <[T]>::ref_from_bytes(bytes).map_err(|error| format!("a packed buffer: {error}").into())
}

fn typed_mut<T: FromBytes + IntoBytes>(bytes: &mut [u8]) -> Outcome<&mut [T]> {
    <[T]>::mut_from_bytes(bytes).map_err(|error| format!("a packed buffer: {error}").into())
}

#[cfg(test)]
mod tests {
    use crate::data::Rng;
    use attentive_kernels::Backend;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_those_promised_are_there() {
        let cases = super::all();
        let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len(), "two cases of one name");
        for kv in ["f32", "f16", "i8"] {
            let mut promised = Vec::new();
            for head_dim in [64, 128] {
                for mask in ["full", "causal"] {
                    promised.extend(
                        [128, 512, 2048]
                            .map(|n| format!("attn-prefill/{kv}/{mask}/d{head_dim}/n{n}")),
                    );
                }
                promised.extend([1024, 8192].map(|n| format!("attn-decode/{kv}/d{head_dim}/n{n}")));
                promised.push(format!("attn-decode-gqa8/{kv}/d{head_dim}/n1024"));
                promised.push(format!("attn-chunk/{kv}/causal/d{head_dim}/q128/n1024"));
            }
            for head_dim in [48, 80, 96, 112] {
                for mask in ["full", "causal"] {
                    promised.push(format!("attn-prefill/{kv}/{mask}/d{head_dim}/n512"));
                }
                promised.push(format!("attn-decode/{kv}/d{head_dim}/n1024"));
            }
            for name in promised {
                assert!(names.contains(name.as_str()), "{name} is missing");
            }
        }
        for format in ["i8", "i4"] {
            for shape in ["4096x4096", "768x288"] {
                for name in [
                    format!("gemv/{format}/{shape}"),
                    format!("gemm/{format}/{shape}/n128"),
                ] {
                    assert!(names.contains(name.as_str()), "{name} is missing");
                }
            }
        }
        assert!(names.contains("gemm/f32/512x512/k64"));
        for case in [
            "i8/pp128",
            "i8/tg128",
            "i4/pp128",
            "i4/tg128",
            "i8/pp128/2cores",
        ] {
            assert!(
                names.contains(format!("e2e/llama-15m/{case}").as_str()),
                "{case} is missing"
            );
        }
    }

    #[test]
    fn attention_needs_no_more_scratch_for_more_tokens() {
        let cases = super::all();
        let scratch_bytes = |name: &str| {
            let case = cases.iter().find(|case| case.name == name).unwrap();
            let workload = (case.prepare)(Backend::SCALAR, &mut Rng::new(0)).unwrap();
            workload.scratch_bytes()
        };
        for kv in ["f32", "f16", "i8"] {
            let prefill = |n| scratch_bytes(&format!("attn-prefill/{kv}/causal/d64/n{n}"));
            assert_eq!(prefill(512), prefill(2048), "prefill, {kv}");
            let decode = |n| scratch_bytes(&format!("attn-decode/{kv}/d64/n{n}"));
            assert_eq!(decode(1024), decode(8192), "decode, {kv}");
        }
    }
}
