//! What a client sent in the headers that a stream forwards: part of what tells channels apart (EDGE I1, I2).

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

/// One value, or none, for each header that the stream forwards, in the order of the configuration. Two are equal when every
/// byte is. Debug output tells nothing: these are credentials.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Forwarded(Box<[Option<HeaderValue>]>);

impl Forwarded {
    /// Of the values in the order of the configuration.
    pub fn new(values: impl IntoIterator<Item = Option<HeaderValue>>) -> Self {
        let hidden = values.into_iter().map(|value| {
            let mut value = value?;
            value.set_sensitive(true);
            Some(value)
        });
        Self(hidden.collect())
    }

    /// Sets `names` as the client did: what it did not send is not sent.
    pub fn apply(&self, names: &[HeaderName], headers: &mut HeaderMap) {
        for (name, value) in names.iter().zip(&self.0) {
            match value {
                Some(value) => drop(headers.insert(name, value.clone())),
                None => drop(headers.remove(name)),
            }
        }
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Forwarded(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(values: &[Option<&'static str>]) -> Forwarded {
        let values = values
            .iter()
            .map(|value| value.map(HeaderValue::from_static));
        Forwarded::new(values)
    }

    /// EDGE I1: absent is not empty, order counts, and nothing of it is shown.
    #[test]
    fn every_byte_tells_apart_and_none_is_shown() {
        let all = [
            forwarded(&[None, Some("a")]),
            forwarded(&[Some("a"), None]),
            forwarded(&[Some(""), Some("a")]),
            forwarded(&[None, Some("A")]),
            forwarded(&[None, Some("a ")]),
        ];
        for (at, one) in all.iter().enumerate() {
            for (other_at, other) in all.iter().enumerate() {
                assert_eq!(one == other, at == other_at, "{at} and {other_at}");
            }
        }
        assert_eq!(all[0], forwarded(&[None, Some("a")]));
        assert_eq!(format!("{:?}", all[0]), "Forwarded(..)");
    }

    #[test]
    fn headers_are_set_as_the_client_did() {
        let names = [http::header::AUTHORIZATION, http::header::COOKIE];
        let mut headers = HeaderMap::new();
        headers.insert(http::header::COOKIE, HeaderValue::from_static("ours"));
        forwarded(&[Some("theirs"), None]).apply(&names, &mut headers);
        assert_eq!(
            headers.get("authorization").map(HeaderValue::as_bytes),
            Some(&b"theirs"[..])
        );
        assert!(!headers.contains_key("cookie"));
    }
}
