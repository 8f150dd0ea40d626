//! Who may use a path: EDGE §11 at a running gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::support::authority::Authority;
use super::support::client::{EventSource, Response, get, pair, request};
use super::support::gateway::TestGateway;
use super::support::process::{Process, program};
use super::support::soon;
use super::support::token::{Issuer, SECRET, basic, now, sha256, token};
use super::support::upstream::{Reply, TestUpstream, json as reply, status};

/// A stream at `/value` with this `auth`, its upstream, and a route for everything else.
async fn guarded(auth: &str, more: &str) -> (TestUpstream, TestGateway) {
    let upstream = TestUpstream::saying(reply(r#"{"price":1}"#)).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nauth: {auth}\nroutes: [{{prefix: /, upstream: legacy}}]\n\
         streams:\n  - path: /value\n    http: {{upstream: legacy}}\n    every: 1h\n{more}",
        upstream.url()
    ));
    (upstream, gateway)
}

fn jwt(more: &str) -> String {
    format!("{{jwt: {{secret: {SECRET}{more}}}}}")
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

fn problem(response: &Response, status: u16) -> Value {
    assert_eq!(response.head.status, status, "{response:?}");
    assert_eq!(
        response.head.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(response.head.header("cache-control"), Some("no-store"));
    let problem: Value = serde_json::from_str(&response.body).expect("JSON");
    assert_eq!(problem["status"], status);
    problem
}

/// EDGE A8, H1: every way in, for the stream and for the value; what comes back is nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn every_method_lets_in() {
    let auth = format!(
        "[{{jwt: {{secret: {SECRET}, cookie: session, query: access_token}}}}, {{api_keys: {{keys: [{{name: web, sha256: {}}}]}}}}, \
         {{basic: {{users: [{{name: ops, sha256: {}}}]}}}}]",
        sha256("a key"),
        sha256("a password")
    );
    let (_upstream, gateway) = guarded(&auth, "").await;
    let token = token(&json!({}));
    for line in [
        bearer(&token),
        format!("cookie: a=b; session={token}"),
        "x-api-key: a key".to_owned(),
        basic("ops", "a password"),
    ] {
        let mut stream = EventSource::open_with(gateway.address, "/value", &[&line]).await;
        assert_eq!(
            stream.head.header("cache-control"),
            Some("private, no-cache, no-store, no-transform")
        );
        assert_eq!(stream.next().await, pair("message", r#"{"price":1}"#));
        let value = get(gateway.address, "/value", &[&line]).await;
        assert_eq!(value.body, r#"{"price":1}"#);
        assert_eq!(
            value.head.header("cache-control"),
            Some("private, no-cache")
        );
        let vary = value.head.all("vary");
        for name in ["Accept", "authorization", "cookie", "x-api-key"] {
            assert!(vary.contains(name), "{vary}");
        }
        let head = request(gateway.address, "HEAD", "/value", &[&line], "").await;
        assert_eq!(head.head.status, 200);
    }
    // A token in the query is for event streams alone (EDGE A9).
    let target = format!("/value?deliver=value&access_token={token}");
    let mut stream = EventSource::open(gateway.address, &target).await;
    assert_eq!(stream.head.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(stream.next().await, pair("message", r#"{"price":1}"#));
    problem(&get(gateway.address, &target, &[]).await, 401);
}

/// EDGE A12, A13, C12: whoever is not known gets nothing, costs nothing, and is told how to be known, pages of other origins too.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_in() {
    let auth = format!(
        "[{{jwt: {{secret: {SECRET}, require: {{scope: prices}}}}}}, {{api_keys: {{keys: [{{name: web, sha256: {}}}]}}}}]",
        sha256("a key")
    );
    let cors = "    cors: {origins: [\"https://app.example\"], credentials: true}\n  - path: \"/of/{name}\"\n    http: {upstream: legacy}\n";
    let (upstream, gateway) = guarded(&auth, cors).await;
    let origin = "origin: https://app.example";
    let good = bearer(&token(&json!({"scope": "a prices"})));
    let poor = bearer(&token(&json!({"scope": "other"})));
    let late = bearer(&token(&json!({"scope": "prices", "exp": now() - 1})));
    let stream = "accept: text/event-stream";
    for (lines, expected, challenge) in [
        (
            vec![],
            401,
            "Bearer realm=\"wellspring\", ApiKey header=\"x-api-key\"",
        ),
        (
            vec![late.as_str()],
            401,
            "Bearer realm=\"wellspring\", error=\"invalid_token\", ApiKey header=\"x-api-key\"",
        ),
        (
            vec!["authorization: Bearer x"],
            401,
            "Bearer realm=\"wellspring\", error=\"invalid_token\", ApiKey header=\"x-api-key\"",
        ),
        (
            vec!["authorization: Bearer"],
            401,
            "Bearer realm=\"wellspring\", ApiKey header=\"x-api-key\"",
        ),
        (
            vec!["x-api-key: another"],
            401,
            "Bearer realm=\"wellspring\", ApiKey header=\"x-api-key\"",
        ),
        (
            vec!["authorization: Basic b3BzOng="],
            401,
            "Bearer realm=\"wellspring\", ApiKey header=\"x-api-key\"",
        ),
        (
            vec![poor.as_str()],
            403,
            "Bearer realm=\"wellspring\", error=\"insufficient_scope\", ApiKey header=\"x-api-key\"",
        ),
        // EDGE A8: whose it is nobody could say, though each alone is good.
        (vec![good.as_str(), "x-api-key: a key"], 400, ""),
    ] {
        for accept in [stream, "accept: */*"] {
            let mut lines = lines.clone();
            lines.extend([origin, accept]);
            let refused = get(gateway.address, "/value", &lines).await;
            problem(&refused, expected);
            assert_eq!(refused.head.all("www-authenticate"), challenge, "{lines:?}");
            assert_eq!(
                refused.head.header("access-control-allow-origin"),
                Some("https://app.example")
            );
            assert_eq!(
                refused.head.header("access-control-allow-credentials"),
                Some("true")
            );
        }
    }
    // What exists and what does not look the same from outside, and every method is covered (CONTRACT §6).
    for (method, target) in [
        ("GET", "/of/b%20c"),
        ("GET", "/of/b"),
        ("HEAD", "/value"),
        ("POST", "/value"),
        ("DELETE", "/value"),
        ("OPTIONS", "/value"),
    ] {
        let refused = request(gateway.address, method, target, &[], "").await;
        assert_eq!(refused.head.status, 401, "{method} {target}");
    }
    let body = request(gateway.address, "POST", "/value", &[], "a body").await;
    assert_eq!(body.head.status, 401);
    assert_eq!(upstream.count(), 0);
    assert_eq!(
        get(gateway.address, "/of/b%20c", &[&good])
            .await
            .head
            .status,
        404
    );
    // A preflight has nothing to show (EDGE C6).
    let preflight = [origin, "access-control-request-method: GET"];
    let preflight = request(gateway.address, "OPTIONS", "/value", &preflight, "").await;
    assert_eq!(preflight.head.status, 204);
}

/// CONTRACT §6 "Auth on a shared path", EDGE A9: the route takes over behind the guard, and sees no token of a query.
#[tokio::test(flavor = "multi_thread")]
async fn what_passes_through_is_let_in_first() {
    let (upstream, gateway) = guarded(&jwt(", query: access_token"), "").await;
    let good = bearer(&token(&json!({})));
    let passed = request(
        gateway.address,
        "POST",
        "/value?a=+%20&access_token=canary&b",
        &[&good],
        "x",
    )
    .await;
    assert_eq!(passed.head.status, 200);
    let seen = upstream.requests().pop().expect("one");
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/value?a=+%20&b")
    );
    assert_eq!(
        seen.header("authorization")
            .map(|value| format!("authorization: {value}")),
        Some(good)
    );
    // A route is not ours to guard.
    assert_eq!(
        get(gateway.address, "/other?access_token=x", &[])
            .await
            .head
            .status,
        200
    );
    let seen = upstream.requests().pop().expect("two");
    assert_eq!(seen.target, "/other?access_token=x");
}

/// EDGE A6, A7: a stream ends with its token, and so does what is held; the token is good for nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let (_upstream, gateway) = guarded(&jwt(""), "").await;
    let expires = now() + 3;
    let line = bearer(&token(&json!({"exp": expires})));
    let mut stream = EventSource::open_with(gateway.address, "/value", &[&line]).await;
    assert_eq!(stream.next().await.0, "message");
    let first = get(gateway.address, "/value", &[&line]).await;
    let lines = [line.as_str(), &first.condition(), "prefer: wait=60"];
    let held = get(gateway.address, "/value", &lines);
    let (held, closing) = tokio::join!(held, stream.until("closing"));
    assert_eq!(closing, r#"{"reason":"token-expired"}"#);
    assert_eq!(held.head.status, 304);
    let late = now().saturating_sub(expires);
    assert!(late <= 2, "{late}s late");
    assert!(stream.item().await.is_none());
    let again = get(
        gateway.address,
        "/value",
        &[&line, "accept: text/event-stream"],
    )
    .await;
    problem(&again, 401);
}

/// EDGE C15: a browser sends cookies along for anybody's page; only pages that the path knows are let in by one.
#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_lets_in_only_pages_that_are_known() {
    let cors = "    cors: {origins: [\"https://app.example\"], credentials: true}\n";
    let (upstream, gateway) = guarded(&jwt(", cookie: session"), cors).await;
    let token = token(&json!({}));
    let cookie = format!("cookie: session={token}");
    let own = format!("origin: http://{}", gateway.address);
    for (lines, expected) in [
        (&["origin: https://evil.example"][..], 403),
        (&["origin: null"], 403),
        (&["origin: https://app.example.evil"], 403),
        (&["sec-fetch-site: cross-site"], 403),
        (&[own.as_str(), "sec-fetch-site: cross-site"], 403),
        (&["sec-fetch-site: same-origin"], 200),
        (&["sec-fetch-site: none"], 200),
        (
            &["origin: https://app.example", "sec-fetch-site: cross-site"],
            200,
        ),
        (&[own.as_str()], 200),
        (&[], 200),
    ] {
        let before = upstream.count();
        for method in ["GET", "POST"] {
            let mut all = vec![cookie.as_str()];
            all.extend(lines);
            let answer = request(gateway.address, method, "/value", &all, "").await;
            assert_eq!(answer.head.status, expected, "{method} {lines:?}");
        }
        assert!(expected == 200 || upstream.count() == before);
    }
    // Whoever can set a header is no browser that was led astray.
    let lines = [bearer(&token), "origin: https://evil.example".to_owned()];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(
        get(gateway.address, "/value", &lines).await.head.status,
        200
    );
}

/// CONTRACT §3 "Publish": readers need not be writers.
#[tokio::test(flavor = "multi_thread")]
async fn publishing_has_its_own_guard() {
    let gateway = TestGateway::start(&format!(
        "streams: [{{path: /a, publish: {{path: /p, auth: {{api_keys: {{keys: [{{name: w, sha256: {}}}]}}}}}}}}]\n",
        sha256("a key")
    ));
    let mut reader = EventSource::open(gateway.address, "/a").await;
    let refused = request(gateway.address, "POST", "/p", &[], "x").await;
    assert_eq!(
        refused.head.all("www-authenticate"),
        "ApiKey header=\"x-api-key\""
    );
    problem(&refused, 401);
    let taken = request(gateway.address, "POST", "/p", &["x-api-key: a key"], "y").await;
    assert_eq!(taken.head.status, 202);
    assert_eq!(reader.event().await.data, "y");
}

/// EDGE A14, Q8: nobody guesses for long, not even with the right one at last.
#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_down() {
    let auth = format!(
        "{{basic: {{users: [{{name: ops, sha256: {}}}]}}}}",
        sha256("right")
    );
    let (upstream, gateway) = guarded(&auth, "").await;
    let mut refused = None;
    for attempt in 0..40 {
        let guess = basic("ops", &format!("wrong {attempt}"));
        let answer = get(gateway.address, "/value", &[&guess]).await;
        match answer.head.status {
            401 => assert!(attempt < 30),
            _ => {
                assert!(attempt >= 20, "after {attempt}");
                refused = Some(answer);
                break;
            }
        }
    }
    let refused = refused.expect("was slowed down");
    problem(&refused, 429);
    let after: u64 = refused
        .head
        .header("retry-after")
        .and_then(|text| text.parse().ok())
        .expect("a time");
    assert!((1..=60).contains(&after));
    assert_eq!(
        refused.head.header("ratelimit-policy"),
        Some("\"failed_logins\";q=20;w=60")
    );
    assert_eq!(
        refused.head.header("ratelimit"),
        Some(format!("\"failed_logins\";r=0;t={after}").as_str())
    );
    assert_eq!(upstream.count(), 0);
}

/// An issuer under control: what it says, and how often it was asked.
async fn issuer(says: Reply) -> (TestUpstream, Arc<Mutex<Reply>>, Arc<AtomicUsize>) {
    let says = Arc::new(Mutex::new(says));
    let asked = Arc::<AtomicUsize>::default();
    let (script, count) = (says.clone(), asked.clone());
    let server = TestUpstream::start(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        script.lock().clone()
    })
    .await;
    (server, says, asked)
}

/// EDGE A5: a new key is fetched when a token has it, at once and once; an outage takes no key away.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_and_kept() {
    let (first, second) = (Issuer::new("one"), Issuer::new("two"));
    let (server, says, asked) = issuer(reply(&first.jwks())).await;
    let auth = format!("{{jwt: {{jwks_url: \"{}/keys\"}}}}", server.url());
    let (_upstream, gateway) = guarded(&auth, "").await;
    let status_of = async |token: &str| {
        let answer = get(gateway.address, "/value", &[&bearer(token)]).await;
        answer.head.status
    };
    // The first request waits for the first fetch.
    assert_eq!(status_of(&first.token(&json!({}))).await, 200);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    *says.lock() = reply(&second.jwks());
    assert_eq!(status_of(&first.token(&json!({}))).await, 200);
    assert_eq!(status_of(&second.token(&json!({}))).await, 200);
    assert_eq!(status_of(&first.token(&json!({}))).await, 401);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    // Whoever makes keys up cannot have the issuer asked more often.
    for id in 0..20 {
        let stranger = Issuer::new(&format!("stranger {id}"));
        assert_eq!(status_of(&stranger.token(&json!({}))).await, 401);
    }
    *says.lock() = status(500, "{}");
    assert_eq!(status_of(&second.token(&json!({}))).await, 200);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// EDGE A5: without keys nobody can say whether a token is good; with them everything is well by itself.
#[tokio::test(flavor = "multi_thread")]
async fn without_keys_tokens_wait() {
    let issuer_of_tokens = Issuer::new("one");
    let bad = status(302, "").with("location", "/elsewhere");
    let (server, says, _asked) = issuer(bad).await;
    let auth = format!(
        "[{{jwt: {{jwks_url: \"{}/keys\"}}}}, {{basic: {{users: [{{name: ops, sha256: {}}}]}}}}]",
        server.url(),
        sha256("right")
    );
    let (_upstream, gateway) = guarded(&auth, "").await;
    let line = bearer(&issuer_of_tokens.token(&json!({})));
    let refused = get(gateway.address, "/value", &[&line]).await;
    problem(&refused, 503);
    assert_eq!(refused.head.header("retry-after"), Some("5"));
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.target == "/keys"),
        "no redirect is followed"
    );
    // Others do not need them.
    let line_of_ops = basic("ops", "right");
    assert_eq!(
        get(gateway.address, "/value", &[&line_of_ops])
            .await
            .head
            .status,
        200
    );
    *says.lock() = reply(&issuer_of_tokens.jwks());
    let began = Instant::now();
    while get(gateway.address, "/value", &[&line]).await.head.status != 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "never let in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// EDGE P13: no other spelling of a guarded path is a way around its guard; for who is let in, it is another path.
#[tokio::test(flavor = "multi_thread")]
async fn other_spellings_are_guarded_too() {
    let upstream = TestUpstream::saying(reply("1")).await;
    let gateway = TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\nroutes: [{{prefix: /, upstream: legacy}}]\n\
         streams:\n  - path: /v1/prices/{{symbol}}\n    http: {{upstream: legacy}}\n    \
         auth: {{api_keys: {{keys: [{{name: web, sha256: \"{}\"}}]}}}}\n",
        upstream.url(),
        sha256("key")
    ));
    for path in [
        "/v1/prices/A/",
        "/V1/prices/A",
        "/v1/prices;/A",
        "/..;/v1/prices/A",
        "/v1/prices%c0%afA",
    ] {
        let answer = get(gateway.address, path, &[]).await;
        assert_eq!(answer.head.status, 401, "{path}");
        let answer = get(gateway.address, path, &["x-api-key: key"]).await;
        assert_eq!(answer.head.status, 200, "{path}");
    }
    let seen = upstream.requests();
    assert!(
        seen.iter()
            .all(|request| request.header("x-api-key") == Some("key")),
        "{seen:?}"
    );
    assert_eq!(
        get(gateway.address, "/v1/other", &[]).await.head.status,
        200
    );
}

/// EDGE C15: a page that a browser on this machine shows is no user of this machine.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_pages_do_not_publish_on_loopback() {
    let gateway = TestGateway::start("streams: [{path: /alerts, publish: {path: /publish}}]\n");
    for (lines, status) in [
        (
            &["origin: https://evil.example", "sec-fetch-site: cross-site"][..],
            403,
        ),
        (&["sec-fetch-site: cross-site"][..], 403),
        (&[][..], 202),
    ] {
        let answer = request(gateway.address, "POST", "/publish", lines, "x").await;
        assert_eq!(answer.head.status, status, "{lines:?}");
    }
}

/// EDGE A6, A7, A12 over HTTP/2: who is not let in is told how, and a stream ends with its token, in order.
#[tokio::test(flavor = "multi_thread")]
async fn http2_is_guarded_as_well() {
    let (upstream, gateway) = guarded(&jwt(", require: {scope: prices}"), "").await;
    let tcp = TcpStream::connect(gateway.address).await.expect("connects");
    let (client, connection) = h2::client::handshake(tcp).await.expect("a handshake");
    tokio::spawn(connection);
    let ask = async |token: Option<&str>| {
        let mut request = http::Request::get(format!("http://{}/value", gateway.address))
            .header("accept", "text/event-stream");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(()).expect("a request");
        let mut client = client.clone().ready().await.expect("ready");
        let (response, _) = client.send_request(request, true).expect("sends");
        soon("an answer", response).await.expect("an answer")
    };
    let of = |scope: &str, exp: u64| token(&json!({"scope": scope, "exp": exp}));
    let expires = now() + 3;
    let good = of("prices", expires);
    for (token, status, challenge) in [
        (None, 401, "Bearer realm=\"wellspring\""),
        (
            Some(of("prices", now() - 1)),
            401,
            "Bearer realm=\"wellspring\", error=\"invalid_token\"",
        ),
        (
            Some(of("other", expires)),
            403,
            "Bearer realm=\"wellspring\", error=\"insufficient_scope\"",
        ),
    ] {
        let refused = ask(token.as_deref()).await;
        assert_eq!(refused.status().as_u16(), status);
        assert_eq!(refused.headers()["www-authenticate"], challenge);
        assert_eq!(
            refused.headers()["content-type"],
            "application/problem+json"
        );
    }
    assert_eq!(upstream.count(), 0);
    let stream = ask(Some(&good)).await;
    assert_eq!(stream.status().as_u16(), 200);
    let mut body = stream.into_body();
    let mut said = Vec::new();
    while let Some(piece) = soon("the stream", body.data()).await {
        let piece = piece.expect("ends in order");
        let _ = body.flow_control().release_capacity(piece.len());
        said.extend_from_slice(&piece);
    }
    let said = String::from_utf8(said).expect("text");
    assert!(said.contains(r#"data: {"price":1}"#), "{said}");
    assert!(
        said.contains("event: closing\ndata: {\"reason\":\"token-expired\"}\n\n"),
        "{said}"
    );
    let late = now().saturating_sub(expires);
    assert!(now() >= expires && late <= 2, "{late}s late");
    assert_eq!(ask(Some(&good)).await.status().as_u16(), 401);
}

/// EDGE A5: keys over https are believed from whom the system believes, and from nobody else. The file has no authority for them:
/// a private one is the system's to name, such as by `SSL_CERT_FILE`.
#[tokio::test(flavor = "multi_thread")]
async fn keys_come_over_https_from_who_is_believed() {
    let (authority, issuer) = (Authority::new(), Issuer::new("one"));
    let keys = secure_keys(&authority, issuer.jwks()).await;
    let upstream = TestUpstream::saying(reply("1")).await;
    let file = authority.path("wellspring.yaml");
    let text = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}]\nadmin: off\nupstreams: {{legacy: {{url: \"{}\"}}}}\n\
         streams: [{{path: /value, http: {{upstream: legacy}}}}]\nauth: {{jwt: {{jwks_url: \"https://{keys}/keys\"}}}}\n",
        upstream.url()
    );
    std::fs::write(&file, text).expect("written");
    let other = Authority::new();
    for (believed, status) in [(&authority, 200), (&other, 503)] {
        let mut command = program(env!("CARGO_BIN_EXE_wellspring"));
        command.args(["run", "--config"]).arg(&file);
        command.env("SSL_CERT_FILE", believed.path("ca.pem"));
        command.env_remove("SSL_CERT_DIR");
        let mut process = Process::start(&mut command);
        let address = process.address().await;
        let line = bearer(&issuer.token(&json!({})));
        let answer = get(address, "/value", &[&line]).await;
        assert_eq!(answer.head.status, status);
    }
}

/// Publishes this key set over https, with a certificate for its address.
async fn secure_keys(authority: &Authority, keys: String) -> SocketAddr {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (certificate, key) = authority.write("keys", &["127.0.0.1"]);
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not believe us does not go on.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0
            {
            }
            let length = keys.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{keys}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}
