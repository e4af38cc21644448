//! Which skill takes a message, and what each skill is called on the card.
//!
//! A skill takes a message when the caller chose it (`metadata.skill`), or when its parser consumes the whole
//! message. "Calculate 25 * 4" is the calculator's, "calculate my taxes" is the model's.

use crate::a2a::card::Skill;
use crate::a2a::error::A2aError;
use crate::a2a::model::{Content, Message};
use crate::base::base64::decode;
use crate::skills::calculator::{CalculatorError, Expression};
use crate::skills::memory::{Command, MemoryError};
use crate::skills::{device, memory, text_analyzer};

/// Longest text that is analysed on the runtime thread; a longer one goes to a thread of its own.
pub const INLINE_TEXT: usize = 4096;

/// What skills read that take plain text only.
const PLAIN: &[&str] = &["text/plain"];
/// What skills read that take any text, in a part or in a file.
const READABLE: &[&str] =
    &["text/plain", "text/markdown", "text/csv", "text/html", "text/uri-list", "application/json"];

const CALCULATOR: Skill = Skill {
    id: "calculator",
    name: "Calculator",
    description: "Calculates exactly: fractions, powers, percent, big integers and the usual functions. \
                  Needs no model and no network.",
    tags: &["math", "calculator", "offline"],
    examples: &["Calculate 25 * 4", "15% of 80", "sqrt(2)^2", "2^200"],
    input_modes: PLAIN,
    output_modes: &["text/plain"],
};

const TEXT_ANALYZER: Skill = Skill {
    id: "text_analyzer",
    name: "Text analysis",
    description: "Counts words, sentences and characters, finds the most frequent words, rates readability \
                  and does statistics of the numbers in a text.",
    tags: &["text", "statistics", "readability", "offline"],
    examples: &["Analyze text: The quick brown fox jumps over the lazy dog."],
    input_modes: READABLE,
    output_modes: &["text/plain", "application/json"],
};

/// The one skill that asks back.
pub const MEMORY: Skill = Skill {
    id: "memory",
    name: "Memory",
    description: "Remembers short texts under names, for each caller apart: store, recall, list, forget. \
                  Asks for a name or a value that is missing.",
    tags: &["memory", "notes", "offline"],
    examples: &["remember door code = 4711", "recall door code", "list memory", "forget door code"],
    input_modes: PLAIN,
    output_modes: &["text/plain"],
};

const DEVICE: Skill = Skill {
    id: "device",
    name: "Device report",
    description: "Tells about the machine this agent runs on: uptime, load, memory, disk, CPU temperature, \
                  model, addresses.",
    tags: &["device", "monitoring", "offline"],
    examples: &["device status", "cpu temperature"],
    input_modes: PLAIN,
    output_modes: &["text/plain", "application/json"],
};

const CHAT: Skill = Skill {
    id: "chat",
    name: "Chat",
    description: "Answers anything else with the language model that is configured, streamed as it is written.",
    tags: &["llm", "chat"],
    examples: &["Explain mDNS in two sentences."],
    input_modes: READABLE,
    output_modes: &["text/plain"],
};

/// The skills this agent has.
pub fn available(has_model: bool) -> Vec<Skill> {
    let mut skills = vec![CALCULATOR, TEXT_ANALYZER, MEMORY, DEVICE];
    if has_model {
        skills.push(CHAT);
    }
    skills
}

/// Who answers a message.
#[derive(Debug)]
pub enum Choice<'a> {
    /// The calculator, or why it cannot.
    Calculate(Result<Expression<'a>, CalculatorError>),
    /// The text analysis, of this text.
    Analyze(&'a str),
    /// The memory, or why it cannot.
    Memory(Result<Command<'a>, MemoryError>),
    /// The device report.
    Device,
    /// The model.
    Chat,
    /// Nobody here.
    Nobody,
}

impl Choice<'_> {
    /// The skill, unless nobody answers.
    pub const fn skill(&self) -> Option<&'static Skill> {
        match self {
            Self::Calculate(_) => Some(&CALCULATOR),
            Self::Analyze(_) => Some(&TEXT_ANALYZER),
            Self::Memory(_) => Some(&MEMORY),
            Self::Device => Some(&DEVICE),
            Self::Chat => Some(&CHAT),
            Self::Nobody => None,
        }
    }
}

/// Whether `skill` can read every part of the message.
///
/// # Errors
/// `ContentTypeNotSupported` naming the part, its media type and those that are read; `InvalidParams` for a file that
/// is called text and is none.
pub fn reads(skill: Option<&Skill>, message: &Message) -> Result<(), A2aError> {
    for (at, part) in message.parts.iter().enumerate() {
        // Plain text, which everybody reads.
        if part.text().is_some() && part.extra.is_none() {
            continue;
        }
        let media_type = part.media_type();
        let modes = match skill {
            Some(skill) => skill.input_modes,
            // Nobody reads it anyway; a text at least says what was wanted.
            None if message.parts.iter().any(|part| part.text().is_some()) => continue,
            None => PLAIN,
        };
        if !modes.iter().any(|mode| mode.eq_ignore_ascii_case(media_type)) {
            let media_type: String = media_type.chars().take(64).collect();
            let instead = match skill {
                Some(skill) => format!("{} reads {}", skill.id, modes.join(", ")),
                None => "without a text no skill of this agent takes it".to_owned(),
            };
            return Err(A2aError::ContentTypeNotSupported(format!(
                "message.parts[{at}] is {media_type}; {instead}"
            )));
        }
        if let Content::Raw(bytes) = &part.content
            && decode(bytes).is_none_or(|bytes| str::from_utf8(&bytes).is_err())
        {
            let what = format!("message.parts[{at}]: called {media_type}, but not UTF-8");
            return Err(A2aError::InvalidParams(what));
        }
    }
    Ok(())
}

/// Finds who answers `text`.
///
/// # Errors
/// When the caller chose a skill that this agent has not.
pub fn choose<'a>(
    text: &'a str,
    chosen: Option<&str>,
    has_model: bool,
) -> Result<Choice<'a>, A2aError> {
    match chosen {
        Some("calculator") => return Ok(Choice::Calculate(Expression::parse(text))),
        Some("text_analyzer") => return Ok(Choice::Analyze(text_analyzer::subject(text))),
        Some("memory") => return Ok(Choice::Memory(memory::parse(text))),
        Some("device") => return Ok(Choice::Device),
        Some("chat") if has_model => return Ok(Choice::Chat),
        Some(other) => {
            let known: Vec<&str> = available(has_model).iter().map(|skill| skill.id).collect();
            let other: String = other.chars().take(64).collect();
            return Err(A2aError::InvalidParams(format!(
                "metadata.skill: no skill `{other}` here; this agent has {}",
                known.join(", ")
            )));
        }
        None => {}
    }
    Ok(if let Some(expression) = Expression::claim(text) {
        Choice::Calculate(Ok(expression))
    } else if let Some(command) = memory::claim(text) {
        Choice::Memory(Ok(command))
    } else if device::claim(text) {
        Choice::Device
    } else if let Some(request) = text_analyzer::claim(text) {
        Choice::Analyze(request.subject)
    } else if has_model {
        Choice::Chat
    } else {
        Choice::Nobody
    })
}

/// What is said to a message that nobody here can answer.
pub fn refusal() -> String {
    let mut text =
        "No skill of this agent takes this message, and no language model is configured. \
                    It can do:"
            .to_owned();
    for skill in available(false) {
        text.push_str("\n- ");
        text.push_str(skill.id);
        text.push_str(", for example \"");
        text.push_str(skill.examples.first().copied().unwrap_or_default());
        text.push('"');
    }
    text.push_str(
        "\nTo have a model answer everything else, give the agent the key of one provider, for example \
         OPENAI_API_KEY or ANTHROPIC_API_KEY in its environment, or a [providers.NAME] section in \
         tetherlet.toml, and start it again.",
    );
    text
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::a2a::model::{Part, PartExtra};

    #[test]
    fn each_skill_takes_its_own_examples() {
        for skill in available(false) {
            for example in skill.examples {
                let taken = match choose(example, None, true).unwrap() {
                    Choice::Calculate(_) => "calculator",
                    Choice::Analyze(_) => "text_analyzer",
                    Choice::Memory(_) => "memory",
                    Choice::Device => "device",
                    Choice::Chat => "chat",
                    Choice::Nobody => "nobody",
                };
                assert_eq!(taken, skill.id, "{example}");
            }
        }
    }

    #[test]
    fn a_part_is_refused_by_the_skill_that_cannot_read_it() {
        let message = |data: Part| Message::own(1, smallvec![Part::plain("25*4"), data]);
        let csv = |bytes: &str| {
            let media_type = Some("text/csv".into());
            let extra = Some(Box::new(PartExtra { media_type, ..PartExtra::default() }));
            Part { content: Content::Raw(bytes.into()), extra }
        };
        let choose = |skill| choose("25*4", Some(skill), true).unwrap();
        let refused = reads(choose("calculator").skill(), &message(Part::data("{}"))).unwrap_err();
        assert_eq!(refused.wire().code, -32005);
        assert!(refused.to_string().contains("parts[1] is application/json; calculator reads"));
        assert_eq!(reads(choose("chat").skill(), &message(Part::data("{}"))), Ok(()));
        assert_eq!(reads(choose("text_analyzer").skill(), &message(csv("YSxi"))), Ok(()));
        let refused = reads(choose("text_analyzer").skill(), &message(csv("/w=="))).unwrap_err();
        assert_eq!(refused.wire().code, -32602);
        assert_eq!(reads(None, &message(Part::data("{}"))), Ok(()));
        let alone = Message::own(1, smallvec![Part::data("{}")]);
        let refused = reads(None, &alone).unwrap_err();
        assert_eq!(refused.wire().code, -32005);
        assert!(refused.to_string().ends_with("without a text no skill of this agent takes it"));
    }

    #[test]
    fn prose_goes_to_the_model() {
        for text in ["calculate my taxes", "hello", "What is the memory of a river?", "42"] {
            assert!(matches!(choose(text, None, true), Ok(Choice::Chat)), "{text}");
            assert!(matches!(choose(text, None, false), Ok(Choice::Nobody)), "{text}");
        }
    }

    #[test]
    fn an_unknown_skill_is_refused_with_the_known_ones() {
        let error = choose("x", Some("weather"), false).unwrap_err().to_string();
        assert!(error.contains("weather") && error.contains("calculator"), "{error}");
        assert!(choose("x", Some("chat"), false).is_err());
    }
}
