//! Who may have how much: EDGE §12. Clients come from several addresses of the loopback network.

use std::net::SocketAddr;

use wellspring::sse::parser::Item;

use super::support::client::{Connection, EventSource, Response, get, request, request_over};
use super::support::eventually;
use super::support::gateway::TestGateway;
use super::support::upstream::{TestUpstream, json};

const STREAM: &str = "accept: text/event-stream";

/// One stream at `/a`, one at `/b`, everything else passed through; `of_a` are keys of `/a`, `more` of the file.
fn gateway(upstream: &TestUpstream, of_a: &str, more: &str) -> TestGateway {
    TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nstreams:\n  - {{path: /a, http: {{upstream: legacy}}, every: 50ms{of_a}}}\n  \
         - {{path: /b, http: {{upstream: legacy}}, every: 50ms}}\nroutes: [{{prefix: /, upstream: legacy}}]\n\
         cors: {{origins: [\"https://app.example\"]}}\n{more}",
        upstream.url()
    ))
}

async fn get_from(source: &str, address: SocketAddr, target: &str, headers: &[&str]) -> Response {
    let connection = Connection::open_from(source, address).await;
    request_over(connection, address, "GET", target, headers, "").await
}

async fn stream_from(source: &str, address: SocketAddr, target: &str) -> EventSource {
    let connection = Connection::open_from(source, address).await;
    EventSource::over(connection, address, target, &[]).await
}

/// Reads a stream to its clean end; it must be a soft reject with this reason (EDGE L3).
async fn refused_softly(mut stream: EventSource, reason: &str) {
    let mut retry = None;
    let mut closing = None;
    while let Some(item) = stream.item().await {
        match item {
            Item::Retry(time) => retry = Some(time),
            Item::Event(event) => {
                assert_eq!(event.name, "closing");
                closing = Some(event.data);
            }
            Item::Comment(_) | Item::TooLarge => {}
        }
    }
    assert!(retry.is_some());
    assert_eq!(closing, Some(format!("{{\"reason\":\"{reason}\"}}")));
}

/// Whether a stream is served: its first value comes.
async fn is_served(stream: &mut EventSource) {
    assert_eq!(stream.next().await.1, "1");
}

/// `429` as EDGE Q8, Q9 and F4 want it. Returns the policy.
fn is_429(refused: &Response, limit: &str) -> String {
    let head = &refused.head;
    assert_eq!(head.status, 429, "{refused:?}");
    let problem: serde_json::Value = serde_json::from_str(&refused.body).expect("JSON");
    assert_eq!(
        head.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(
        problem["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(problem["status"], 429);
    assert_eq!(
        problem["instance"],
        head.header("x-request-id").expect("an id")
    );
    assert_eq!(problem["violated-policies"], serde_json::json!([limit]));
    let state = fields(&head.all("ratelimit"));
    let state = state
        .iter()
        .find(|(name, _)| name == limit)
        .expect("its state");
    assert_eq!(number(&state.1, "r"), 0);
    let retry: u64 = head
        .header("retry-after")
        .expect("a time")
        .parse()
        .expect("seconds");
    assert!(retry >= number(&state.1, "t") && retry > 0, "{retry}");
    let policy = fields(&head.all("ratelimit-policy"));
    assert!(policy.iter().any(|(name, _)| name == limit), "{policy:?}");
    head.all("ratelimit-policy")
}

type Parameters = Vec<(String, String)>;

/// A list of strings with parameters, by the grammar of structured fields (RFC 9651 §4.2); panics where it is none.
fn fields(list: &str) -> Vec<(String, Parameters)> {
    let item = regex::Regex::new(
        r#"^"([ !#-\[\]-~]*)"((?:; *[a-z*][a-z0-9_.*-]*=(?:-?[0-9]{1,15}|"[ !#-\[\]-~]*"))*)$"#,
    );
    let item = item.expect("compiles");
    let read = |text: &str| {
        let found = item
            .captures(text.trim())
            .unwrap_or_else(|| panic!("no item: {text}"));
        let parameters = found[2].split(';').filter_map(|one| one.split_once('='));
        let owned = |(name, value): (&str, &str)| (name.trim().to_owned(), value.to_owned());
        (found[1].to_owned(), parameters.map(owned).collect())
    };
    list.split(',').map(read).collect()
}

fn number(parameters: &Parameters, name: &str) -> u64 {
    let found = parameters.iter().find(|(known, _)| known == name);
    found.expect("the parameter").1.parse().expect("a number")
}

/// EDGE Q6, Q8: N requests of one address, not N + 1, whatever they are for; and the upstream has no work with it.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_an_address() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream, "", "limits: {requests: 4/h}\n");
    let address = gateway.address;
    let first = get(address, "/a", &[]).await;
    assert_eq!(first.head.status, 200);
    assert_eq!(
        first.head.all("ratelimit-policy"),
        r#""requests";q=4;w=3600"#
    );
    let state = fields(&first.head.all("ratelimit"));
    assert_eq!(
        (state[0].0.as_str(), number(&state[0].1, "r")),
        ("requests", 3)
    );
    let passed = get(address, "/passed", &[]).await;
    assert_eq!(
        (passed.head.status, passed.head.header("ratelimit")),
        (200, None)
    );
    // A preflight that the gateway answers is free (EDGE C6), one that goes on is not.
    let preflight = |target: &'static str, method: &'static str| async move {
        let asks = format!("access-control-request-method: {method}");
        request(
            address,
            "OPTIONS",
            target,
            &["origin: https://app.example", &asks],
            "",
        )
        .await
    };
    for _ in 0..9 {
        assert_eq!(preflight("/a", "GET").await.head.status, 204);
    }
    assert_eq!(preflight("/passed", "PUT").await.head.status, 200);
    assert_eq!(get(address, "/b", &[]).await.head.status, 200);
    let passed = upstream.requests().len();
    for target in ["/a", "/passed", "/b"] {
        let refused = get(address, target, &["origin: https://app.example"]).await;
        assert_eq!(is_429(&refused, "requests"), r#""requests";q=4;w=3600"#);
        // EDGE C12: a page can read why.
        let readable = refused.head.header("access-control-allow-origin").is_some();
        assert_eq!(readable, target != "/passed");
    }
    assert_eq!(preflight("/a", "GET").await.head.status, 204);
    assert_eq!(preflight("/passed", "PUT").await.head.status, 429);
    let seen = upstream.requests();
    let later = seen[passed..]
        .iter()
        .filter(|request| request.target == "/passed" || request.method != "GET");
    assert_eq!(later.count(), 0);
    assert_eq!(
        get_from("127.0.0.2", address, "/passed", &[])
            .await
            .head
            .status,
        200
    );
}

/// EDGE Q6: the same for openings of streams; an EventSource is refused so that it comes back (L3).
#[tokio::test(flavor = "multi_thread")]
async fn openings_of_an_address() {
    let upstream = TestUpstream::saying(json("1")).await;
    let soft = gateway(&upstream, "", "limits: {connects: 2/h}\n");
    for _ in 0..2 {
        is_served(&mut EventSource::open(soft.address, "/a").await).await;
    }
    refused_softly(EventSource::open(soft.address, "/b").await, "limit").await;
    // Whoever can read a status gets one; values are no streams.
    let refused = get(
        soft.address,
        "/a",
        &["accept: text/event-stream, */*;q=0.1"],
    )
    .await;
    assert_eq!(is_429(&refused, "connects"), r#""connects";q=2;w=3600"#);
    assert_eq!(get(soft.address, "/a", &[]).await.head.status, 200);
    let head = request(soft.address, "HEAD", "/a", &[STREAM], "").await;
    assert_eq!(head.head.status, 200);
    is_served(&mut stream_from("127.0.0.2", soft.address, "/a").await).await;

    let hard = gateway(&upstream, "", "limits: {connects: 1/h, overload: status}\n");
    is_served(&mut EventSource::open(hard.address, "/a").await).await;
    is_429(&get(hard.address, "/a", &[STREAM]).await, "connects");
}

/// EDGE Q6, Q10: N streams of one address at once, not N + 1; and one more when one has ended.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_an_address_at_once() {
    let upstream = TestUpstream::saying(json("1")).await;
    let limits = "limits: {streams_per_client: 2, connects: 1000/s, overload: status}\n";
    let gateway = gateway(&upstream, "", limits);
    let address = gateway.address;
    let mut first = EventSource::open(address, "/a").await;
    let mut second = EventSource::open(address, "/b").await;
    is_served(&mut first).await;
    is_served(&mut second).await;
    let refused = get(address, "/a", &[STREAM]).await;
    let policy = is_429(&refused, "streams_per_client");
    assert_eq!(
        policy,
        r#""streams_per_client";q=2;qu="concurrent-requests""#
    );
    assert_eq!(get(address, "/a", &[]).await.head.status, 200);
    is_served(&mut stream_from("127.0.0.2", address, "/a").await).await;
    // Again and again: what a stream held is given back once, not less and not more.
    for round in 0..20 {
        drop(second);
        eventually("its end is noticed", || gateway.gateway.open_streams() == 1).await;
        second = EventSource::open(address, "/b").await;
        is_served(&mut second).await;
        let refused = get(address, "/a", &[STREAM]).await;
        assert_eq!(refused.head.status, 429, "{round}");
    }
}

/// EDGE Q6, F6: N streams of all together; beyond, it is no client's fault.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_everybody_at_once() {
    let upstream = TestUpstream::saying(json("1")).await;
    let soft = gateway(&upstream, "", "limits: {streams: 2}\n");
    let mut one = stream_from("127.0.0.2", soft.address, "/a").await;
    let mut two = stream_from("127.0.0.3", soft.address, "/b").await;
    is_served(&mut one).await;
    is_served(&mut two).await;
    refused_softly(
        stream_from("127.0.0.4", soft.address, "/a").await,
        "overloaded",
    )
    .await;

    let hard = gateway(&upstream, "", "limits: {streams: 1, overload: status}\n");
    let mut one = stream_from("127.0.0.2", hard.address, "/a").await;
    is_served(&mut one).await;
    let refused = get(hard.address, "/a", &[STREAM]).await;
    assert_eq!(refused.head.status, 503);
    let problem: serde_json::Value = serde_json::from_str(&refused.body).expect("JSON");
    assert_eq!(
        problem["type"],
        "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
    );
    assert_eq!(problem["violated-policies"], serde_json::json!(["streams"]));
    assert!(refused.head.header("retry-after").is_some());
    assert_eq!(refused.head.header("ratelimit-policy"), None);
}

/// A stream's own limits hold there and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_one_stream() {
    let upstream = TestUpstream::saying(json("1")).await;
    let own = ", limits: {requests: 5/h, connects: 3/h, streams_per_client: 1, streams: 2, overload: status}";
    let gateway = gateway(&upstream, own, "limits: {connects: 1/h}\n");
    let address = gateway.address;
    let mut one = EventSource::open(address, "/a").await;
    is_served(&mut one).await;
    is_429(&get(address, "/a", &[STREAM]).await, "streams_per_client");
    let mut two = stream_from("127.0.0.2", address, "/a").await;
    is_served(&mut two).await;
    let full = get_from("127.0.0.3", address, "/a", &[STREAM]).await;
    assert_eq!(full.head.status, 503);
    // Refused openings count as openings.
    is_429(&get(address, "/a", &[STREAM]).await, "streams_per_client");
    is_429(&get(address, "/a", &[STREAM]).await, "connects");
    assert_eq!(get(address, "/a", &[]).await.head.status, 200);
    assert_eq!(
        is_429(&get(address, "/a", &[]).await, "requests"),
        r#""requests";q=5;w=3600"#
    );
    // Elsewhere nothing of this counts.
    for _ in 0..9 {
        let other = get(address, "/b", &[]).await;
        assert_eq!(
            (other.head.status, other.head.header("ratelimit")),
            (200, None)
        );
    }
    is_served(&mut EventSource::open(address, "/b").await).await;
    refused_softly(EventSource::open(address, "/b").await, "limit").await;
}

/// Whoever waits for a change holds a connection, as a reader does.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_counts_as_a_stream() {
    let limits = "limits: {streams_per_client: 1, connects: 100000/s, overload: status}\n";
    let upstream = TestUpstream::saying(json("1")).await;
    let full = gateway(&upstream, "", limits);
    let condition = get(full.address, "/a", &[]).await.condition();
    let wait = [condition.as_str(), "prefer: wait=60"];
    let mut reader = EventSource::open(full.address, "/a").await;
    is_served(&mut reader).await;
    is_429(&get(full.address, "/a", &wait).await, "streams_per_client");

    // Nobody polls here before somebody waits.
    let upstream = TestUpstream::saying(json("1")).await;
    let free = gateway(&upstream, "", limits);
    let meanwhile = async {
        eventually("the wait has begun", || upstream.count() > 0).await;
        is_429(
            &get(free.address, "/b", &[STREAM]).await,
            "streams_per_client",
        );
        upstream.say(json("2"));
    };
    let (held, ()) = tokio::join!(get(free.address, "/a", &wait), meanwhile);
    assert_eq!((held.head.status, held.body.as_str()), (200, "2"));
    // The answer may be here before its place is free.
    while opens(free.address, "/b").await != 200 {}
}

/// The status of a stream that is left at once.
async fn opens(address: SocketAddr, target: &str) -> u16 {
    let mut connection = Connection::open(address).await;
    let head = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\n{STREAM}\r\n\r\n");
    connection.send(head.as_bytes()).await;
    connection.head().await.status
}

/// EDGE Q1: behind a trusted proxy each client is counted for itself, by the last hop that is not trusted.
#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_a_trusted_proxy() {
    let upstream = TestUpstream::saying(json("1")).await;
    let more = "limits: {requests: 2/h}\nclient_address: {trusted_proxies: [127.0.0.0/8]}\n";
    let gateway = gateway(&upstream, "", more);
    let status = |claim: &'static str| async move {
        get(gateway.address, "/passed", &[claim]).await.head.status
    };
    assert_eq!(status("x-forwarded-for: 203.0.113.7").await, 200);
    assert_eq!(
        status("x-forwarded-for: 6.6.6.6, 203.0.113.7:99").await,
        200
    );
    assert_eq!(
        status("x-forwarded-for: 7.7.7.7, 203.0.113.7, 127.0.0.9").await,
        429
    );
    assert_eq!(status("forwarded: for=203.0.113.7").await, 429);
    assert_eq!(status("x-forwarded-for: 203.0.113.8").await, 200);
    // EDGE Q5: one subscriber has a whole /64.
    assert_eq!(status("x-forwarded-for: 2001:db8::1").await, 200);
    assert_eq!(status("x-forwarded-for: 2001:db8::2").await, 200);
    assert_eq!(status("x-forwarded-for: 2001:db8::3").await, 429);
    assert_eq!(status("x-forwarded-for: 2001:db8:0:1::1").await, 200);
    // EDGE P21: what the upstream is told.
    let seen = upstream.requests();
    let told = |at: usize| seen[at].header("x-forwarded-for").expect("told").to_owned();
    assert_eq!(told(0), "203.0.113.7, 127.0.0.1");
    assert_eq!(told(1), "203.0.113.7, 127.0.0.1");
    let claims = [
        "x-forwarded-for: 1.2.3.4",
        "x-forwarded-proto: https",
        "x-forwarded-host: shop.example",
    ];
    assert_eq!(
        get(gateway.address, "/passed", &claims).await.head.status,
        200
    );
    let seen = upstream.requests();
    let last = seen.last().expect("it arrived");
    assert_eq!(last.header("x-forwarded-proto"), Some("https"));
    assert_eq!(last.header("x-forwarded-host"), Some("shop.example"));
}

/// EDGE Q3: whatever a stranger claims, it is counted as what it is.
#[tokio::test(flavor = "multi_thread")]
async fn claims_of_strangers_change_nothing() {
    let upstream = TestUpstream::saying(json("1")).await;
    let more = "limits: {requests: 5/h}\nclient_address: {trusted_proxies: [127.0.0.9]}\n";
    let gateway = gateway(&upstream, "", more);
    let names = [
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "cf-connecting-ip",
        "true-client-ip",
        "x-client-ip",
    ];
    for (at, name) in names.into_iter().enumerate() {
        let claim = match name {
            "forwarded" => format!("{name}: for=203.0.113.{at}"),
            _ => format!("{name}: 203.0.113.{at}"),
        };
        let answer = get(gateway.address, "/passed", &[&claim]).await;
        assert_eq!(answer.head.status, if at < 5 { 200 } else { 429 }, "{name}");
    }
}

/// EDGE Q12: many who lost their streams at once come back by and by, and polls do not grow with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_let_in_by_and_by() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream, ", start: always", "limits: {connects: 20/h}\n");
    let mut served = Vec::new();
    for at in 0..30 {
        let mut stream = EventSource::open(gateway.address, "/a").await;
        match at < 20 {
            true => {
                is_served(&mut stream).await;
                served.push(stream);
            }
            false => refused_softly(stream, "limit").await,
        }
    }
    assert_eq!(gateway.gateway.open_streams(), 20);
}

/// EDGE Q11: streams of one HTTP/2 connection are counted one by one, and given back when they are reset.
#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_http2_connection() {
    let upstream = TestUpstream::saying(json("1")).await;
    let limits = "limits: {streams_per_client: 2, overload: status}\n";
    let gateway = gateway(&upstream, "", limits);
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let client = client.http2_prior_knowledge().build().expect("a client");
    let url = format!("http://{}/a", gateway.address);
    let open = || async {
        let request = client.get(&url).header("accept", "text/event-stream");
        request.send().await.expect("an answer")
    };
    let mut held = vec![open().await, open().await];
    assert!(held.iter().all(|stream| stream.status() == 200));
    assert_eq!(open().await.status(), 429);
    held.pop();
    eventually("its end is noticed", || gateway.gateway.open_streams() == 1).await;
    held.push(open().await);
    assert_eq!(held[1].status(), 200);
    assert_eq!(open().await.status(), 429);
}
