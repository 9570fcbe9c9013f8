//! Tells the code whether the processor has the DSP extension of Armv7E-M and Armv8-M, or the vectors of Armv8.1-M, which
//! stable Rust does not say.

use std::env;

/// Processors of Armv8-M that have it; Armv7E-M always does.
const WITH_DSP: [&str; 4] = ["cortex-m33", "cortex-m35p", "cortex-m55", "cortex-m85"];

/// Processors with the vector extension for integers.
const WITH_HELIUM: [&str; 2] = ["cortex-m55", "cortex-m85"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(attentive_dsp)");
    println!("cargo::rustc-check-cfg=cfg(attentive_armv8m)");
    println!("cargo::rustc-check-cfg=cfg(attentive_helium)");
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let named = |cpu: &&str| flags.contains(&format!("target-cpu={cpu}"));
    if target.starts_with("thumbv8m") {
        println!("cargo::rustc-cfg=attentive_armv8m");
    }
    if WITH_HELIUM.iter().any(named) {
        println!("cargo::rustc-cfg=attentive_helium");
    }
    if target.starts_with("thumbv7em") || WITH_DSP.iter().any(named) {
        println!("cargo::rustc-cfg=attentive_dsp");
    }
}
