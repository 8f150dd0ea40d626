//! A client connection as Pingora sees it: plain or encrypted, without lasting buffers, and given back whole when a stream takes it over.
//!
//! Of an HTTP/1 connection it shows one request at a time: bytes behind a request are held until that one is answered, so
//! whatever Pingora makes of a body, it cannot take the begin of the next request for a part of it (EDGE P4).

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;

use super::front::{Body, Meter};
use crate::fanout::Carrier;

/// Bytes that a client may send ahead while its request is served.
const AHEAD: usize = 8 * 1024;

/// Bytes of an answer that wait to be flushed, so that a head leaves in one write with the begin of its body.
const GATHERED: usize = 2 * 1024;

/// What they are gathered in at first: the allocator has such pieces at hand.
const AT_HAND: usize = 1000;

/// How long a client may take for the last bytes of a connection.
const LAST_MOMENT: Duration = Duration::from_secs(5);

/// A connection. Pingora's own kind buffers 64 KiB a connection, which a stream that leaves would drag along.
#[derive(Debug)]
pub(crate) struct Connection {
    io: Io,
    /// Made for the first who asks.
    digest: OnceLock<Arc<SocketDigest>>,
    /// Received and not shown yet.
    held: BytesMut,
    /// Written and not sent yet; takes no memory between answers.
    gathered: BytesMut,
    /// What is still to be shown of the request that is being served.
    body: Body,
    /// The request asks for another protocol, and has no answer yet.
    upgrade: bool,
    /// Watches the frames of an HTTP/2 connection.
    meter: Option<Box<Meter>>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    /// Large; a plain connection is not to pay for it.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A client whose host has vanished without a word is noticed (EDGE B3): by what it does not acknowledge, or by probes.
///
/// The kernel counts the time of a closed window too, so its limit must not undercut `write_stall`.
pub(super) fn notice_absence(socket: &impl AsFd, write_stall: Duration) {
    let socket = socket2::SockRef::from(socket);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(3);
    // Each of these only narrows what a bad client can cost; a connection works without.
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(write_stall.max(Duration::from_secs(30))));
}

impl Connection {
    pub(crate) fn plain(tcp: TcpStream) -> Box<Self> {
        Self::new(Io::Plain(tcp))
    }

    pub(crate) fn tls(stream: Box<TlsStream<TcpStream>>) -> Box<Self> {
        Self::new(Io::Tls(stream))
    }

    fn new(io: Io) -> Box<Self> {
        Box::new(Self {
            io,
            digest: OnceLock::new(),
            held: BytesMut::new(),
            gathered: BytesMut::new(),
            body: Body::Done,
            upgrade: false,
            meter: None,
        })
    }

    /// What has come and is not shown yet.
    pub(super) fn held(&mut self) -> &mut BytesMut {
        &mut self.held
    }

    /// Waits for more of it. 0: the client has closed its side.
    pub(super) async fn fill(&mut self, room: usize) -> io::Result<usize> {
        self.held.reserve(room);
        std::future::poll_fn(|cx| poll_read_buf(Pin::new(&mut self.io), cx, &mut self.held)).await
    }

    /// Shows the body of one request from here on.
    pub(super) fn begin(&mut self, body: Body, upgrade: bool) {
        self.body = body;
        self.upgrade = upgrade;
    }

    /// Whether all of the request has been taken.
    pub(super) fn is_done(&self) -> bool {
        self.body == Body::Done
    }

    /// Shows everything, under the eye of `meter`.
    pub(super) fn begin_http2(&mut self, meter: Box<Meter>) {
        self.body = Body::Open;
        self.meter = Some(meter);
    }

    /// Lets the kernel end the connection when its client's host has vanished, with whatever waits to be acknowledged.
    pub(super) fn notice_absence(&self, write_stall: Duration) {
        let tcp = match &self.io {
            Io::Plain(tcp) => tcp,
            Io::Tls(stream) => stream.get_ref().0,
        };
        notice_absence(tcp, write_stall);
    }

    /// The connection, out of the runtime's hands. Bytes that are held are dropped.
    pub(crate) fn into_carrier(self) -> io::Result<Carrier> {
        if !self.gathered.is_empty() {
            return Err(io::Error::other("an answer is under way"));
        }
        match self.io {
            Io::Plain(tcp) => Ok(Carrier::Plain(tcp.into_std()?)),
            Io::Tls(stream) => {
                let (tcp, session) = stream.into_inner();
                Ok(Carrier::Tls(tcp.into_std()?, Box::new(session)))
            }
        }
    }

    /// While a request is served that is all here: the client may send ahead, and it may leave.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.held.len() < AHEAD {
            self.held.reserve(512);
            if ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.held))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        // The rest waits in the kernel.
        Poll::Pending
    }

    fn poll_held(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let most = self.held.len().min(buf.remaining());
        let taken = advance(&mut self.body, &self.held[..most])?;
        buf.put_slice(&self.held.split_to(taken));
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        Ok(())
    }

    /// Sends what was gathered, and as much of `buf` as leaves with it. Returns how much of `buf` that was.
    fn poll_send(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        while !self.gathered.is_empty() {
            let both = [io::IoSlice::new(&self.gathered), io::IoSlice::new(buf)];
            let sent = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &both))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let first = sent.min(self.gathered.len());
            self.gathered.advance(first);
            if self.gathered.is_empty() {
                self.gathered = BytesMut::new();
            }
            if sent > first {
                return Poll::Ready(Ok(sent - first));
            }
        }
        match buf {
            [] => Poll::Ready(Ok(0)),
            _ => Pin::new(&mut self.io).poll_write(cx, buf),
        }
    }

    /// Another protocol begins with the answer that says so (RFC 9110 §15.2.2; EDGE P7).
    fn answer(&mut self, bytes: &[u8]) {
        let switches = bytes.starts_with(b"HTTP/1.1 101 ");
        // What is said before the answer leaves it open.
        if self.upgrade && (switches || !bytes.starts_with(b"HTTP/1.1 1")) {
            self.upgrade = false;
            if switches {
                self.body = Body::Open;
            }
        }
    }
}

fn advance(body: &mut Body, bytes: &[u8]) -> io::Result<usize> {
    body.advance(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "malformed chunks"))
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.body == Body::Done {
            return this.poll_ahead(cx);
        }
        if this.meter.as_ref().is_some_and(|meter| meter.is_over()) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if this.held.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let taken = advance(&mut this.body, &buf.filled()[before..])?;
            this.held.extend_from_slice(&buf.filled()[before + taken..]);
            buf.set_filled(before + taken);
        } else {
            this.poll_held(buf)?;
        }
        if let Some(meter) = &mut this.meter {
            meter.watch(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answer(buf);
        if self.gathered.len() + buf.len() <= GATHERED {
            if self.gathered.is_empty() {
                self.gathered.reserve(AT_HAND);
            }
            self.gathered.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        self.poll_send(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = bufs.first() {
            self.answer(first);
        }
        // Whoever has several pieces has gathered them.
        if !self.gathered.is_empty() {
            ready!(self.poll_send(cx, &[]))?;
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &[]))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, &[]))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        // The client may be gone already, or take nothing any more; there is nobody to tell.
        let _ = timeout(LAST_MOMENT, AsyncWriteExt::shutdown(self)).await;
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        match &self.io {
            Io::Plain(tcp) => tcp.as_raw_fd(),
            Io::Tls(stream) => stream.get_ref().0.as_raw_fd(),
        }
    }
}

impl Ssl for Connection {}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        let digest = || Arc::new(SocketDigest::from_raw_fd(self.id()));
        Some(self.digest.get_or_init(digest).clone())
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.digest = Arc::new(digest).into();
    }
}

impl Peek for Connection {}
