//! A process that runs peers: asked over its standard input, it answers over its standard output.

use anyhow::{Context, Result, anyhow, bail};
use attentive_peers_protocol::{Peer, Reply, Request};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// No set-up and no batch takes nearly as long.
const PATIENCE: Duration = Duration::from_secs(180);
/// The variables by which the peers' libraries choose how many threads they start.
const THREAD_VARIABLES: [&str; 4] = [
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "RTEN_NUM_THREADS",
];

/// A worker, started again when it died.
pub(crate) struct Worker {
    command: Vec<String>,
    process: Option<Process>,
    pub(crate) peers: Vec<Peer>,
}

struct Process {
    child: Child,
    stdin: ChildStdin,
    replies: Receiver<String>,
}

impl Worker {
    /// Starts it and asks who is there.
    pub(crate) fn start(command: &[String]) -> Result<Self> {
        let mut worker = Self {
            command: command.to_owned(),
            process: None,
            peers: Vec::new(),
        };
        match worker.ask(&Request::Hello)? {
            Reply::Peers { peers } => worker.peers = peers,
            other => bail!("it answered {other:?} when asked who is there"),
        }
        Ok(worker)
    }

    /// Asks and waits for the answer; a worker that dies or stays silent is an error, and is started anew by the next
    /// question.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply> {
        let line = serde_json::to_string(request)?;
        let process = match &mut self.process {
            Some(process) => process,
            None => self.process.insert(Process::start(&self.command)?),
        };
        let answer = process.ask(&line);
        if answer.is_err() {
            // Dropped, it is killed.
            self.process = None;
        }
        serde_json::from_str(&answer?).context("an answer that is none of the protocol's")
    }

    /// Keeps it on the cores that this thread is on: everybody is measured on the same ones.
    pub(crate) fn follow(&self) {
        if let Some(process) = &self.process {
            crate::host::share_cores(process.child.id());
        }
    }
}

impl Process {
    fn start(command: &[String]) -> Result<Self> {
        let (program, words) = command
            .split_first()
            .context("a worker without a command")?;
        let mut command = Command::new(program);
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // Everything is measured on one core.
        THREAD_VARIABLES.iter().for_each(|name| {
            command.env(name, "1");
        });
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{program}`"))?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let (sender, replies) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            stdin,
            replies,
        })
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.stdin, "{line}")
            .and_then(|()| self.stdin.flush())
            .context("it died before")?;
        self.replies
            .recv_timeout(PATIENCE)
            .map_err(|_| match self.child.try_wait() {
                Ok(Some(status)) => anyhow!("it died: {status}"),
                _ => anyhow!("no answer within {} s, or it died", PATIENCE.as_secs()),
            })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing to do about a process that cannot be killed: it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
