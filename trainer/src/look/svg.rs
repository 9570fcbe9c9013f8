//! Maps of attention as an SVG: a row for each query, a column for each key, darker where a weight is larger.

use super::{Board, Maps, escaped, title};
use anyhow::{Result, ensure};
use attentive::Attends;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write;
use std::ops::Range;

/// Shades of a cell: a weight w is drawn with shade ⌈SHADES · √w⌉, so that small weights show.
const SHADES: usize = 12;

/// Weights below this are not drawn: half of the lightest shade.
const LEAST: f32 = 0.25 / (SHADES * SHADES) as f32;

/// Most cells of a drawing.
const CELLS_MAX: usize = 2_000_000;

/// Width of a map among others, and the space beside it.
const SMALL: f32 = 120.0;
const GAP: f32 = 14.0;

/// Size of a cell of a map alone.
const CELL: f32 = 16.0;

/// Which layer and head to draw; none for all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// From 0.
    pub layer: Option<usize>,
    /// From 0.
    pub head: Option<usize>,
}

impl Choice {
    /// # Errors
    /// A layer or a head that is not there.
    pub fn check(&self, maps: &Maps) -> Result<()> {
        let exists = |kind, choice: Option<usize>, len| {
            ensure!(
                choice.is_none_or(|choice| choice < len),
                "there is no {kind} {}: the model has {len}, counted from 0",
                choice.unwrap_or(0)
            );
            Ok(())
        };
        exists("layer", self.layer, maps.layers)?;
        exists("head", self.head, maps.heads)
    }
}

/// A drawing of the chosen layers and heads: one large map with its tokens, or a table of small ones, layers down and
/// heads across. Queries go down, keys across.
///
/// # Errors
/// A layer or a head that is not there; more than two million cells.
pub fn draw(maps: &Maps, choice: Choice) -> Result<String> {
    choice.check(maps)?;
    let range = |choice: Option<usize>, len| choice.map_or(0..len, |one| one..one + 1);
    let (layers, heads) = (
        range(choice.layer, maps.layers),
        range(choice.head, maps.heads),
    );
    let cells = layers.len() * heads.len() * maps.queries.len() * maps.keys.len();
    ensure!(
        cells <= CELLS_MAX,
        "a drawing of {cells} cells, more than {CELLS_MAX}: choose a layer with --layer or a head with --head"
    );
    if let Some(board) = &maps.board {
        return Ok(boards(maps, board, layers, heads));
    }
    if layers.len() == 1 && heads.len() == 1 {
        return Ok(large(maps, layers.start, heads.start));
    }
    let (columns, rows) = (heads.len() as f32, layers.len() as f32);
    let (left, top) = (70.0, 60.0);
    let height = SMALL * maps.queries.len() as f32 / maps.keys.len() as f32;
    let (width, tall) = (left + columns * (SMALL + GAP), top + rows * (height + GAP));
    let mut svg = head(width, tall, &format!("Attention, {}", title(maps)));
    for (column, head) in heads.clone().enumerate() {
        let x = left + column as f32 * (SMALL + GAP) + SMALL / 2.0;
        let _ = writeln!(
            svg,
            r#"<text x="{x}" y="{}" text-anchor="middle">head {head}</text>"#,
            top - 8.0
        );
    }
    for (row, layer) in layers.enumerate() {
        let y = top + row as f32 * (height + GAP);
        let _ = writeln!(
            svg,
            r#"<text x="8" y="{}">layer {layer}</text>"#,
            y + height / 2.0 + 4.0
        );
        for (column, head) in heads.clone().enumerate() {
            let x = left + column as f32 * (SMALL + GAP);
            map(
                &mut svg,
                maps,
                layer,
                head,
                (x, y),
                SMALL / maps.keys.len() as f32,
            );
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// The picture once for each layer and head, each patch the more covered the more it gets.
fn boards(maps: &Maps, board: &Board, layers: Range<usize>, heads: Range<usize>) -> String {
    let (left, top) = (70.0, 60.0);
    // Patches of a spectrum are narrow and tall.
    let shape = if board.rows > 1 { 1.0 } else { 20.0 };
    let width = if heads.len() == 1 { 3.0 * SMALL } else { SMALL };
    let height = width * shape * board.rows as f32 / board.columns as f32;
    let whose = match board.first {
        true => "of the class token",
        false => "of all tokens on average",
    };
    let (wide, tall) = (
        left + heads.len() as f32 * (width + GAP),
        top + layers.len() as f32 * (height + GAP),
    );
    let mut svg = head(wide.max(360.0), tall, &format!("Attention {whose}"));
    let _ = writeln!(
        svg,
        r##"<style>.hot {{ fill: #f97316; }}</style><defs><image id="picture" width="1" height="1" preserveAspectRatio="none" style="image-rendering: pixelated" href="data:image/png;base64,{}"/></defs>"##,
        STANDARD.encode(&board.png)
    );
    for (column, head) in heads.clone().enumerate() {
        let x = left + column as f32 * (width + GAP) + width / 2.0;
        let y = top - 8.0;
        let _ = writeln!(
            svg,
            r#"<text x="{x}" y="{y}" text-anchor="middle">head {head}</text>"#
        );
    }
    for (row, layer) in layers.enumerate() {
        let y = top + row as f32 * (height + GAP);
        let middle = y + height / 2.0 + 4.0;
        let _ = writeln!(svg, r#"<text x="8" y="{middle}">layer {layer}</text>"#);
        for (column, head) in heads.clone().enumerate() {
            let x = left + column as f32 * (width + GAP);
            let _ = writeln!(
                svg,
                r##"<g transform="translate({x} {y}) scale({width} {height})"><use href="#picture"/>"##
            );
            let weights = maps.on_board(layer, head);
            let most = weights.iter().copied().fold(1e-9, f32::max);
            let (across, down) = (1.0 / board.columns as f32, 1.0 / board.rows as f32);
            for (patch, weight) in weights.iter().enumerate() {
                let opacity = 0.75 * (weight / most).sqrt();
                let left = (patch % board.columns) as f32 * across;
                let top = (patch / board.columns) as f32 * down;
                let _ = writeln!(
                    svg,
                    r#"<rect class="hot" x="{left:.4}" y="{top:.4}" width="{across:.4}" height="{down:.4}" fill-opacity="{opacity:.3}"/>"#
                );
            }
            svg.push_str("</g>\n");
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// One map with the names of its tokens.
fn large(maps: &Maps, layer: usize, head_index: usize) -> String {
    let longest = |labels: &[String]| {
        let longest = labels.iter().map(|label| label.chars().count()).max();
        7.5 * longest.unwrap_or(0).min(24) as f32 + 16.0
    };
    let (left, top) = (longest(&maps.queries), 40.0 + longest(&maps.keys));
    let (width, height) = (
        left + CELL * maps.keys.len() as f32 + 10.0,
        top + CELL * maps.queries.len() as f32 + 10.0,
    );
    let what = title(maps);
    let mut svg = head(
        width.max(360.0),
        height,
        &format!("Attention, {what}: layer {layer}, head {head_index}"),
    );
    for (key, label) in maps.keys.iter().enumerate() {
        let (x, y) = (left + CELL * (key as f32 + 0.75), top - 6.0);
        let _ = writeln!(
            svg,
            r#"<text x="{x}" y="{y}" transform="rotate(-90 {x} {y})">{}</text>"#,
            escaped(&shortened(label))
        );
    }
    for (query, label) in maps.queries.iter().enumerate() {
        let (x, y) = (left - 6.0, top + CELL * (query as f32 + 0.75));
        let label = escaped(&shortened(label));
        let _ = writeln!(
            svg,
            r#"<text x="{x}" y="{y}" text-anchor="end">{label}</text>"#
        );
    }
    map(&mut svg, maps, layer, head_index, (left, top), CELL);
    svg.push_str("</svg>\n");
    svg
}

fn shortened(label: &str) -> String {
    match label.char_indices().nth(24) {
        Some((at, _)) => format!("{}\u{2026}", &label[..at]),
        None => label.to_owned(),
    }
}

fn head(width: f32, height: f32, title: &str) -> String {
    let title = escaped(title);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>{title}</title>
<style>
svg {{ background: #ffffff; }}
text {{ font: 12px ui-monospace, monospace; fill: #1c2733; }}
.title {{ font: 600 14px system-ui, sans-serif; }}
.map {{ fill: #f3f5f7; }}
"#
    );
    for shade in 1..=SHADES {
        let opacity = shade as f32 / SHADES as f32;
        let _ = writeln!(
            svg,
            ".s{shade} {{ fill: #0b5394; fill-opacity: {opacity:.3}; }}"
        );
    }
    let _ = writeln!(
        svg,
        "</style>\n<text class=\"title\" x=\"8\" y=\"22\">{title}</text>"
    );
    svg
}

/// The shade of a weight, from 1; 0 for none.
fn shade(weight: f32) -> usize {
    if weight < LEAST {
        return 0;
    }
    ((SHADES as f32 * weight.sqrt()).ceil() as usize).clamp(1, SHADES)
}

/// One path a shade: cells of a row that follow each other are one rectangle.
fn map(
    svg: &mut String,
    maps: &Maps,
    layer: usize,
    head: usize,
    (left, top): (f32, f32),
    cell: f32,
) {
    let (rows, columns) = (maps.queries.len(), maps.keys.len());
    let _ = writeln!(
        svg,
        r#"<g transform="translate({left} {top}) scale({cell})"><rect class="map" width="{columns}" height="{rows}"/>"#
    );
    let mut paths = vec![String::new(); SHADES + 1];
    for query in 0..rows {
        let row = maps.row(layer, head, query);
        let mut key = 0;
        while key < columns {
            let of_key = shade(row[key]);
            let len = row[key..]
                .iter()
                .take_while(|w| shade(**w) == of_key)
                .count();
            if of_key > 0 {
                let _ = write!(paths[of_key], "M{key} {query}h{len}v1h-{len}z");
            }
            key += len;
        }
    }
    for (shade, path) in paths
        .iter()
        .enumerate()
        .filter(|(_, path)| !path.is_empty())
    {
        let _ = writeln!(svg, r#"<path class="s{shade}" d="{path}"/>"#);
    }
    svg.push_str("</g>\n");
}

/// Which of several kinds of attention an SVG shows: the one to a source where there is one.
pub fn shown(all: &[Maps]) -> Option<&Maps> {
    let to_source = all
        .iter()
        .find(|maps| maps.attends == Attends::TextToSource);
    to_source.or(all.first())
}
