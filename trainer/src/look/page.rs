//! Maps of attention as one page of HTML that needs nothing else: point at a token to see what it attends to.

use super::{Maps, escaped, title};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The page; `/*DATA*/` stands where the data goes.
const PAGE: &str = include_str!("page.html");

/// A weight w as the byte round(255 · √w), so that small weights keep their digits: within 0.4 % of 1.
fn byte(weight: f32) -> u8 {
    (255.0 * weight.clamp(0.0, 1.0).sqrt()).round() as u8
}

fn bytes(weights: &[f32]) -> String {
    let bytes: Vec<u8> = weights.iter().map(|weight| byte(*weight)).collect();
    STANDARD.encode(bytes)
}

fn data(maps: &Maps) -> Value {
    json!({
        "title": title(maps),
        "layers": maps.layers,
        "heads": maps.heads,
        "queries": maps.queries,
        "keys": maps.keys,
        "weights": bytes(&maps.weights),
        "board": maps.board.as_ref().map(|board| json!({
            "columns": board.columns,
            "rows": board.rows,
            "first": board.first,
            "png": STANDARD.encode(&board.png),
        })),
        "rollout": maps.rollout().map(|rollout| bytes(&rollout)),
    })
}

/// The page of a run: layers, heads, their mean and rollouts to choose from.
pub fn draw(all: &[Maps], model: &str) -> String {
    let data = json!({ "model": model, "maps": all.iter().map(data).collect::<Vec<_>>() });
    // Inside a script, `</` would end it, and `<!--` begin a comment.
    let data = data.to_string().replace('<', "\\u003c");
    let (before, after) = PAGE.split_once("/*DATA*/").unwrap_or((PAGE, ""));
    let titled = |part: &str| part.replace("/*TITLE*/", &escaped(model));
    [titled(before), data, titled(after)].concat()
}
