//! The command line.

use attentive_kernels::Backend;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: attentive-peers [OPTION…] [FILTER…]

Measures the cases whose name contains a FILTER (`*` stands for anything) beside the peers that know them; without a
FILTER, those of the table of targets. `cargo xtask perf --peers` calls this with workers that it built.
  --worker COMMAND   a program that runs peers, its words as a JSON array; as often as there are workers
  --missing REASON   a sentence about a peer that is not there, for the report
  --json             one JSON object a line
  --backend NAME     our kernels' instruction set; the best one without it
  --tries N          so many tries while something else disturbs the machine (default 2)
  --scratch DIR      where inputs and generated models are put (default target/peers)
  --smollm2 GGUF ATTN  the published model as GGUF, and the weights file imported from it
  --encoder-onnx FILE  a published encoder of texts as ONNX
  --encoder-attn FILE  a weights file imported from it; as often as there are formats
  --train OURS TORCH TASK  the trainer's example `speed` and the command that times PyTorch, both as JSON arrays, and
                     the task file
  --doc PATH         writes the report there, and its charts into a directory `performance` beside it
  --command TEXT     the command that the report names
  --allowed TEXT     what the report says about the instructions that everybody may use";

/// A disturbed machine is met again once.
const TRIES: usize = 2;

/// The two commands that time training steps, and the task.
#[derive(Debug)]
pub(crate) struct Training {
    pub(crate) ours: Vec<String>,
    pub(crate) torch: Vec<String>,
    pub(crate) task: String,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) workers: Vec<Vec<String>>,
    pub(crate) missing: Vec<String>,
    pub(crate) json: bool,
    pub(crate) backend: Backend,
    pub(crate) tries: usize,
    pub(crate) scratch: PathBuf,
    pub(crate) smollm2: Option<[PathBuf; 2]>,
    pub(crate) encoder_onnx: Option<PathBuf>,
    pub(crate) encoder_attn: Vec<PathBuf>,
    pub(crate) train: Option<Training>,
    pub(crate) doc: Option<PathBuf>,
    pub(crate) command: String,
    pub(crate) allowed: String,
    pub(crate) filters: Vec<String>,
}

/// `None` asks for help.
pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        workers: Vec::new(),
        missing: Vec::new(),
        json: false,
        backend: Backend::detect(),
        tries: TRIES,
        scratch: "target/peers".into(),
        smollm2: None,
        encoder_onnx: None,
        encoder_attn: Vec::new(),
        train: None,
        doc: None,
        command: "cargo xtask perf --peers".to_owned(),
        allowed: "all".to_owned(),
        filters: Vec::new(),
    };
    while let Some(word) = words.next() {
        let mut next = || {
            words
                .next()
                .ok_or_else(|| format!("{word} needs a value\n{USAGE}"))
        };
        match word.as_str() {
            "--worker" => options.workers.push(words_of(&next()?)?),
            "--missing" => options.missing.push(next()?),
            "--json" => options.json = true,
            "--backend" => {
                let name = next()?;
                options.backend = Backend::by_name(&name)
                    .ok_or_else(|| format!("this machine has no backend \"{name}\""))?;
            }
            "--tries" => {
                let number = next()?;
                options.tries = number
                    .parse()
                    .map_err(|_| format!("--tries needs a number, not \"{number}\""))?;
            }
            "--scratch" => options.scratch = next()?.into(),
            "--smollm2" => options.smollm2 = Some([next()?.into(), next()?.into()]),
            "--encoder-onnx" => options.encoder_onnx = Some(next()?.into()),
            "--encoder-attn" => options.encoder_attn.push(next()?.into()),
            "--train" => {
                options.train = Some(Training {
                    ours: words_of(&next()?)?,
                    torch: words_of(&next()?)?,
                    task: next()?,
                });
            }
            "--doc" => options.doc = Some(next()?.into()),
            "--command" => options.command = next()?,
            "--allowed" => options.allowed = next()?,
            "--help" | "-h" => return Ok(None),
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}\n{USAGE}")),
            _ => options.filters.push(word),
        }
    }
    Ok(Some(options))
}

fn words_of(text: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("a command is a JSON array of words, not {text} ({error})"))
}
