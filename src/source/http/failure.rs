//! Turns what the HTTP stack reports into a cause class for clients and one line for the log (EDGE U18, U19).

use std::error::Error;
use std::io;
use std::iter::successors;

use crate::source::{Cause, SourceError};

/// Characters of a foreign text that reach a log line.
const EXCERPT: usize = 240;

/// No response head came.
pub(super) fn before_head(error: &reqwest::Error) -> SourceError {
    SourceError::new(cause(error), describe(error))
}

/// A body ended before its end. Whatever ended it, what there is of it cannot be used (CONTRACT.md §6, Causes).
pub(super) fn in_body(error: &reqwest::Error) -> SourceError {
    let cause = match error.is_timeout() {
        true => Cause::Timeout,
        false => Cause::Malformed,
    };
    SourceError::new(cause, format!("in the body: {}", describe(error)))
}

/// Whether the connection ended before a byte of the answer came over it.
pub(super) fn is_lost_connection(error: &reqwest::Error) -> bool {
    !error.is_timeout() && !error.is_connect() && chain(error).any(is_end_of_connection)
}

/// What happened, innermost cause last. The URL is left out, as its query may hold a secret.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    // A reqwest error's own text holds the URL.
    for link in chain(error).filter(|link| !link.is::<reqwest::Error>()) {
        let text = link.to_string();
        // Wrappers repeat what they wrap.
        if let Some(last) = parts.last_mut()
            && last.ends_with(&text)
        {
            continue;
        }
        parts.push(text);
    }
    if parts.is_empty() {
        parts.push("the request failed".to_owned());
    }
    excerpt(&parts.join(": "))
}

/// Foreign text for a log line: short, and without control characters (EDGE O6).
pub(super) fn excerpt(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars().take(EXCERPT) {
        match character {
            // Harmless in a log, and common in messages.
            '"' | '\'' => out.push(character),
            _ => out.extend(character.escape_debug()),
        }
    }
    if text.chars().nth(EXCERPT).is_some() {
        out.push('…');
    }
    out
}

/// The order matters: a handshake that timed out is a timeout, one that failed is TLS, both are part of connecting.
fn cause(error: &reqwest::Error) -> Cause {
    if error.is_timeout() {
        Cause::Timeout
    } else if chain(error).any(|link| is_tls(link, error.is_connect())) {
        Cause::Tls
    } else if error.is_connect() || chain(error).any(is_end_of_connection) {
        Cause::Connect
    } else if chain(error).any(is_large_head) {
        Cause::TooLarge
    } else if error.is_redirect() || error.is_builder() {
        // A redirect whose target is no HTTP URL: our own request was built before.
        Cause::Status
    } else {
        Cause::Malformed
    }
}

fn is_tls(link: &(dyn Error + 'static), connecting: bool) -> bool {
    let Some(io) = link.downcast_ref::<io::Error>() else {
        return link.is::<rustls::Error>();
    };
    match io.kind() {
        // HTTP/2 keeps only kind and text of what its connection reported. No socket reports this kind; rustls does.
        io::ErrorKind::InvalidData => true,
        // A TCP connection that is being made does not end: this one was made, and hung up on in its handshake.
        io::ErrorKind::UnexpectedEof => connecting,
        _ => false,
    }
}

fn is_end_of_connection(link: &(dyn Error + 'static)) -> bool {
    match link.downcast_ref::<hyper::Error>() {
        Some(error) => error.is_incomplete_message() || error.is_canceled() || error.is_closed(),
        None => link.is::<io::Error>(),
    }
}

fn is_large_head(link: &(dyn Error + 'static)) -> bool {
    link.downcast_ref()
        .is_some_and(hyper::Error::is_parse_too_large)
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&link| {
        // An `io::Error`'s source is that of the error that it wraps: the wrapped one itself would be passed over.
        match link
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => link.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE O6.
    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(
            excerpt("a \"b\"\r\n\u{1b}[31m\0é"),
            "a \"b\"\\r\\n\\u{1b}[31m\\0é"
        );
        let long = excerpt(&"x".repeat(EXCERPT + 1));
        assert_eq!(long.chars().count(), EXCERPT + 1);
        assert!(long.ends_with('…'));
        assert!(!excerpt(&"x".repeat(EXCERPT)).ends_with('…'));
    }

    #[test]
    fn the_chain_enters_io_errors() {
        let inner = rustls::Error::HandshakeNotComplete;
        let outer = io::Error::other(io::Error::other(inner));
        assert!(chain(&outer).any(|link| is_tls(link, false)));
        assert!(!chain(&io::Error::other("x")).any(|link| is_tls(link, true)));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(!chain(&reset).any(|link| is_tls(link, true)));
    }
}
