//! How deep the stack gets.

/// Bytes of stack that calls of the integer profile take, on 32-bit Arm and RISC-V in a release build, whatever the model and the text:
/// what is beside memory that a program has to have, next to its own frames and interrupts.
///
/// Measured, with a margin: the firmware `stack` paints the stack before each call on a Cortex-M4, Armv6-M, Armv8-M,
/// Cortex-M33, Cortex-M55 and RISC-V, and the test command fails where one leaves less than an eighth of its bound. Stable Rust
/// does not tell what a function's frame takes, so a compiler that differs much from the one that `Cargo.toml` names wants
/// them measured anew.
///
/// ```
/// use attentive::integer::Stack;
///
/// // Of a task that generates text.
/// const STACK: usize = 512 + Stack::ADVANCE;
/// assert!(Stack::ADVANCE > Stack::NEW && Stack::ADVANCE > Stack::PROMPT && Stack::ADVANCE > Stack::DRAW);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stack;

impl Stack {
    /// [`Session::new`](super::Session::new) and [`Encoder::new`](super::Encoder::new), or their `fitted`.
    pub const NEW: usize = 1536;
    /// [`Session::read`](super::Session::read), [`Session::prompt`](super::Session::prompt),
    /// [`Encoder::begin_text`](super::Encoder::begin_text): the tokenizer.
    pub const PROMPT: usize = 1024;
    /// [`Session::advance`](super::Session::advance) and [`Encoder::advance`](super::Encoder::advance), heads of up to 64
    /// dimensions.
    pub const ADVANCE: usize = 4096;
    /// The same with wider heads.
    pub const ADVANCE_WIDE: usize = 7168;
    /// [`Session::draw`](super::Session::draw) and [`Session::step`](super::Session::step), beyond what
    /// [`Session::advance`](super::Session::advance) takes where work is left.
    pub const DRAW: usize = 1536;
    /// [`Session::snapshot`](super::Session::snapshot) and [`Session::restore`](super::Session::restore).
    pub const SNAPSHOT: usize = 1024;
    /// [`Model::verify`](super::Model::verify).
    pub const VERIFY: usize = 512;
    /// [`IntegerListener::hear`](crate::frontend::IntegerListener::hear), beside what it is given.
    pub const LISTEN: usize = 640;

    /// All of them, by name.
    pub const ALL: [(&str, usize); 8] = [
        ("new", Self::NEW),
        ("prompt", Self::PROMPT),
        ("advance", Self::ADVANCE),
        ("advance, heads wider than 64", Self::ADVANCE_WIDE),
        ("draw", Self::DRAW),
        ("snapshot", Self::SNAPSHOT),
        ("verify", Self::VERIFY),
        ("listen", Self::LISTEN),
    ];
}
