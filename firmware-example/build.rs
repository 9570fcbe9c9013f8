//! Finds the weights, so that a missing file is one clear sentence, and hands the linker its scripts.

use std::{env, path::PathBuf};

/// The weights that are shipped.
const DEFAULT_MODEL: &str = "models/austen-1m-int8.attn";

/// Those of the other binaries.
const OTHERS: [&str; 13] = [
    "models/digits-int8.attn",
    "models/fashion-int8.attn",
    "models/keywords-int8.attn",
    "models/languages-int8.attn",
    "models/stories-int8.attn",
    "models/translation-int8.attn",
    "models/austen-1m-integer.attn",
    "models/digits-integer.attn",
    "models/fashion-integer.attn",
    "models/keywords-integer.attn",
    "models/languages-integer.attn",
    "models/stories-integer.attn",
    "models/translation-integer.attn",
];

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());

    println!("cargo::rerun-if-env-changed=ATTENTIVE_MODEL");
    let named = env::var("ATTENTIVE_MODEL").unwrap_or_else(|_| DEFAULT_MODEL.into());
    // A relative path begins at the root of the repository, wherever cargo was started.
    let model = here.join("..").join(&named);
    match model.canonicalize() {
        Ok(model) => {
            println!("cargo::rerun-if-changed={}", model.display());
            println!("cargo::rustc-env=ATTENTIVE_MODEL={}", model.display());
        }
        Err(error) => println!(
            "cargo::error=no weights at {named} ({error}): set ATTENTIVE_MODEL to an .attn file"
        ),
    }

    for other in OTHERS {
        println!("cargo::rerun-if-changed=../{other}");
    }

    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rustc-link-search={}", here.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
}
