//! The gateway at the edge, as the files under `examples/` set it up: real TLS clients, a real browser, a real nginx.

use super::clients::{pages, quotes};
use super::hops::Hop;
use super::support::authority::Authority;
use super::support::browser::Browser;
use super::support::client::{Connection, get, request};
use super::support::process::{Process, Wellspring, example, program, python};

/// What examples know as the key of their login service.
const SECRET: &str = "a secret of more than thirty-two bytes";

async fn token(arguments: &[&str]) -> String {
    let mut command = python();
    command
        .arg(example("secure-api").join("token.py"))
        .args(arguments)
        .env("JWT_SECRET", SECRET);
    Process::start(&mut command).next_line().await
}

/// What `curl` prints, line by line.
fn curl(authority: &Authority, arguments: &[&str]) -> Process {
    let mut command = program("curl");
    command
        .args(["-sS", "-N", "--cacert"])
        .arg(authority.path("ca.pem"));
    Process::start(command.args(arguments))
}

/// A token lets in, over HTTP/2 and HTTP/1.1; its stream ends when it does (A6), and without it nobody reads (A7, A12).
#[tokio::test(flavor = "multi_thread")]
async fn tls_and_tokens_before_an_api_that_has_neither() {
    let authority = Authority::new();
    authority.write("tls", &["localhost"]);
    let (_api, api) = quotes().await;
    let path = |name: &str| authority.path(name).display().to_string();
    let gateway = Wellspring::run(
        "secure-api",
        &[
            ("API_URL", &format!("http://{api}")),
            ("JWT_SECRET", SECRET),
            ("TLS_CERTIFICATE", &path("tls.crt")),
            ("TLS_KEY", &path("tls.key")),
        ],
    )
    .await;
    let url = format!("https://localhost:{}/quotes/ACME", gateway.address.port());
    let status = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}\n"];

    let bearer = format!("authorization: Bearer {}", token(&["3"]).await);
    let stream = ["-H", "accept: text/event-stream", "-H", &bearer, &url];
    let mut stream = curl(&authority, &stream);
    stream.line(r#""bid":100.0"#).await;
    stream.line("event: closing").await;
    stream.line("token-expired").await;
    let mut again = curl(&authority, &[&status[..], &["-H", &bearer, &url]].concat());
    assert_eq!(again.next_line().await, "2 401");

    let poor = format!("authorization: Bearer {}", token(&["60", "other"]).await);
    for (version, header, expected) in [
        ("--http2", "accept: */*", "2 401"),
        ("--http1.1", "accept: */*", "1.1 401"),
        ("--http1.1", &poor, "1.1 403"),
    ] {
        let arguments = [&status[..], &[version, "-H", header, &url]].concat();
        assert_eq!(curl(&authority, &arguments).next_line().await, expected);
    }
    // The rest of the API asks for nothing.
    let list = url.trim_end_matches("/ACME");
    let arguments = [&status[..], &[list]].concat();
    assert_eq!(curl(&authority, &arguments).next_line().await, "2 200");
}

/// C1, C5, C15: with its cookie the app reads, from the origin that is named; the same page of another origin does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_single_page_app_reads_with_its_cookie() {
    let (_api, api) = quotes().await;
    let (_pages, page) = pages("single-page-app").await;
    let origin = format!("http://{page}");
    let gateway = Wellspring::run(
        "single-page-app",
        &[
            ("API_URL", &format!("http://{api}")),
            ("JWT_SECRET", SECRET),
            ("PAGE_ORIGIN", &origin),
        ],
    )
    .await;
    let token = token(&["60"]).await;
    let query = format!("?gateway={}", gateway.url(""));

    let browser = Browser::open(&format!("{origin}/{query}#{token}")).await;
    browser.shows("#state", "live").await;
    browser.shows("#bid", "100").await;
    browser.shows("#once", "100").await;
    let quote = r#"{"bid": 7, "ask": 8}"#;
    assert_eq!(
        request(api, "PUT", "/quotes/ACME", &[], quote)
            .await
            .head
            .status,
        200
    );
    browser.shows("#bid", "7").await;

    // The host of the gateway is another one here, but the cookie is what the page sets for its own.
    let stranger = format!("http://localhost:{}/{query}#{token}", page.port());
    let browser = Browser::open(&stranger).await;
    browser.shows("#state", "refused").await;
    browser.shows("#once", "not allowed to read").await;
    browser.shows("#bid", "?").await;

    // A page that is allowed, but has no session.
    let browser = Browser::open(&format!("{origin}/{query}")).await;
    browser.shows("#state", "refused").await;
    browser.shows("#once", "refused with 401").await;
}

/// Q1, L3: clients are told apart by what nginx says of them, and only nginx may say so.
#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_nginx_are_counted_one_by_one() {
    let (_api, api) = quotes().await;
    let url = format!("http://{api}");
    let gateway = Wellspring::run("behind-nginx", &[("API_URL", &url)]).await;
    let file =
        std::fs::read_to_string(example("behind-nginx").join("nginx.conf")).expect("is there");
    let nginx = Hop::start("nginx", |folder, address| {
        let file = file
            .replace("127.0.0.1:8080", &gateway.address.to_string())
            .replace("127.0.0.1:8000", &address.to_string());
        std::fs::write(folder.join("nginx.conf"), file).expect("written");
        let folder = folder.display().to_string();
        ["-p", &folder, "-e", "stderr", "-c", "nginx.conf"]
            .map(str::to_owned)
            .to_vec()
    })
    .await;

    let open = async |source: &str| {
        let mut connection = Connection::open_from(source, nginx.address).await;
        let request =
            "GET /quotes/ACME HTTP/1.1\r\nhost: a.example\r\naccept: text/event-stream\r\n\r\n";
        connection.send(request.as_bytes()).await;
        let status = connection.head().await.status;
        (connection, status)
    };
    let streams = [
        open("127.0.0.2").await,
        open("127.0.0.2").await,
        open("127.0.0.3").await,
    ];
    assert_eq!(streams.each_ref().map(|(_, status)| *status), [200; 3]);
    assert_eq!(open("127.0.0.2").await.1, 429);
    // What a stranger says of itself counts for nothing: nginx adds whom it sees.
    let claim = ["x-forwarded-for: 127.0.0.9"];
    assert_eq!(get(nginx.address, "/quotes", &claim).await.head.status, 200);
}
