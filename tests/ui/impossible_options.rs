//! Options that the model cannot have make an arena that does not compile.

use attentive::{Arena, Model, SessionOptions, WhenFull};

const MODEL: Model<'static> = attentive::include_weights!("tiny.attn");
const OPTIONS: SessionOptions = SessionOptions::new(4_000_000).with_when_full(WhenFull::Ring);
static ARENA: Arena<{ MODEL.session_bytes(&OPTIONS) }> = Arena::new();

fn main() {
    let _ = ARENA.take();
}
