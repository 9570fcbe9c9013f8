//! A line of the report.

use crate::targets::{self, Bar};
use attentive_benches::case::{Bound, Case};
use attentive_benches::contest::Standing;
use attentive_benches::measure::Figure;
use serde::Serialize;

/// Ours, the peers', the limit and the bar of one case.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
    /// Name and figure in the same unit; none where the peers alone are compared with.
    pub(crate) limit: Option<(&'static str, f64)>,
    pub(crate) peers: Vec<Standing>,
    pub(crate) bar: Option<Bar>,
    pub(crate) disturbed: bool,
    pub(crate) is_limit: bool,
    /// Something to tell beside the figures.
    pub(crate) note: String,
}

/// One line of `--json`: that of `cargo xtask perf --json`, and the peers.
#[derive(Serialize)]
struct Line<'a> {
    case: &'a str,
    value: f64,
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fraction: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_name: Option<&'a str>,
    backend: &'a str,
    disturbed: bool,
    peers: Vec<PeerLine<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    best_peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reaches_bar: Option<bool>,
}

#[derive(Serialize)]
struct PeerLine<'a> {
    peer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Row {
    pub(crate) fn new(case: &Case, figure: Figure, peers: Vec<Standing>) -> Self {
        let is_limit = case.bound == Bound::Itself;
        Self {
            name: case.name.clone(),
            unit: case.unit.to_string(),
            value: figure.value,
            limit: (!is_limit).then(|| (case.bound.name(), figure.limit)),
            peers,
            bar: targets::bar(&case.name),
            disturbed: figure.disturbed,
            is_limit,
            note: String::new(),
        }
    }

    pub(crate) fn of_training(name: &str, value: f64, peer: Standing) -> Self {
        Self {
            name: name.to_owned(),
            unit: "tok/s".to_owned(),
            value,
            limit: None,
            peers: vec![peer],
            bar: targets::bar(name),
            disturbed: false,
            is_limit: false,
            note: String::new(),
        }
    }

    /// The fastest peer and its figure.
    pub(crate) fn best_peer(&self) -> Option<(&str, f64)> {
        let figures = self.peers.iter().filter_map(|peer| {
            let figure = peer.figure.as_ref().ok()?;
            Some((peer.name.as_str(), *figure))
        });
        figures.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    pub(crate) fn figure_of(&self, peer: &str) -> Option<f64> {
        let peer = self.peers.iter().find(|standing| standing.name == peer)?;
        peer.figure.as_ref().ok().copied()
    }

    pub(crate) fn ratio(&self) -> Option<f64> {
        self.best_peer().map(|(_, figure)| self.value / figure)
    }

    pub(crate) fn fraction(&self) -> Option<f64> {
        self.limit.map(|(_, limit)| self.value / limit)
    }

    /// Whether the bar is reached; `None` where there is none, or no peer to hold it against.
    pub(crate) fn reaches_bar(&self) -> Option<bool> {
        match self.bar? {
            Bar::Limit(bar) => Some(self.fraction()? >= bar),
            Bar::Peer(bar) => Some(self.ratio()? >= bar),
        }
    }

    pub(crate) fn bar_text(&self) -> String {
        match self.bar {
            Some(Bar::Limit(bar)) => format!("{bar:.2}"),
            Some(Bar::Peer(bar)) => format!("{bar:.1}×"),
            None => "–".to_owned(),
        }
    }

    /// A sentence for every peer whose result was wrong or who failed.
    pub(crate) fn wrong(&self) -> impl Iterator<Item = String> {
        self.peers.iter().filter_map(|peer| {
            let reason = peer.figure.as_ref().err()?;
            Some(format!("{}: {}: {reason}", self.name, peer.name))
        })
    }

    /// For the progress lines.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!("{} {}", short(self.value), self.unit);
        if let Some((name, figure)) = self.best_peer() {
            text.push_str(&format!("; {name} {}", short(figure)));
        }
        if self.disturbed {
            text.push_str(" ~");
        }
        text
    }

    pub(crate) fn json(&self, backend: &str) -> serde_json::Result<String> {
        let peers = self.peers.iter().map(|peer| PeerLine {
            peer: &peer.name,
            value: peer.figure.as_ref().ok().map(|value| round(*value, 100.0)),
            error: peer.figure.as_ref().err().map(String::as_str),
        });
        serde_json::to_string(&Line {
            case: &self.name,
            value: round(self.value, 100.0),
            unit: &self.unit,
            limit: self.limit.map(|(_, limit)| round(limit, 100.0)),
            fraction: self.fraction().map(|fraction| round(fraction, 1000.0)),
            limit_name: self.limit.map(|(name, _)| name),
            backend,
            disturbed: self.disturbed,
            peers: peers.collect(),
            best_peer: self.best_peer().map(|(name, _)| name),
            ratio: self.ratio().map(|ratio| round(ratio, 1000.0)),
            reaches_bar: self.reaches_bar(),
        })
    }
}

/// For people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<36} {:>9} {:<7} {:>8} {:>6} {:>12} {:>9} {:>6}\n",
        "case", "value", "unit", "fraction", "bar", "best peer", "value", "ratio"
    );
    for row in rows {
        let (name, peer) = match row.best_peer() {
            Some((name, figure)) => (name, short(figure)),
            None => ("", String::new()),
        };
        let number =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2}"));
        text.push_str(&format!(
            "{:<36} {:>9} {:<7} {:>8} {:>6} {:>12} {:>9} {:>6}{}\n",
            row.name,
            short(row.value),
            row.unit,
            number(row.fraction()),
            row.bar_text(),
            name,
            peer,
            number(row.ratio()),
            if row.disturbed { " ~" } else { "" }
        ));
    }
    text
}

/// Three digits or more.
pub(crate) fn short(value: f64) -> String {
    match value {
        small if small < 10.0 => format!("{small:.2}"),
        small if small < 100.0 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    }
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
