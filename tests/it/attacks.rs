//! Attacks by tools that nobody here wrote, on the real binary, while a client of good will goes on being served.

use std::time::{Duration, Instant};

use tokio::process::Command;

use super::support::authority::Authority;
use super::support::client::{EventSource, get};
use super::support::process::{Process, Wellspring, program, python};
use super::support::soon;
use super::support::upstream::{TestUpstream, json};

/// What one attack may add to the gateway's memory, in KiB.
const MORE_MEMORY: u64 = 96 << 10;

/// What anybody else waits for an answer while it lasts. The machine is busy attacking, too.
const PATIENCE: Duration = Duration::from_secs(2);

async fn gateway(upstream: &TestUpstream, listener: &str) -> Wellspring {
    Wellspring::with(&format!(
        "listeners: [{{address: \"127.0.0.1:0\"{listener}}}]\nadmin: off\nupstreams: {{legacy: {{url: \"{}\"}}}}\n\
         streams: [{{path: /value, http: {{upstream: legacy}}, every: 100ms}}]\n\
         routes: [{{prefix: /, upstream: legacy}}]\nlimits: {{header_timeout: 2s, write_stall: 2s}}\n",
        upstream.url()
    ))
    .await
}

/// Runs `attack` to its end; gives the line that it prints last.
async fn survives(gateway: &Wellspring, attack: &mut Command) -> String {
    let mut stream = EventSource::open(gateway.address, "/value").await;
    stream.event().await;
    let before = gateway.memory();
    let mut attack = Process::start(attack);
    let mut probe = tokio::time::interval(Duration::from_millis(50));
    let mut probes = 0;
    let mut last = String::new();
    let output = loop {
        tokio::select! {
            line = attack.try_line() => match line {
                Some(line) => last = line,
                None => break last,
            },
            _ = probe.tick() => {
                let began = Instant::now();
                assert_eq!(get(gateway.address, "/value", &[]).await.head.status, 200);
                assert!(began.elapsed() < PATIENCE, "an answer took {:?}", began.elapsed());
                probes += 1;
            }
        }
    };
    assert!(probes > 0, "the attack was over at once: {output}");
    let more = gateway.memory().saturating_sub(before);
    assert!(more < MORE_MEMORY, "{more} KiB more");
    assert_eq!(get(gateway.address, "/other", &[]).await.head.status, 200);
    output
}

/// EDGE X3–X5: each flood ends in GOAWAY, or is just work that holds nobody else up.
#[tokio::test(flavor = "multi_thread")]
async fn floods_of_one_http2_connection_hold_nobody_up() {
    let upstream = TestUpstream::saying(json("1")).await;
    // Whether the gateway must end the connection by itself.
    let kinds = [
        ("rapid-reset", true),
        ("made-you-reset", true),
        ("continuation", true),
        ("header-bomb", false),
        ("ping", false),
        ("settings", false),
        ("empty-data", false),
        ("priority", false),
        ("zero-window", false),
    ];
    for (kind, must_end) in kinds {
        let gateway = gateway(&upstream, "").await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/attacks/h2_flood.py");
        let address = gateway.address;
        let mut flood = python();
        flood.args([
            script,
            "127.0.0.1",
            &address.port().to_string(),
            "/value",
            kind,
            "3",
        ]);
        let line = survives(&gateway, &mut flood).await;
        let end: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{kind}: {line}"));
        eprintln!("{kind}: {end}");
        if must_end {
            assert!(
                end["closed"] == true || end["goaway"].is_number(),
                "{kind} went on: {end}"
            );
        }
    }
}

/// EDGE B7, P11: slow heads, slow bodies, slow reading, overlapping ranges.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_take_nothing_from_others() {
    let upstream = TestUpstream::saying(json(&"7".repeat(100_000))).await;
    let kinds: [&[&str]; 4] = [
        &["-H", "-i", "1", "-x", "24"],
        &["-B", "-i", "1", "-s", "8192", "-x", "10"],
        &[
            "-X", "-w", "1", "-y", "64", "-n", "1", "-z", "32", "-k", "3",
        ],
        &["-R", "-a", "10", "-b", "3000"],
    ];
    for kind in kinds {
        let gateway = gateway(&upstream, "").await;
        let mut tool = program("slowhttptest");
        tool.args([
            "-c",
            "300",
            "-r",
            "300",
            "-l",
            "5",
            "-p",
            "1",
            "-u",
            &gateway.url("/value"),
        ]);
        tool.args(kind);
        survives(&gateway, &mut tool).await;
    }
}

/// EDGE X9, X10: a scanner finds nothing of note.
#[tokio::test(flavor = "multi_thread")]
async fn a_tls_scanner_finds_nothing() {
    let upstream = TestUpstream::saying(json("1")).await;
    let authority = Authority::new();
    authority.write("tls", &["localhost"]);
    let tls = format!(", tls: {{certificates: [{}]}}", authority.pair("tls"));
    let gateway = gateway(&upstream, &tls).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/attacks/tls_scan.py");
    let mut scan = python();
    scan.args([script, "127.0.0.1", &gateway.address.port().to_string()]);
    let output = soon("scanned", scan.output()).await.expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.trim(), "done: 13 scans", "{errors}");
}
