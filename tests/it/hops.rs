//! What stands before the gateway in the field, with its own defaults: EDGE T1, T5, §17.
//!
//! An event must arrive within a second, and the stream must live on over three heartbeats without an event.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::support::client::{EventSource, get, pair};
use super::support::gateway::TestGateway;
use super::support::process::{Process, program};
use super::support::upstream::{TestUpstream, json};
use super::support::{PATIENCE, soon};
use wellspring::sse::parser::Item;

/// A proxy before the gateway.
pub struct Hop {
    pub address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Hop {
    async fn nginx(gateway: SocketAddr) -> Self {
        Self::nginx_with(gateway, "").await
    }

    /// With more settings for its answers.
    pub async fn nginx_with(gateway: SocketAddr, more: &str) -> Self {
        Self::start("nginx", |folder, address| {
            let site = format!(
                "daemon off; pid {0}/pid; error_log stderr; events {{}}\n\
                 http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f; \
                 uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; {more}\n\
                 server {{ listen {address}; location / {{ proxy_pass http://{gateway}; }} }} }}\n",
                folder.display(),
            );
            let file = folder.join("nginx.conf");
            std::fs::write(&file, site).expect("written");
            vec!["-e".into(), "stderr".into(), "-c".into(), file.display().to_string()]
        })
        .await
    }

    async fn haproxy(gateway: SocketAddr) -> Self {
        Self::haproxy_with(gateway, "").await
    }

    /// With more settings for all that it does.
    pub async fn haproxy_with(gateway: SocketAddr, more: &str) -> Self {
        Self::start("haproxy", |folder, address| {
            let mut site = String::new();
            // HAProxy has no timeouts of its own: these are those of the file that Debian installs.
            let _ = write!(
                site,
                "defaults\n mode http\n timeout connect 5000\n timeout client 50000\n timeout server 50000\n {more}\n\
                 frontend front\n bind {address}\n default_backend back\nbackend back\n server one {gateway}\n"
            );
            let file = folder.join("haproxy.cfg");
            std::fs::write(&file, site).expect("written");
            vec!["-db".into(), "-f".into(), file.display().to_string()]
        })
        .await
    }

    /// Starts the proxy on a port that was free a moment ago; should another have taken it since, on the next one.
    pub async fn start(name: &str, arguments: impl Fn(&Path, SocketAddr) -> Vec<String>) -> Self {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let folder = tempfile::tempdir().expect("a folder");
            let address = free_address();
            let mut command = program(name);
            command.args(arguments(folder.path(), address));
            let process = Process::start(&mut command);
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(5) {
                if TcpStream::connect(address).await.is_ok() {
                    return Self {
                        address,
                        _process: process,
                        _folder: folder,
                    };
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("{name} never accepted a connection");
    }
}

fn free_address() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound")
}

/// An event every time the upstream changes its mind, and heartbeats of a second.
async fn is_timely_behind(hop: Hop, upstream: &TestUpstream) {
    let mut stream = soon("opened", EventSource::open(hop.address, "/value")).await;
    assert_eq!(
        stream.head.header("content-type"),
        Some("text/event-stream")
    );
    assert_eq!(stream.next().await, pair("message", "0"));
    for value in 1..=5 {
        let began = Instant::now();
        upstream.say(json(&value.to_string()));
        assert_eq!(stream.next().await, pair("message", &value.to_string()));
        let delay = began.elapsed();
        assert!(
            delay < Duration::from_secs(1),
            "event {value} was held for {delay:?}"
        );
    }
    let mut heartbeats = 0;
    while heartbeats < 3 {
        match soon("a heartbeat", stream.item()).await {
            Some(Item::Comment(_)) => heartbeats += 1,
            Some(_) => {}
            None => panic!("cut after {heartbeats} heartbeats"),
        }
    }
    upstream.say(json("6"));
    assert_eq!(stream.next().await, pair("message", "6"));
    let snapshot = get(hop.address, "/value", &[]).await;
    assert_eq!((snapshot.head.status, snapshot.body.as_str()), (200, "6"));
}

async fn gateway() -> (TestUpstream, TestGateway) {
    let upstream = TestUpstream::saying(json("0")).await;
    let gateway = TestGateway::polling(&upstream.url(), "    heartbeat: 1s\n");
    (upstream, gateway)
}

/// EDGE T5, H1: nginx holds what does not tell it otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_timely_behind_nginx() {
    let (upstream, gateway) = gateway().await;
    is_timely_behind(Hop::nginx(gateway.address).await, &upstream).await;
}

/// EDGE T5.
#[tokio::test(flavor = "multi_thread")]
async fn streams_are_timely_behind_haproxy() {
    let (upstream, gateway) = gateway().await;
    is_timely_behind(Hop::haproxy(gateway.address).await, &upstream).await;
}
