//! What is counted (CONTRACT §4 "Metrics"): every name from the start, and each count of a loss moved by that loss.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::support::authority::Authority;
use super::support::client::{Connection, EventSource, get, pair, request};
use super::support::eventually;
use super::support::gateway::TestGateway;
use super::support::redis::TestRedis;
use super::support::upstream::{TestUpstream, json, status};

/// The list of CONTRACT §4, with the labels of each.
const DOCUMENTED: &[(&str, &str, &[&str])] = &[
    ("wellspring_streams_open", "gauge", &["stream"]),
    (
        "wellspring_stream_opens_total",
        "counter",
        &["stream", "outcome"],
    ),
    (
        "wellspring_stream_closes_total",
        "counter",
        &["stream", "reason"],
    ),
    (
        "wellspring_stream_duration_seconds",
        "histogram",
        &["stream"],
    ),
    ("wellspring_events_total", "counter", &["stream", "kind"]),
    (
        "wellspring_event_bytes_total",
        "counter",
        &["stream", "form"],
    ),
    ("wellspring_deliveries_total", "counter", &["stream"]),
    ("wellspring_delivery_lag_seconds", "histogram", &["stream"]),
    ("wellspring_conflations_total", "counter", &["stream"]),
    ("wellspring_resumes_total", "counter", &["stream", "result"]),
    ("wellspring_channels", "gauge", &["stream"]),
    ("wellspring_polls_total", "counter", &["stream", "result"]),
    ("wellspring_poll_duration_seconds", "histogram", &["stream"]),
    (
        "wellspring_poll_failures_total",
        "counter",
        &["stream", "cause"],
    ),
    ("wellspring_channel_stale", "gauge", &["stream"]),
    (
        "wellspring_client_polls_saved_total",
        "counter",
        &["stream"],
    ),
    ("wellspring_rejections_total", "counter", &["reason"]),
    (
        "wellspring_upstream_requests_total",
        "counter",
        &["upstream", "status_class"],
    ),
    ("wellspring_reloads_total", "counter", &["result"]),
    (
        "wellspring_connections_open",
        "gauge",
        &["listener", "protocol"],
    ),
    ("wellspring_build_info", "gauge", &["version"]),
    ("process_cpu_seconds_total", "counter", &[]),
    ("process_open_fds", "gauge", &[]),
    ("process_max_fds", "gauge", &[]),
    ("process_resident_memory_bytes", "gauge", &[]),
    ("process_virtual_memory_bytes", "gauge", &[]),
    ("process_start_time_seconds", "gauge", &[]),
    ("process_threads", "gauge", &[]),
];

/// What the gateway's metrics say about this series.
fn count(gateway: &TestGateway, series: &str) -> f64 {
    let text = gateway.gateway.metrics().open_metrics();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let Some(value) = line else {
        panic!("no {series} in\n{text}");
    };
    value.parse().expect("a number")
}

async fn moves(gateway: &TestGateway, series: &str, to: f64) {
    eventually(series, || count(gateway, series) >= to).await;
}

/// CONTRACT §6 Admin; EDGE O7.
#[tokio::test(flavor = "multi_thread")]
async fn every_documented_name_is_there_from_the_start() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&format!(
        "admin: {{address: \"127.0.0.1:0\"}}\nupstreams: {{legacy: {{url: \"{}\"}}}}\nstreams:\n  - {{path: \"/v1/{{id}}\", http: {{upstream: legacy}}}}\n",
        upstream.url()
    ));
    let admin = gateway.gateway.admin_address().expect("it is on");
    let scrape = get(admin, "/metrics", &[]).await;
    assert_eq!(scrape.head.status, 200);
    assert_eq!(
        scrape.head.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let lines: Vec<&str> = scrape.body.lines().collect();
    for (name, kind, labels) in DOCUMENTED {
        assert!(
            lines.contains(&&*format!("# TYPE {name} {kind}")),
            "{name}\n{}",
            scrape.body
        );
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with(&format!("# HELP {name} "))),
            "{name}"
        );
        // Connections are the accept loop's to count.
        if labels.is_empty() || *name == "wellspring_connections_open" {
            continue;
        }
        let suffix = if *kind == "histogram" { "_bucket" } else { "" };
        let series = lines
            .iter()
            .find(|line| line.starts_with(&format!("{name}{suffix}{{")));
        let series = series.unwrap_or_else(|| panic!("no series of {name}"));
        for label in *labels {
            assert!(series.contains(&format!("{label}=\"")), "{series}");
        }
        if labels.contains(&"stream") {
            assert!(series.contains("stream=\"/v1/{id}\""), "{series}");
        }
    }
    assert!(!scrape.body.contains("# EOF") && !scrape.body.contains("# UNIT"));
    let open = get(
        admin,
        "/metrics",
        &["accept: application/openmetrics-text; version=1.0.0"],
    )
    .await;
    assert!(
        open.head
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    assert!(
        open.body.ends_with("# EOF\n") && open.body.contains("# TYPE wellspring_polls counter\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_events_and_deliveries_are_counted() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    deliver: [value, json-patch]\n");
    let mut first = EventSource::open(gateway.address, "/value").await;
    let mut second = EventSource::open(gateway.address, "/value?deliver=json-patch").await;
    assert_eq!(first.event().await.data, "1");
    assert_eq!(second.next().await, pair("snapshot", "1"));
    upstream.say(json("2"));
    first.until_data("2").await;
    second.event().await;
    for (series, least) in [
        ("wellspring_streams_open{stream=\"/value\"}", 2.0),
        (
            "wellspring_stream_opens_total{stream=\"/value\",outcome=\"opened\"}",
            2.0,
        ),
        (
            "wellspring_events_total{stream=\"/value\",kind=\"value\"}",
            2.0,
        ),
        (
            "wellspring_events_total{stream=\"/value\",kind=\"snapshot\"}",
            1.0,
        ),
        (
            "wellspring_event_bytes_total{stream=\"/value\",form=\"value\"}",
            1.0,
        ),
        ("wellspring_deliveries_total{stream=\"/value\"}", 4.0),
        (
            "wellspring_delivery_lag_seconds_count{stream=\"/value\"}",
            1.0,
        ),
        ("wellspring_channels{stream=\"/value\"}", 1.0),
        (
            "wellspring_polls_total{stream=\"/value\",result=\"changed\"}",
            2.0,
        ),
        (
            "wellspring_polls_total{stream=\"/value\",result=\"unchanged\"}",
            1.0,
        ),
        (
            "wellspring_poll_duration_seconds_count{stream=\"/value\"}",
            2.0,
        ),
        (
            "wellspring_client_polls_saved_total{stream=\"/value\"}",
            1.0,
        ),
        (
            "wellspring_upstream_requests_total{upstream=\"legacy\",status_class=\"2xx\"}",
            2.0,
        ),
    ] {
        moves(&gateway, series, least).await;
    }
    drop((first, second));
    moves(
        &gateway,
        "wellspring_stream_closes_total{stream=\"/value\",reason=\"client-left\"}",
        2.0,
    )
    .await;
    moves(
        &gateway,
        "wellspring_stream_duration_seconds_count{stream=\"/value\"}",
        2.0,
    )
    .await;
    eventually("none is open", || {
        count(&gateway, "wellspring_streams_open{stream=\"/value\"}") == 0.0
    })
    .await;
    // A plain GET that finds a value costs no poll.
    let before = count(
        &gateway,
        "wellspring_client_polls_saved_total{stream=\"/value\"}",
    );
    get(gateway.address, "/value", &[]).await;
    moves(
        &gateway,
        "wellspring_client_polls_saved_total{stream=\"/value\"}",
        before + 1.0,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_source_are_counted() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    stale_after: 100ms\n");
    let mut stream = EventSource::open(gateway.address, "/value").await;
    stream.event().await;
    upstream.say(status(500, "{}"));
    stream.until("stale").await;
    moves(&gateway, "wellspring_channel_stale{stream=\"/value\"}", 1.0).await;
    moves(
        &gateway,
        "wellspring_polls_total{stream=\"/value\",result=\"failed\"}",
        1.0,
    )
    .await;
    moves(
        &gateway,
        "wellspring_poll_failures_total{stream=\"/value\",cause=\"status\"}",
        1.0,
    )
    .await;
    moves(
        &gateway,
        "wellspring_upstream_requests_total{upstream=\"legacy\",status_class=\"5xx\"}",
        1.0,
    )
    .await;
    moves(
        &gateway,
        "wellspring_events_total{stream=\"/value\",kind=\"stale\"}",
        1.0,
    )
    .await;
    upstream.say(json("1"));
    stream.until("fresh").await;
    assert_eq!(
        count(&gateway, "wellspring_channel_stale{stream=\"/value\"}"),
        0.0
    );
    assert_eq!(
        count(
            &gateway,
            "wellspring_events_total{stream=\"/value\",kind=\"fresh\"}"
        ),
        1.0
    );
    upstream.say(status(404, "{}"));
    stream.until("gone").await;
    assert_eq!(
        count(
            &gateway,
            "wellspring_events_total{stream=\"/value\",kind=\"gone\"}"
        ),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rejections_are_counted_by_reason() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}, away: {{url: \"http://127.0.0.1:9\"}}}}\n\
         streams: [{{path: \"/v/{{id}}\", http: {{upstream: legacy}}, max_channels: 1, every: 50ms}}]\n\
         routes: [{{prefix: /away, upstream: away}}, {{prefix: /passed, upstream: legacy}}]\n",
        upstream.url()
    ));
    let _open = EventSource::open(gateway.address, "/v/a").await;
    let soft = EventSource::open(gateway.address, "/v/b").await;
    assert_eq!(soft.head.status, 200);
    get(gateway.address, "/v/c", &["accept: application/json"]).await;
    get(gateway.address, "/nothing", &[]).await;
    get(
        gateway.address,
        "/v/a?deliver=merge-patch",
        &["accept: text/event-stream"],
    )
    .await;
    get(gateway.address, "/a//b", &[]).await;
    request(gateway.address, "DELETE", "/v/a", &[], "").await;
    get(gateway.address, "/away", &[]).await;
    upstream.say(status(503, "{}"));
    get(gateway.address, "/passed", &[]).await;
    for (series, least) in [
        ("wellspring_rejections_total{reason=\"channels\"}", 2.0),
        ("wellspring_rejections_total{reason=\"not_found\"}", 1.0),
        (
            "wellspring_rejections_total{reason=\"not_acceptable\"}",
            1.0,
        ),
        ("wellspring_rejections_total{reason=\"bad_request\"}", 1.0),
        ("wellspring_rejections_total{reason=\"method\"}", 1.0),
        ("wellspring_rejections_total{reason=\"bad_gateway\"}", 1.0),
        (
            "wellspring_stream_opens_total{stream=\"/v/{id}\",outcome=\"soft_rejected\"}",
            1.0,
        ),
        (
            "wellspring_stream_opens_total{stream=\"/v/{id}\",outcome=\"rejected\"}",
            1.0,
        ),
        (
            "wellspring_upstream_requests_total{upstream=\"away\",status_class=\"error\"}",
            1.0,
        ),
        (
            "wellspring_upstream_requests_total{upstream=\"legacy\",status_class=\"5xx\"}",
            1.0,
        ),
    ] {
        moves(&gateway, series, least).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resumes_are_counted_by_result() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    let mut live = EventSource::open(gateway.address, "/value").await;
    let first = live.event().await.id;
    upstream.say(json("2"));
    let newest = live.until_data("2").await.id;
    let mut replayed = EventSource::resume(gateway.address, "/value", &first).await;
    assert_eq!(replayed.event().await.data, "2");
    let _current = EventSource::resume(gateway.address, "/value", &newest).await;
    let mut reset = EventSource::resume(gateway.address, "/value", "nonsense").await;
    reset.until("reset").await;
    for result in ["replayed", "current", "reset"] {
        moves(
            &gateway,
            &format!("wellspring_resumes_total{{stream=\"/value\",result=\"{result}\"}}"),
            1.0,
        )
        .await;
    }
    moves(
        &gateway,
        "wellspring_events_total{stream=\"/value\",kind=\"reset\"}",
        1.0,
    )
    .await;
}

/// EDGE B1.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_counted() {
    let document = |n: usize| format!(r#"{{"n":{n},"pad":"{}"}}"#, "p".repeat(100_000));
    let upstream = TestUpstream::saying(json(&document(0))).await;
    let gateway = TestGateway::polling(
        &upstream.url(),
        "limits: {queue: 256KiB, write_stall: 5m}\n",
    );
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(8 * 1024).expect("small");
    let mut slow = Connection::over(socket.connect(gateway.address).await.expect("connects"));
    slow.send(b"GET /value HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
        .await;
    let mut fast = EventSource::open(gateway.address, "/value").await;
    eventually("both are open", || gateway.gateway.open_streams() == 2).await;
    for n in 0..40 {
        upstream.say(json(&document(n)));
        fast.until_data(&document(n)).await;
    }
    assert_eq!(
        count(&gateway, "wellspring_conflations_total{stream=\"/value\"}"),
        0.0
    );
    slow.head().await;
    while count(&gateway, "wellspring_conflations_total{stream=\"/value\"}") == 0.0 {
        slow.chunk().await.expect("still open");
    }
}

/// CONTRACT §6 "flask-sse": a hostile message is dropped and counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_message_is_counted() {
    let redis = TestRedis::start();
    let gateway = TestGateway::start(&format!(
        "redis: {{main: {{url: \"{}\"}}}}\nstreams: [{{path: /f, redis: {{server: main, channel: sse, envelope: flask-sse}}}}]\n",
        redis.url()
    ));
    let mut stream = EventSource::open(gateway.address, "/f").await;
    eventually("it listens", || {
        redis
            .cli(&["PUBLISH", "sse", r#"{"data":1,"type":"a\nb"}"#])
            .trim()
            == "1"
    })
    .await;
    moves(
        &gateway,
        "wellspring_messages_dropped_total{stream=\"/f\"}",
        1.0,
    )
    .await;
    redis.cli(&["PUBLISH", "sse", r#"{"data":2}"#]);
    assert_eq!(stream.event().await.data, "2");
}

/// `connections_open{listener,protocol}` follows each connection up and down: plain and encrypted, over HTTP/1.1 and HTTP/2, and
/// counts each at the door that it came by.
#[tokio::test(flavor = "multi_thread")]
async fn open_connections_move_up_and_down() {
    let authority = Authority::new();
    authority.write("a", &["localhost"]);
    let upstream = TestUpstream::saying(json("1")).await;
    let listeners = format!(
        "  - address: 127.0.0.1:0\n  - address: 127.0.0.1:0\n    tls: {{certificates: [{}]}}",
        authority.pair("a")
    );
    let file = format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nroutes: [{{prefix: /, upstream: legacy}}]\n",
        upstream.url()
    );
    let gateway = TestGateway::listening(&listeners, &file);
    let addresses = gateway.gateway.addresses();
    let series = |door: usize, protocol: &str| {
        let listener = addresses[door];
        format!("wellspring_connections_open{{listener=\"{listener}\",protocol=\"{protocol}\"}}")
    };
    let counts = || {
        [(0, "http/1.1"), (0, "h2"), (1, "http/1.1"), (1, "h2")]
            .map(|(door, protocol)| count(&gateway, &series(door, protocol)) as i64)
    };
    assert_eq!(counts(), [0; 4]);

    let plain = Connection::open(addresses[0]).await;
    eventually("one over HTTP/1.1", || counts() == [1, 0, 0, 0]).await;
    let tcp = TcpStream::connect(addresses[0]).await.expect("connects");
    let (client, connection) = h2::client::handshake(tcp).await.expect("a handshake");
    let driven = tokio::spawn(connection);
    eventually("one over HTTP/2", || counts() == [1, 1, 0, 0]).await;

    let shake = async |alpn: &[u8]| {
        let mut config = authority.client(&[&rustls::version::TLS13], None);
        config.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(addresses[1]).await.expect("connects");
        let name = "localhost".try_into().expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, tcp).await.expect("a handshake")
    };
    let secure = shake(b"http/1.1").await;
    eventually("one over TLS", || counts() == [1, 1, 1, 0]).await;
    let stream = shake(b"h2").await;
    let (secure_client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    let secure_driven = tokio::spawn(connection);
    eventually("one over TLS and HTTP/2", || counts() == [1, 1, 1, 1]).await;

    drop(plain);
    eventually("HTTP/1.1 ended", || counts() == [0, 1, 1, 1]).await;
    drop(client);
    driven.await.expect("ends").expect("in order");
    eventually("HTTP/2 ended", || counts() == [0, 0, 1, 1]).await;
    drop(secure);
    eventually("HTTP/1.1 over TLS ended", || counts() == [0, 0, 0, 1]).await;
    drop(secure_client);
    // Whether TLS was ended in order is not what is asked here.
    let _ = secure_driven.await.expect("ends");
    eventually("all ended", || counts() == [0; 4]).await;
}
