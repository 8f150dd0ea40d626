//! Cross-origin rules, EDGE §4.

use super::support::client::{Response, get, request};
use super::support::gateway::TestGateway;
use super::support::upstream::{TestUpstream, json};

async fn gateway(cors: &str) -> (TestUpstream, TestGateway) {
    let upstream = TestUpstream::saying(
        json("1").with("access-control-allow-origin", "https://upstream.example"),
    )
    .await;
    let gateway = TestGateway::polling(&upstream.url(), &format!("cors: {cors}\n"));
    (upstream, gateway)
}

const ALLOW_ORIGIN: &str = "access-control-allow-origin";

async fn preflight(gateway: &TestGateway, origin: &str, headers: &str) -> Response {
    let lines = [
        format!("origin: {origin}"),
        "access-control-request-method: GET".into(),
        format!("access-control-request-headers: {headers}"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    request(gateway.address, "OPTIONS", "/value", &lines, "").await
}

/// C1, C3, C4, C11, C12, C13: several origins are answered one by one, with `Vary`, on errors too.
#[tokio::test(flavor = "multi_thread")]
async fn listed_origins_and_no_others() {
    let (_upstream, gateway) = gateway(
        "{origins: [\"https://app.example\", \"https://*.apps.example\"], credentials: true}",
    )
    .await;
    for (origin, allowed) in [
        ("https://app.example", true),
        ("https://a.apps.example", true),
        ("https://a.b.apps.example", true),
        ("https://apps.example", false),
        ("http://app.example", false),
        ("https://app.example:8443", false),
        ("https://app.example.evil", false),
        ("https://evilapp.example", false),
        ("https://evilapps.example", false),
        ("null", false),
        ("garbage", false),
    ] {
        for (target, accept) in [
            ("/value", "*/*"),
            ("/value", "text/event-stream;q=0.1, image/x"),
            ("/value?deliver=x", "text/event-stream"),
        ] {
            let lines = [format!("origin: {origin}"), format!("accept: {accept}")];
            if accept.contains("image") {
                continue;
            }
            let answer = get(gateway.address, target, &[&lines[0], &lines[1]]).await;
            let expected = allowed.then_some(origin);
            assert_eq!(
                answer.head.header(ALLOW_ORIGIN),
                expected,
                "{origin} {target}"
            );
            let credentials = answer.head.header("access-control-allow-credentials");
            assert_eq!(credentials, allowed.then_some("true"), "{origin}");
            assert!(
                answer.head.all("vary").contains("Origin"),
                "{origin} {target}"
            );
        }
    }
    let without = get(gateway.address, "/value", &[]).await;
    assert!(without.head.all("vary").contains("Origin"));
    assert_eq!(without.head.header(ALLOW_ORIGIN), None);
    let exposed = get(gateway.address, "/value", &["origin: https://app.example"]).await;
    let exposed = exposed
        .head
        .header("access-control-expose-headers")
        .unwrap_or_default()
        .to_owned();
    for name in [
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "x-request-id",
    ] {
        assert!(exposed.contains(name), "{exposed}");
    }
}

/// C6, C8, C9, C10.
#[tokio::test(flavor = "multi_thread")]
async fn preflights() {
    let (upstream, gateway) = gateway("{origins: [\"https://app.example\"]}").await;
    let good = preflight(
        &gateway,
        "https://app.example",
        "Last-Event-ID, cache-control",
    )
    .await;
    assert_eq!((good.head.status, good.body.as_str()), (204, ""));
    assert_eq!(good.head.header(ALLOW_ORIGIN), Some("https://app.example"));
    assert_eq!(good.head.header("access-control-max-age"), Some("7200"));
    assert_eq!(good.head.header("content-length"), None);
    let allowed = good
        .head
        .header("access-control-allow-headers")
        .expect("a list");
    assert!(
        allowed.contains("last-event-id")
            && allowed.contains("authorization")
            && !allowed.contains('*')
    );
    assert_eq!(
        good.head.all("vary"),
        "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    );
    for (origin, headers) in [
        ("https://evil.example", ""),
        ("https://app.example", "x-evil"),
        ("null", ""),
    ] {
        let bad = preflight(&gateway, origin, headers).await;
        let leaked = bad
            .head
            .headers
            .iter()
            .find(|(name, _)| name.starts_with("access-control"));
        assert_eq!((bad.head.status, leaked), (204, None), "{origin} {headers}");
        assert!(bad.head.all("vary").contains("Origin"));
    }
    assert_eq!(
        upstream.count(),
        0,
        "a preflight costs the upstream nothing"
    );
}

/// C3: with one origin, or `*`, the answer does not depend on who asks. C16: the resource policy follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_answer_is_always_given() {
    for (cors, answer) in [
        (
            "{origins: [\"https://app.example\"]}",
            "https://app.example",
        ),
        ("{origins: [\"*\"]}", "*"),
    ] {
        let (_upstream, gateway) = gateway(cors).await;
        for headers in [vec![], vec!["origin: https://app.example"]] {
            let response = get(gateway.address, "/value", &headers).await;
            assert_eq!(response.head.all(ALLOW_ORIGIN), answer);
            assert_eq!(
                response.head.header("cross-origin-resource-policy"),
                Some("cross-origin")
            );
        }
    }
}

/// C17: it is no access control, and none is granted unasked.
#[tokio::test(flavor = "multi_thread")]
async fn off_by_default() {
    let upstream = TestUpstream::saying(json("1").with("access-control-allow-origin", "*")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let answer = get(gateway.address, "/value", &["origin: https://app.example"]).await;
    assert_eq!(
        (answer.head.status, answer.head.header(ALLOW_ORIGIN)),
        (200, None)
    );
    assert_eq!(
        answer.head.header("cross-origin-resource-policy"),
        Some("same-origin")
    );
}

/// A stream's own policy stands for the file's.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_have_its_own() {
    let upstream = TestUpstream::saying(json("1")).await;
    let more = "    cors: {origins: [\"https://own.example\"]}\ncors: {origins: [\"https://all.example\"]}\n";
    let gateway = TestGateway::polling(&upstream.url(), more);
    let answer = get(gateway.address, "/value", &["origin: https://all.example"]).await;
    assert_eq!(
        answer.head.header(ALLOW_ORIGIN),
        Some("https://own.example")
    );
}

/// A path that is a stream's for `GET` and a route's for the rest.
async fn shared_path(upstream: &str, cors: &str) -> TestGateway {
    TestGateway::polling(
        upstream,
        &format!("routes: [{{prefix: /, upstream: legacy}}]\ncors: {cors}\n"),
    )
}

const APP: &str = "origin: https://app.example";

/// C12, C13: what is passed through on a stream's path has the gateway's answer about origins, and that alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_alone_speaks_of_origins_where_it_was_told_to() {
    let reply = json("1")
        .with("access-control-allow-origin", "https://upstream.example")
        .with("access-control-expose-headers", "x-secret");
    let upstream = TestUpstream::saying(reply).await;
    let gateway = shared_path(
        &upstream.url(),
        "{origins: [\"https://app.example\", \"https://b.example\"]}",
    )
    .await;
    let passed = request(gateway.address, "POST", "/value", &[APP], "x").await;
    assert_eq!(passed.head.status, 200);
    assert_eq!(passed.head.all(ALLOW_ORIGIN), "https://app.example");
    assert!(
        !passed
            .head
            .all("access-control-expose-headers")
            .contains("x-secret")
    );
    assert!(passed.head.all("vary").contains("Origin"));
    let foreign = request(
        gateway.address,
        "POST",
        "/value",
        &["origin: https://c.example"],
        "x",
    )
    .await;
    assert_eq!(foreign.head.header(ALLOW_ORIGIN), None);
    // On other paths it is the upstream's own affair.
    let other = request(gateway.address, "POST", "/other", &[APP], "x").await;
    assert_eq!(other.head.all(ALLOW_ORIGIN), "https://upstream.example");

    let gateway = shared_path("http://127.0.0.1:1", "{origins: [\"https://app.example\"]}").await;
    let failed = request(gateway.address, "POST", "/value", &[APP], "x").await;
    assert_eq!(failed.head.status, 502);
    assert_eq!(failed.head.all(ALLOW_ORIGIN), "https://app.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_origins_of_ones_own_the_upstreams_stay() {
    let upstream = TestUpstream::saying(
        json("1").with("access-control-allow-origin", "https://upstream.example"),
    )
    .await;
    let gateway = shared_path(&upstream.url(), "{origins: []}").await;
    let passed = request(gateway.address, "POST", "/value", &[APP], "x").await;
    assert_eq!(passed.head.all(ALLOW_ORIGIN), "https://upstream.example");
}

/// Where the file says who may read, the gateway answers for every method (C6): the answers of other methods are under its
/// policy, too. Where it says nothing, a preflight for what goes to the upstream is the upstream's to answer.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_policy_answers_preflights() {
    let upstream = TestUpstream::start(|request| match request.method.as_str() {
        "OPTIONS" => json("").with("access-control-allow-methods", "POST"),
        _ => json("1"),
    })
    .await;
    let every = Some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    let own = "{origins: [\"https://app.example\"]}";
    for (policy, method, answer, passed) in [
        (own, "POST", every, 0),
        (own, "GET", every, 0),
        ("{origins: []}", "GET", None, 0),
        ("{origins: []}", "POST", Some("POST"), 1),
    ] {
        let gateway = shared_path(&upstream.url(), policy).await;
        let asked = format!("access-control-request-method: {method}");
        let preflight = request(gateway.address, "OPTIONS", "/value", &[APP, &asked], "").await;
        let methods = preflight.head.header("access-control-allow-methods");
        assert_eq!(methods, answer, "{policy} {method}");
        let options = upstream.requests();
        let options = options.iter().filter(|request| request.method == "OPTIONS");
        assert_eq!(options.count(), passed, "{policy} {method}");
    }
}
