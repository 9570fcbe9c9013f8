//! A whole recording through a model, window by window.

use super::sound::{FRAMES, Frames};
use super::times::Segment;
use super::{Speech, Writing};
use anyhow::{Result, anyhow};
use attentive::{Executor, Session};

/// How a recording is listened to.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// The token of the language that is spoken; `None` for what the model believes to hear.
    pub language: Option<u32>,
    /// [`Speech::transcribe`] or [`Speech::translate`].
    pub task: u32,
    /// Texts that are pursued at once.
    pub beams: usize,
    /// Whether it is told when something was said.
    pub times: bool,
}

/// What was said in a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// The token of the language.
    pub language: u32,
    /// All of it.
    pub ids: Vec<u32>,
    /// When what was said; empty unless asked for.
    pub segments: Vec<Segment>,
}

/// Writes down a recording of any length. Where times are told, or it takes more than a window, a window begins where the
/// segment before it ends, so that no word is cut in two.
///
/// # Errors
/// What the session refuses.
pub fn transcribe<E: Executor>(
    speech: &Speech,
    session: &mut Session<'_, E>,
    frames: &Frames,
    listening: Listening,
) -> Result<Transcript> {
    let by_times = listening.times || frames.len() > FRAMES;
    let mut spoken = listening.language;
    let (mut ids, mut segments) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < frames.len() {
        let read = session.read_frames(&frames.window(at));
        read.map_err(|error| anyhow!("{error}"))?;
        let language = match spoken {
            Some(id) => id,
            None => {
                let (code, _) = speech.language(session)?;
                speech.languages[code]
            }
        };
        spoken = Some(language);
        let len = FRAMES.min(frames.len() - at);
        let how = Writing {
            language,
            task: listening.task,
            beams: listening.beams,
            times: by_times,
        };
        let written = speech.write(session, &how)?;
        if written.is_silence() {
            at += len;
        } else if by_times {
            let (found, taken) = speech.segments(&written, at, len);
            let said = found.into_iter().filter(|segment| !segment.ids.is_empty());
            let said = said.filter(|segment| segment.end > segment.start);
            segments.extend(said);
            // Where the model says that nothing has passed, the whole window has.
            at += if taken == 0 { len } else { taken };
        } else {
            ids.extend(written.ids);
            at += len;
        }
    }
    ids.extend(segments.iter().flat_map(|segment| segment.ids.clone()));
    if !listening.times {
        segments.clear();
    }
    Ok(Transcript {
        language: spoken.unwrap_or(speech.start),
        ids,
        segments,
    })
}
