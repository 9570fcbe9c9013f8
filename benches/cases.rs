//! The list of cases.

mod attention;
pub mod e2e;
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
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_those_promised_are_there() {
        let cases = super::all();
        let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len(), "two cases of one name");
        for kv in ["f32", "f16", "i8"] {
            for name in [
                format!("attn-prefill/{kv}/full/d64/n512"),
                format!("attn-prefill/{kv}/causal/d64/n512"),
                format!("attn-decode/{kv}/d64/n1024"),
                format!("attn-decode-gqa8/{kv}/d64/n1024"),
            ] {
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
}
