//! Compressed streams: EDGE §16, CONTRACT `compression`.

use std::io::{Read, Write};
use std::net::SocketAddr;

use flate2::read::GzDecoder;
use flate2::write::GzDecoder as Inflate;
use serde_json::json;
use wellspring::gateway::Reloaded;
use wellspring::sse::parser::{Event, Item, Parser};

use super::hops::Hop;
use super::support::authority::Authority;
use super::support::browser::Browser;
use super::support::client::{Connection, EventSource, Head, get, request};
use super::support::gateway::TestGateway;
use super::support::process::{Process, installed, program, python};
use super::support::soon;
use super::support::token::{SECRET, sha256, token};
use super::support::upstream::{Reply, TestUpstream, json as reply};

const STREAM: &str = "accept: text/event-stream";

/// What stands in a zstd stream besides the events.
const COMMENT: &str = ":::::::::::::::::\n";

/// What is published at `/publish`, at `/events`.
fn published(coding: &str, more: &str) -> String {
    format!(
        "streams:\n  - path: /events\n    publish: {{path: /publish}}\n    deliver: [value, json-patch]\n{more}compression: {coding}\n"
    )
}

async fn publish(address: SocketAddr, message: &str) {
    let posted = request(address, "POST", "/publish", &[], message).await;
    assert_eq!(posted.head.status, 202, "{}", posted.body);
}

/// Text in which compressors find a lot, and which begins with a run.
fn message(number: u32) -> String {
    let letter = char::from(b'a' + number as u8);
    let run = letter.to_string().repeat(40);
    format!("{run} message {number}, message {number}, message {number}")
}

async fn head(address: SocketAddr, target: &str, headers: &[&str]) -> Head {
    request(address, "HEAD", target, headers, "").await.head
}

/// A client that decodes by itself: it has what it was sent, and nothing is waited for.
struct Coded {
    connection: Connection,
    head: Head,
    decoder: Decoder,
    parser: Parser,
    items: std::collections::VecDeque<Item>,
    body: Vec<u8>,
    /// Bytes of the last chunk.
    last: usize,
}

enum Decoder {
    Gzip(Inflate<Vec<u8>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Decoder {
    fn decode(&mut self, chunk: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip(inflate) => {
                inflate.write_all(chunk).expect("gzip");
                inflate.flush().expect("gzip");
                std::mem::take(inflate.get_mut())
            }
            Self::Zstd(decoder) => {
                decoder.write_all(chunk).expect("zstd");
                decoder.flush().expect("zstd");
                std::mem::take(decoder.get_mut())
            }
        }
    }
}

impl Coded {
    async fn open(address: SocketAddr, target: &str, coding: &str, headers: &[&str]) -> Self {
        let mut connection = Connection::open(address).await;
        let mut lines = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\n{STREAM}\r\n");
        for line in headers {
            lines.push_str(&format!("{line}\r\n"));
        }
        let request = format!("{lines}accept-encoding: {coding}\r\n\r\n");
        connection.send(request.as_bytes()).await;
        let head = connection.head().await;
        assert_eq!(head.header("content-encoding"), Some(coding), "{head:?}");
        let decoder = match coding {
            "gzip" => Decoder::Gzip(Inflate::new(Vec::new())),
            _ => Decoder::Zstd(zstd::stream::write::Decoder::new(Vec::new()).expect("a decoder")),
        };
        Self {
            connection,
            head,
            decoder,
            parser: Parser::default(),
            items: Default::default(),
            body: Vec::new(),
            last: 0,
        }
    }

    async fn item(&mut self) -> Option<Item> {
        while self.items.is_empty() {
            let chunk = self.connection.chunk().await?;
            self.body.extend_from_slice(&chunk);
            self.last = chunk.len();
            let text = self.decoder.decode(&chunk);
            self.items.extend(self.parser.push(&text));
        }
        self.items.pop_front()
    }

    async fn event(&mut self) -> Event {
        loop {
            match self.item().await {
                Some(Item::Event(event)) => return event,
                Some(_) => {}
                None => panic!("the stream ended"),
            }
        }
    }

    /// To the clean end; the body as it came.
    async fn end(mut self) -> Vec<u8> {
        while self.item().await.is_some() {}
        self.body
    }
}

/// A whole body, as a decoder that wants a whole one reads it.
fn decoded(coding: &str, body: &[u8]) -> String {
    let mut text = String::new();
    match coding {
        "gzip" => GzDecoder::new(body)
            .read_to_string(&mut text)
            .expect("a member"),
        _ => {
            let mut decoder = zstd::Decoder::new(body).expect("a decoder").single_frame();
            decoder.read_to_string(&mut text).expect("a frame")
        }
    };
    text
}

const REQUESTS: &str = "
import sys, requests, sseclient
response = requests.get(sys.argv[1], stream=True, headers={'accept': 'text/event-stream'})
print('coding', response.headers['content-encoding'])
for event in sseclient.SSEClient(response.iter_content(chunk_size=None)).events(): print('event', event.data)
";

const URLLIB3: &str = "
import sys, urllib3, sseclient
headers = {'accept': 'text/event-stream', 'accept-encoding': 'gzip'}
response = urllib3.PoolManager().request('GET', sys.argv[1], preload_content=False, headers=headers)
print('coding', response.headers['content-encoding'])
for event in sseclient.SSEClient(response.stream(decode_content=True)).events(): print('event', event.data)
";

const HTTPX: &str = "
import sys, httpx, httpx_sse
with httpx.Client() as client, httpx_sse.connect_sse(client, 'GET', sys.argv[1]) as source:
    print('coding', source.response.headers['content-encoding'])
    for event in source.iter_sse(): print('event', event.data)
";

const ZLIB: &str = "
import sys, urllib.request, zlib
headers = {'accept': 'text/event-stream', 'accept-encoding': 'gzip'}
response = urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=headers))
print('coding', response.headers['content-encoding'])
inflate = zlib.decompressobj(31)
while chunk := response.read1(65536):
    for line in inflate.decompress(chunk).decode().splitlines(): print('event', line)
print('end', inflate.eof, len(inflate.unused_data))
";

const FETCH: &str = "
const print = async () => {
    const response = await fetch(process.argv[1], {headers: {accept: 'text/event-stream'}});
    console.log('coding', response.headers.get('content-encoding'));
    const decoder = new TextDecoder();
    for await (const chunk of response.body) console.log('event', decoder.decode(chunk, {stream: true}));
};
print();
";

const EVENTSOURCE: &str = "
const {EventSource} = require('eventsource');
let coding;
const source = new EventSource(process.argv[1], {fetch: async (url, init) => {
    const response = await fetch(url, init);
    console.log('coding', response.headers.get('content-encoding'));
    return response;
}});
source.onmessage = event => console.log('event', event.data);
";

/// Clients of others, each of which must say what it has before more is published.
fn clients(url: &str, coding: &str) -> Vec<(&'static str, Process)> {
    let mut curl = program("curl");
    curl.args(["-sSiN", "--compressed", "-H", STREAM, url]);
    let mut clients = vec![("curl", Process::start(&mut curl))];
    if coding != "gzip" {
        // Which of the others know zstd depends on their version, and they do not ask for what they do not know.
        return clients;
    }
    for (name, script) in [
        ("requests", REQUESTS),
        ("urllib3", URLLIB3),
        ("httpx", HTTPX),
        ("zlib", ZLIB),
    ] {
        clients.push((name, Process::start(python().args(["-c", script, url]))));
    }
    for (name, script) in [("fetch", FETCH), ("eventsource", EVENTSOURCE)] {
        let mut node = program("node");
        node.env("NODE_PATH", installed("node/node_modules"));
        clients.push((name, Process::start(node.args(["-e", script, url]))));
    }
    clients
}

/// EDGE Z1: whoever joins, and whenever, has each event before the next one happens; and so have browsers.
async fn each_event_arrives_by_itself(coding: &str) {
    let gateway = TestGateway::start(&published(coding, ""));
    let url = format!("http://{}/events", gateway.address);
    publish(gateway.address, &message(0)).await;
    let mut all = clients(&url, coding);
    let browser = Browser::open(&url).await;
    let script = "
        document.body.innerHTML = '<p id=coding></p><p id=seen></p>';
        const show = (id, text) => document.getElementById(id).textContent = text;
        const headers = {accept: 'text/event-stream'}, leave = new AbortController();
        fetch('/events', {headers, signal: leave.signal}).then(response => {
            show('coding', response.headers.get('content-encoding'));
            leave.abort();
        });
        window.source = new EventSource('/events');
        source.onmessage = event => show('seen', event.data);
        source.addEventListener('closing', event => show('seen', event.data));
    ";
    browser.run(script).await;
    browser.shows("#coding", coding).await;
    for (name, client) in &mut all {
        let said = client.line(coding).await;
        assert!(said.contains("coding"), "{name}: {said}");
    }
    for number in 0..6 {
        if number > 0 {
            publish(gateway.address, &message(number)).await;
        }
        for (_, client) in &mut all {
            client.line(&message(number)).await;
        }
        browser.shows("#seen", &message(number)).await;
        if number == 3 {
            // Who joins now is given the same blocks.
            all.extend(clients(&url, coding));
            for (_, client) in all.iter_mut().skip(all_of(coding)) {
                client.line(&message(number)).await;
            }
        }
    }
}

fn all_of(coding: &str) -> usize {
    if coding == "gzip" { 7 } else { 1 }
}

/// EDGE Z1: curl, Python and Node.js in the ways that people use them, and Chromium.
#[tokio::test(flavor = "multi_thread")]
async fn clients_decode_gzip_event_by_event() {
    each_event_arrives_by_itself("gzip").await;
}

/// EDGE Z1: those who ask for it.
#[tokio::test(flavor = "multi_thread")]
async fn clients_decode_zstd_event_by_event() {
    each_event_arrives_by_itself("zstd").await;
}

/// EDGE Z1, L14: events, heartbeats and the end arrive as they happen over HTTP/1.0, HTTP/1.1 and HTTP/2, plain and over TLS.
/// The body is whole, and curl says so.
#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_carries_it() {
    let authority = Authority::new();
    authority.write("tls", &["localhost"]);
    let tls = format!(
        "  - address: 127.0.0.1:0\n  - address: 127.0.0.1:0\n    tls: {{certificates: [{}]}}",
        authority.pair("tls")
    );
    for coding in ["gzip", "zstd"] {
        let more = "    heartbeat: 1s\n    max_stream_age: 4s\n";
        let gateway = TestGateway::listening(&tls, &published(coding, more));
        let [plain, sealed] = gateway.gateway.addresses()[..] else {
            panic!("two listeners");
        };
        let ca = authority.path("ca.pem").display().to_string();
        let plain = format!("http://localhost:{}/events", plain.port());
        let sealed = format!("https://localhost:{}/events", sealed.port());
        let mut all = Vec::new();
        for (version, url) in [
            ("--http1.0", &plain),
            ("--http1.1", &plain),
            ("--http2-prior-knowledge", &plain),
            ("--http1.1", &sealed),
            ("--http2", &sealed),
        ] {
            let mut curl = program("curl");
            curl.args(["-sSiN4", "--compressed", "--cacert", &ca, "-H", STREAM]);
            curl.args([version, "-w", "%{exitcode} of %{url}\n", url]);
            let mut client = Process::start(&mut curl);
            client.line(&format!("content-encoding: {coding}")).await;
            client.line("retry: ").await;
            all.push((format!("0 of {url}"), client));
        }
        publish(gateway.address, &message(1)).await;
        for (_, client) in &mut all {
            client.line(&message(1)).await;
        }
        for (whole, client) in &mut all {
            for _ in 0..2 {
                let beat = client.line(":").await;
                assert_eq!(beat, ":");
            }
            client.line(r#"{"reason":"max-age"}"#).await;
            client.line(whole).await;
        }
    }
}

/// CONTRACT §3: in every form, from the beginning and from an id, a compressed stream says what one that is not says; and its
/// body is one whole member or frame.
#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_stream_says_the_same() {
    let mut all = tokio::task::JoinSet::new();
    for coding in ["gzip", "zstd"] {
        for target in ["/events", "/events?deliver=json-patch"] {
            for cursor in ["", "known", "unknown"] {
                all.spawn(says_the_same(coding, target, cursor));
            }
        }
    }
    let said = all.join_all().await;
    assert_eq!(said.len(), 12);
}

async fn says_the_same(coding: &str, target: &str, cursor: &str) {
    let gateway = TestGateway::start(&published(coding, "    max_stream_age: 2s\n"));
    let say = async |number: u32| {
        let other = |n: u32| json!({"id": n, "name": "another", "after": number / 3});
        let others: Vec<_> = (0..30).map(other).collect();
        let value = json!({"number": number, "others": others}).to_string();
        let json = ["content-type: application/json"];
        let posted = request(gateway.address, "POST", "/publish", &json, &value).await;
        assert_eq!(posted.head.status, 202);
    };
    say(0).await;
    let first = EventSource::open(gateway.address, "/events").await;
    let known = { first }.event().await.id;
    for number in 1..5 {
        say(number).await;
    }
    let cursor = match cursor {
        "known" => format!("last-event-id: {known}"),
        "unknown" => "last-event-id: unknown".to_owned(),
        _ => "x-nothing: 1".to_owned(),
    };
    let mut plain = EventSource::open_with(gateway.address, target, &[&cursor]).await;
    let mut coded = Coded::open(gateway.address, target, coding, &[&cursor]).await;
    assert_eq!(plain.head.header("content-encoding"), None);
    for head in [&plain.head, &coded.head] {
        assert_eq!(head.header("vary"), Some("Accept, Accept-Encoding"));
    }
    let mut said = Vec::new();
    loop {
        let (one, other) = (plain.event().await, coded.event().await);
        assert_eq!(one, other, "{coding} {target} {cursor}");
        said.push(one);
        match said.len() {
            _ if other.name == "closing" => break,
            // What is there is given at once, what comes one by one.
            1 => say(5).await,
            2 => say(6).await,
            _ => {}
        }
    }
    assert!(said.len() >= 4, "{said:?}");
    let text = decoded(coding, &coded.end().await).replace(COMMENT, "");
    assert!(
        text.starts_with("retry: ") && text.ends_with("\n\n"),
        "{text}"
    );
    let items = Parser::default().push(text.as_bytes());
    let events = items.into_iter().filter_map(|item| match item {
        Item::Event(event) => Some(event),
        _ => None,
    });
    assert_eq!(events.collect::<Vec<_>>(), said);
}

/// EDGE Z1, Z5: `Accept-Encoding` by its qualities, for GET and HEAD; and a client that takes nothing is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_what_it_accepts() {
    let upstream = TestUpstream::saying(reply("1")).await;
    let on = TestGateway::polling(&upstream.url(), "compression: gzip\n");
    let off = TestGateway::polling(&upstream.url(), "");
    for (accept, coding) in [
        ("gzip, deflate, br, zstd", Some("gzip")),
        ("zstd;q=1, gzip;q=0.1", Some("gzip")),
        ("*", Some("gzip")),
        ("gzip, identity;q=0", Some("gzip")),
        ("zstd, br", None),
        ("gzip;q=0, *", None),
        ("gzip;q=0.5, identity", None),
        ("", None),
    ] {
        let accept = format!("accept-encoding: {accept}");
        let plain = head(on.address, "/value", &[STREAM, &accept]).await;
        let stream = EventSource::open_with(on.address, "/value", &[&accept]).await;
        for head in [plain, stream.head] {
            assert_eq!(head.header("content-encoding"), coding, "{accept}");
            assert_eq!(head.header("vary"), Some("Accept, Accept-Encoding"));
            assert_eq!(
                head.header("cache-control"),
                Some("no-cache, no-store, no-transform")
            );
        }
        let accept = accept.replace(", identity;q=0", "");
        let stream = EventSource::open_with(off.address, "/value", &[&accept]).await;
        assert_eq!(stream.head.header("content-encoding"), None);
        assert_eq!(stream.head.header("vary"), Some("Accept"));
    }
    for (gateway, accept, offered) in [
        (
            &on,
            "identity;q=0",
            "without a content coding, or with gzip.",
        ),
        (&on, "*;q=0", "without a content coding, or with gzip."),
        (&off, "gzip, *;q=0", "without a content coding."),
    ] {
        let accept = format!("accept-encoding: {accept}");
        let refused = get(gateway.address, "/value", &[STREAM, &accept]).await;
        assert_eq!(refused.head.status, 406);
        assert!(refused.body.contains(offered), "{}", refused.body);
    }
    // The value is no stream.
    let value = get(on.address, "/value", &["accept-encoding: gzip"]).await;
    assert_eq!(value.head.header("content-encoding"), None);
    assert_eq!(value.body, "1");
}

/// EDGE Z4: what not everybody may read is not compressed.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_compressed() {
    let upstream = TestUpstream::saying(reply("1")).await;
    let key = format!(
        "{{api_keys: {{keys: [{{name: web, sha256: {}}}]}}}}",
        sha256("a key")
    );
    let jwt = format!("{{jwt: {{secret: {SECRET}, cookie: session}}}}");
    let file = format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\ncompression: gzip\nstreams:\n\
         \x20 - {{path: /open, http: {{upstream: legacy}}}}\n\
         \x20 - {{path: /key, http: {{upstream: legacy}}, auth: {key}}}\n\
         \x20 - {{path: /cookie, http: {{upstream: legacy}}, auth: {jwt}}}\n\
         \x20 - {{path: /forwarded, http: {{upstream: legacy, forward_headers: [cookie]}}}}\n",
        upstream.url()
    );
    let gateway = TestGateway::start(&file);
    let cookie = format!("cookie: session={}", token(&json!({})));
    for (target, line, coding) in [
        ("/open", "cookie: a=b", Some("gzip")),
        ("/key", "x-api-key: a key", None),
        ("/cookie", &cookie, None),
        ("/forwarded", "cookie: a=b", None),
        ("/forwarded", "x: y", None),
    ] {
        let headers = [line, "accept-encoding: gzip"];
        let stream = EventSource::open_with(gateway.address, target, &headers).await;
        assert_eq!(stream.head.header("content-encoding"), coding, "{target}");
        let varies = stream.head.all("vary").contains("Accept-Encoding");
        assert_eq!(varies, coding.is_some(), "{target}");
    }

    // Who is let in by a certificate reads what others may not.
    let authority = Authority::new();
    authority.write("tls", &["localhost"]);
    authority.write("client", &["client"]);
    for (client_ca, coding) in [("null", "gzip"), ("ca.pem", "none")] {
        let client_ca = match client_ca {
            "null" => "null".to_owned(),
            file => authority.path(file).display().to_string(),
        };
        let tls = format!(
            "{{certificates: [{}], client_ca: {client_ca}}}",
            authority.pair("tls")
        );
        let listener = format!("  - address: 127.0.0.1:0\n    tls: {tls}");
        let gateway = TestGateway::listening(&listener, &file);
        let mut curl = program("curl");
        curl.args([
            "-sSI4",
            "--compressed",
            "-o",
            "/dev/null",
            "-H",
            STREAM,
            "--cacert",
        ])
        .arg(authority.path("ca.pem"))
        .arg("--cert")
        .arg(authority.path("client.crt"))
        .arg("--key")
        .arg(authority.path("client.key"))
        .args(["-w", "coding: %header{content-encoding}none\n"])
        .arg(format!("https://localhost:{}/open", gateway.address.port()));
        let said = Process::start(&mut curl).line("coding: ").await;
        assert!(said.starts_with(&format!("coding: {coding}")), "{said}");
    }
}

/// EDGE P17, Z5: what passes through is not touched, whatever the client accepts.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_stays_as_it_is() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"data: 1\n\n").expect("written");
    let zipped = encoder.finish().expect("gzip");
    let body = zipped.clone();
    let upstream = TestUpstream::start(move |request| {
        let coded = request.target == "/coded";
        let mut headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
        headers.extend(coded.then(|| ("content-encoding".to_owned(), "gzip".to_owned())));
        let body = if coded {
            body.clone()
        } else {
            b"data: 1\n\n".to_vec()
        };
        Reply::Http {
            status: 200,
            headers,
            body,
        }
    })
    .await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nroutes: [{{prefix: /, upstream: legacy}}]\ncompression: gzip\n",
        upstream.url()
    ));
    for (target, coding, body) in [
        ("/coded", Some("gzip"), &zipped[..]),
        ("/plain", None, b"data: 1\n\n"),
    ] {
        let mut connection = Connection::open(gateway.address).await;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: a\r\n{STREAM}\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n"
        );
        connection.send(request.as_bytes()).await;
        let head = connection.head().await;
        assert_eq!(head.all("content-encoding"), coding.unwrap_or_default());
        assert!(!head.all("vary").contains("ncoding"), "{head:?}");
        while connection.fill().await {}
        assert_eq!(connection.take_unread(), body);
    }
    let seen = upstream.requests();
    assert!(
        seen.iter()
            .all(|request| request.header("accept-encoding") == Some("gzip"))
    );
}

/// EDGE Z2: proxies that compress by themselves leave what is compressed alone, and hold nothing back.
#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_compress_pass_it_on() {
    for coding in ["gzip", "zstd"] {
        let gateway = TestGateway::start(&published(coding, ""));
        publish(gateway.address, &message(0)).await;
        let nginx =
            Hop::nginx_with(gateway.address, "gzip on; gzip_proxied any; gzip_types *;").await;
        let compression = "compression algo gzip\n compression type text/event-stream";
        let haproxy = Hop::haproxy_with(gateway.address, compression).await;
        for hop in [nginx, haproxy] {
            let mut client = Coded::open(hop.address, "/events", coding, &[]).await;
            assert_eq!(client.head.all("content-encoding"), coding);
            let joined = client.event().await.data;
            for number in 1..4 {
                assert_eq!(
                    publish_and_see(&gateway, &mut client, number).await,
                    message(number)
                );
            }
            assert!(joined.contains("message"), "{joined}");
        }
    }
}

async fn publish_and_see(gateway: &TestGateway, client: &mut Coded, number: u32) -> String {
    publish(gateway.address, &message(number)).await;
    soon("the event", client.event()).await.data
}

/// A soft reject (L3) is no stream of events to share: it is sent as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_soft_reject_is_not_compressed() {
    let upstream = TestUpstream::saying(reply("1")).await;
    let more = "limits: {connects: 1/h}\ncompression: gzip\n";
    let gateway = TestGateway::polling(&upstream.url(), more);
    let headers = ["accept-encoding: gzip"];
    let _served = Coded::open(gateway.address, "/value", "gzip", &[]).await;
    let mut refused = EventSource::open_with(gateway.address, "/value", &headers).await;
    assert_eq!(refused.head.header("content-encoding"), None);
    assert_eq!(refused.until("closing").await, r#"{"reason":"limit"}"#);
}

/// EDGE O5: a stream keeps to its coding when the file says something else; who comes then gets what it says.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_coding_of_newcomers() {
    let mut gateway = TestGateway::start(&published("gzip", ""));
    let address = gateway.address;
    publish(address, &message(0)).await;
    let mut all = vec![Coded::open(address, "/events", "gzip", &[]).await];
    for (number, coding) in [(1, "zstd"), (2, "off"), (3, "gzip")] {
        let config = TestGateway::config(&published(coding, ""));
        let reloaded = gateway.gateway.reload(config).expect("applied");
        assert_eq!(reloaded, Reloaded::Applied);
        match coding {
            "off" => {
                let accept = ["accept-encoding: gzip, zstd"];
                let plain = EventSource::open_with(address, "/events", &accept).await;
                assert_eq!(plain.head.header("content-encoding"), None);
            }
            coding => all.push(Coded::open(address, "/events", coding, &[]).await),
        }
        publish(address, &message(number)).await;
    }
    for (joined, client) in all.iter_mut().enumerate() {
        // The second one came after the first message, the third after the third.
        let first = [0, 0, 2][joined];
        for number in first..4 {
            assert_eq!(client.event().await.data, message(number), "{joined}");
        }
    }
}

/// EDGE Z1: what a JSON event of 2 KB costs on the wire, in each coding.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_gets_several_times_shorter() {
    let names = [
        "ACME", "BOLT", "COIL", "DYNE", "ECHO", "FLUX", "GYRE", "HELM", "IRIS", "JOLT", "KELP",
        "LYRA", "MICA", "NOVA", "ONYX", "PYRE",
    ];
    let quote = |(index, name): (usize, &&str)| {
        let price = 100.0 + (index * 7919 % 1000) as f64 / 8.0;
        json!({"symbol": name, "bid": price, "ask": price + 0.25, "volume": index * 104_729 % 9973, "currency": "EUR",
               "exchange": "XAMS", "updated": format!("2026-11-21T10:{:02}:{:02}Z", index * 7 % 60, index * 13 % 60)})
    };
    let quotes: Vec<_> = names.iter().enumerate().map(quote).collect();
    let value = json!({"quotes": quotes}).to_string();
    for coding in ["gzip", "zstd"] {
        let gateway = TestGateway::start(&published(coding, ""));
        let json = ["content-type: application/json"];
        let posted = request(gateway.address, "POST", "/publish", &json, &value).await;
        assert_eq!(posted.head.status, 202);
        let mut coded = Coded::open(gateway.address, "/events", coding, &[]).await;
        let event = coded.event().await;
        assert_eq!(event.data, value);
        let plain = format!("id: {}\ndata: {value}\n\n", event.id).len();
        assert!((1950..2150).contains(&plain), "{plain}");
        assert!(
            coded.last * 4 < plain,
            "{coding}: {} of {plain}",
            coded.last
        );
    }
}
