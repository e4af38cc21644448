//! What a provider sends: reply streams of both forms, whole replies, error bodies.

use std::time::Duration;

use tetherlet::base::secret::Secret;
use tetherlet::base::sse::{Item, Parser};
use tetherlet::llm::{Delta, Form, ModelError, Reply, TurnEnd};

use super::Bytes;
use super::text::{gives_away, is_json};

/// What a test key looks like; it fits none of the shapes that are hidden without knowing the key.
const CANARY: &str = "Zq7pLmN4vRtYw2Xk";

/// A reply in the chat-completions form.
pub fn openai(input: &[u8]) {
    reply(Form::OpenAi, input);
}

/// A reply in the messages form.
pub fn anthropic(input: &[u8]) {
    reply(Form::Anthropic, input);
}

/// A stream comes to the same however it is cut, as events and as one document.
fn reply(form: Form, input: &[u8]) {
    let whole = played(form, std::iter::once(input));
    for step in [1, 3, 16] {
        assert_eq!(played(form, input.chunks(step)), whole, "{step} bytes at a time");
    }
    let text = String::from_utf8_lossy(input);
    let text = text.trim_start_matches('\u{feff}').trim();
    if document(form, text).is_ok() {
        assert!(is_json(text), "a reply that is no JSON was taken: {text}");
        for at in (0..text.len()).step_by(text.len() / 16 + 1) {
            let part = text.get(..at).unwrap_or_default();
            assert!(document(form, part).is_err(), "a part of a reply was taken: {part}");
        }
    }
}

/// Text and thinking of a stream, and how it ended.
fn played<'a>(
    form: Form,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (String, bool, Result<TurnEnd, ModelError>) {
    let (mut parser, mut reply) = (Parser::new(16 * 1024), Reply::new(form));
    let (mut text, mut thought, mut taken) = (String::new(), false, 0);
    for mut piece in pieces {
        taken += piece.len();
        loop {
            let (event, data) = match parser.read(&mut piece) {
                Ok(Some(Item::Frame { event, data })) => (event, data),
                Ok(Some(Item::Comment)) => continue,
                Ok(None) => break,
                Err(_) => return (text, thought, Err(ModelError::Malformed { what: "no stream" })),
            };
            let closed = reply.is_closed();
            let outcome = reply.frame(event, data, &mut |delta| {
                assert!(!closed, "nothing comes behind the end");
                match delta {
                    Delta::Text(more) => {
                        assert!(!more.is_empty(), "a piece of nothing");
                        text.push_str(more);
                    }
                    Delta::Thinking => thought = true,
                }
            });
            if let Err(error) = outcome {
                assert!(!reply.is_finished() && !reply.is_closed());
                assert_eq!(reply.frame("", "[DONE]", &mut |_| panic!("it has failed")), Ok(()));
                assert_eq!(reply.end(), Err(ModelError::Truncated));
                check(&error);
                return (text, thought, Err(error));
            }
        }
    }
    assert!(text.len() <= taken, "text out of nothing");
    let (finished, usage) = (reply.is_finished(), reply.usage());
    assert!(finished || !reply.is_closed() || form == Form::Anthropic);
    let end = reply.end();
    assert_eq!(end.is_ok(), finished);
    assert!(end.as_ref().is_ok_and(|end| end.usage == usage) || end == Err(ModelError::Truncated));
    (text, thought, end)
}

/// A reply that came as one document.
fn document(form: Form, json: &str) -> Result<TurnEnd, ModelError> {
    let mut reply = Reply::new(form);
    let mut length = 0;
    let outcome = reply.whole(json, &mut |delta| {
        if let Delta::Text(text) = delta {
            assert!(!text.is_empty(), "a piece of nothing");
            length += text.len();
        }
    });
    assert!(length <= json.len(), "text out of nothing");
    if let Err(error) = &outcome {
        check(error);
    }
    outcome.and_then(|()| reply.end())
}

/// A failure fits a status message.
fn check(error: &ModelError) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.chars().count() < 1300, "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(!error.is_retryable() || error.may_fail_over(), "{error:?}");
    assert!(error.retry_after().is_none_or(|wait| wait <= Duration::from_hours(1)), "{error:?}");
}

/// A status, a header and a body in which byte 1 stands for the key: the error is sorted, and the key is not in it.
pub fn error(input: &[u8]) {
    const STATUS: [u16; 14] =
        [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 503, 529, 302];
    const HEADERS: [&str; 6] = [
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "x-ratelimit-reset",
        "x-ratelimit-reset-requests",
        "x-ratelimit-remaining-requests",
    ];
    let mut bytes = Bytes(input);
    let status = STATUS[bytes.below(STATUS.len())];
    let name = HEADERS[bytes.below(HEADERS.len())];
    let value = bytes.text(b'\n');
    let body = String::from_utf8_lossy(bytes.0).replace('\u{1}', CANARY);
    let key = Secret::new(CANARY).expect("it is not empty");
    let header = |asked: &str| (asked == name).then(|| value.clone());
    let error = ModelError::from_status(status, &header, &body, &[&key]);
    keeps_the_key(&error);
    for form in [Form::OpenAi, Form::Anthropic] {
        let failed = Reply::new(form).frame("error", &body, &mut |_| ());
        let whole = Reply::new(form).whole(&body, &mut |_| ());
        for error in [failed, whole].into_iter().filter_map(Result::err) {
            keeps_the_key(&error.without(&[&key]));
        }
    }
}

fn keeps_the_key(error: &ModelError) {
    check(error);
    for text in [error.to_string(), format!("{error:?}"), error.explain("THE_KEY").to_string()] {
        assert!(!gives_away(&text, CANARY), "{text}");
    }
}
