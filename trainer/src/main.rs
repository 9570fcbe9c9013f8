//! The command `attentive`.
fn main() {}
