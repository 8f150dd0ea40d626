//! The admin listener: CONTRACT §4 and §6 "Admin", EDGE O1, O2, O3, O11.

use serde_json::Value;

use super::support::client::{Connection, EventSource, Response, get, request};
use super::support::eventually;
use super::support::gateway::TestGateway;
use super::support::soon;
use super::support::upstream::{TestUpstream, json, status};

const ON: &str = "admin: {address: \"127.0.0.1:0\"}\n";

fn parsed(response: &Response) -> Value {
    serde_json::from_str(&response.body)
        .unwrap_or_else(|error| panic!("{error}: {}", response.body))
}

/// EDGE O1, F1, F3: what every response has, and that clients' listeners serve nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn it_answers_by_itself_alone() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), ON);
    let admin = gateway.gateway.admin_address().expect("it is on");
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/api/streams",
        "/api/channels",
        "/api/config",
    ] {
        let answer = get(admin, path, &[]).await;
        assert_eq!(answer.head.status, 200, "{path}");
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.head.header(name), Some(value), "{path}");
        }
        assert!(
            answer
                .head
                .header("x-request-id")
                .is_some_and(|id| id.len() == 32),
            "{path}"
        );
        assert_eq!(
            answer.head.header("access-control-allow-origin"),
            None,
            "{path}"
        );
        let head = request(admin, "HEAD", path, &[], "").await;
        assert_eq!((head.head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(
            get(gateway.address, path, &[]).await.head.status,
            404,
            "{path}"
        );
    }
    assert_eq!(get(admin, "/livez", &[]).await.body.lines().count(), 1);
    assert_eq!(get(admin, "/readyz", &[]).await.body.lines().count(), 1);
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/api/channels/x", 404),
        ("GET", "/value", 404),
        ("POST", "/livez", 405),
        ("OPTIONS", "/metrics", 405),
    ] {
        let answer = request(admin, method, path, &[], "").await;
        assert_eq!(answer.head.status, status, "{method} {path}");
        assert_eq!(
            answer.head.header("content-type"),
            Some("application/problem+json")
        );
        let problem = parsed(&answer);
        assert_eq!(problem["status"], status);
        assert_eq!(
            problem["instance"].as_str(),
            answer.head.header("x-request-id")
        );
        assert_eq!(
            answer.head.header("allow"),
            (status == 405).then_some("GET, HEAD")
        );
    }
}

/// EDGE O2 (the table of names is tested beside the code).
#[tokio::test(flavor = "multi_thread")]
async fn foreign_names_and_pages_are_refused() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), ON);
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut rebound = Connection::open(admin).await;
    rebound
        .send(b"GET /metrics HTTP/1.1\r\nhost: evil.example\r\n\r\n")
        .await;
    let answer = rebound.response(false).await;
    assert_eq!(answer.head.status, 421);
    assert!(!answer.body.contains("evil"), "{}", answer.body);
    let page = get(admin, "/metrics", &["origin: https://evil.example"]).await;
    assert_eq!(page.head.status, 403);
}

/// CONTRACT §4: the token is for everything but /livez and /readyz.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_asked_for() {
    let upstream = TestUpstream::saying(json("1")).await;
    let token = "canary-0123456789";
    let on = format!("admin: {{address: \"127.0.0.1:0\", token: \"{token}\"}}\n");
    let gateway = TestGateway::polling(&upstream.url(), &on);
    let admin = gateway.gateway.admin_address().expect("it is on");
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(admin, path, &[]).await.head.status, 200, "{path}");
    }
    let refused = get(
        admin,
        "/metrics",
        &["authorization: Bearer canary-012345678"],
    )
    .await;
    assert_eq!(refused.head.status, 401);
    assert!(
        refused
            .head
            .header("www-authenticate")
            .is_some_and(|value| value.starts_with("Bearer"))
    );
    let header = format!("authorization: Bearer {token}");
    let config = get(admin, "/api/config", &[&header]).await;
    assert_eq!(config.head.status, 200);
    // EDGE O3.
    assert!(!config.body.contains("canary"), "{}", config.body);
    assert_eq!(parsed(&config)["admin"]["token"], "[redacted]");
}

/// CONTRACT §4 "/api/…".
#[tokio::test(flavor = "multi_thread")]
async fn streams_and_channels_are_told() {
    let upstream = TestUpstream::saying(json("1").with("set-cookie", "a=canary")).await;
    let gateway = TestGateway::start(&format!(
        "{ON}upstreams: {{legacy: {{url: \"{}\", headers: {{authorization: canary}}}}}}\nstreams:\n  - path: /v1/{{id}}\n    http: {{upstream: legacy, path: /x}}\n    every: 50ms\n    stale_after: 100ms\n",
        upstream.url()
    ));
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut first = EventSource::open(gateway.address, "/v1/a").await;
    let mut second = EventSource::open(gateway.address, "/v1/a").await;
    first.event().await;
    upstream.say(json("2"));
    let newest = second.until_data("2").await.id;
    eventually("polls are told", || {
        gateway.gateway.metrics().stream("/v1/{id}").polls.total() > 2
    })
    .await;
    let streams = parsed(&get(admin, "/api/streams", &[]).await);
    let stream = &streams[0];
    assert_eq!(streams.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&stream["path"], &stream["source"], &stream["from"]),
        (&"/v1/{id}".into(), &"http".into(), &"legacy".into())
    );
    assert_eq!(
        (
            &stream["channels"],
            &stream["subscribers"],
            &stream["every_ms"]
        ),
        (&1.into(), &2.into(), &50.into())
    );
    assert!(
        stream["polls"].as_u64() > Some(2) && stream["requests_saved"].as_u64() > Some(0),
        "{stream}"
    );
    assert!(
        stream["change_rate"].as_f64() > Some(0.0)
            && stream["not_modified_share"].as_f64() == Some(0.0),
        "{stream}"
    );
    // EDGE I3.
    assert!(
        stream["warnings"][0]
            .as_str()
            .is_some_and(|text| text.contains("Set-Cookie")),
        "{stream}"
    );

    let channels = parsed(&get(admin, "/api/channels", &[]).await);
    let channel = &channels[0];
    assert_eq!(channels.as_array().map(Vec::len), Some(1));
    let id = channel["id"].as_str().expect("an id").to_owned();
    assert!(
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{id}"
    );
    assert_eq!(
        (&channel["stream"], &channel["params"]["id"]),
        (&"/v1/{id}".into(), &"a".into())
    );
    assert_eq!(
        (
            &channel["subscribers"],
            &channel["state"],
            &channel["interval_ms"]
        ),
        (&2.into(), &"live".into(), &50.into())
    );
    assert_eq!(channel["version"], newest);
    assert!(channel["last_poll"]["at"].is_string(), "{channel}");
    let one = get(admin, &format!("/api/channels/{id}"), &[]).await;
    assert!(!one.body.contains("canary"), "{}", one.body);
    let one = parsed(&one);
    assert_eq!(one["id"], id);
    let events = one["events"].as_array().expect("events");
    assert_eq!(
        (events.len(), &events[0]["id"]),
        (2, &newest.clone().into())
    );
    assert!(events[0]["at"].as_str() >= events[1]["at"].as_str());

    upstream.say(status(500, "{}"));
    first.until("stale").await;
    let channel = parsed(&get(admin, &format!("/api/channels/{id}"), &[]).await);
    assert_eq!(
        (&channel["state"], &channel["cause"]),
        (&"stale".into(), &"status".into())
    );
}

/// EDGE O11: not ready while streams end; alive all the same.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_while_it_drains() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), &format!("shutdown: {{drain: 10s}}\n{ON}"));
    let admin = gateway.gateway.admin_address().expect("it is on");
    // The last of several ends at the end of the window.
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(EventSource::open(gateway.address, "/value").await);
    }
    let stopping = tokio::spawn(gateway.gateway.stop());
    let answer = loop {
        let answer = get(admin, "/readyz", &[]).await;
        if answer.head.status != 200 {
            break answer;
        }
    };
    assert_eq!(answer.head.status, 503);
    assert_eq!(parsed(&answer)["why"][0], "draining");
    assert_eq!(get(admin, "/livez", &[]).await.head.status, 200);
    drop(streams);
    soon("it stops", stopping).await.expect("in order");
}

/// EDGE B7: slow heads and idle connections end by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), ON);
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut slow = Connection::open(admin).await;
    slow.send(b"GET /livez HTTP/1.1\r\nhost: local").await;
    while slow.fill().await {}
    let mut long = Connection::open(admin).await;
    long.send(
        format!(
            "GET /livez HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
            "y".repeat(32 * 1024)
        )
        .as_bytes(),
    )
    .await;
    assert_eq!(long.head().await.status, 431);
}

/// EDGE P3: a request that names two hosts is read in no way, whoever sends it.
#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_are_one_too_many() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), ON);
    let admin = gateway.gateway.admin_address().expect("it is on");
    for second in ["localhost", "evil.example"] {
        let mut connection = Connection::open(admin).await;
        let head = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: {second}\r\n\r\n");
        connection.send(head.as_bytes()).await;
        let answer = connection.response(false).await;
        assert_eq!(answer.head.status, 400, "{second}");
        assert_eq!(parsed(&answer)["status"], 400);
    }
}

/// EDGE B7, Q13: nobody keeps health checks out by holding connections open, whether they have said nothing or half of it.
#[tokio::test(flavor = "multi_thread")]
async fn held_connections_keep_nobody_out() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), ON);
    let admin = gateway.gateway.admin_address().expect("it is on");
    let mut held = Vec::new();
    for number in 0..200 {
        let mut connection = Connection::open(admin).await;
        if number % 2 == 0 {
            connection.send(b"GET /livez HTTP/1.1\r\nhost: local").await;
        }
        held.push(connection);
    }
    let begun = std::time::Instant::now();
    assert_eq!(get(admin, "/livez", &[]).await.head.status, 200);
    let waited = begun.elapsed();
    assert!(waited < std::time::Duration::from_secs(2), "{waited:?}");
    // The oldest had to go, long before its time was up.
    assert!(!held[1].fill().await);
    assert!(begun.elapsed() < std::time::Duration::from_secs(4));
}
