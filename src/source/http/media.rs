//! Whether a response's `Content-Type` is that of a value at all (EDGE U13).

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use super::failure::excerpt;
use crate::config::HttpFormat;
use crate::source::{Cause, SourceError};

/// How the bytes of a text are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    /// UTF-8, or not named.
    Utf8,
    /// Another one, of which we read only what every one of them means alike: printable ASCII and line breaks.
    Foreign(String),
}

/// Refuses what cannot be a value: an error page, a picture, a download. A missing type is believed to be the right one.
///
/// JSON may also come as plain text, as JavaScript, or as bytes of no type, as old servers send it: it is parsed strictly
/// anyway. Its charset is not looked at, because JSON has none but UTF-8 (RFC 8259 §8.1, §11).
pub(super) fn check(headers: &HeaderMap, format: HttpFormat) -> Result<Charset, SourceError> {
    let Some(line) = headers.get(CONTENT_TYPE) else {
        return Ok(Charset::Utf8);
    };
    let line = String::from_utf8_lossy(line.as_bytes()).to_ascii_lowercase();
    let essence = line.split(';').next().unwrap_or_default().trim();
    let accepted = match format {
        HttpFormat::Json => may_be_json(essence),
        HttpFormat::Text => may_be_text(essence),
    };
    if !accepted {
        let detail = format!("content type {} is not {}", excerpt(essence), name(format));
        return Err(SourceError::new(Cause::Malformed, detail));
    }
    Ok(match format {
        HttpFormat::Json => Charset::Utf8,
        HttpFormat::Text => charset(&line),
    })
}

/// Refuses what is no event stream. Its charset is not looked at: it has none but UTF-8 (WHATWG HTML, "Parsing an event stream").
pub(super) fn check_events(headers: &HeaderMap) -> Result<(), SourceError> {
    let line = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let line = String::from_utf8_lossy(line.unwrap_or_default()).to_ascii_lowercase();
    let essence = line.split(';').next().unwrap_or_default().trim();
    match essence {
        "text/event-stream" => Ok(()),
        other => {
            let detail = format!("content type {} is not text/event-stream", excerpt(other));
            Err(SourceError::new(Cause::Malformed, detail))
        }
    }
}

/// Whether a foreign charset leaves no doubt about what `bytes` say.
pub(super) fn is_unambiguous(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r'))
}

fn may_be_json(essence: &str) -> bool {
    let named = [
        "application/json",
        "application/javascript",
        "application/octet-stream",
        "application/x-json",
        "application/x-javascript",
        "text/json",
        "text/javascript",
        "text/plain",
        "text/x-json",
    ];
    named.contains(&essence) || is_suffixed(essence, "+json")
}

fn may_be_text(essence: &str) -> bool {
    essence.starts_with("text/")
        || may_be_json(essence)
        || essence == "application/xml"
        || (essence.starts_with("application/") && is_suffixed(essence, "+xml"))
}

/// Such as `application/problem+json` (RFC 6839).
fn is_suffixed(essence: &str, suffix: &str) -> bool {
    essence.ends_with(suffix) && essence.contains('/')
}

fn charset(line: &str) -> Charset {
    let value = line.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "charset").then(|| value.trim().trim_matches(['"', '\'']))
    });
    match value {
        None | Some("" | "utf-8" | "utf8" | "us-ascii" | "ascii") => Charset::Utf8,
        Some(other) => Charset::Foreign(excerpt(other)),
    }
}

fn name(format: HttpFormat) -> &'static str {
    match format {
        HttpFormat::Json => "JSON",
        HttpFormat::Text => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(value: &str, format: HttpFormat) -> Option<Charset> {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_str(value).expect("a header value"),
        );
        check(&headers, format).ok()
    }

    /// EDGE U13.
    #[test]
    fn json_comes_under_its_names_and_no_other() {
        for name in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/problem+json",
            "application/vnd.api+json;v=1",
            "text/json",
            "text/plain; charset=iso-8859-1",
            "text/javascript",
            "application/octet-stream",
        ] {
            assert_eq!(
                checked(name, HttpFormat::Json),
                Some(Charset::Utf8),
                "{name}"
            );
        }
        for name in [
            "text/html",
            "text/html; x=application/json",
            "application/xml",
            "image/png",
            "text/event-stream",
            "application/json-seq",
            "application/x-ndjson",
            "multipart/form-data",
            "+json",
            "json",
            "",
        ] {
            assert_eq!(checked(name, HttpFormat::Json), None, "{name}");
        }
    }

    /// EDGE U13.
    #[test]
    fn text_is_anything_that_people_read() {
        for name in [
            "text/plain",
            "text/html",
            "text/csv",
            "application/json",
            "application/atom+xml",
        ] {
            assert_eq!(
                checked(name, HttpFormat::Text),
                Some(Charset::Utf8),
                "{name}"
            );
        }
        for name in [
            "image/png",
            "image/svg+xml",
            "application/pdf",
            "video/mp4",
            "application/zip",
        ] {
            assert_eq!(checked(name, HttpFormat::Text), None, "{name}");
        }
        assert_eq!(
            check(&HeaderMap::new(), HttpFormat::Text).ok(),
            Some(Charset::Utf8)
        );
    }

    /// EDGE E2.
    #[test]
    fn a_foreign_charset_is_noticed() {
        let foreign = |name: &str| Some(Charset::Foreign(name.into()));
        for (value, charset) in [
            ("text/plain; charset=UTF-8", Some(Charset::Utf8)),
            ("text/plain; charset=\"utf8\"; x=y", Some(Charset::Utf8)),
            (
                "text/plain;format=flowed;Charset=ISO-8859-1",
                foreign("iso-8859-1"),
            ),
            ("text/plain; charset=utf-16", foreign("utf-16")),
            ("text/plain; charset", Some(Charset::Utf8)),
        ] {
            assert_eq!(checked(value, HttpFormat::Text), charset, "{value}");
        }
        assert!(is_unambiguous(b"20.5 C\r\n\tok"));
        for bytes in [&b"20\xb0"[..], "20°".as_bytes(), b"a\0b\0", b"\x1b$B"] {
            assert!(!is_unambiguous(bytes), "{bytes:?}");
        }
    }
}
