//! What a run measures of itself: a line of JSON and a point of the curve each time.

use crate::files::write_atomically;
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Measurement {
    /// Steps done.
    pub step: u64,
    /// Passes over the training part.
    pub epoch: f64,
    /// Mean loss of the training targets since the last measurement, in nats.
    pub train_loss: f64,
    /// Mean loss of the validation part, in nats a target.
    pub validation_loss: f64,
    /// e to the validation loss.
    pub perplexity: f64,
    /// Of the validation part, of a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// Share of the validation's targets that have the highest logit.
    #[serde(default)]
    pub accuracy: f64,
    /// Training sequences a second since the last measurement, measuring included; 0 in what older versions wrote.
    #[serde(default)]
    pub sequences_per_s: f64,
    /// At this step.
    pub learning_rate: f32,
    /// Wall clock so far.
    pub seconds: f64,
}

impl Measurement {
    /// What is to be small: bits per byte, of classes the share of wrong ones.
    pub fn cost(&self) -> f64 {
        self.bits_per_byte.unwrap_or(1.0 - self.accuracy)
    }
}

/// Writes one JSON object a line.
///
/// # Errors
/// When the file cannot be written.
pub fn write_lines(measurements: &[Measurement], path: &Path) -> Result<()> {
    let mut text = String::new();
    for measurement in measurements {
        text.push_str(&serde_json::to_string(measurement)?);
        text.push('\n');
    }
    write_atomically(path, text.as_bytes())
}

/// Draws training and validation loss over the steps as SVG.
///
/// # Errors
/// When the file cannot be written.
pub fn write_curve(name: &str, measurements: &[Measurement], path: &Path) -> Result<()> {
    let mut svg = String::new();
    draw(name, measurements, &mut svg).map_err(|error| anyhow!("drawing the curve: {error}"))?;
    write_atomically(path, svg.as_bytes())
}

type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn draw(name: &str, measurements: &[Measurement], svg: &mut String) -> DrawResult {
    let losses = || {
        let both = |m: &Measurement| [m.train_loss, m.validation_loss];
        measurements.iter().flat_map(both)
    };
    let least = losses().fold(f64::INFINITY, f64::min);
    let most = losses().fold(f64::NEG_INFINITY, f64::max);
    let last = measurements.last().map_or(1, |m| m.step.max(1));
    if !least.is_finite() || !most.is_finite() {
        return Ok(());
    }
    let root = SVGBackend::with_string(svg, (800, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(name, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0..last, least - 0.05..most + 0.05)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss, nats a target")
        .draw()?;
    let train = measurements.iter().map(|m| (m.step, m.train_loss));
    let validation = measurements.iter().map(|m| (m.step, m.validation_loss));
    chart
        .draw_series(LineSeries::new(train, &BLUE))?
        .label("training")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLUE));
    chart
        .draw_series(LineSeries::new(validation, &RED))?
        .label("validation")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], RED));
    chart.configure_series_labels().border_style(BLACK).draw()?;
    root.present()?;
    Ok(())
}
