//! How long an upstream asks to be left alone. All of it lengthens an interval and none shortens it (EDGE U15).

use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The longest wait that an upstream can ask for: an upstream's slip must not silence a stream for a day.
const LONGEST: Duration = Duration::from_secs(3600);

/// What a good answer asks for: `Cache-Control: max-age` less `Age` (RFC 9111 §4.2), or `X-Poll-Interval` in seconds.
pub(super) fn not_before(headers: &HeaderMap) -> Option<Duration> {
    freshness(headers).max(poll_interval(headers))
}

/// `Retry-After` (RFC 9110 §10.2.3), which is seconds or a date. A date is measured from the response's own `Date`, so that the
/// two clocks need not agree; without one from `now`. `None` when absent or neither.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(wait) = seconds(value) {
        return Some(wait);
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let from = date(headers, &DATE).unwrap_or(now);
    // A date that has passed asks for nothing, but it is there: the status means what it means with one.
    let wait = until.duration_since(from).unwrap_or(Duration::ZERO);
    Some(wait.min(LONGEST))
}

/// `X-Poll-Interval`, in seconds.
pub(super) fn poll_interval(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("x-poll-interval")?.to_str().ok()?;
    seconds(value.trim()).filter(|wait| !wait.is_zero())
}

/// The HTTP date in `name`.
pub(super) fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let value = headers.get(name)?.to_str().ok()?;
    httpdate::parse_http_date(value).ok()
}

/// The comma-separated directives of all lines of `name`, with their values unquoted.
pub(super) fn directives<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|line: &HeaderValue| line.to_str().ok())
        .flat_map(split_unquoted)
        .map(|directive| match directive.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (directive.trim(), None),
        })
}

fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let mut shortest: Option<u64> = None;
    for (name, value) in directives(headers, &CACHE_CONTROL) {
        if name.eq_ignore_ascii_case("no-cache") || name.eq_ignore_ascii_case("no-store") {
            return None;
        }
        if name.eq_ignore_ascii_case("max-age") {
            // Of contradicting directives the one that lengthens least (RFC 9111 §4.2.1).
            let age = digits(value?)?;
            shortest = Some(shortest.map_or(age, |other| other.min(age)));
        }
    }
    let age = headers.get(AGE).and_then(|value| value.to_str().ok());
    let age = age
        .and_then(|value| digits(value.trim()))
        .unwrap_or_default();
    let left = shortest?.checked_sub(age).filter(|left| *left > 0)?;
    Some(Duration::from_secs(left).min(LONGEST))
}

/// Whole seconds, at most [`LONGEST`]; a number too large to count is still a number.
fn seconds(text: &str) -> Option<Duration> {
    digits(text).map(|seconds| Duration::from_secs(seconds).min(LONGEST))
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Splits at commas outside of quoted strings (RFC 9110 §5.6.4).
fn split_unquoted(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    line.split(move |character| {
        let separates = character == ',' && !quoted;
        if character == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = character == '\\' && quoted && !escaped;
        separates
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        map
    }

    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    /// EDGE U15.
    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, wait) in [
            ("0", secs(0)),
            ("120", secs(120)),
            ("3601", secs(3600)),
            ("99999999999999999999999", secs(3600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", secs(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", secs(30)),
            ("Sun Nov  6 08:50:07 1994", secs(30)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", secs(0)),
            ("Sat, 06 Nov 2094 08:49:00 GMT", secs(3600)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            assert_eq!(
                retry_after(&headers(&[("retry-after", value)]), now),
                wait,
                "{value:?}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_date_is_measured_from_the_upstreams_own_clock() {
        let map = headers(&[
            ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"),
            ("date", "Sun, 06 Nov 1994 08:50:00 GMT"),
        ]);
        assert_eq!(retry_after(&map, SystemTime::UNIX_EPOCH), secs(7));
    }

    #[test]
    fn max_age_counts_less_age_and_unless_caching_is_refused() {
        for (lines, wait) in [
            (&[("cache-control", "max-age=30")][..], secs(30)),
            (&[("cache-control", "public, MAX-AGE=\"30\"")], secs(30)),
            (&[("cache-control", "max-age=30"), ("age", "10")], secs(20)),
            (&[("cache-control", "max-age=30"), ("age", "30")], None),
            (
                &[("cache-control", "max-age=30"), ("age", "soon")],
                secs(30),
            ),
            (&[("cache-control", "max-age=86400")], secs(3600)),
            (
                &[("cache-control", "max-age=86400"), ("age", "80000")],
                secs(3600),
            ),
            (&[("cache-control", "max-age=60, max-age=5")], secs(5)),
            (
                &[("cache-control", "x=\"a, max-age=5\", max-age=9")],
                secs(9),
            ),
            (
                &[
                    ("cache-control", "max-age=30"),
                    ("cache-control", "no-cache"),
                ],
                None,
            ),
            (&[("cache-control", "no-store, max-age=30")], None),
            (&[("cache-control", "max-age=0")], None),
            (&[("cache-control", "max-age")], None),
            (&[("cache-control", "max-age=-5")], None),
            (&[("x-poll-interval", "60")], secs(60)),
            (
                &[("x-poll-interval", "60"), ("cache-control", "max-age=90")],
                secs(90),
            ),
            (
                &[("x-poll-interval", "60"), ("cache-control", "no-store")],
                secs(60),
            ),
            (&[("x-poll-interval", "999999")], secs(3600)),
            (&[("x-poll-interval", "often")], None),
            (&[], None),
        ] {
            assert_eq!(not_before(&headers(lines)), wait, "{lines:?}");
        }
    }
}
