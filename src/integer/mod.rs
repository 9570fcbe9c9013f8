//! The integer profile: the same bits on every processor, without a float.
//!
//! `docs/integer.md` states what is computed, in which order and with which roundings;
//! [`kernels::integer`](crate::kernels::integer) are its operations. A [`Model`] of this profile is made by
//! `attentive quantize --profile integer`. A [`Session`] runs decoders and encoder–decoders, an [`Encoder`] encoders;
//! both are told how much to do before they return ([`Session::advance`], [`Encoder::advance`]), so that a watchdog, an
//! interrupt or an executor keeps its turn.
//!
//! `tensors` says which tensors a file has and how they lie, `model` reads them, `pass` takes tokens through the layers
//! in small pieces, `memory` is what a pass writes, `cache` the layout of
//! keys and values in it, `parts` what it looks up of a layer, `needs` what of all that a program links.

mod cache;
mod encoder;
mod memory;
mod model;
mod needs;
pub mod pack;
mod parts;
mod pass;
mod sampler;
mod session;
mod snapshot;
mod stack;
mod tensors;

pub use encoder::{Encoder, quantize_input};
pub use model::Model;
pub use needs::{Anything, Fit, Needs};
pub use pass::Progress;
pub use sampler::{Sampler, SamplerOptions};
pub use session::{Options, Session};
pub use stack::Stack;
pub use tensors::{Bits, Kind, Shape, check, shapes};

/// Embeds a weights file of the integer profile and parses it while compiling, as
/// [`include_weights!`](crate::include_weights) does for floats: `include_integer_weights!("story.attn")` is an
/// [`integer::Model<'static>`](crate::integer::Model).
#[macro_export]
macro_rules! include_integer_weights {
    ($path:expr $(,)?) => {{
        static FILE: &$crate::Aligned<[u8]> = &$crate::Aligned(*::core::include_bytes!($path));
        const MODEL: $crate::integer::Model<'static> = match $crate::integer::Model::parse(&FILE.0)
        {
            ::core::result::Result::Ok(model) => model,
            ::core::result::Result::Err(error) => ::core::panic!("{}", error.message()),
        };
        MODEL
    }};
}
