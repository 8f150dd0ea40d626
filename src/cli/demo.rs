//! `wellspring demo`: the main job with nothing else installed. One process holds a legacy API with changing values, the
//! gateway of `config/demo.yaml` before it, and a page that shows what polling would have cost and what it costs now.

mod api;
mod meter;
mod page;
mod readers;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde_json::Map;
use tokio::net::TcpListener;
use tracing::{error, warn};

use super::run::{Asked, Signals, raise_descriptor_limit};
use super::{CONFIG, FAILED, OK, UNAVAILABLE, block_on, print};
use crate::config::{self, Config, Problems};
use crate::gateway::{Gateway, StartError};
use api::Api;
use page::Page;
use readers::Readers;

const FILE: &str = include_str!("../../config/demo.yaml");
const FILE_NAME: &str = "config/demo.yaml";

/// Taken when it can be bound, else a free one.
const PORT: u16 = 8080;

pub(super) fn demo() -> u8 {
    raise_descriptor_limit();
    block_on(async {
        match serve().await {
            Ok(()) => OK,
            Err(Failure::Config(problems)) => {
                eprint!("{problems}");
                CONFIG
            }
            Err(Failure::Start(bind @ StartError::Bind { .. })) => {
                error!("{bind}");
                UNAVAILABLE
            }
            Err(failure) => {
                error!("{failure}");
                FAILED
            }
        }
    })
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Config(Problems),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("{0}")]
    System(#[from] std::io::Error),
    #[error("{0}")]
    Client(#[from] reqwest::Error),
}

/// Serves until SIGTERM or SIGINT.
async fn serve() -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let (gateway, address) = match start(PORT).await {
        // Nothing runs yet: ports are bound before anything starts.
        Err(Failure::Start(StartError::Bind { .. })) => start(0).await?,
        started => started?,
    };
    print(&greeting(address));
    while signals.next().await != Asked::Stop {
        warn!("the demo stays as it is");
    }
    signals.stop(gateway).await;
    Ok(())
}

/// Starts the API and the gateway before it, which listens on `port`. Tells where.
async fn start(port: u16) -> Result<(Gateway, SocketAddr), Failure> {
    // The API's port is known before the gateway starts; until it is served, connections wait.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let config = config(listener.local_addr()?, port).map_err(Failure::Config)?;
    let page = Page::new(&plan(&config));
    let gateway = Gateway::start(config)?;
    let address = gateway.addresses().first().copied();
    let address = address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, port).into());
    let api = Api::new(fastrand::u64(..), page, Readers::new(address)?);
    tokio::spawn(Arc::new(api).serve(listener));
    Ok((gateway, address))
}

fn config(upstream: SocketAddr, port: u16) -> Result<Config, Problems> {
    config::parse(FILE_NAME, FILE, &|name| match name {
        "WELLSPRING_DEMO_UPSTREAM" => Some(format!("http://{upstream}")),
        "WELLSPRING_DEMO_PORT" => Some(port.to_string()),
        _ => None,
    })
}

/// The intervals in milliseconds, by path: from them the page computes what polling would have cost.
fn plan(config: &Config) -> String {
    let streams = config.streams.iter();
    let intervals = streams.map(|stream| {
        (
            stream.path.to_string(),
            (stream.every.as_millis() as u64).into(),
        )
    });
    serde_json::Value::Object(Map::from_iter(intervals)).to_string()
}

fn greeting(address: SocketAddr) -> String {
    format!(
        r#"
The demo is at  http://{address}/

To try in another terminal:
  a stream                 curl -N -H 'Accept: text/event-stream' http://{address}/api/quotes/ACME
  only what changed        curl -N -H 'Accept: text/event-stream' 'http://{address}/api/orders?deliver=json-patch'
  the value, as before     curl -i http://{address}/api/sensor
  wait until it changes    curl -i -H 'Prefer: wait=30' -H "If-None-Match: $(curl -so /dev/null -w '%header{{etag}}' http://{address}/api/sensor)" http://{address}/api/sensor
  the API out of order     curl -X POST 'http://{address}/api/_fail?seconds=10'
  100 more readers         curl -X POST 'http://{address}/api/_readers?n=100'

Ctrl-C ends it.
"#
    )
}

#[cfg(test)]
mod tests {
    use super::world::Resource;
    use super::*;
    use crate::sse::parser::{Item, Parser};
    use std::time::Duration;

    fn demo_config() -> Config {
        let upstream = SocketAddr::from(([127, 0, 0, 1], 4321));
        config(upstream, 0).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn the_file_takes_its_ports_from_the_demo_and_stands_by_itself() {
        let config = demo_config();
        assert_eq!(config.listeners[0].address.port(), 0);
        assert_eq!(
            config.upstreams["shop"].url.as_str(),
            "http://127.0.0.1:4321/"
        );
        let alone = config::parse(FILE_NAME, FILE, &|_| None)
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(alone.listeners[0].address.port(), PORT);
    }

    /// The main job: many readers, one poll per interval; the page and the buttons pass through.
    #[tokio::test(flavor = "multi_thread")]
    async fn readers_come_and_the_api_is_not_asked_more_often() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (gateway, address) = start(0).await.expect("a running demo");
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build();
        let client = client.expect("a client");
        let page = client
            .get(format!("http://{address}/"))
            .send()
            .await
            .expect("the page");
        assert!(page.headers().contains_key("content-security-policy"));
        assert!(
            page.text()
                .await
                .expect("text")
                .contains("<title>Wellspring demo</title>")
        );

        let opened = client
            .post(format!("http://{address}/api/_readers?n=60"))
            .send()
            .await;
        assert_eq!(opened.expect("an answer").status(), 202);
        // Each reader has a first event, and those of the quotes some more.
        let all_served = async {
            let stats = client.get(format!("http://{address}/api/_stats"));
            let stats = stats.header("accept", "text/event-stream").send().await;
            let mut stream = stats.expect("a stream");
            let mut parser = Parser::default();
            while let Some(bytes) = stream.chunk().await.expect("bytes") {
                for item in parser.push(&bytes) {
                    let Item::Event(event) = item else { continue };
                    let stats: serde_json::Value = serde_json::from_str(&event.data).expect("JSON");
                    let readers = &stats["readers"];
                    if readers["open"] == 60 && readers["events"].as_u64() > Some(200) {
                        return stats;
                    }
                }
            }
            panic!("the stream ended");
        };
        let stats = tokio::time::timeout(Duration::from_secs(30), all_served).await;
        let stats = stats.expect("all readers served");
        // 3.5 polls a second; had each reader polled, there would have been as many requests as events, and more.
        let requests = stats["requests"].as_u64().expect("a number");
        let uptime = stats["uptime"].as_u64().expect("a number");
        assert!(requests <= 4 * (uptime + 2), "{stats}");
        gateway.stop().await;
    }

    #[test]
    fn every_resource_of_the_api_has_a_stream_and_the_page_knows_its_interval() {
        let config = demo_config();
        let plan: serde_json::Value = serde_json::from_str(&plan(&config)).expect("JSON");
        for resource in Resource::ALL {
            let path = resource.path();
            let stream = config.streams.iter().find(|stream| {
                matches!(
                    stream.path.matches(&path),
                    Some(config::field::Match::Params(_))
                )
            });
            let stream = stream.unwrap_or_else(|| panic!("no stream serves {path}"));
            let every = plan[stream.path.as_str()].as_u64().expect("an interval");
            assert!((500..=2_000).contains(&every), "{path}: {every}");
        }
    }
}
