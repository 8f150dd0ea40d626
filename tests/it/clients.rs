//! The systems that the gateway replaces, running on it: the files under `examples/` as they are, with the real binary,
//! a real browser, Redis, Python, Node.js and gunicorn.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::browser::Browser;
use super::support::client::{EventSource, get, pair, request};
use super::support::eventually;
use super::support::process::{Process, Wellspring, example, installed, program, python};
use super::support::redis::TestRedis;
use super::support::relay::Relay;

/// C1, C17: the page's own origin may read; the same page under another name may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_price_in_redis_is_shown_on_a_page_of_another_origin() {
    let redis = TestRedis::start();
    redis.cli(&["SET", "current_price", "101"]);
    let (_pages, page) = pages("redis-price").await;
    let (port, origin) = (redis.port().to_string(), format!("http://{page}"));
    let gateway = Wellspring::run(
        "redis-price",
        &[("REDIS_PORT", &port), ("PAGE_ORIGIN", &origin)],
    )
    .await;

    let browser = Browser::open(&format!("{origin}/?gateway={}", gateway.url(""))).await;
    browser.shows("#price", "Current Price - 101").await;
    redis.cli(&["SET", "current_price", "102"]);
    browser.shows("#price", "Current Price - 102").await;
    browser.shows("#state", "live").await;
    redis.cli(&["DEL", "current_price"]);
    browser.shows("#state", "gone").await;
    redis.cli(&["SET", "current_price", "102"]);
    browser.shows("#state", "live").await;

    browser
        .go(&format!(
            "http://localhost:{}/?gateway={}",
            page.port(),
            gateway.url("")
        ))
        .await;
    browser.shows("#state", "closed").await;
    browser.shows("#price", "Current Price").await;
}

/// The page holds the API's list at all times, after one snapshot by patches alone.
#[tokio::test(flavor = "multi_thread")]
async fn quotes_of_a_rest_api_become_patches_on_its_page() {
    let (_api, api) = quotes().await;
    let url = format!("http://{api}");
    let gateway = Wellspring::run("rest-quotes", &[("API_URL", &url)]).await;
    let browser = Browser::open(&gateway.url("/")).await;
    browser.shows("#quotes", &rows(api).await).await;

    // A change, a newcomer in front, and one that leaves; the writes pass through the gateway.
    let changes = [
        ("PUT", "ECHO", r#"{"bid":7,"ask":8}"#),
        ("PUT", "AAAA", r#"{"bid":1.5,"ask":2}"#),
        ("DELETE", "KELP", ""),
    ];
    for (count, (method, symbol, body)) in changes.into_iter().enumerate() {
        let answer = request(
            gateway.address,
            method,
            &format!("/quotes/{symbol}"),
            &[],
            body,
        )
        .await;
        assert_eq!(answer.head.status, 200, "{}", answer.body);
        browser.shows("#quotes", &rows(api).await).await;
        browser.shows("#patches", &(count + 1).to_string()).await;
    }
    browser.shows("#snapshots", "1").await;
    // Who asks for JSON gets the API's own.
    assert_eq!(list(gateway.address).await, list(api).await);
}

/// One poll, three readers, the same events.
#[tokio::test(flavor = "multi_thread")]
async fn python_clients_read_the_same_events() {
    let (_api, api) = quotes().await;
    let url = format!("http://{api}");
    let gateway = Wellspring::run("python-clients", &[("API_URL", &url)]).await;
    let mut clients = Vec::new();
    for name in ["with_urllib3.py", "with_requests.py", "with_httpx.py"] {
        let mut command = python();
        if name == "with_requests.py" {
            // Both packages are imported as `sseclient`.
            command.env("PYTHONPATH", installed("sseclient"));
        }
        command
            .arg(example("python-clients").join(name))
            .arg(gateway.url("/quotes/ACME"));
        clients.push(Process::start(&mut command));
    }
    for (bid, next) in [
        (r#""bid":100.0"#, Some(r#"{"bid":55.5,"ask":56}"#)),
        (r#""bid":55.5"#, None),
    ] {
        let mut seen = Vec::new();
        for client in &mut clients {
            seen.push(client.line("quote ").await);
        }
        assert!(seen[0].contains(bid), "{seen:?}");
        assert!(seen.iter().all(|line| *line == seen[0]), "{seen:?}");
        if let Some(next) = next {
            assert_eq!(
                request(api, "PUT", "/quotes/ACME", &[], next)
                    .await
                    .head
                    .status,
                200
            );
        }
    }
}

/// L8: `eventsource` reconnects with the last id after its line was cut, and the next process goes on where the last one
/// stopped.
#[tokio::test(flavor = "multi_thread")]
async fn orders_survive_a_cut_line_and_a_restart_of_the_client() {
    let redis = TestRedis::start();
    let port = redis.port().to_string();
    let gateway = Wellspring::run("resume", &[("REDIS_PORT", &port)]).await;
    let relay = Relay::to(gateway.address).await;
    let folder = TempDir::new().expect("a folder");
    let start = || {
        let mut command = program("node");
        command
            .env("NODE_PATH", installed("node/node_modules"))
            .arg(example("resume").join("client.js"));
        command
            .arg(format!("http://{}/orders", relay.address))
            .arg(folder.path().join("id"));
        Process::start(&mut command)
    };
    let publish = |number: u32| assert_eq!(redis.cli(&["PUBLISH", "orders", &order(number)]), "1");

    let mut client = start();
    client.line("open").await;
    subscribed(&redis, "orders").await;
    publish(1);
    let mut ids = vec![expect_order(&mut client, 1).await];
    relay.cut().await;
    publish(2);
    publish(3);
    relay.mend();
    assert_eq!(client.next_line().await, "open");
    ids.push(expect_order(&mut client, 2).await);
    ids.push(expect_order(&mut client, 3).await);
    client.stop().await;
    publish(4);
    publish(5);
    let mut client = start();
    assert_eq!(client.next_line().await, "open");
    ids.push(expect_order(&mut client, 4).await);
    ids.push(expect_order(&mut client, 5).await);
    publish(6);
    ids.push(expect_order(&mut client, 6).await);
    let before = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), before, "{ids:?}");
}

/// A page that publishes, a page that reads, and a program.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_posted_reaches_every_reader() {
    let (_pages, pages) = pages("publish").await;
    let url = format!("http://{pages}");
    let gateway = Wellspring::run("publish", &[("PAGES_URL", &url)]).await;
    let browser = Browser::open(&gateway.url("/")).await;
    browser.shows("#state", "open").await;
    let mut reader = EventSource::open(gateway.address, "/subscribe").await;

    // Text stays text on a page.
    let hello = "hello <b>world</b>";
    browser
        .run(&format!(
            "message.value = {}; form.requestSubmit()",
            json!(hello)
        ))
        .await;
    assert_eq!(reader.next().await, pair("message", hello));
    browser.shows("#messages", hello).await;
    let json = ["content-type: application/json"];
    let answer = request(gateway.address, "POST", "/publish", &json, r#"{"n": 1}"#).await;
    assert_eq!(answer.head.status, 202, "{}", answer.body);
    let event = reader.event().await;
    assert_eq!(event.data, r#"{"n":1}"#);
    assert_eq!(answer.body, json!({"id": event.id}).to_string());
    browser
        .shows("#messages", &format!("{hello}\n{{\"n\":1}}"))
        .await;
}

/// The package itself publishes; a page's named listener and a Python program read, from one subscription.
#[tokio::test(flavor = "multi_thread")]
async fn flask_sse_publishes_to_pages_and_programs() {
    let redis = TestRedis::start();
    let port = redis.port().to_string();
    let mut command = python();
    command
        .args([
            "-m",
            "gunicorn",
            "-k",
            "gevent",
            "-b",
            "127.0.0.1:0",
            "app:app",
        ])
        .env("REDIS_PORT", &port);
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(example("flask-sse"));
    let mut app = Process::start(&mut command);
    let line = app.line("Listening at: ").await;
    let url = line
        .split(' ')
        .find(|word| word.starts_with("http://"))
        .expect("an address");
    let gateway = Wellspring::run("flask-sse", &[("REDIS_PORT", &port), ("APP_URL", url)]).await;

    let browser = Browser::open(&gateway.url("/")).await;
    browser.shows("#state", "open").await;
    let mut command = python();
    command
        .arg(example("python-clients").join("with_urllib3.py"))
        .arg(gateway.url("/stream"));
    let mut program = Process::start(&mut command);
    program.line("reading").await;
    subscribed(&redis, "sse").await;

    let form = ["content-type: application/x-www-form-urlencoded"];
    assert_eq!(
        request(gateway.address, "POST", "/greet", &form, "name=Ada")
            .await
            .body,
        "published\n"
    );
    assert!(
        program
            .line("greeting ")
            .await
            .ends_with(r#" {"message":"Hello, Ada!"}"#)
    );
    browser.shows("#greetings", "Hello, Ada!").await;
    browser
        .run("document.querySelector('[name=name]').value = 'Åsa & Bo'; form.requestSubmit()")
        .await;
    assert!(
        program
            .line("greeting ")
            .await
            .ends_with(r#" {"message":"Hello, Åsa & Bo!"}"#)
    );
    browser
        .shows("#greetings", "Hello, Ada!\nHello, Åsa & Bo!")
        .await;
    subscribed(&redis, "sse").await;
}

/// The folder of a scene, served as its README says.
pub async fn pages(scene: &str) -> (Process, SocketAddr) {
    let mut command = python();
    command
        .args(["-m", "http.server", "0", "--bind", "127.0.0.1"])
        .current_dir(example(scene));
    let mut process = Process::start(&mut command);
    let line = process.line("Serving HTTP on ").await;
    let port = line
        .split(' ')
        .skip_while(|word| *word != "port")
        .nth(1)
        .and_then(|port| port.parse().ok());
    (
        process,
        SocketAddr::from(([127, 0, 0, 1], port.expect("a port"))),
    )
}

/// The legacy API; no quote moves by itself.
pub async fn quotes() -> (Process, SocketAddr) {
    let mut command = python();
    command
        .arg(example("rest-quotes").join("api.py"))
        .args(["0", "0"]);
    let mut process = Process::start(&mut command);
    let line = process.line("listening on http://").await;
    let address = line
        .rsplit('/')
        .next()
        .and_then(|address| address.parse().ok());
    (process, address.expect("an address"))
}

async fn list(server: SocketAddr) -> Value {
    let answer = get(server, "/quotes", &["accept: application/json"]).await;
    serde_json::from_str(&answer.body).expect("JSON")
}

/// What the page shows of the API's list.
async fn rows(api: SocketAddr) -> String {
    let list = list(api).await;
    let row = |quote: &Value| {
        let number = |name: &str| quote[name].as_f64().expect("a number");
        format!(
            "{}\t{:.2}\t{:.2}",
            quote["symbol"].as_str().expect("a symbol"),
            number("bid"),
            number("ask")
        )
    };
    let rows: Vec<String> = list["quotes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(row)
        .collect();
    rows.join("\n")
}

fn order(number: u32) -> String {
    json!({"order": number}).to_string()
}

/// The client's next line is this order; gives its id.
async fn expect_order(client: &mut Process, number: u32) -> String {
    let line = client.next_line().await;
    let id = line
        .strip_prefix("order ")
        .and_then(|rest| rest.strip_suffix(&format!(" {}", order(number))));
    id.unwrap_or_else(|| panic!("order {number}: {line}"))
        .to_owned()
}

/// The gateway holds one subscription of this channel, however many read it.
async fn subscribed(redis: &TestRedis, channel: &str) {
    eventually("one subscription", || {
        redis.cli(&["PUBSUB", "NUMSUB", channel]) == format!("{channel}\n1")
    })
    .await;
}
