//! Fields to bytes: the event-stream format (WHATWG HTML, "Server-sent events"). Pure, cannot fail, cannot be injected.
//!
//! A [`Frame`] is what one event puts on the wire, made once and shared by every connection. It is finished: it carries
//! the HTTP/1.1 chunk framing (RFC 9112 §7.1) around the event, which may be compressed, so that sending it is one write of
//! shared bytes. An [`Encoder`] is what differs from connection to connection.
//!
//! What makes injection impossible: names are [`EventName`]s and ids are [`EventId`](crate::channel::EventId)s or [`EntryId`]s, whose
//! alphabets hold no control character, and text is split at every line break before it becomes `data` (EDGE E3).

mod coding;
mod encoder;
mod entry_id;
mod frame;
pub mod parser;

use std::fmt;
use std::time::Duration;

pub use coding::Coding;
pub use encoder::Encoder;
pub use entry_id::EntryId;
pub use frame::Frame;

/// The event name: 1 to 64 of `[A-Za-z0-9._-]` (EDGE E6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventName(Box<str>);

impl EventName {
    /// Takes `name` when it is one; the error says what a name is.
    pub fn parse(name: &str) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        match name.len() {
            1..=64 if name.bytes().all(allowed) => Ok(Self(name.into())),
            _ => Err("an event name is 1 to 64 of A-Z a-z 0-9 . _ -".into()),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A comment: keeps the connection in use and alters no event state (EDGE E11).
pub const HEARTBEAT: &[u8] = b":\n\n";

/// Appends one event. Every line break of `data` begins a new `data` line; an `id` never goes without data (EDGE E9, E10).
pub fn push_event(out: &mut Vec<u8>, event: Option<&str>, id: Option<&str>, data: &str) {
    if let Some(name) = event {
        push_field(out, "event", name);
    }
    if let Some(id) = id {
        push_field(out, "id", id);
    }
    for line in lines(data) {
        push_field(out, "data", line);
    }
    out.push(b'\n');
}

/// Appends a `retry` field, which is an event block of its own when nothing follows but a blank line (EDGE E8).
pub fn push_retry(out: &mut Vec<u8>, retry: Duration) {
    push_field(out, "retry", &retry.as_millis().to_string());
}

/// What a stream begins with, before any upstream answer: how long to wait before reconnecting, and a comment (EDGE E15).
pub fn prelude(retry: Duration) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    push_retry(&mut out, retry);
    out.extend_from_slice(b":\n\n");
    out
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &str) {
    // Exactly one space: a value that begins with a space keeps it (EDGE E5).
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

/// Splits at CRLF, CR and LF alike; always gives at least one line.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        match current.find(['\r', '\n']) {
            None => {
                rest = None;
                Some(current)
            }
            Some(at) => {
                let after = if current[at..].starts_with("\r\n") {
                    at + 2
                } else {
                    at + 1
                };
                rest = Some(&current[after..]);
                Some(&current[..at])
            }
        }
    })
}
