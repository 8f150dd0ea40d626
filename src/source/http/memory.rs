//! What a source keeps of its last good value, so that it need not be sent, parsed or compared again (EDGE U14).

use std::time::{Duration, SystemTime};

use http::header::{DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::pacing::date;

/// Bytes of a validator that is worth sending back with each poll.
const MAX_VALIDATOR: usize = 1024;
/// How much older than its response a `Last-Modified` is before it tells two values apart (RFC 9110 §8.8.2.2).
const SETTLED: Duration = Duration::from_secs(1);

/// Of the last good value. Failures in between leave it alone: it is still what the channel has.
#[derive(Debug, Default)]
pub(super) struct Memory {
    validators: Validators,
    fingerprint: Option<Fingerprint>,
}

/// Tells bodies apart: XXH3, 128 bits, of the decoded bytes and the status.
pub(super) type Fingerprint = u128;

/// What a conditional request is made with.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Validators {
    etag: Option<Box<[u8]>>,
    last_modified: Option<Box<[u8]>>,
}

impl Memory {
    /// Makes a request conditional. Returns whether there was anything to make it so: only then 304 is an answer.
    pub(super) fn add_conditions(&self, headers: &mut HeaderMap) -> bool {
        let Validators {
            etag,
            last_modified,
        } = &self.validators;
        let conditions = [(IF_NONE_MATCH, etag), (IF_MODIFIED_SINCE, last_modified)];
        for (name, value) in conditions {
            // What came in a header may stand in one.
            let value = value.as_deref().map(HeaderValue::from_bytes);
            if let Some(Ok(value)) = value {
                headers.insert(name, value);
            }
        }
        etag.is_some() || last_modified.is_some()
    }

    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    pub(super) fn remember(&mut self, validators: Validators, fingerprint: Fingerprint) {
        *self = Self {
            validators,
            fingerprint: Some(fingerprint),
        };
    }

    /// The next reading is a value whatever it holds.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Validators {
    /// Those of a response that is received at `now`. Weak entity tags are fine for a GET (RFC 9110 §8.8.3.2); a
    /// `Last-Modified` of this very second is not kept, as the value may change again within it and then 304 would hide that.
    pub(super) fn of(headers: &HeaderMap, status: StatusCode, now: SystemTime) -> Self {
        // An upstream whose 404 is a value would answer the condition with 200.
        if status != StatusCode::OK {
            return Self::default();
        }
        let kept = |value: &&HeaderValue| (1..=MAX_VALIDATOR).contains(&value.len());
        let settled = date(headers, &LAST_MODIFIED).is_some_and(|modified| {
            let sent = date(headers, &DATE).unwrap_or(now);
            modified + SETTLED <= sent
        });
        Self {
            etag: headers.get(ETAG).filter(kept).map(own),
            last_modified: headers.get(LAST_MODIFIED).filter(|_| settled).map(own),
        }
    }
}

/// A copy: a value as it was received is a part of what was read, which all stays for as long as the part does.
fn own(value: &HeaderValue) -> Box<[u8]> {
    value.as_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn validators(lines: &[(&'static str, &str)]) -> Validators {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        Validators::of(&headers, StatusCode::OK, SystemTime::UNIX_EPOCH)
    }

    /// What is kept of a response does not keep the rest of it: 8 KB a channel otherwise.
    #[test]
    fn validators_hold_no_more_than_themselves() {
        let received = bytes::Bytes::from(vec![b'x'; 8192]);
        let tag = HeaderValue::from_maybe_shared(received.slice(..8)).expect("a header value");
        assert!(received.as_ptr() == tag.as_bytes().as_ptr(), "it is shared");
        let headers: HeaderMap = [(ETAG, tag)].into_iter().collect();
        let kept = Validators::of(&headers, StatusCode::OK, SystemTime::UNIX_EPOCH);
        drop(headers);
        assert_eq!(&*kept.etag.expect("a tag"), b"xxxxxxxx");
        assert!(received.is_unique());
    }

    /// EDGE U14: weak tags are kept as they are.
    #[test]
    fn tags_are_kept_as_they_are() {
        for tag in ["\"a\"", "W/\"a\"", "sloppy"] {
            let kept = validators(&[("etag", tag)]).etag.expect("a tag");
            assert_eq!(&*kept, tag.as_bytes());
        }
        assert_eq!(validators(&[("etag", "")]), Validators::default());
        let long = "x".repeat(MAX_VALIDATOR + 1);
        assert_eq!(validators(&[("etag", &long)]), Validators::default());
    }

    /// EDGE U14: a date tells values apart once its second is over.
    #[test]
    fn a_date_of_this_second_is_not_kept() {
        let fresh = validators(&[("last-modified", EARLY), ("date", EARLY)]);
        assert_eq!(fresh.last_modified, None);
        let settled = validators(&[("last-modified", EARLY), ("date", LATER)]);
        assert_eq!(&*settled.last_modified.expect("a date"), EARLY.as_bytes());
        // Without a Date our own clock, which stands at 1970 here, decides.
        assert_eq!(validators(&[("last-modified", EARLY)]).last_modified, None);
        assert_eq!(
            validators(&[("last-modified", "lately"), ("date", LATER)]).last_modified,
            None
        );
    }

    #[test]
    fn only_a_200_gives_validators() {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_static("\"a\""));
        let of = |status| Validators::of(&headers, status, SystemTime::UNIX_EPOCH);
        assert_ne!(of(StatusCode::OK), Validators::default());
        assert_eq!(of(StatusCode::NOT_FOUND), Validators::default());
    }
}
