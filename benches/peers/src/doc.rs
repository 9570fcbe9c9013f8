//! `docs/performance.md` and its charts.

use crate::chart;
use crate::host::Host;
use crate::options::Options;
use crate::peers::Peers;
use crate::row::{Row, short};
use anyhow::{Context, Result};
use attentive_benches::case::name_matches;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Why rows fall short, written by people.
const REASONS: &str = include_str!("../reasons.txt");

/// Two runs of one program differ by so much.
const NOISE: f64 = 0.97;

/// A part of the report: the cases whose names begin so, and what to say about them.
struct Section {
    file: &'static str,
    title: &'static str,
    begins: &'static [&'static str],
    about: &'static str,
}

const SECTIONS: [Section; 7] = [
    Section {
        file: "prefill-f32",
        title: "Attention, many queries, f32",
        begins: &["attn-prefill/f32/"],
        about: "One head; 4·n²·head_dim operations, half of them when causal. The limit is the f32 peak.",
    },
    Section {
        file: "prefill-half",
        title: "Attention, many queries, keys and values of 16 bits",
        begins: &["attn-prefill/f16/", "attn-prefill/bf16/"],
        about: "As above. PyTorch has its queries in f16 too, ours and ggml's are f32.",
    },
    Section {
        file: "prefill-i8",
        title: "Attention, many queries, int8 keys and values",
        begins: &["attn-prefill/i8/"],
        about: "As above; ggml's keys and values are Q8_0. The limit is the f32 peak, which integers can pass.",
    },
    Section {
        file: "decode",
        title: "Attention, one query",
        begins: &["attn-decode"],
        about: "Bytes of keys and values read, against reading the same bytes and doing nothing with them; `gqa8`: operations \
                of eight query heads on one key-value head, against the f32 peak.",
    },
    Section {
        file: "products",
        title: "Matrix products",
        begins: &["gemv/", "gemm/"],
        about: "One column (`gemv`) or 128. 4096x4096 with one column goes through copies that no cache of a core holds. \
                `i4` has a scale for each row and 32 columns. rten's int8 product begins with quantized activations and \
                leaves integer sums, which favours it; ONNX Runtime's and PyTorch's quantize as ours does.",
    },
    Section {
        file: "models",
        title: "Whole models",
        begins: &["e2e/"],
        about: "`pp128` reads a prompt of 128 tokens in one pass, `tg128` writes 128 after a prompt of one, greedily. i8 is \
                compared with llama.cpp's Q8_0, i4 with its Q4_0, both repacked as it does by default, with keys and values \
                in f16. `encoder` makes a vector of a text of 8, 40 or 128 tokens; ONNX Runtime has the published f32 whatever \
                ours was rounded to. The limits are the int8 peak at the layers' products, and reading the file once a token.",
    },
    Section {
        file: "training",
        title: "Training",
        begins: &["train/"],
        about: "Steps of the default model's task (a batch of 16 sequences of 256 tokens, AdamW) on two threads, in alternating \
                runs of ten; the best step of each side counts.",
    },
];

/// Writes the report to `path` and the charts into the directory `performance` beside it, each file in one go.
pub(crate) fn write(path: &Path, rows: &[Row], peers: &Peers, options: &Options) -> Result<()> {
    let dir = path.with_extension("");
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let charts = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut text = head(rows, peers, options);
    for section in &SECTIONS {
        let own: Vec<&Row> = rows.iter().filter(|row| section.holds(row)).collect();
        if own.is_empty() {
            continue;
        }
        let names = names(&own, peers);
        let columns: Vec<&str> = names.iter().map(String::as_str).collect();
        let chart = dir.join(format!("{}.svg", section.file));
        replace(&chart, &chart::draw(section.title, &own, &columns))?;
        // A string has no error to tell of.
        let _ = write!(text, "\n## {}\n\n{}\n\n", section.title, section.about);
        let _ = write!(
            text,
            "![{}]({charts}/{}.svg)\n\n",
            section.title, section.file
        );
        text.push_str(&table(&own, &columns));
    }
    text.push_str(&shortfalls(rows));
    text.push_str(&failures(rows, peers));
    replace(path, &text)
}

impl Section {
    fn holds(&self, row: &Row) -> bool {
        self.begins.iter().any(|begin| row.name.starts_with(begin))
    }
}

fn head(rows: &[Row], peers: &Peers, options: &Options) -> String {
    let host = Host::detect();
    let mut text = String::from(
        "# Performance beside other runtimes\n\nWritten by the command below; do not edit. How to read a figure, and what can \
         go wrong with one: [benchmarks.md](benchmarks.md). How the peers are run: `benches/peers/README.md`.\n\n",
    );
    let versions: Vec<String> = peers
        .versions()
        .into_iter()
        .map(|peer| format!("{} {}", peer.name, peer.version))
        .collect();
    let backend = options.backend.name();
    let memory = format!("{:.0} GiB", host.memory_gib);
    for (what, value) in [
        ("command", format!("`{}`", options.command)),
        (
            "processor",
            format!("{}, {} cores", host.processor, host.cores),
        ),
        ("instruction sets", host.flags.join(", ")),
        ("those that everybody may use", options.allowed.clone()),
        (
            "caches and memory",
            format!("{}, {memory}", host.caches.join(", ")),
        ),
        ("system", host.system.clone()),
        (
            "our kernels",
            format!(
                "attentive {}, backend `{backend}`",
                env!("CARGO_PKG_VERSION")
            ),
        ),
        ("peers", versions.join("; ")),
    ] {
        let _ = writeln!(text, "- {what}: {value}");
    }
    text.push_str(
        "\nEverybody works on one core (training: two) with one thread, in turns: in each round, first the limit, then our \
         batch of runs, then a batch of each peer, every batch 200 µs or longer and begun with an untimed run, timed by \
         whoever does the work; the batch at the tenth percentile counts. Peers that are compiled here are compiled for this \
         very processor; ours is the one program that runs on any. Every result is held against ours, and ours against f64, \
         before it is timed.\n",
    );
    let limits: Vec<&Row> = rows.iter().filter(|row| row.is_limit).collect();
    if !limits.is_empty() {
        text.push_str("\n## The limits of one core\n\n| limit | measured |\n|---|---|\n");
        for row in limits {
            let _ = writeln!(text, "| {} | {} {} |", row.name, short(row.value), row.unit);
        }
    }
    text
}

/// The peers that have a figure in these rows, in their workers' order.
fn names(rows: &[&Row], peers: &Peers) -> Vec<String> {
    let mut names: Vec<String> = peers.versions().into_iter().map(|peer| peer.name).collect();
    for standing in rows.iter().flat_map(|row| &row.peers) {
        if !names.contains(&standing.name) {
            names.push(standing.name.clone());
        }
    }
    names.retain(|name| rows.iter().any(|row| row.figure_of(name).is_some()));
    names
}

fn table(rows: &[&Row], peers: &[&str]) -> String {
    let mut text = format!("| case | unit | attentive | {} |", peers.join(" | "));
    text.push_str(" × best peer | of the limit | bar | |\n|---|---|---|");
    text.push_str(&"---|".repeat(peers.len() + 4));
    text.push('\n');
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
    for row in rows {
        let mark = if row.disturbed { " ~" } else { "" };
        let _ = write!(
            text,
            "| {} | {} | **{}**{mark} |",
            row.name,
            row.unit,
            short(row.value)
        );
        for peer in peers {
            let figure = row.figure_of(peer).map_or("–".to_owned(), short);
            let _ = write!(text, " {figure} |");
        }
        let limit = match (row.limit, row.fraction()) {
            (Some((name, _)), Some(fraction)) => format!("{fraction:.2} ({name})"),
            _ => "–".to_owned(),
        };
        let reached = match row.reaches_bar() {
            Some(true) => "reached",
            Some(false) => "short",
            None => "",
        };
        let _ = writeln!(
            text,
            " {} | {limit} | {} | {reached} |",
            number(row.ratio()),
            row.bar_text()
        );
    }
    if let Some(row) = rows.iter().find(|row| !row.note.is_empty()) {
        let _ = write!(text, "\n{}.\n", row.note);
    }
    if rows.iter().any(|row| row.disturbed) {
        text.push_str("\n~ something else was using the core in every try.\n");
    }
    text
}

/// The rows that miss their bar or are slower than a peer, and why.
fn shortfalls(rows: &[Row]) -> String {
    let short: Vec<&Row> = rows
        .iter()
        .filter(|row| {
            row.reaches_bar() == Some(false) || row.ratio().is_some_and(|ratio| ratio < NOISE)
        })
        .collect();
    if short.is_empty() {
        return "\nEvery row reaches its bar, and no peer is faster in any by more than 3 %.\n"
            .to_owned();
    }
    let mut text = String::from(
        "\n## Short of the bar\n\nRows that miss their bar, or in which a peer is faster by more than 3 %.\n\n\
         | case | reached | bar | best peer | reason |\n|---|---|---|---|---|\n",
    );
    for row in short {
        let reached = match row.bar {
            Some(crate::targets::Bar::Peer(_)) | None => {
                row.ratio().map(|ratio| format!("{ratio:.2}×"))
            }
            Some(crate::targets::Bar::Limit(_)) => {
                row.fraction().map(|fraction| format!("{fraction:.2}"))
            }
        };
        let peer = match (row.best_peer(), row.ratio()) {
            (Some((name, _)), Some(ratio)) => format!("{ratio:.2}× {name}"),
            _ => "–".to_owned(),
        };
        let reached = reached.unwrap_or_else(|| "–".to_owned());
        let _ = writeln!(
            text,
            "| {} | {reached} | {} | {peer} | {} |",
            row.name,
            row.bar_text(),
            reason(&row.name)
        );
    }
    text
}

fn reason(name: &str) -> &'static str {
    REASONS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .find(|(pattern, _)| name_matches(pattern, name))
        .map_or("", |(_, reason)| reason)
}

fn failures(rows: &[Row], peers: &Peers) -> String {
    let mut lines = peers.missing.clone();
    lines.extend(rows.iter().flat_map(Row::wrong));
    if lines.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n## Not measured\n\n");
    for line in lines {
        let _ = writeln!(text, "- {line}");
    }
    text
}

/// Writes a file under another name first, so that it is there whole or not at all.
fn replace(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, text).with_context(|| part.display().to_string())?;
    fs::rename(&part, path).with_context(|| path.display().to_string())
}
