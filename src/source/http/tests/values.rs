//! What becomes a value, an absence, or nothing new.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderName, Method};

use super::super::coding::tests::gzip;
use super::upstream::{Scripted, answer, ok, raw};
use super::*;
use crate::params::Part;

const TAGGED: &str = "Content-Type: application/json\r\nETag: W/\"1\"\r\n";

#[tokio::test]
async fn a_poll_asks_what_the_file_says() {
    let mut upstream = Scripted::start([ok("{\"price\":1}")]).await;
    let mut spec = with(spec(&format!("{}/base", upstream.url)), |upstream| {
        let token = HeaderValue::from_static("Bearer s3cret");
        upstream.headers.insert("authorization", token);
    });
    spec.path = ParamText(vec![Part::Literal("/v1/quotes/".into()), Part::Param(0)]);
    spec.query = vec![("of".into(), ParamText(vec![Part::Param(0)]))];
    let params = Params::from(vec!["A/B".into()]);
    let mut source = HttpSource::new(client(&spec), spec.into(), params, None);

    assert_eq!(reading(&mut source).await, json("{\"price\":1}"));
    let request = upstream.request().await;
    assert!(
        request.starts_with("GET /base/v1/quotes/A%2FB?of=A%2FB HTTP/1.1\r\n"),
        "{request}"
    );
    let host = upstream.url.trim_start_matches("http://");
    for line in [
        "authorization: Bearer s3cret",
        "accept-encoding: identity",
        concat!("user-agent: wellspring/", env!("CARGO_PKG_VERSION")),
        &format!("host: {host}"),
    ] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
    }
    assert!(!request.contains("if-"), "{request}");
    assert!(!format!("{source:?}").contains("s3cret"));
}

/// EDGE U14: validators go out as they came, 304 is nothing new, and the connection is kept.
#[tokio::test]
async fn a_validator_makes_the_next_poll_conditional() {
    let date = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    let mut upstream = Scripted::start([
        answer(200, &format!("{TAGGED}{date}"), "1"),
        raw("HTTP/1.1 304 Not Modified\r\n\r\n"),
        answer(200, "", "2"),
        ok("2"),
    ])
    .await;
    let mut source = source(&spec(&upstream.url));

    assert_eq!(reading(&mut source).await, json("1"));
    upstream.request().await;
    assert_eq!(reading(&mut source).await, Ok(Reading::NotModified));
    let request = upstream.request().await;
    assert!(
        request.contains("\r\nif-none-match: W/\"1\"\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\nif-modified-since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        "{request}"
    );

    // A value without validators: the old ones are gone.
    assert_eq!(reading(&mut source).await, json("2"));
    assert!(upstream.request().await.contains("if-none-match"));
    assert_eq!(reading(&mut source).await, Ok(Reading::Unchanged));
    assert!(!upstream.request().await.contains("if-"));
}

/// EDGE U13: 304 is no answer to a question that was not asked.
#[tokio::test]
async fn an_unasked_304_is_a_status() {
    let upstream = Scripted::start([raw("HTTP/1.1 304 Not Modified\r\n\r\n")]).await;
    assert_eq!(
        reading(&mut source(&spec(&upstream.url))).await,
        Err(Cause::Status)
    );
}

#[tokio::test]
async fn the_same_bytes_are_noticed_and_a_return_is_a_change() {
    let upstream = Scripted::start(["1", "1", "2", "1", "1 "].map(ok)).await;
    let mut source = source(&spec(&upstream.url));
    assert_eq!(reading(&mut source).await, json("1"));
    assert_eq!(reading(&mut source).await, Ok(Reading::Unchanged));
    assert_eq!(reading(&mut source).await, json("2"));
    assert_eq!(reading(&mut source).await, json("1"));
    // Other bytes: whether it is another value is not ours to say.
    assert_eq!(reading(&mut source).await, json("1 "));
}

/// A failure does not replace the value, so what is known of the value stays.
#[tokio::test]
async fn a_failure_in_between_leaves_the_memory_alone() {
    let mut upstream = Scripted::start([
        answer(200, TAGGED, "1"),
        answer(
            200,
            "Content-Type: application/json\r\nETag: \"2\"\r\n",
            "{",
        ),
        answer(500, "ETag: \"3\"\r\n", "oh"),
        answer(200, TAGGED, "1"),
    ])
    .await;
    let mut source = source(&spec(&upstream.url));
    assert_eq!(reading(&mut source).await, json("1"));
    assert_eq!(reading(&mut source).await, Err(Cause::Malformed));
    assert_eq!(reading(&mut source).await, Err(Cause::Status));
    assert_eq!(reading(&mut source).await, Ok(Reading::Unchanged));
    upstream.request().await;
    for _ in 0..3 {
        assert!(
            upstream
                .request()
                .await
                .contains("\r\nif-none-match: W/\"1\"\r\n")
        );
    }
}

/// CONTRACT §6, Gone: what comes after an absence is a value even when it equals the one before.
#[tokio::test]
async fn an_absence_ends_the_memory() {
    for status in [404, 410] {
        let mut upstream = Scripted::start([
            answer(200, TAGGED, "1"),
            answer(status, "Content-Type: text/html\r\n", "<p>no"),
            answer(200, TAGGED, "1"),
        ])
        .await;
        let mut source = source(&spec(&upstream.url));
        assert_eq!(reading(&mut source).await, json("1"));
        assert_eq!(reading(&mut source).await, Ok(Reading::Absent));
        assert_eq!(reading(&mut source).await, json("1"));
        upstream.request().await;
        assert!(upstream.request().await.contains("if-none-match"));
        assert!(!upstream.request().await.contains("if-none-match"));
    }
}

/// A value that could not be selected from is told again, instead of being confirmed.
#[tokio::test]
async fn a_forgotten_value_is_told_again() {
    let upstream = Scripted::start([answer(200, TAGGED, "1"), answer(200, TAGGED, "1")]).await;
    let mut source = source(&spec(&upstream.url));
    assert_eq!(reading(&mut source).await, json("1"));
    source.forget();
    assert_eq!(reading(&mut source).await, json("1"));
}

/// CONTRACT §6: a status listed in `success` is a value even if 404; the same bytes under another status are another value.
#[tokio::test]
async fn listed_statuses_are_values() {
    let upstream = Scripted::start([
        answer(404, "", "null"),
        answer(404, "", "null"),
        answer(503, "Retry-After: 9\r\n", "null"),
        answer(200, "", "null"),
    ])
    .await;
    let mut spec = spec(&upstream.url);
    spec.success = vec![404, 503];
    let mut source = source(&spec);
    assert_eq!(reading(&mut source).await, json("null"));
    assert_eq!(reading(&mut source).await, Ok(Reading::Unchanged));
    assert_eq!(reading(&mut source).await, json("null"));
    assert_eq!(reading(&mut source).await, Err(Cause::Status));
}

/// EDGE U13, E2.
#[tokio::test]
async fn a_type_that_is_not_the_formats_is_no_value() {
    let text = |charset: &str, body: &[u8]| {
        answer(200, &format!("Content-Type: text/plain{charset}\r\n"), body)
    };
    for (format, line, expected) in [
        (
            HttpFormat::Json,
            answer(200, "Content-Type: text/html\r\n", "1"),
            Err(Cause::Malformed),
        ),
        (
            HttpFormat::Json,
            answer(200, "Content-Type: image/png\r\n", "1"),
            Err(Cause::Malformed),
        ),
        (HttpFormat::Json, text("; charset=latin1", b"1"), json("1")),
        (
            HttpFormat::Json,
            text("", b"\"\xff\""),
            Err(Cause::Malformed),
        ),
        (HttpFormat::Text, text("", b"\xff"), Err(Cause::Malformed)),
        (
            HttpFormat::Text,
            text("; charset=latin1", "20°".as_bytes()),
            Err(Cause::Malformed),
        ),
        (
            HttpFormat::Text,
            answer(200, "Content-Type: image/png\r\n", "x"),
            Err(Cause::Malformed),
        ),
        (
            HttpFormat::Text,
            text("; charset=latin1", b"20 C"),
            text_value("20 C"),
        ),
        (
            HttpFormat::Text,
            text("", "20 °\n".as_bytes()),
            text_value("20 °\n"),
        ),
        (HttpFormat::Text, text("", b""), text_value("")),
    ] {
        let upstream = Scripted::start([line]).await;
        let mut spec = spec(&upstream.url);
        spec.format = format;
        assert_eq!(reading(&mut source(&spec)).await, expected);
    }
}

fn text_value(text: &str) -> Result<Reading, Cause> {
    Ok(Reading::Value(
        Value::parse_text(text.as_bytes()).expect("UTF-8"),
    ))
}

/// EDGE U9, U12: what is not JSON is an error, and a fast one.
#[tokio::test]
async fn what_is_not_json_is_malformed() {
    let deep = "[".repeat(200 * 1024);
    for body in [
        "",
        "{",
        "1 2",
        "NaN",
        "\u{feff}1",
        "\"\\ud800\"",
        "<html>",
        &deep,
    ] {
        let upstream = Scripted::start([ok(body)]).await;
        let found = reading(&mut source(&spec(&upstream.url))).await;
        assert_eq!(found, Err(Cause::Malformed), "{:.20}", body);
    }
}

/// A body that is parsed off the event loop, as it is long or encoded, gives the same readings.
#[tokio::test]
async fn long_and_encoded_bodies_are_values_too() {
    let numbers: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let long = format!("[{}]", numbers.join(","));
    let encoded = gzip(long.as_bytes());
    let upstream = Scripted::start([
        ok(&long),
        ok(&long),
        // The same value, encoded although identity was asked for: the same decoded bytes.
        answer(200, "Content-Encoding: gzip\r\n", &encoded),
        answer(200, "Content-Encoding: gzip\r\n", gzip(b"{\"a\":1}")),
        ok(&long[..long.len() - 1]),
    ])
    .await;
    let mut source = source(&spec(&upstream.url));
    assert_eq!(reading(&mut source).await, json(&long));
    assert_eq!(reading(&mut source).await, Ok(Reading::Unchanged));
    assert_eq!(reading(&mut source).await, Ok(Reading::Unchanged));
    assert_eq!(reading(&mut source).await, json("{\"a\":1}"));
    assert_eq!(reading(&mut source).await, Err(Cause::Malformed));
}

#[tokio::test]
async fn a_post_carries_its_body_and_no_condition() {
    let mut upstream = Scripted::start([answer(200, TAGGED, "1"), answer(200, TAGGED, "1")]).await;
    let mut spec = spec(&upstream.url);
    spec.method = Method::POST;
    spec.body = Some(ParamText::literal("{\"q\":1}"));
    spec.headers = vec![(HeaderName::from_static("x-tenant"), ParamText::literal("a"))];
    let mut source = source(&spec);
    assert_eq!(reading(&mut source).await, json("1"));
    assert_eq!(reading(&mut source).await, Ok(Reading::Unchanged));
    for _ in 0..2 {
        let request = upstream.request().await;
        assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"q\":1}"), "{request}");
        assert!(
            request.contains(&format!("{CONTENT_TYPE}: application/json\r\n")),
            "{request}"
        );
        assert!(!request.contains("if-none-match"), "{request}");
    }
}

/// EDGE I4.
#[tokio::test]
async fn cookies_are_neither_kept_nor_sent() {
    let mut upstream =
        Scripted::start([answer(200, "Set-Cookie: id=1; Path=/\r\n", "1"), ok("2")]).await;
    let mut source = source(&spec(&upstream.url));
    assert_eq!(reading(&mut source).await, json("1"));
    assert_eq!(reading(&mut source).await, json("2"));
    upstream.request().await;
    assert!(!upstream.request().await.contains("cookie"));
}

/// EDGE U1: what cannot be asked without changing the question is not asked.
#[tokio::test]
async fn what_would_change_the_question_is_not_asked() {
    let upstream = Scripted::start([ok("1")]).await;
    let mut spec = spec(&upstream.url);
    spec.path = ParamText(vec![Part::Literal("/v1/".into()), Part::Param(0)]);
    let mut source = HttpSource::new(
        client(&spec),
        spec.into(),
        Params::from(vec!["..".into()]),
        None,
    );
    assert_eq!(reading(&mut source).await, Err(Cause::Malformed));
    assert_eq!(upstream.waiting(), 0);
}
