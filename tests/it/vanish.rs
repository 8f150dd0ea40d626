//! Clients whose host is gone: packets are dropped and nobody says so. In network namespaces of their own.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::support::process::{Process, program};

/// How long the kernel waits for an answer to what was sent, and how long it may take it to look.
const UNANSWERED: Duration = Duration::from_secs(30);
const SLACK: Duration = Duration::from_secs(10);

/// The gateway's end of a cable, and a client's.
const GATEWAY: &str = "10.213.7.1";
const CLIENT: &str = "10.213.7.2";

/// Two namespaces and a cable between them. Taken away in Drop.
struct Cable {
    gateway: String,
    client: String,
}

impl Cable {
    /// `None` where this process may not make namespaces.
    fn new() -> Option<Self> {
        let id = std::process::id();
        let cable = Self {
            gateway: format!("ws-gateway-{id}"),
            client: format!("ws-client-{id}"),
        };
        if !ip(&format!("netns add {}", cable.gateway)) {
            return None;
        }
        let (near, far) = (&cable.gateway, &cable.client);
        for command in [
            format!("netns add {far}"),
            format!("-n {near} link add end0 type veth peer name end1 netns {far}"),
            format!("-n {near} address add {GATEWAY}/30 dev end0"),
            format!("-n {far} address add {CLIENT}/30 dev end1"),
            format!("-n {near} link set lo up"),
            format!("-n {near} link set end0 up"),
            format!("-n {far} link set end1 up"),
        ] {
            assert!(ip(&command), "ip {command}");
        }
        Some(cable)
    }

    fn within(namespace: &str, command: &[&str]) -> Process {
        let mut ip = program("ip");
        ip.args(["netns", "exec", namespace]).args(command);
        Process::start(&mut ip)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.gateway, &self.client] {
            ip(&format!("netns delete {namespace}"));
        }
    }
}

fn ip(command: &str) -> bool {
    let mut ip = std::process::Command::new("ip");
    let status = ip
        .args(command.split_whitespace())
        .stderr(Stdio::null())
        .status();
    status
        .expect("ip: `make test` installs what tests need")
        .success()
}

/// EDGE B3: whoever vanishes without a word is noticed by the first heartbeat that nobody acknowledges, and is gone when the
/// kernel has waited long enough for that; who stays is not touched.
#[tokio::test]
async fn who_vanishes_is_gone_within_the_bound() {
    let Some(cable) = Cable::new() else {
        eprintln!("not run: making network namespaces needs a privilege that is not there");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wellspring.yaml");
    let text = format!(
        "listeners: [{{address: \"{GATEWAY}:0\"}}]\nadmin: off\n\
         upstreams: {{nobody: {{url: \"http://127.0.0.1:9\"}}}}\n\
         streams: [{{path: /silent, http: {{upstream: nobody}}, every: 60s, heartbeat: 1s}}]\n"
    );
    std::fs::write(&file, text).expect("written");
    let binary = env!("CARGO_BIN_EXE_wellspring");
    let path = file.to_str().expect("text");
    let mut gateway = Cable::within(&cable.gateway, &[binary, "run", "--config", path]);
    let line = gateway.line(&format!("address={GATEWAY}:")).await;
    let (_, address) = line.rsplit_once("address=").expect("an address");
    let url = format!("http://{}/silent", address.trim());
    let stream = "Accept: text/event-stream";
    let curl = ["curl", "--silent", "--no-buffer", "--header", stream, &url];
    let _reader = Cable::within(&cable.client, &curl);
    gateway.line("stream opened").await;
    assert!(ip(&format!("-n {} link set end1 down", cable.client)));
    let vanished = Instant::now();
    let ended = async {
        loop {
            let line = gateway.try_line().await.expect("it runs");
            if line.contains("stream ended") {
                return line;
            }
        }
    };
    let line = tokio::time::timeout(UNANSWERED + SLACK, ended)
        .await
        .expect("gone in time");
    assert!(line.contains("client-left"), "{line}");
    // The kernel did wait for it: this was no connection that broke at once.
    assert!(vanished.elapsed() > UNANSWERED / 2);
}
