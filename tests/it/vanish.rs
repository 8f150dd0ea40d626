//! Clients whose host is gone: packets are dropped and nobody says so. In a network namespace of their own.

use std::time::{Duration, Instant};

use super::support::cable::Cable;
use super::support::process::{Process, program};

/// How long the kernel waits for an answer to what was sent, and how long it may take it to look.
const UNANSWERED: Duration = Duration::from_secs(30);
const SLACK: Duration = Duration::from_secs(10);

/// EDGE B3: whoever vanishes without a word is noticed by the first heartbeat that nobody acknowledges, and is gone when the
/// kernel has waited long enough for that; who stays is not touched.
#[tokio::test]
async fn who_vanishes_is_gone_within_the_bound() {
    let Some(cable) = Cable::new("10.213.7") else {
        eprintln!("not run: making network namespaces needs a privilege that is not there");
        return;
    };
    let here = cable.here();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wellspring.yaml");
    let text = format!(
        "listeners: [{{address: \"{here}:0\"}}]\nadmin: off\n\
         upstreams: {{nobody: {{url: \"http://127.0.0.1:9\"}}}}\n\
         streams: [{{path: /silent, http: {{upstream: nobody}}, every: 60s, heartbeat: 1s}}]\n"
    );
    std::fs::write(&file, text).expect("written");
    let mut gateway = program(env!("CARGO_BIN_EXE_wellspring"));
    let mut gateway = Process::start(gateway.args(["run", "--config"]).arg(&file));
    let url = format!("http://{}/silent", gateway.address().await);
    let stream = "Accept: text/event-stream";
    let mut readers = Vec::new();
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let mut curl = program("ip");
        curl.args(["netns", "exec", cable.namespace(), "curl", protocol]);
        curl.args(["--silent", "--no-buffer", "--header", stream, &url]);
        readers.push(Process::start(&mut curl));
        gateway.line("stream opened").await;
    }
    cable.cut();
    let vanished = Instant::now();
    for _reader in &readers {
        let left = (UNANSWERED + SLACK).saturating_sub(vanished.elapsed());
        let ended = async {
            loop {
                let line = gateway.try_line().await.expect("it runs");
                if line.contains("stream ended") {
                    return line;
                }
            }
        };
        let line = tokio::time::timeout(left, ended)
            .await
            .expect("gone in time");
        assert!(line.contains("client-left"), "{line}");
        // The kernel did wait for it: this was no connection that broke at once.
        assert!(vanished.elapsed() > UNANSWERED / 2);
    }
}
