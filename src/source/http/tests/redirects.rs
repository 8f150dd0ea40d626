//! Redirects: refused, or followed a little, and never to somebody else (EDGE U3).

use http::HeaderValue;

use super::upstream::{Line, Scripted, answer, ok};
use super::*;

fn moved(status: u16, to: &str) -> Line {
    answer(status, &format!("Location: {to}\r\n"), "{}")
}

fn following(url: &str) -> config::HttpSource {
    with(spec(url), |upstream| {
        upstream.follow_redirects = true;
        upstream
            .headers
            .insert("x-api-key", HeaderValue::from_static("s3cret"));
    })
}

#[tokio::test]
async fn redirects_are_refused_unless_configured() {
    let upstream = Scripted::start([moved(302, "/b"), ok("1")]).await;
    assert_eq!(
        reading(&mut source(&spec(&upstream.url))).await,
        Err(Cause::Status)
    );
    assert_eq!(upstream.waiting(), 1);
}

#[tokio::test]
async fn three_hops_are_followed_with_our_headers_and_no_referer() {
    let script = [
        moved(301, "/b"),
        moved(307, "c?d=e"),
        moved(308, "/d"),
        ok("1"),
    ];
    let mut upstream = Scripted::start(script).await;
    assert_eq!(
        reading(&mut source(&following(&upstream.url))).await,
        json("1")
    );
    for target in ["/", "/b", "/c?d=e", "/d"] {
        let request = upstream.request().await;
        assert!(
            request.starts_with(&format!("GET {target} HTTP/1.1\r\n")),
            "{request}"
        );
        assert!(request.contains("\r\nx-api-key: s3cret\r\n"), "{request}");
        assert!(!request.contains("referer"), "{request}");
    }
}

#[tokio::test]
async fn a_fourth_hop_is_not() {
    let script = ["/b", "/c", "/d", "/e"]
        .map(|to| moved(302, to))
        .into_iter()
        .chain([ok("1")]);
    let upstream = Scripted::start(script).await;
    assert_eq!(
        reading(&mut source(&following(&upstream.url))).await,
        Err(Cause::Status)
    );
    assert_eq!(upstream.waiting(), 4);
}

#[tokio::test]
async fn another_origin_is_never_asked() {
    let other = Scripted::start([ok("1"), ok("1"), ok("1")]).await;
    let port = other.url.rsplit(':').next().expect("a port");
    for target in [
        other.url.clone(),
        format!("//127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        "file:///etc/passwd".to_owned(),
        "http://".to_owned(),
        "\u{1}".to_owned(),
    ] {
        let upstream = Scripted::start([moved(302, &target)]).await;
        let found = reading(&mut source(&following(&upstream.url))).await;
        let expected = match target.as_str() {
            // No header may hold it.
            "\u{1}" => Cause::Malformed,
            _ => Cause::Status,
        };
        assert_eq!(found, Err(expected), "{target:?}");
    }
    assert_eq!(other.waiting(), 0);
}

#[tokio::test]
async fn an_absolute_target_is_compared_by_its_origin_and_has_no_credentials() {
    let script = |url: &str| vec![moved(302, &format!("{url}/b")), ok("1")];
    let upstream = Scripted::start_with(script).await;
    assert_eq!(
        reading(&mut source(&following(&upstream.url))).await,
        json("1")
    );

    for credentials in ["//user@", "//user:s3cret@", "//:s3cret@"] {
        let script = |url: &str| vec![moved(302, &url.replace("//", credentials)), ok("1")];
        let upstream = Scripted::start_with(script).await;
        let found = reading(&mut source(&following(&upstream.url))).await;
        assert_eq!(found, Err(Cause::Status), "{credentials}");
        assert_eq!(upstream.waiting(), 1);
    }
}
