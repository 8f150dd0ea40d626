//! Which of the three ways a request wants: the event stream, the value, or a value it does not have yet. Pure.

mod coding;

use std::time::Duration;

use crate::channel::Form;

pub(super) use coding::{NoneAccepted, coding};

/// What the stream of a path can give.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer<'a> {
    /// Forms of the event stream, the default first.
    pub(super) forms: &'a [Form],
    /// Whether the value can be given alone.
    pub(super) snapshot: bool,
    /// Whether the value may be text.
    pub(super) text: bool,
}

/// What is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The event stream, in the form asked for with `deliver`, or the default.
    Stream(Form),
    /// The value.
    Snapshot(Representation),
    /// Nothing that the client takes.
    NotAcceptable,
}

/// How a value is given alone. A JSON value is always given as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Representation {
    /// Text as it is, as `text/plain`.
    AsIs,
    /// Text as a JSON string, to a client that takes JSON and no plain text.
    Json,
}

/// Decides by `Accept` (all its lines joined by commas; absent is `*/*`) and the `deliver` parameter.
pub(super) fn negotiate(accept: Option<&str>, deliver: Option<&str>, offer: Offer<'_>) -> Answer {
    let accept = Accept::parse(accept.unwrap_or("*/*"));
    let stream = match deliver {
        None => Answer::Stream(offer.forms[0]),
        Some(name) => match offer.forms.iter().find(|form| form_name(**form) == name) {
            Some(form) => Answer::Stream(*form),
            None => Answer::NotAcceptable,
        },
    };
    let json = accept.quality("application", "json");
    let plain = accept.quality("text", "plain");
    let value = match offer.text {
        true => json.max(plain),
        false => json,
    };
    match accept.named("text", "event-stream") {
        Some(quality) if quality > 0 && (quality >= json || !offer.snapshot) => return stream,
        _ => {}
    }
    if offer.snapshot && value > 0 {
        return Answer::Snapshot(match plain {
            0 => Representation::Json,
            _ => Representation::AsIs,
        });
    }
    match accept.quality("text", "event-stream") {
        0 => Answer::NotAcceptable,
        _ => stream,
    }
}

/// The name of a form in `deliver`.
pub(super) fn form_name(form: Form) -> &'static str {
    match form {
        Form::Value => "value",
        Form::JsonPatch => "json-patch",
        Form::MergePatch => "merge-patch",
    }
}

/// `Prefer: wait=N` (RFC 7240 §4.3): how long to hold, at most a minute.
pub(super) fn wait(prefer: Option<&str>) -> Option<Duration> {
    let seconds = prefer?.split(',').find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let seconds = value.trim().trim_matches('"');
        name.trim()
            .eq_ignore_ascii_case("wait")
            .then(|| seconds.parse::<u32>().ok())
            .flatten()
    })?;
    Some(Duration::from_secs(u64::from(seconds.min(60))))
}

/// Whether `If-None-Match` (RFC 9110 §13.1.2) names `etag`. The comparison is weak.
pub(super) fn none_match(header: Option<&str>, etag: &str) -> bool {
    let etag = etag.strip_prefix("W/").unwrap_or(etag);
    header.is_some_and(|header| {
        header
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

/// Media ranges with their qualities, in thousandths (RFC 9110 §12.5.1).
struct Accept<'a>(Vec<(&'a str, &'a str, u16)>);

impl<'a> Accept<'a> {
    fn parse(header: &'a str) -> Self {
        let range = |item: &'a str| {
            let mut parts = item.split(';').map(str::trim);
            let (kind, sub) = parts.next()?.split_once('/')?;
            let quality = parts.find_map(|parameter| {
                parameter
                    .strip_prefix("q=")
                    .or(parameter.strip_prefix("Q="))
            });
            Some((kind, sub, quality.map_or(Some(1000), thousandths)?))
        };
        Self(
            header
                .split(',')
                .filter_map(|item| range(item.trim()))
                .collect(),
        )
    }

    /// The quality of the range that names exactly this type.
    fn named(&self, kind: &str, sub: &str) -> Option<u16> {
        let same = |range: &&(&str, &str, u16)| {
            range.0.eq_ignore_ascii_case(kind) && range.1.eq_ignore_ascii_case(sub)
        };
        self.0.iter().find(same).map(|range| range.2)
    }

    /// The quality of the most specific range that admits this type; 0 when none does.
    fn quality(&self, kind: &str, sub: &str) -> u16 {
        self.named(kind, sub)
            .or_else(|| self.named(kind, "*"))
            .or_else(|| self.named("*", "*"))
            .unwrap_or(0)
    }
}

/// `0.5` is 500. `None` for what is no weight.
fn thousandths(weight: &str) -> Option<u16> {
    let weight: f32 = weight.parse().ok()?;
    (0.0..=1.0)
        .contains(&weight)
        .then_some((weight * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLLED: Offer<'_> = Offer {
        forms: &[Form::Value, Form::JsonPatch],
        snapshot: true,
        text: false,
    };
    const FEED: Offer<'_> = Offer {
        forms: &[Form::Value],
        snapshot: false,
        text: true,
    };
    const AS_IS: Answer = Answer::Snapshot(Representation::AsIs);
    const JSON: Answer = Answer::Snapshot(Representation::Json);
    const STREAM: Answer = Answer::Stream(Form::Value);

    /// CONTRACT §3, the table of "one URL, three ways".
    #[test]
    fn accept_decides() {
        for (accept, polled, feed) in [
            (Some("text/event-stream"), STREAM, STREAM),
            (Some("text/event-stream, */*;q=0.1"), STREAM, STREAM),
            (
                Some("TEXT/Event-Stream;q=0.9, application/json;q=0.9"),
                STREAM,
                STREAM,
            ),
            (
                Some("text/event-stream;q=0.5, application/json"),
                JSON,
                STREAM,
            ),
            (
                Some("text/event-stream;q=0, */*"),
                AS_IS,
                Answer::NotAcceptable,
            ),
            (Some("application/json"), JSON, Answer::NotAcceptable),
            (Some("application/*"), JSON, Answer::NotAcceptable),
            (Some("*/*"), AS_IS, STREAM),
            (None, AS_IS, STREAM),
            (
                Some("text/html,application/xhtml+xml,*/*;q=0.8"),
                AS_IS,
                STREAM,
            ),
            (
                Some("text/html"),
                Answer::NotAcceptable,
                Answer::NotAcceptable,
            ),
            (
                Some("image/png"),
                Answer::NotAcceptable,
                Answer::NotAcceptable,
            ),
            (
                Some("application/json;q=0"),
                Answer::NotAcceptable,
                Answer::NotAcceptable,
            ),
            (
                Some("gibberish"),
                Answer::NotAcceptable,
                Answer::NotAcceptable,
            ),
        ] {
            assert_eq!(
                negotiate(accept, None, POLLED),
                polled,
                "polled, {accept:?}"
            );
            assert_eq!(negotiate(accept, None, FEED), feed, "feed, {accept:?}");
        }
    }

    /// Text is given as text to whoever takes it.
    #[test]
    fn text_is_quoted_only_for_those_who_take_json_alone() {
        let text = Offer {
            text: true,
            ..POLLED
        };
        for (accept, answer) in [
            (None, AS_IS),
            (Some("*/*"), AS_IS),
            (Some("text/plain"), AS_IS),
            (Some("application/json, text/plain, */*"), AS_IS),
            (Some("application/json"), JSON),
            (Some("application/json, text/plain;q=0"), JSON),
        ] {
            assert_eq!(negotiate(accept, None, text), answer, "{accept:?}");
        }
    }

    #[test]
    fn deliver_chooses_a_listed_form_or_nothing() {
        let accept = Some("text/event-stream");
        assert_eq!(
            negotiate(accept, Some("json-patch"), POLLED),
            Answer::Stream(Form::JsonPatch)
        );
        assert_eq!(
            negotiate(accept, Some("merge-patch"), POLLED),
            Answer::NotAcceptable
        );
        assert_eq!(negotiate(accept, Some(""), POLLED), Answer::NotAcceptable);
    }

    #[test]
    fn wait_is_read_and_bounded() {
        assert_eq!(wait(Some("wait=10")), Some(Duration::from_secs(10)));
        assert_eq!(
            wait(Some("respond-async, Wait = \"600\"; x=1")),
            Some(Duration::from_secs(60))
        );
        for none in [None, Some("wait"), Some("wait=-1"), Some("waiting=3")] {
            assert_eq!(wait(none), None, "{none:?}");
        }
    }

    #[test]
    fn none_match_compares_weakly() {
        assert!(none_match(Some(r#""a", W/"b""#), r#""b""#));
        assert!(none_match(Some("*"), r#""b""#));
        assert!(!none_match(Some(r#""a""#), r#""b""#));
        assert!(!none_match(None, r#""b""#));
    }
}
