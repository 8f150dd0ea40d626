//! One connection: the handshake, the requests, the streams.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use h2::client::ResponseFuture;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Carriage;
use super::board::{Board, Stream};
use crate::Outcome;
use crate::certificate::NAME;
use crate::swarm::decode::Decoder;
use crate::swarm::lane;

/// Larger than what a stream gets at once.
const BUFFER: usize = 4096;

/// What Chromium lets a stream and a connection have in flight.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 15 << 20;

/// Whom to ask for what, and how.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) address: SocketAddr,
    pub(super) path: &'static str,
    pub(super) carriage: Carriage,
    pub(super) tls: TlsConnector,
    /// One permit a connection that shakes hands or asks.
    pub(super) underway: Arc<Semaphore>,
}

impl Visit {
    /// Plays one connection from `source` until it is dropped. What ends before is counted.
    pub(super) async fn play(self, source: Ipv4Addr, board: Arc<Board>) {
        let outcome = match self.carriage {
            Carriage::Http1 => self.http1(source, &board).await,
            Carriage::Http2(streams) => self.http2(source, streams, &board).await,
        };
        if let Err(why) = outcome {
            board.end(why.to_string());
        }
    }

    async fn connect(&self, source: Ipv4Addr) -> Outcome<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        socket.set_nodelay(true)?;
        let stream = socket
            .connect(self.address)
            .await
            .map_err(|error| format!("connecting: {error}"))?;
        let stream = self
            .tls
            .connect(ServerName::try_from(NAME)?, stream)
            .await
            .map_err(|error| format!("shaking hands: {error}"))?;
        let agreed = stream.get_ref().1.alpn_protocol().unwrap_or_default();
        let wanted = self.carriage.protocol();
        if agreed != wanted.as_bytes() {
            let agreed = String::from_utf8_lossy(agreed);
            return Err(format!("ALPN gave {agreed:?} instead of {wanted}").into());
        }
        Ok(stream)
    }

    async fn http1(&self, source: Ipv4Addr, board: &Board) -> Outcome<()> {
        let mut permit = Some(self.underway.acquire().await?);
        let mut socket = self.connect(source).await?;
        socket
            .write_all(&lane::request(self.address, self.path))
            .await?;
        socket.flush().await?;
        let mut stream = Stream::new(Decoder::new());
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = socket
                .read(&mut buffer)
                .await
                .map_err(|error| format!("reading: {error}"))?;
            if count == 0 {
                return Err("closed by the other side".into());
            }
            board.feed(&mut stream, &buffer[..count])?;
            permit.take();
        }
    }

    async fn http2(&self, source: Ipv4Addr, streams: usize, board: &Arc<Board>) -> Outcome<()> {
        let permit = self.underway.acquire().await?;
        let socket = self.connect(source).await?;
        let (mut sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake::<_, &'static [u8]>(socket)
            .await?;
        let mut tasks = JoinSet::new();
        // How it ends is what its streams end with, too.
        tasks.spawn(async move {
            let _ = connection.await;
        });
        for _ in 0..streams {
            sender = sender.ready().await?;
            let (response, _) = sender.send_request(self.request()?, true)?;
            let board = Arc::clone(board);
            tasks.spawn(async move {
                if let Err(why) = listen(response, &board).await {
                    board.end(why.to_string());
                }
            });
        }
        drop(permit);
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// What a browser sends, as for HTTP/1.1.
    fn request(&self) -> Outcome<Request<()>> {
        let address = self.address;
        Ok(Request::get(format!("https://{address}{}", self.path))
            .header("accept", "text/event-stream")
            .header("cache-control", "no-cache")
            .header(
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
            )
            .header("sec-fetch-site", "same-origin")
            .header("sec-fetch-mode", "cors")
            .header("sec-fetch-dest", "empty")
            .header("referer", format!("https://{address}/"))
            .header("accept-encoding", "gzip, deflate, br, zstd")
            .header("accept-language", "en-GB,en;q=0.9")
            .body(())?)
    }
}

/// Reads one stream of HTTP/2 until it ends, which is an error.
async fn listen(response: ResponseFuture, board: &Board) -> Outcome<()> {
    let response = response.await?;
    let kind = response.headers().get("content-type");
    let events = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if response.status() != 200 || !events {
        return Err(format!("not an event stream: {}", response.status()).into());
    }
    let mut body = response.into_body();
    let mut stream = Stream::new(Decoder::body_alone());
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        board.feed(&mut stream, &bytes)?;
        body.flow_control().release_capacity(bytes.len())?;
    }
    Err("the body ended".into())
}
