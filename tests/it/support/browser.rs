//! Headless Chromium, driven by ChromeDriver (W3C WebDriver).

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::request;
use super::process::{Process, program};

/// A browser with one page. Ends by `Drop`.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    // In this order: the profile is deleted when nobody writes into it any more.
    _process: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with a profile of its own, and goes to `url`.
    pub async fn open(url: &str) -> Self {
        let profile = TempDir::new().expect("a folder");
        let mut process = Process::start(program("chromedriver").arg("--port=0"));
        let line = process.line("started successfully on port ").await;
        let port: String = line.chars().filter(char::is_ascii_digit).collect();
        let driver = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
        let mut args: Vec<String> = FLAGS.iter().map(ToString::to_string).collect();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({"goog:chromeOptions": {"args": args}, "timeouts": {"script": 15_000, "pageLoad": 15_000}});
        let session = call(
            driver,
            "/session",
            &json!({"capabilities": {"alwaysMatch": wanted}}),
        )
        .await;
        let session = session["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no browser: {session}"))
            .to_owned();
        let browser = Self {
            driver,
            session,
            _process: process,
            _profile: profile,
        };
        browser.go(url).await;
        browser
    }

    pub async fn go(&self, url: &str) {
        let answer = self.call("url", &json!({"url": url})).await;
        assert!(answer.is_null(), "{url}: {answer}");
    }

    /// Runs JavaScript in the page; gives what it returns.
    pub async fn run(&self, script: &str) -> Value {
        self.call("execute/sync", &json!({"script": script, "args": []}))
            .await
    }

    /// Waits until the element shows exactly this text.
    pub async fn shows(&self, selector: &str, text: &str) {
        let script = json!({"script": UNTIL_IT_SHOWS, "args": [selector, text]});
        let answer = self.call("execute/async", &script).await;
        if answer != json!(true) {
            let page = self.run("return document.body.innerText").await;
            panic!(
                "{selector} never shows `{text}`; the page shows {page}; {}",
                answer["error"]
            );
        }
    }

    async fn call(&self, command: &str, body: &Value) -> Value {
        call(
            self.driver,
            &format!("/session/{}/{command}", self.session),
            body,
        )
        .await
    }
}

/// No GPU, no user namespaces, no QUIC, and none of the traffic that a browser makes by itself.
const FLAGS: [&str; 8] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

const UNTIL_IT_SHOWS: &str = "
    const [selector, text, done] = arguments;
    const look = () => {
        if (document.querySelector(selector)?.innerText.trim() !== text) return;
        observer.disconnect();
        done(true);
    };
    const observer = new MutationObserver(look);
    observer.observe(document, {childList: true, subtree: true, characterData: true});
    look();
";

/// The `value` of the driver's answer; of a failure, its error.
async fn call(driver: SocketAddr, path: &str, body: &Value) -> Value {
    let headers = ["content-type: application/json"];
    let answer = request(driver, "POST", path, &headers, &body.to_string()).await;
    let mut answer: Value = serde_json::from_str(&answer.body).expect("JSON");
    answer["value"].take()
}
