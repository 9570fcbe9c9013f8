//! `attentive chat`.

use super::speech::Speech;
use anyhow::{Context, Result, anyhow};
use attentive::{Block, Model, Sampler, Session};
use attentive_trainer::chat::{Chat, Conversation, Ending};
use attentive_trainer::package;
use clap::Args;
use std::io::{BufRead, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Whom to talk with, and how. Each line of the input is a question; /reset forgets what was said.
#[derive(Args)]
pub(crate) struct Request {
    /// An .attn file of a model that was trained to converse
    file: PathBuf,
    /// Instructions for the model, in the place of its own
    #[arg(long)]
    system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 512)]
    tokens: usize,
    #[command(flatten)]
    speech: Speech,
    /// Tokens that the conversation has room for [default: the model's context, but at most 2048]
    #[arg(long)]
    context: Option<usize>,
}

/// Room for a conversation, unless more is asked for.
const CONTEXT: usize = 2048;
/// Forgets the conversation.
const RESET: &str = "/reset";

pub(crate) fn run(request: Request) -> Result<ExitCode> {
    let sampler = request.speech.sampler(0.2, 0.9)?;
    let backend = request.speech.backend()?;
    let file = package::open(&request.file)?;
    let model = Model::parse(&file).map_err(|error| anyhow!("{error}"))?;
    let chat = Chat::of(&model).with_context(|| {
        format!(
            "{} is no model to talk with: its record has no chat texts (import takes them from a model's template)",
            request.file.display()
        )
    })?;
    let context = request
        .context
        .unwrap_or(model.config().context_len.min(CONTEXT));
    let options = request.speech.session(context)?;
    let mut memory = package::session_memory(&model, &options)?;
    let mut session = Session::new(&model, &options, Block::bytes_mut(&mut memory), backend)
        .map_err(|error| anyhow!("the session: {error}"))?;
    let conversation = Conversation::new(&mut session, &chat, request.system.as_deref())?;
    match talk(conversation, sampler, &request, context) {
        // `chat … | head` has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// Questions from standard input, answers to standard output, all else to standard error.
fn talk(
    mut conversation: Conversation<'_, '_>,
    mut sampler: Sampler,
    request: &Request,
    context: usize,
) -> Result<()> {
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        eprintln!("Each line is a question; {RESET} forgets what was said, Ctrl-D ends.");
    }
    let mut out = std::io::stdout().lock();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        if terminal {
            eprint!("> ");
        }
        let Some(line) = lines.next() else { break };
        let line = line.context("reading a question")?;
        match line.trim() {
            "" => continue,
            RESET => {
                conversation.reset();
                continue;
            }
            _ => {}
        }
        let (start, mut count) = (Instant::now(), 0);
        let ending = conversation.ask(&line, request.tokens, &mut sampler, |piece| {
            count += 1;
            out.write_all(piece)?;
            Ok(out.flush()?)
        })?;
        if count > 0 {
            writeln!(out)?;
        }
        match ending {
            Ending::Said => {}
            Ending::Length => eprintln!("(cut after {count} tokens; --tokens allows more)"),
            Ending::Full => eprintln!(
                "(the context of {context} tokens is full: {RESET} forgets what was said, --context makes more room)"
            ),
        }
        if terminal {
            let speed = count as f64 / start.elapsed().as_secs_f64();
            eprintln!("({count} tokens, {speed:.0} tokens/s)");
        }
    }
    if terminal {
        eprintln!();
    }
    Ok(())
}
