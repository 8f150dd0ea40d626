//! One request on its way through: which address, which connection, and how often it was tried.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tracing::warn;

use super::client_address::ClientAddress;
use super::cors::{self, Header};
use super::pace::{Floor, Pace};
use super::reply::Rejection;
use super::upstream::line::{Lines, Watch};
use super::upstream::{self, Address, PassThrough, head};

/// Where a request passes through to, and how far it has come.
#[derive(Debug)]
pub(super) struct Passing {
    upstream: PassThrough,
    /// Stand for what the upstream says about origins; `None` leaves that as it is.
    cross_origin: Option<Vec<Header>>,
    address: Option<Arc<Address>>,
    /// These took no connection.
    tried: Vec<SocketAddr>,
    /// How often it was sent.
    sent: u8,
    watch: Option<Watch>,
    /// How long the upstream may be silent from here; `None`: as it likes.
    patience: Option<Duration>,
    /// Of the request's body, once it has begun.
    pace: Option<Pace>,
}

impl Passing {
    pub(super) fn new(upstream: PassThrough, cross_origin: Option<Vec<Header>>) -> Self {
        Self {
            upstream,
            cross_origin,
            address: None,
            tried: Vec::new(),
            sent: 0,
            watch: None,
            patience: None,
            pace: None,
        }
    }

    /// The key of the upstream in the file.
    pub(super) fn upstream_name(&self) -> &str {
        self.upstream.name()
    }

    /// Headers of a failure.
    pub(super) fn cross_origin(&self) -> &[Header] {
        self.cross_origin.as_deref().unwrap_or_default()
    }

    /// Where to connect now.
    pub(super) async fn peer(&mut self, lines: &Arc<Lines>) -> pingora::Result<Box<HttpPeer>> {
        let address = self.upstream.pick(&self.tried).await?;
        let mut peer = self.upstream.peer(&address);
        lines.register(&mut peer.options);
        self.address = Some(address);
        Ok(Box::new(peer))
    }

    /// No connection: nothing was sent, so another address may be asked, whatever the method (EDGE P19).
    pub(super) fn not_connected(&mut self, mut error: Box<Error>) -> Box<Error> {
        let unreachable = matches!(
            error.etype(),
            ErrorType::ConnectTimedout
                | ErrorType::ConnectRefused
                | ErrorType::ConnectNoRoute
                | ErrorType::ConnectError
        );
        let mut again = false;
        if let Some(address) = self.address.take()
            && unreachable
        {
            self.upstream.mark_down(&address);
            self.tried.push(address.socket);
            again = self.tried.len() < self.upstream.addresses();
        }
        error.set_retry(again);
        error
    }

    /// The request is about to be sent on this connection.
    pub(super) fn connected(&mut self, fd: RawFd, lines: &Lines) {
        self.sent = self.sent.saturating_add(1);
        self.patience = Some(lines.patience.head);
        self.watch = lines.watch(fd);
    }

    /// The connection failed. A request is sent once more only where that cannot do a thing twice: it is idempotent,
    /// nothing of its body was read, and a kept connection turned out to be closed (EDGE P19).
    pub(super) fn failed(&self, session: &Session, reused: bool, error: &mut Error) {
        let harmless = session.req_header().method.is_idempotent()
            && session.body_bytes_read() == 0
            && session.response_written().is_none();
        match harmless && self.sent < 2 && !self.was_late() {
            true => error.retry.decide_reuse(reused),
            false => error.set_retry(false),
        }
    }

    /// After Pingora has dropped hop-by-hop fields, so that what is set here stays.
    pub(super) fn rewrite(
        &self,
        original: &RequestHeader,
        request: &mut RequestHeader,
        client: &ClientAddress,
    ) -> pingora::Result<()> {
        self.upstream.rewrite(original, request, client)
    }

    /// The head of an answer, perhaps not of the last one (`1xx`).
    pub(super) fn answered(
        &mut self,
        session: &mut Session,
        response: &mut ResponseHeader,
        lines: &Lines,
    ) -> pingora::Result<()> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS && !session.is_upgrade_req() {
            let upstream = self.upstream_name();
            warn!(
                upstream,
                "an upstream switched protocols, which nobody asked for"
            );
            let why = "101 without a request for it";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
        }
        // An HTTP/1.0 client cannot read chunks; its body ends with the connection.
        if session.req_header().version == Version::HTTP_10
            && response
                .remove_header(&http::header::TRANSFER_ENCODING)
                .is_some()
        {
            session.set_keepalive(None);
        }
        if head::may_pause(response) {
            self.patience = None;
        } else if !response.status.is_informational() {
            self.patience = Some(lines.patience.body);
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // What comes now is no request body, and may be silent for as long as it likes (EDGE P7).
            session.set_read_timeout(None);
        }
        self.heard();
        head::clean(response)?;
        if let Some(headers) = &self.cross_origin {
            cors::replace(response, headers)?;
        }
        Ok(())
    }

    /// A piece of a body went either way.
    pub(super) fn heard(&self) {
        if let Some(watch) = &self.watch {
            watch.within(self.patience);
        }
    }

    /// A piece of the request's body came. Fails when its client is slower than any can be: the request is given up.
    pub(super) fn keeps_pace(&mut self, bytes: usize, floor: Floor) -> pingora::Result<()> {
        let now = Instant::now();
        let pace = self.pace.get_or_insert_with(|| Pace::new(floor, now));
        pace.add(bytes);
        match pace.is_too_slow(now) {
            true => Err(Error::explain(ErrorType::ReadTimedout, "a slow body").into_down()),
            false => Ok(()),
        }
    }

    /// What the client is told, all of whose request came or not. `None`: it is gone.
    pub(super) fn rejection(&self, error: &Error, all_came: bool) -> Option<Rejection> {
        match (self.was_late(), all_came) {
            (true, true) => Some(Rejection::GatewayTimeout),
            (true, false) => Some(Rejection::BodyTimeout),
            (false, _) => upstream::rejection(error),
        }
    }

    fn was_late(&self) -> bool {
        self.watch.as_ref().is_some_and(Watch::was_cut)
    }
}
