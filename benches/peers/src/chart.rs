//! Bar charts as SVG: a group of bars for each case, each as long as its figure is of the group's largest.

use crate::row::{Row, short};
use std::fmt::Write;

/// Pixels.
const WIDTH: usize = 760;
const LABELS: usize = 250;
const BAR: usize = 13;
const GAP: usize = 8;
const HEAD: usize = 56;
/// Room behind the longest bar for its figure.
const FIGURES: usize = 70;
/// Ours first; the peers' colours are told apart by those who see red and green alike (Okabe and Ito, 2008).
const OURS: &str = "#0072b2";
const COLOURS: [&str; 7] = [
    "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#999999", "#d55e00", "#b8a200",
];

/// A chart of these rows; `peers` are those that have a bar, in the order of their colours.
pub(crate) fn draw(title: &str, rows: &[&Row], peers: &[&str]) -> String {
    let bars = |row: &Row| {
        1 + peers
            .iter()
            .filter(|peer| row.figure_of(peer).is_some())
            .count()
    };
    let height = HEAD + rows.iter().map(|row| bars(row) * BAR + GAP).sum::<usize>() + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut svg,
        10,
        20,
        "font-size=\"14\" font-weight=\"bold\"",
        title,
    );
    legend(&mut svg, peers);
    let mut y = HEAD;
    for row in rows {
        let figures: Vec<(&str, f64)> = std::iter::once((OURS, row.value))
            .chain(
                peers
                    .iter()
                    .zip(COLOURS.iter().cycle())
                    .filter_map(|(peer, colour)| {
                        row.figure_of(peer).map(|figure| (*colour, figure))
                    }),
            )
            .collect();
        let most = figures
            .iter()
            .fold(f64::MIN_POSITIVE, |most, (_, figure)| most.max(*figure));
        let middle = y + figures.len() * BAR / 2 + 4;
        text(
            &mut svg,
            LABELS - 8,
            middle,
            "text-anchor=\"end\"",
            &row.name,
        );
        for (colour, figure) in figures {
            let long = figure / most * (WIDTH - LABELS - FIGURES) as f64;
            // A string has no error to tell of.
            let _ = writeln!(
                svg,
                "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{long:.1}\" height=\"{}\" fill=\"{colour}\"/>",
                BAR - 1
            );
            let label = format!("{} {}", short(figure), row.unit);
            text(
                &mut svg,
                LABELS + long as usize + 4,
                y + 10,
                "font-size=\"9\" fill=\"#444444\"",
                &label,
            );
            y += BAR;
        }
        y += GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn legend(svg: &mut String, peers: &[&str]) {
    let mut x = 10;
    let names =
        std::iter::once((&"attentive", &OURS)).chain(peers.iter().zip(COLOURS.iter().cycle()));
    for (name, colour) in names {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"32\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"
        );
        text(svg, x + 14, 41, "", name);
        x += 30 + 7 * name.len();
    }
}

fn text(svg: &mut String, x: usize, y: usize, style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" {style}>{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::draw;
    use crate::row::Row;
    use attentive_benches::contest::Standing;

    #[test]
    fn the_longest_bar_is_the_fastest_and_nobody_absent_has_one() {
        let standing = |name: &str, figure| Standing {
            name: name.to_owned(),
            figure,
        };
        let mut row = Row::of_training("a<b", 50.0, standing("torch", Ok(100.0)));
        row.peers
            .push(standing("gemm", Err("it is not there".to_owned())));
        let svg = draw("title", &[&row], &["torch", "gemm"]);
        assert!(svg.contains("width=\"440.0\"") && svg.contains("width=\"220.0\""));
        assert_eq!(svg.matches("<rect x=\"250\"").count(), 2);
        assert!(svg.contains("a&lt;b"));
    }
}
