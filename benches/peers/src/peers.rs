//! All peers, whichever worker runs them.

use crate::options::Options;
use crate::tasks;
use crate::worker::Worker;
use anyhow::Result;
use attentive_benches::case::{Outcome, Workload};
use attentive_benches::contest::{Contender, Standing};
use attentive_peers_protocol::{Peer, Reply, Request};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The peers that are there, and a sentence about each that is not.
pub(crate) struct Peers {
    workers: Vec<Rc<RefCell<Worker>>>,
    pub(crate) missing: Vec<String>,
    scratch: PathBuf,
}

impl Peers {
    /// Starts the workers; one that does not start is listed as missing.
    pub(crate) fn start(options: &Options, scratch: &Path) -> Result<Self> {
        let mut peers = Self {
            workers: Vec::new(),
            missing: options.missing.clone(),
            scratch: scratch.join("case"),
        };
        for command in &options.workers {
            match Worker::start(command) {
                Ok(worker) => peers.workers.push(Rc::new(RefCell::new(worker))),
                Err(error) => peers
                    .missing
                    .push(format!("`{}`: {error:#}", command.join(" "))),
            }
        }
        peers
            .missing
            .iter()
            .for_each(|reason| eprintln!("missing: {reason}"));
        Ok(peers)
    }

    /// Name and version of each.
    pub(crate) fn versions(&self) -> Vec<Peer> {
        self.workers
            .iter()
            .flat_map(|worker| worker.borrow().peers.clone())
            .collect()
    }

    /// Sets up every peer that knows what the workload computes. Those that failed, or whose result is wrong, go into
    /// `absent`.
    pub(crate) fn invite(
        &self,
        workload: &dyn Workload,
        published: Option<&Path>,
        absent: &mut Vec<Standing>,
    ) -> Outcome<Vec<Box<dyn Contender>>> {
        absent.clear();
        let Some(problem) = workload.problem() else {
            return Ok(Vec::new());
        };
        let prepared = tasks::prepare(&problem, &self.scratch, published)?;
        let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
        for worker in &self.workers {
            worker.borrow().follow();
            let names: Vec<String> = worker
                .borrow()
                .peers
                .iter()
                .map(|peer| peer.name.clone())
                .collect();
            for name in names {
                let out = format!("{name}.out");
                let request = Request::SetUp {
                    peer: name.clone(),
                    dir: self.scratch.clone(),
                    out: out.clone(),
                    threads: 1,
                    task: Box::new(prepared.task.clone()),
                };
                // The borrow ends before the next question.
                let reply = worker.borrow_mut().ask(&request);
                let verdict = match reply {
                    Ok(Reply::Ready) => tasks::compare(&prepared, &self.scratch.join(out)),
                    Ok(Reply::Unsupported { .. }) => continue,
                    Ok(Reply::Failed { reason }) => Err(anyhow::anyhow!(reason)),
                    Ok(other) => Err(anyhow::anyhow!("an unexpected answer: {other:?}")),
                    Err(error) => Err(error),
                };
                match verdict {
                    Ok(()) => contenders.push(Box::new(Entry {
                        name,
                        worker: worker.clone(),
                    })),
                    Err(error) => absent.push(Standing {
                        name,
                        figure: Err(format!("{error:#}")),
                    }),
                }
            }
            // Threads that a set-up started belong on the same cores.
            worker.borrow().follow();
        }
        Ok(contenders)
    }

    /// Frees what the workers hold for a case.
    pub(crate) fn clear(&self) {
        for worker in &self.workers {
            // A worker that cannot answer is started anew by the next question.
            let _ = worker.borrow_mut().ask(&Request::Clear);
        }
    }
}

/// A peer that is set up.
struct Entry {
    name: String,
    worker: Rc<RefCell<Worker>>,
}

impl Contender for Entry {
    fn name(&self) -> &str {
        &self.name
    }

    fn batch(&mut self, runs: usize, warm: bool) -> Outcome<f64> {
        let request = Request::Run {
            peer: self.name.clone(),
            runs,
            warm,
        };
        match self.worker.borrow_mut().ask(&request)? {
            Reply::Seconds { seconds } => Ok(seconds),
            Reply::Failed { reason } => Err(reason.into()),
            other => Err(format!("an unexpected answer: {other:?}").into()),
        }
    }
}
