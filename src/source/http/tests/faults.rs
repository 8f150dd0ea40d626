//! Upstreams that die, hang, lie and flood. Nothing of it becomes a value, and each has its cause.

use super::super::coding::tests::gzip;
use super::upstream::{Line, Scripted, answer, flood, hang, ok, raw};
use super::*;

const JSON: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
const SHORT: Duration = Duration::from_millis(60);

async fn cause_of(line: Line) -> Cause {
    let upstream = Scripted::start([line]).await;
    reading(&mut source(&spec(&upstream.url)))
        .await
        .expect_err("a fault")
}

/// EDGE U18.
#[tokio::test]
async fn a_body_that_is_cut_short_is_malformed() {
    for body in [
        "Content-Length: 3\r\n\r\n1",
        "Content-Length: 3\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n1",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n1\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n12\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n1\r\n0\r\n\r\n",
    ] {
        assert_eq!(
            cause_of(raw(format!("{JSON}{body}"))).await,
            Cause::Malformed,
            "{body:?}"
        );
    }
    let gzipped = gzip(b"[1,2,3]");
    let cut = answer(
        200,
        "Content-Encoding: gzip\r\n",
        &gzipped[..gzipped.len() - 4],
    );
    assert_eq!(cause_of(cut).await, Cause::Malformed);
}

/// The counterpart: the same shapes, whole, are values.
#[tokio::test]
async fn a_body_that_is_whole_is_a_value() {
    for body in [
        "Content-Length: 2\r\n\r\n12",
        "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n1\r\n1\r\n2\r\n0\r\nX-Trailer: 1\r\n\r\n",
        "Connection: close\r\n\r\n12",
    ] {
        let upstream = Scripted::start([raw(format!("{JSON}{body}"))]).await;
        assert_eq!(
            reading(&mut source(&spec(&upstream.url))).await,
            json("12"),
            "{body:?}"
        );
    }
}

/// EDGE U7: the limit holds while reading, whatever the length that was announced, and to the byte.
#[tokio::test]
async fn a_body_over_the_limit_is_too_large() {
    let announced = hang(format!("{JSON}Content-Length: 262145\r\n\r\n"));
    assert_eq!(cause_of(announced).await, Cause::TooLarge);
    let endless = flood(
        &format!("{JSON}Transfer-Encoding: chunked\r\n\r\n"),
        "8\r\n        \r\n",
    );
    assert_eq!(cause_of(endless).await, Cause::TooLarge);
    let unframed = flood(&format!("{JSON}\r\n"), " ".repeat(5000));
    assert_eq!(cause_of(unframed).await, Cause::TooLarge);

    let fits = format!("{}1", " ".repeat(256 * 1024 - 1));
    let upstream = Scripted::start([ok(&fits)]).await;
    assert_eq!(reading(&mut source(&spec(&upstream.url))).await, json("1"));
}

/// EDGE U8.
#[tokio::test]
async fn a_bomb_is_too_large() {
    let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
    assert_eq!(
        cause_of(answer(200, "Content-Encoding: gzip\r\n", bomb)).await,
        Cause::TooLarge
    );
    let stacked = gzip(&gzip(b"1"));
    assert_eq!(
        cause_of(answer(200, "Content-Encoding: gzip, gzip\r\n", stacked)).await,
        Cause::Malformed
    );
}

/// EDGE U7: heads are bounded too, by our limit and by that of the HTTP stack.
#[tokio::test]
async fn a_head_over_the_limit_is_too_large() {
    let line = format!("X-Pad: {}\r\n", "x".repeat(30_000));
    assert_eq!(
        cause_of(answer(200, &line.repeat(3), "1")).await,
        Cause::TooLarge
    );
    assert_eq!(
        cause_of(flood("HTTP/1.1 200 OK\r\n", &line)).await,
        Cause::TooLarge
    );
    let upstream = Scripted::start([answer(200, &line.repeat(2), "1")]).await;
    assert_eq!(reading(&mut source(&spec(&upstream.url))).await, json("1"));
}

/// EDGE U6.
#[tokio::test]
async fn silence_is_a_timeout() {
    for line in [hang(""), hang("HTTP/1.1 200 OK\r\nContent-Le")] {
        let upstream = Scripted::start([line]).await;
        let spec = with(spec(&upstream.url), |upstream| {
            upstream.timeouts.first_byte = SHORT
        });
        assert_eq!(reading(&mut source(&spec)).await, Err(Cause::Timeout));
    }
    for line in [
        hang(format!("{JSON}Content-Length: 3\r\n\r\n1")),
        hang(format!(
            "{JSON}Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n"
        )),
    ] {
        let upstream = Scripted::start([line]).await;
        let spec = with(spec(&upstream.url), |upstream| {
            upstream.timeouts.total = SHORT
        });
        assert_eq!(reading(&mut source(&spec)).await, Err(Cause::Timeout));
    }
}

#[tokio::test]
async fn a_closed_port_is_connect() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback");
    let address = free.local_addr().expect("bound");
    drop(free);
    assert_eq!(
        reading(&mut source(&spec(&format!("http://{address}")))).await,
        Err(Cause::Connect)
    );
}

/// A query may hold a key: it reaches no log line. `read` looks for it in each error.
#[tokio::test]
async fn a_failure_does_not_tell_the_url() {
    let half = format!("{JSON}Content-Length: 3\r\n\r\n1");
    let upstream = Scripted::start([raw(half), raw("garbage"), raw("")]).await;
    let mut spec = spec(&upstream.url);
    spec.query = vec![("key".into(), ParamText::literal("s3cret"))];
    let mut source = source(&spec);
    for _ in 0..3 {
        assert!(reading(&mut source).await.is_err());
    }
    drop(upstream);
    assert!(reading(&mut source).await.is_err());
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_connect() {
    // RFC 6761 §6.4: never resolves. The dot keeps search domains out.
    assert_eq!(
        reading(&mut source(&spec("http://upstream.invalid./"))).await,
        Err(Cause::Connect)
    );
}

#[tokio::test]
async fn what_is_not_http_is_malformed() {
    for bytes in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n1",
    ] {
        assert_eq!(cause_of(raw(bytes)).await, Cause::Malformed, "{bytes:?}");
    }
}

/// An upstream that never answers is not asked twice as often as the interval says.
#[tokio::test]
async fn a_connection_closed_without_an_answer_is_connect() {
    let mut upstream = Scripted::start([raw(""), ok("1")]).await;
    let mut source = source(&spec(&upstream.url));
    assert_eq!(reading(&mut source).await, Err(Cause::Connect));
    upstream.request().await;
    assert_eq!(upstream.waiting(), 0);
    assert_eq!(reading(&mut source).await, json("1"));
}

/// RFC 9110 §9.2.2: an idle connection that is closed as it is used again costs nothing; a second one in a row is a failure.
#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced_once() {
    let upstream = Scripted::start([
        ok("1"),
        raw(""),
        ok("2"),
        raw(""),
        raw(""),
        raw(""),
        ok("3"),
    ])
    .await;
    let mut source = source(&spec(&upstream.url));
    assert_eq!(reading(&mut source).await, json("1"));
    assert_eq!(reading(&mut source).await, json("2"));
    assert_eq!(reading(&mut source).await, Err(Cause::Connect));
    assert_eq!(reading(&mut source).await, Err(Cause::Connect));
    assert_eq!(reading(&mut source).await, json("3"));
    assert_eq!(upstream.waiting(), 7);
}

/// RFC 9110 §9.2.2: what may have had an effect is not repeated.
#[tokio::test]
async fn a_post_is_never_repeated() {
    let upstream = Scripted::start([ok("1"), raw(""), ok("2")]).await;
    let mut spec = spec(&upstream.url);
    spec.method = Method::POST;
    let mut source = source(&spec);
    assert_eq!(reading(&mut source).await, json("1"));
    assert_eq!(reading(&mut source).await, Err(Cause::Connect));
    assert_eq!(upstream.waiting(), 2);
}

/// A poll that is dropped half-way leaves the source as it was.
#[tokio::test]
async fn a_dropped_poll_leaves_no_trace() {
    let tagged = |tag: &str, body: &str| answer(200, &format!("ETag: \"{tag}\"\r\n"), body);
    let half = hang(format!("{JSON}ETag: \"2\"\r\nContent-Length: 3\r\n\r\n1"));
    let mut upstream = Scripted::start([tagged("1", "1"), half, tagged("1", "1")]).await;
    let mut source = source(&spec(&upstream.url));
    assert_eq!(reading(&mut source).await, json("1"));
    upstream.request().await;
    tokio::select! {
        _ = source.read() => panic!("half a body was enough"),
        request = upstream.request() => assert!(request.contains("if-none-match: \"1\"")),
    }
    assert_eq!(reading(&mut source).await, Ok(Reading::Unchanged));
    assert!(upstream.request().await.contains("if-none-match: \"1\""));
}
