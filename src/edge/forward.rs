//! Headers of a client that its polls carry (`forward_headers`): what makes a channel its own (EDGE I1, I2).

use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::reply::Rejection;
use crate::params::Forwarded;

/// What the client sent in `names`, byte for byte; `None` when the stream forwards nothing.
///
/// A header in several lines is refused, as its lines mean different things to different readers; but HTTP/2 may cut `Cookie`
/// into several, which are one (RFC 9113 §8.2.3).
pub(super) fn read(
    names: &[HeaderName],
    headers: &HeaderMap,
) -> Result<Option<Arc<Forwarded>>, Rejection> {
    if names.is_empty() {
        return Ok(None);
    }
    let values: Result<Vec<_>, _> = names.iter().map(|name| value(name, headers)).collect();
    Ok(Some(Arc::new(Forwarded::new(values?))))
}

fn value(name: &HeaderName, headers: &HeaderMap) -> Result<Option<HeaderValue>, Rejection> {
    let lines: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    match lines.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((*one).clone())),
        several if *name == COOKIE => {
            let bytes: Vec<&[u8]> = several.iter().map(|line| line.as_bytes()).collect();
            let joined = HeaderValue::from_bytes(&bytes.join(&b"; "[..]));
            joined.map(Some).map_err(|_| refused())
        }
        _ => Err(refused()),
    }
}

fn refused() -> Rejection {
    Rejection::BadRequest("A header that this path forwards stands in several lines.")
}

/// `Vary` for a path that forwards `names` (CONTRACT.md §6, Snapshot).
pub(super) fn vary(names: &[HeaderName]) -> Option<HeaderValue> {
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    (!names.is_empty()).then(|| HeaderValue::from_str(&names.join(", ")).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_one_value_or_none_at_all() {
        let names = [http::header::AUTHORIZATION, COOKIE];
        let read = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            read(&names, &headers)
        };
        let forwarded = |values: [Option<&'static str>; 2]| {
            let values = values.map(|value| value.map(HeaderValue::from_static));
            Ok(Some(Arc::new(Forwarded::new(values))))
        };
        assert_eq!(read(&[]), forwarded([None, None]));
        assert_eq!(
            read(&[("authorization", "a b")]),
            forwarded([Some("a b"), None])
        );
        let cookies = [("cookie", "a=1"), ("cookie", "b=2")];
        assert_eq!(read(&cookies), forwarded([None, Some("a=1; b=2")]));
        assert!(read(&[("authorization", "a"), ("authorization", "a")]).is_err());
    }
}
