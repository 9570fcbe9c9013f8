//! Runs the peers that come as Rust crates, at the driver's word (see the package `attentive-peers-protocol`).
//!
//! A process of its own, so that the peers can be built for this very processor while the product is built as it
//! ships, and so that a peer that aborts takes nobody with it.

#[cfg(feature = "candle")]
mod candle;
#[cfg(feature = "gemm")]
mod gemm_crate;
#[cfg(feature = "llama")]
mod ggml;
#[cfg(feature = "llama")]
mod llama;
#[cfg(feature = "rten")]
mod rten;

use anyhow::{Context, Result, bail};
use attentive_peers_protocol::{Peer, Reply, Request, Task};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A task that is set up.
trait Job {
    /// Does the work so often.
    fn run(&mut self, runs: usize) -> Result<()>;

    /// The result of the last run, as f32.
    fn result(&mut self) -> Result<Vec<f32>>;
}

/// Where a task's numbers are, and how many threads may work on it.
struct Place {
    dir: PathBuf,
    threads: usize,
}

impl Place {
    fn floats(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let path = self.dir.join(name);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let (words, rest) = bytes.as_chunks::<4>();
        if words.len() != len || !rest.is_empty() {
            bail!(
                "{} holds {} bytes, not {len} floats",
                path.display(),
                bytes.len()
            );
        }
        Ok(words.iter().map(|&word| f32::from_le_bytes(word)).collect())
    }
}

/// Not an error: the peer has no such operation.
#[derive(Debug)]
struct Unsupported(&'static str);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unsupported {}

/// Says that a peer has no such operation.
fn unsupported<T>(reason: &'static str) -> Result<T> {
    Err(Unsupported(reason).into())
}

fn main() -> Result<()> {
    let mut jobs = HashMap::new();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let reply = match answer(&line?, &mut jobs) {
            Ok(reply) => reply,
            Err(error) => match error.downcast_ref::<Unsupported>() {
                Some(Unsupported(reason)) => Reply::Unsupported {
                    reason: (*reason).to_owned(),
                },
                None => Reply::Failed {
                    reason: format!("{error:#}"),
                },
            },
        };
        writeln!(out, "{}", serde_json::to_string(&reply)?)?;
        out.flush()?;
    }
    Ok(())
}

fn answer(line: &str, jobs: &mut HashMap<String, Box<dyn Job>>) -> Result<Reply> {
    match serde_json::from_str(line).context("a request that this worker does not know")? {
        Request::Hello => Ok(Reply::Peers { peers: peers() }),
        Request::SetUp {
            peer,
            dir,
            out,
            threads,
            task,
        } => {
            let place = Place { dir, threads };
            let mut job = prepare(&peer, &task, &place)?;
            job.run(1)?;
            write(&place.dir.join(out), &job.result()?)?;
            jobs.insert(peer, job);
            Ok(Reply::Ready)
        }
        Request::Run { peer, runs, warm } => {
            let job = jobs.get_mut(&peer).context("a peer that was not set up")?;
            if warm {
                job.run(1)?;
            }
            let clock = Instant::now();
            job.run(runs)?;
            let seconds = clock.elapsed().as_secs_f64();
            Ok(Reply::Seconds { seconds })
        }
        Request::Clear => {
            jobs.clear();
            Ok(Reply::Ready)
        }
    }
}

fn write(path: &Path, values: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

fn peers() -> Vec<Peer> {
    let peer = |name: &str, version: String| Peer {
        name: name.to_owned(),
        version,
    };
    vec![
        #[cfg(feature = "llama")]
        peer("llama.cpp", llama::version()),
        #[cfg(feature = "llama")]
        peer("ggml", ggml::version()),
        #[cfg(feature = "llama")]
        peer("ggml-plain", "the same, weights not repacked".to_owned()),
        #[cfg(feature = "candle")]
        peer("candle", candle::version()),
        #[cfg(feature = "gemm")]
        peer("gemm", "0.19.0".to_owned()),
        #[cfg(feature = "rten")]
        peer("rten", rten::version()),
    ]
}

fn prepare(peer: &str, task: &Task, place: &Place) -> Result<Box<dyn Job>> {
    match peer {
        #[cfg(feature = "llama")]
        "llama.cpp" => llama::prepare(task, place),
        #[cfg(feature = "llama")]
        "ggml" => ggml::prepare(task, place, ggml::Weights::Repacked),
        #[cfg(feature = "llama")]
        "ggml-plain" => ggml::prepare(task, place, ggml::Weights::Plain),
        #[cfg(feature = "candle")]
        "candle" => candle::prepare(task, place),
        #[cfg(feature = "gemm")]
        "gemm" => gemm_crate::prepare(task, place),
        #[cfg(feature = "rten")]
        "rten" => rten::prepare(task, place),
        _ => bail!("this worker has no peer {peer}"),
    }
}
