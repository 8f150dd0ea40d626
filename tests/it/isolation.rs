//! Streams that forward their clients' headers: nobody gets what another one's credentials gave. EDGE I1–I3, I5, I8.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wellspring::sse::parser::Item;

use super::support::client::{EventSource, get};
use super::support::gateway::TestGateway;
use super::support::upstream::{Request, TestUpstream, json, status};
use super::support::{eventually, soon};

/// Tells each user its own name, and how often it was asked by it; nobody else anything.
async fn per_user() -> TestUpstream {
    let mut asked: HashMap<String, u32> = HashMap::new();
    TestUpstream::start(move |request: &Request| {
        match request
            .header("authorization")
            .and_then(|line| line.strip_prefix("Bearer "))
        {
            Some(user) if user.starts_with("user-") => {
                let count = asked.entry(user.to_owned()).or_default();
                *count += 1;
                json(&format!(r#"{{"of":"{user}","count":{count}}}"#)).with("vary", "Authorization")
            }
            _ => status(401, r#"{"of":"nobody"}"#),
        }
    })
    .await
}

fn gateway(upstream: &TestUpstream, more: &str) -> TestGateway {
    TestGateway::start(&format!(
        "upstreams: {{legacy: {{url: \"{}\"}}}}\n\
         streams:\n  - path: /mine\n    http: {{upstream: legacy, forward_headers: [authorization, cookie]}}\n    \
         every: 50ms\n    stale_after: 60s\n{more}",
        upstream.url()
    ))
}

/// What one user has seen.
#[derive(Default)]
struct User {
    name: String,
    stream: Option<EventSource>,
    ids: Vec<String>,
    tags: Vec<String>,
    last: u64,
}

impl User {
    fn line(&self) -> String {
        format!("authorization: Bearer {}", self.name)
    }

    /// Everything that a user gets names the user, and counts its own polls alone.
    fn check(&mut self, data: &str) {
        let value: serde_json::Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(value["of"], self.name.as_str(), "{data}");
        self.last = value["count"].as_u64().expect("a count");
    }
}

/// EDGE I5: users who come, go and resume in any order, with each other's ids and tags, see their own alone.
#[tokio::test(flavor = "multi_thread")]
async fn users_never_see_each_other() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let upstream = per_user().await;
    let gateway = gateway(
        &upstream,
        "    linger: 0s\n    deliver: [value, json-patch]\n",
    );
    let mut users: Vec<User> = ["user-a", "user-b", "user-aa"]
        .map(|name| User {
            name: name.into(),
            ..User::default()
        })
        .into();
    for _ in 0..200 {
        let ids: Vec<String> = users.iter().flat_map(|user| user.ids.clone()).collect();
        let tags: Vec<(String, String)> = users
            .iter()
            .flat_map(|user| user.tags.iter().map(|tag| (user.name.clone(), tag.clone())))
            .collect();
        let at = random.usize(..users.len());
        let user = &mut users[at];
        let line = user.line();
        match random.u8(..5) {
            0 => user.stream = None,
            1 => {
                let id = random.choice(&ids).cloned().unwrap_or_else(|| "x-1".into());
                let own = user.ids.contains(&id);
                let resume = format!("last-event-id: {id}");
                let mut stream =
                    EventSource::open_with(gateway.address, "/mine", &[&line, &resume]).await;
                let first = stream.event().await;
                // Another one's id is as unknown as one that never was.
                assert!(
                    own || first.name == "reset",
                    "{id} of another was known: {first:?}"
                );
                if first.name.is_empty() || first.name == "message" {
                    user.check(&first.data);
                    user.ids.extend(Some(first.id));
                }
                user.stream = Some(stream);
            }
            2 => {
                let tag = random.choice(&tags);
                let none_match =
                    tag.map_or(String::new(), |(_, tag)| format!("if-none-match: {tag}"));
                let mut headers = vec![line.as_str()];
                headers.extend(tag.map(|_| none_match.as_str()));
                let answer = get(gateway.address, "/mine", &headers).await;
                match answer.head.status {
                    304 => assert_eq!(tag.map(|(of, _)| of), Some(&user.name)),
                    200 => {
                        user.check(&answer.body);
                        user.tags
                            .extend(answer.head.header("etag").map(str::to_owned));
                    }
                    other => panic!("status {other}"),
                }
            }
            _ => {
                if user.stream.is_none() {
                    user.stream =
                        Some(EventSource::open_with(gateway.address, "/mine", &[&line]).await);
                }
                let stream = user.stream.as_mut().expect("is open");
                let mut ids = Vec::new();
                let mut data = Vec::new();
                for _ in 0..random.u8(1..4) {
                    if let Some(Item::Event(event)) = soon("an item", stream.item()).await
                        && event.name != "reset"
                    {
                        ids.push(event.id);
                        data.push(event.data);
                    }
                }
                for data in data {
                    user.check(&data);
                }
                user.ids.extend(ids.into_iter().filter(|id| !id.is_empty()));
            }
        }
    }
    // The ids of each are its own.
    for (at, user) in users.iter().enumerate() {
        for other in &users[..at] {
            assert!(user.ids.iter().all(|id| !other.ids.contains(id)));
        }
    }
    // Nobody was asked for with what nobody sent.
    for request in upstream.requests() {
        let sent = request.header("authorization").unwrap_or_default();
        assert!(
            users
                .iter()
                .any(|user| sent == format!("Bearer {}", user.name)),
            "{sent}"
        );
    }
}

/// EDGE I2: what a poll carries is what its clients sent, byte for byte, and nothing where they sent nothing.
#[tokio::test(flavor = "multi_thread")]
async fn polls_carry_what_their_clients_sent() {
    let upstream = TestUpstream::saying(json("1")).await;
    let gateway = gateway(&upstream, "");
    for headers in [
        vec!["authorization: Bearer  A=", "cookie: a=1; b=\"2\""],
        vec!["authorization: bearer  A="],
        vec!["cookie: a=1"],
        vec!["cookie: a=1", "cookie: b=2"],
        vec![],
    ] {
        let before = upstream.count();
        get(gateway.address, "/mine", &headers).await;
        let requests = upstream.requests();
        let found = requests[before..].iter().any(|seen| {
            let value = |name: &str| {
                let values: Vec<&str> = headers
                    .iter()
                    .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                    .collect();
                (!values.is_empty()).then(|| values.join("; "))
            };
            ["authorization", "cookie"]
                .iter()
                .all(|name| seen.header(name).map(str::to_owned) == value(name))
        });
        assert!(found, "{headers:?}");
    }
    let twice = ["authorization: a", "authorization: b"];
    assert_eq!(get(gateway.address, "/mine", &twice).await.head.status, 400);
}

/// CONTRACT §6, Snapshot: neither a snapshot nor a stream may be kept for others.
#[tokio::test(flavor = "multi_thread")]
async fn answers_say_that_they_are_personal() {
    let upstream = per_user().await;
    let gateway = gateway(&upstream, "");
    let line = "authorization: Bearer user-a";
    let snapshot = get(gateway.address, "/mine", &[line]).await.head;
    let stream = EventSource::open_with(gateway.address, "/mine", &[line])
        .await
        .head;
    let tag = format!(
        "if-none-match: {}",
        snapshot.header("etag").unwrap_or_default()
    );
    let unchanged = get(gateway.address, "/mine", &[line, &tag]).await.head;
    for head in [snapshot, stream, unchanged] {
        assert!(head.all("cache-control").starts_with("private"), "{head:?}");
        let vary = head.all("vary").to_lowercase();
        for name in ["accept", "authorization", "cookie"] {
            assert!(vary.contains(name), "{vary}");
        }
    }
}

/// Who is refused gets nothing of what the same credentials were given before.
#[tokio::test(flavor = "multi_thread")]
async fn revoked_credentials_get_nothing_more() {
    let revoked = Arc::new(AtomicBool::new(false));
    let state = revoked.clone();
    let upstream = TestUpstream::start(move |_: &Request| match state.load(Ordering::SeqCst) {
        true => status(401, "{}"),
        false => json(r#""secret""#),
    })
    .await;
    let gateway = gateway(&upstream, "");
    let line = "authorization: Bearer user-a";
    let mut stream = EventSource::open_with(gateway.address, "/mine", &[line]).await;
    let first = stream.event().await;
    assert_eq!(first.data, r#""secret""#);
    revoked.store(true, Ordering::SeqCst);
    let told = stream.until("stale").await;
    assert!(told.contains(r#""cause":"unauthorized""#), "{told}");
    let answer = get(gateway.address, "/mine", &[line]).await;
    assert_eq!(answer.head.status, 503, "{}", answer.body);
    assert!(!answer.body.contains("secret") && answer.body.contains("unauthorized"));
    let mut newcomer = EventSource::open_with(gateway.address, "/mine", &[line]).await;
    assert_eq!(newcomer.event().await.name, "stale");
    revoked.store(false, Ordering::SeqCst);
    assert_eq!(newcomer.until_data(r#""secret""#).await.name, first.name);
}

/// EDGE I8: distinct credentials count as distinct resources.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_count_as_channels() {
    let upstream = per_user().await;
    let gateway = gateway(&upstream, "    max_channels: 2\n");
    let mut held = Vec::new();
    for user in ["user-a", "user-b"] {
        let line = format!("authorization: Bearer {user}");
        held.push(EventSource::open_with(gateway.address, "/mine", &[&line]).await);
    }
    let third = get(gateway.address, "/mine", &["authorization: Bearer user-c"]).await;
    assert_eq!(third.head.status, 429);
    drop(held);
}

/// EDGE I2: a stream that forwards nothing sends nothing of its clients, and shares one poll.
#[tokio::test(flavor = "multi_thread")]
async fn shared_polls_carry_nothing_of_clients() {
    let upstream =
        TestUpstream::saying(json("1").with("set-cookie", "s=1").with("vary", "*")).await;
    let gateway = TestGateway::polling(&upstream.url(), "");
    for user in ["a", "b"] {
        let headers = [
            format!("authorization: Bearer {user}"),
            format!("cookie: {user}=1"),
        ];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let answer = get(gateway.address, "/value", &headers).await;
        assert_eq!((answer.head.status, answer.body.as_str()), (200, "1"));
        assert_eq!(answer.head.header("set-cookie"), None);
        assert_eq!(answer.head.all("vary"), "Accept");
    }
    eventually("two polls", || upstream.count() > 1).await;
    for request in upstream.requests() {
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.header("cookie"), None);
    }
}
