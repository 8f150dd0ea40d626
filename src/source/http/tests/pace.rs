//! What a status means, and how long it asks us to wait.

use super::upstream::{Scripted, answer, raw};
use super::*;

/// EDGE U13, U15; CONTRACT §6, Causes.
#[tokio::test]
async fn statuses_have_their_causes_and_waits() {
    let seconds = |n| Some(Duration::from_secs(n));
    for (status, headers, cause, wait) in [
        (201, "", Cause::Status, None),
        (204, "", Cause::Status, None),
        (206, "Content-Range: bytes 0-0/2\r\n", Cause::Status, None),
        (301, "Location: /\r\n", Cause::Status, None),
        (
            302,
            "Location: /\r\nRetry-After: 7\r\n",
            Cause::Status,
            seconds(7),
        ),
        (400, "", Cause::Status, None),
        (
            401,
            "WWW-Authenticate: Bearer\r\n",
            Cause::Unauthorized,
            None,
        ),
        (403, "Retry-After: 5\r\n", Cause::Unauthorized, seconds(5)),
        (429, "", Cause::RateLimited, None),
        (
            429,
            "Retry-After: 86400\r\n",
            Cause::RateLimited,
            seconds(3600),
        ),
        (
            429,
            "Retry-After: 5\r\nX-Poll-Interval: 60\r\n",
            Cause::RateLimited,
            seconds(60),
        ),
        (500, "Retry-After: 5\r\n", Cause::Status, seconds(5)),
        (503, "", Cause::Status, None),
        (503, "Retry-After: later\r\n", Cause::Status, None),
        (503, "Retry-After: 30\r\n", Cause::RateLimited, seconds(30)),
        (599, "", Cause::Status, None),
    ] {
        let upstream = Scripted::start([answer(status, headers, "")]).await;
        let error = read(&mut source(&spec(&upstream.url)))
            .await
            .expect_err("a failure");
        assert_eq!(
            (error.cause, error.retry_after),
            (cause, wait),
            "{status} {headers}"
        );
        assert!(error.detail.contains(&status.to_string()), "{error}");
    }
}

#[tokio::test]
async fn good_answers_may_ask_for_a_longer_interval() {
    let tagged = "ETag: \"1\"\r\nCache-Control: max-age=30\r\nAge: 10\r\n";
    let upstream = Scripted::start([
        answer(200, tagged, "1"),
        raw("HTTP/1.1 304 Not Modified\r\nX-Poll-Interval: 40\r\nConnection: close\r\n\r\n"),
        answer(200, "", "1"),
        answer(404, "Cache-Control: max-age=50\r\n", ""),
    ])
    .await;
    let mut source = source(&spec(&upstream.url));
    for wait in [Some(20), Some(40), None, Some(50)] {
        let answer = read(&mut source).await.expect("an answer");
        assert_eq!(answer.not_before, wait.map(Duration::from_secs));
    }
}
