//! Answers to shared polls that call themselves one client's.

use http::HeaderMap;
use http::header::{CACHE_CONTROL, SET_COOKIE, VARY};

use super::pacing::directives;

/// What in these headers says that an answer is for one client only. Sharing goes on, as no client's credentials were sent,
/// but an operator should know (CONTRACT.md §6, Causes; EDGE I3).
pub(super) fn personal(headers: &HeaderMap) -> Option<&'static str> {
    let any = |value: &http::HeaderValue| value.as_bytes().trim_ascii() == b"*";
    if headers.contains_key(SET_COOKIE) {
        Some("the source answers shared polls with Set-Cookie")
    } else if headers.get_all(VARY).iter().any(any) {
        Some("the source answers shared polls with Vary: *")
    } else if directives(headers, &CACHE_CONTROL)
        .any(|(name, _)| name.eq_ignore_ascii_case("private"))
    {
        Some("the source answers shared polls with Cache-Control: private")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// CONTRACT §6, Causes; EDGE I3.
    #[test]
    fn an_answer_for_one_client_is_noticed() {
        for (name, value, noticed) in [
            (SET_COOKIE, "a=b", true),
            (VARY, " * ", true),
            (VARY, "accept, cookie", false),
            (CACHE_CONTROL, "max-age=5, Private", true),
            (CACHE_CONTROL, "private=\"set-cookie\"", true),
            (CACHE_CONTROL, "public", false),
            (HeaderName::from_static("x-private"), "private", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name.clone(), HeaderValue::from_static(value));
            assert_eq!(personal(&headers).is_some(), noticed, "{name}: {value}");
        }
    }
}
