//! Conversations: the texts around what is said, and a session that keeps them going.
//!
//! A published model brings a template in Jinja, which renders a whole conversation. What a session needs is less: the
//! text before the first question, between a question and its answer, and between an answer and the next question.
//! [`Chat::from_template`] renders the template with marks and takes these texts from between them, so that whoever
//! talks later needs no template engine; a template whose rendering is more than such a chain is refused.

use anyhow::{Context, Result, anyhow, ensure};
use attentive::tokenizer::ENCODE_SCRATCH_LEN;
use attentive::{Model, Sampler, Session, SessionError};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

/// The texts around a conversation; the `chat` table of a file's provenance record.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Chat {
    /// Before the first question, the model's own instructions included.
    pub before_first: String,
    /// Between a question and its answer.
    pub before_answer: String,
    /// Between an answer and the next question.
    pub before_next: String,
    /// Before and after instructions, which with them stand in the place of `before_first`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub around_instructions: Option<[String; 2]>,
}

/// The part of a record that this module reads.
#[derive(Deserialize)]
struct Record {
    chat: Option<Chat>,
}

/// What was said by whom: role and content.
type Message<'a> = (&'a str, &'a str);

/// Steps that a template may take; published ones need some hundreds.
const FUEL: u64 = 1_000_000;

/// What no template writes itself.
const MARKS: [&str; 6] = [
    "\u{1}a\u{1}",
    "\u{1}b\u{1}",
    "\u{1}c\u{1}",
    "\u{1}d\u{1}",
    "\u{1}e\u{1}",
    "\u{1}f\u{1}",
];

impl Chat {
    /// The texts of a file, if its record has them.
    pub fn of(model: &Model<'_>) -> Option<Self> {
        let record: Record = toml::from_str(model.provenance()).ok()?;
        record.chat
    }

    /// Takes the texts from a template in Jinja, which gets `messages`, `add_generation_prompt` and the texts of the
    /// tokens that begin and end a text.
    ///
    /// # Errors
    /// When the template cannot be rendered, or is not a chain of questions and answers.
    pub fn from_template(template: &str, begin: &str, end: &str) -> Result<Self> {
        let render = |messages: &[Message<'_>]| render(template, messages, begin, end);
        let [instructions, q1, a1, q2, a2, q3] = MARKS;
        let first = render(&[("user", q1)])?;
        let [before_first, before_answer] = between(&first, [q1])?;
        let both = render(&[("user", q1), ("assistant", a1), ("user", q2)])?;
        let [_, _, before_next, _] = between(&both, [q1, a1, q2])?;
        let told = render(&[("system", instructions), ("user", q1)]);
        let around = told.ok().and_then(|told| {
            let [before, after, _] = between(&told, [instructions, q1]).ok()?;
            Some([before, after])
        });
        let chat = Self {
            before_first,
            before_answer,
            before_next,
            around_instructions: around,
        };
        let turns = [
            ("user", q1),
            ("assistant", a1),
            ("user", q2),
            ("assistant", a2),
            ("user", q3),
        ];
        let want = render(&turns)?;
        let have = [
            &chat.before_first,
            q1,
            &chat.before_answer,
            a1,
            &chat.before_next,
            q2,
            &chat.before_answer,
            a2,
            &chat.before_next,
            q3,
            &chat.before_answer,
        ];
        ensure!(
            have.concat() == want,
            "the chat template is not a chain of questions and answers: three of them render as {want:?}"
        );
        Ok(chat)
    }

    /// What stands before the first question.
    ///
    /// # Errors
    /// When there are instructions and the model takes none.
    pub fn opening(&self, instructions: Option<&str>) -> Result<String> {
        let Some(instructions) = instructions else {
            return Ok(self.before_first.clone());
        };
        let around = self.around_instructions.as_ref();
        let [before, after] = around.context("this model's chat template takes no instructions")?;
        Ok([before, instructions, after].concat())
    }
}

fn render(template: &str, messages: &[Message<'_>], begin: &str, end: &str) -> Result<String> {
    let mut environment = Environment::new();
    // As Hugging Face's `apply_chat_template` sets them.
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    let refuse = |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    };
    environment.add_function("raise_exception", refuse);
    let messages: Vec<Value> = messages
        .iter()
        .map(|&(role, content)| context! { role, content })
        .collect();
    let values = context! {
        messages,
        add_generation_prompt => true,
        bos_token => begin,
        eos_token => end,
    };
    environment
        .render_str(template, values)
        .map_err(|error| anyhow!("the chat template: {error}"))
}

/// The texts before, between and after the marks, which stand in this order and once each.
fn between<const N: usize, const M: usize>(text: &str, marks: [&str; N]) -> Result<[String; M]> {
    let mut rest = text;
    let mut out = Vec::new();
    for mark in marks {
        let (before, after) = rest
            .split_once(mark)
            .context("the chat template leaves out or changes what was said")?;
        out.push(before.to_owned());
        rest = after;
    }
    out.push(rest.to_owned());
    out.try_into()
        .map_err(|_| anyhow!("one text more than marks"))
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model ended it.
    Said,
    /// It has as many tokens as were allowed.
    Length,
    /// The context is full: nothing can follow but [`Conversation::reset`].
    Full,
}

/// A session that is a conversation.
pub struct Conversation<'s, 'm> {
    session: &'s mut Session<'m>,
    chat: &'s Chat,
    opening: String,
    /// Whether the last answer ended with the model's own token for that, which stands in the session.
    ended_itself: bool,
}

impl<'s, 'm> Conversation<'s, 'm> {
    /// A conversation at its beginning.
    ///
    /// # Errors
    /// When there are instructions and the model takes none.
    pub fn new(
        session: &'s mut Session<'m>,
        chat: &'s Chat,
        instructions: Option<&str>,
    ) -> Result<Self> {
        session.reset();
        Ok(Self {
            session,
            chat,
            opening: chat.opening(instructions)?,
            ended_itself: false,
        })
    }

    /// Forgets what was said.
    pub fn reset(&mut self) {
        self.session.reset();
        self.ended_itself = false;
    }

    /// Tokens of the conversation so far.
    pub fn len(&self) -> usize {
        self.session.tokens().len()
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.session.tokens().is_empty()
    }

    /// Asks, and hands the answer to `each` piece by piece; a piece need not be whole characters.
    ///
    /// # Errors
    /// [`Ending::Full`] is no error. Else those of the tokenizer and the session, and whatever `each` returns.
    pub fn ask(
        &mut self,
        question: &str,
        tokens_max: usize,
        sampler: &mut Sampler,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<Ending> {
        let ids = self.turn(question)?;
        match self.session.prompt_tokens(&ids) {
            Ok(()) => self.ended_itself = false,
            Err(SessionError::ContextFull { .. }) => return Ok(Ending::Full),
            Err(error) => return Err(anyhow!("the question: {error}")),
        }
        for _ in 0..tokens_max {
            let piece = match self.session.step(sampler) {
                Ok(piece) => piece,
                Err(SessionError::ContextFull { .. }) => return Ok(Ending::Full),
                Err(error) => return Err(anyhow!("the answer: {error}")),
            };
            let last = self.session.tokens().last().copied().unwrap_or_default();
            let Some(piece) = piece.filter(|_| !self.session.model().tokenizer().is_special(last))
            else {
                self.ended_itself = self.session.model().config().end_of_text == Some(last);
                return Ok(Ending::Said);
            };
            each(piece)?;
        }
        Ok(Ending::Length)
    }

    /// The tokens of a question with what stands before it and before its answer.
    fn turn(&self, question: &str) -> Result<Vec<u32>> {
        let model = self.session.model();
        let tokenizer = model.tokenizer();
        let mut before = self.opening.as_str();
        let mut ids = Vec::new();
        if !self.is_empty() {
            before = &self.chat.before_next;
            if let (true, Some(end)) = (self.ended_itself, model.config().end_of_text) {
                let end = std::str::from_utf8(tokenizer.piece(end)).unwrap_or("");
                before = before.strip_prefix(end).unwrap_or(before);
            }
        } else if let Some(begin) = model.config().begin_of_text {
            let text = std::str::from_utf8(tokenizer.piece(begin)).unwrap_or("");
            // Some templates write it themselves.
            if text.is_empty() || !before.starts_with(text) {
                ids.push(begin);
            }
        }
        let after = self.chat.before_answer.as_str();
        let has_special = encode(model, question, true)?
            .iter()
            .any(|&id| tokenizer.is_special(id));
        if has_special {
            // What a person types must not end a turn. Its words cannot join those around it then.
            for (text, is_template) in [(before, true), (question, false), (after, true)] {
                ids.extend(encode(model, text, is_template)?);
            }
        } else {
            ids.extend(encode(model, &[before, question, after].concat(), true)?);
        }
        Ok(ids)
    }
}

/// Tokens of a text; special ones are found in a template's text only.
fn encode(model: &Model<'_>, text: &str, is_template: bool) -> Result<Vec<u32>> {
    let mut scratch = [0; ENCODE_SCRATCH_LEN];
    let tokenizer = model.tokenizer();
    let ids = match is_template {
        true => tokenizer.encode(text, &mut scratch),
        false => tokenizer.encode_plain(text, &mut scratch),
    };
    let ids = ids.map_err(|error| anyhow!("{error}"))?;
    let ids: Result<Vec<u32>, _> = ids.collect();
    ids.map_err(|error| anyhow!("{error}"))
}
