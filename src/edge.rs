//! The edge: Pingora's phases in order, each with why it stands there.
//!
//! A request is read in one way only or not at all; what serves it is found by its path; cross-origin headers are
//! decided before anything can fail, so that failures carry them; then the method, and only then the source.
//! Every refusal is a [`Rejection`] and becomes a response in `reply`, nowhere else.

pub mod accept;
mod access_log;
mod alike;
mod auth;
mod client_address;
mod conn;
mod cors;
mod detach;
mod forward;
mod front;
mod limit;
mod live;
mod negotiate;
mod options;
mod pace;
mod pass;
pub mod peer;
mod publish;
mod reply;
mod request;
mod route;
mod snapshot;
mod stream;
mod upstream;
mod visit;

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::sync::watch;
use tracing::{debug, error};

use crate::channel::{ChannelKey, EventId, Hub, StreamId};
use crate::config::Config;
use crate::fanout::Fanout;
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::value::Value;
use access_log::{Record, RequestId};
use auth::{Gate, Identity};
use client_address::ClientAddress;
use cors::Header;
#[doc(hidden)]
pub use front::doors;
pub use front::{Settings, TlsError};
use limit::{NoPlace, Place, Places};
use live::Live;
pub use live::Switch;
use pace::Floor;
use pass::Passing;
use peer::Peer;
use reply::Rejection;
use upstream::head::{self, MAX_HOPS};
use upstream::line::{Lines, Patience};
use visit::Visit;

/// Takes messages that clients publish.
#[async_trait]
pub trait Publish: Send + Sync {
    /// Makes `value` an event of the channel. Returns its id once its readers get it.
    async fn publish(&self, key: ChannelKey, value: Value) -> Result<EventId, PublishError>;
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The stream has as many channels as it may have.
    #[error("too many distinct resources")]
    Full,
    /// The server that shares messages cannot be reached.
    #[error("the message could not be shared")]
    Unreachable,
    /// The configuration has changed since the message began to come in.
    #[error("the stream is gone")]
    Retired,
}

/// What the edge knows.
pub struct Edge {
    live: Arc<ArcSwap<Live>>,
    hub: Arc<Hub>,
    fanout: Arc<Fanout>,
    publish: Arc<dyn Publish>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
    lines: Arc<Lines>,
    /// How many requests may pass through at once: each takes descriptors that streams and operators need, too (EDGE Q13).
    places: Places,
    /// Who sends a body slower holds no place with it.
    floor: Floor,
}

/// What one request gathers on its way.
#[derive(Debug)]
pub struct Context {
    live: Arc<Live>,
    peer: Peer,
    client: ClientAddress,
    request_id: RequestId,
    /// Who asks, once that is known.
    identity: Option<Identity>,
    /// Until it is logged.
    record: Option<Record>,
    passing: Option<Passing>,
    /// One of those that pass through; given back when it has.
    place: Option<Place>,
}

impl Context {
    /// Of the upstream that the request passes through to.
    fn upstream_counts(&self) -> Option<&UpstreamMetrics> {
        let name = self.passing.as_ref()?.upstream_name();
        self.live.counts.upstreams.get(name).map(|counts| &**counts)
    }
}

impl Edge {
    /// An edge over running parts, and what switches it to another reading of the file. `ids` are those of the streams, in
    /// the order of the file. When `stop` turns true, or its sender is gone, nobody is held any longer.
    pub fn new(
        config: Arc<Config>,
        ids: Vec<StreamId>,
        hub: Arc<Hub>,
        fanout: Arc<Fanout>,
        publish: Arc<dyn Publish>,
        metrics: Arc<Metrics>,
        stop: watch::Receiver<bool>,
    ) -> (Self, Switch) {
        let gate = Arc::new(Gate::new());
        let live = Live::new(config, ids, (&gate, &metrics), None);
        let live = Arc::new(ArcSwap::from_pointee(live));
        let switch = Switch {
            live: live.clone(),
            gate: gate.clone(),
            metrics: metrics.clone(),
        };
        let edge = Self {
            live,
            hub,
            fanout,
            publish,
            gate,
            metrics,
            stop,
            lines: Lines::new(Patience::default()),
            places: Places::new(accept::places()),
            floor: Floor::default(),
        };
        (edge, switch)
    }

    /// Answers, or says that the connection was handed over or which upstream answers.
    async fn serve(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<Served> {
        let live = ctx.live.clone();
        if let Some(why) = request::fault(session.req_header()) {
            return refuse(session, &why, &ctx.request_id, &[]).await;
        }
        // Before anything that an answer could tell about this gateway (EDGE P23).
        let host = request::host_name(session.req_header()).unwrap_or_default();
        if !ctx.peer.listener.serves(host) {
            return refuse(session, &Rejection::Misdirected, &ctx.request_id, &[]).await;
        }
        let path = session.req_header().uri.path().to_owned();
        if path == "*" && session.req_header().method == Method::OPTIONS {
            return match live.limits.request(None, ctx.client.address) {
                Ok(told) => options::of_all(session, &told, &ctx.request_id).await,
                Err(excess) => {
                    let why = Rejection::Limited(excess);
                    refuse_unread(session, &why, &ctx.request_id, &[]).await
                }
            };
        }
        // Before anything is looked up: what is matched here and what an upstream serves must be the same (EDGE P12).
        if let Some(why) = route::ambiguity(&path) {
            return refuse(session, &Rejection::BadRequest(why), &ctx.request_id, &[]).await;
        }
        if matches!(session.req_header().method, Method::CONNECT | Method::TRACE) {
            let allowed = Rejection::MethodNotAllowed(vec!["GET", "HEAD", "OPTIONS"]);
            return refuse(session, &allowed, &ctx.request_id, &[]).await;
        }
        let route = live
            .router
            .route(&path)
            .and_then(|route| Some(live.upstreams.get(&route.upstream.name)?.on(route)));
        let target = live.router.target(&path);
        let place = target.place();
        let guard = place.and_then(|(index, publishing)| live.guard(index, publishing));
        let mut headers = Vec::new();
        if let Some((index, _)) = place {
            headers = live.path_headers(index, session);
            if let Some(record) = &ctx.record {
                record.found(&live.counts.streams[index]);
            }
        }
        let stream = place.map(|(index, _)| &*live.config.streams[index]);
        let passes =
            stream.is_none_or(|stream| options::passes(stream, route.is_some(), guard.is_some()));
        let answers_preflight = options::is_ours(session.req_header(), &target, passes);
        if !answers_preflight {
            let index = place.map(|(index, _)| index);
            match live.limits.request(index, ctx.client.address) {
                Ok(told) => headers.extend(told),
                Err(excess) => {
                    let rejection = Rejection::Limited(excess);
                    return refuse_unread(session, &rejection, &ctx.request_id, &headers).await;
                }
            }
        }
        let Some((index, publishing)) = place else {
            for (index, publishing) in live.guarded_alikes(&path) {
                if let Err(why) = self.admit(session, ctx, &live, (index, publishing)).await {
                    return refuse_unread(session, &why, &ctx.request_id, &headers).await;
                }
            }
            return match route {
                Some(upstream) => Ok(Served::Pass(Passing::new(upstream, None))),
                None => refuse(session, &Rejection::NotFound, &ctx.request_id, &headers).await,
            };
        };
        if let Some(guard) = guard {
            headers.extend(guard.headers());
        }
        if let Err(why) = self.admit(session, ctx, &live, (index, publishing)).await {
            return refuse_unread(session, &why, &ctx.request_id, &headers).await;
        }
        let Some(params) = target.into_params() else {
            return refuse(session, &Rejection::BadParameter, &ctx.request_id, &headers).await;
        };
        let visit = Visit {
            index,
            id: live.ids[index],
            stream: &live.config.streams[index],
            limits: &live.limits,
            // Who had to show a certificate reads what others may not.
            compression: (live.config.compression)
                .filter(|_| !ctx.peer.listener.asks_for_certificates()),
            overload: live.overload(index),
            client: ctx.client.address,
            params,
            headers,
            request_id: &ctx.request_id,
            identity: ctx.identity.as_ref(),
            record: ctx.record.as_ref(),
            route: route.as_ref(),
            answers_preflight,
        };
        if let (Some(heard), true) = (&ctx.peer.heard, publishing) {
            // It is read here, at the pace that a body must keep.
            heard.some(true);
        }
        match publishing {
            true => self.serve_publish(session, visit).await,
            false => self.serve_stream(session, visit).await,
        }
    }

    /// Lets a request for a path of a stream in, and notes who asks. A preflight has no credentials to show (EDGE C6), and
    /// nothing else either.
    async fn admit(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        live: &Live,
        (index, publishing): (usize, bool),
    ) -> Result<(), Rejection> {
        let stream = &live.config.streams[index];
        let Some(guard) = live.guard(index, publishing) else {
            let request = session.req_header();
            let publishes = publishing && request.method == Method::POST;
            // Whoever is on this machine may publish, but pages that its browsers show are not (EDGE C15).
            return match publishes && auth::is_foreign(&stream.cors, &request.headers) {
                true => Err(Rejection::CrossSite),
                false => Ok(()),
            };
        };
        let query = guard.take_query(session.req_header_mut());
        let request = session.req_header();
        if request.method == Method::OPTIONS
            && cors::is_preflight(&request.headers)
            && !request::has_body(&request.headers)
        {
            return Ok(());
        }
        let counts = !publishing && visit::wants_stream(stream, request);
        let query = query.as_deref().filter(|_| counts);
        let address = ctx.client.address;
        let admitted = self.gate.admit(
            guard,
            request,
            (query, &stream.cors),
            address,
            &ctx.request_id,
        );
        ctx.identity = Some(admitted.await?);
        Ok(())
    }
}

/// How a request ended in the request phase.
enum Served {
    /// With a response.
    Answered,
    /// The session has no connection any more.
    HandedOver,
    /// An upstream is to answer.
    Pass(Passing),
}

#[async_trait]
impl ProxyHttp for Edge {
    /// Boxed, as the future of a request holds it in two places. Its room is taken for each request and given back when a stream
    /// has left it; were it 16 KB, the next buffer of an HTTP/2 connection would lie there, in pages that are all in use.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        let peer = Peer::current();
        Box::new(Context {
            live: self.live.load_full(),
            client: ClientAddress::of_peer(&peer),
            peer,
            request_id: RequestId::default(),
            identity: None,
            record: None,
            passing: None,
            place: None,
        })
    }

    /// Everything that the gateway answers by itself happens here, before an upstream is chosen.
    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<bool> {
        // Whoever takes no bytes is not waited for (EDGE B3).
        session.set_write_timeout(Some(ctx.live.config.limits.write_stall));
        ctx.request_id = RequestId::new(request::id(session.get_header_bytes(reply::REQUEST_ID)));
        ctx.record = Some(Record::new(session));
        request::drop_idle_upgrade(session.req_header_mut());
        let headers = &session.req_header().headers;
        let trusted = &ctx.live.config.client_address;
        ctx.client = ClientAddress::of_request(&ctx.peer, headers, trusted);
        if ctx.client.disputed {
            client_address::warn_of_two_stories(&ctx.peer);
        }
        match self.serve(session, ctx).await? {
            Served::Answered => Ok(true),
            Served::HandedOver => {
                // Its session is a dummy, and its records are those of its stream.
                ctx.record = None;
                Ok(true)
            }
            Served::Pass(passing) if head::hops(&session.req_header().headers) >= MAX_HOPS => {
                let headers = passing.cross_origin();
                refuse(session, &Rejection::Loop, &ctx.request_id, headers).await?;
                Ok(true)
            }
            Served::Pass(passing) => {
                let why = match self.places.take(ctx.client.address) {
                    Ok(place) => {
                        ctx.place = Some(place);
                        ctx.passing = Some(passing);
                        return Ok(false);
                    }
                    Err(NoPlace::OfClient(excess)) => Rejection::Limited(excess),
                    Err(NoPlace::AtAll) => Rejection::Busy,
                };
                session.set_keepalive(None);
                refuse(session, &why, &ctx.request_id, passing.cross_origin()).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<Box<HttpPeer>> {
        match &mut ctx.passing {
            Some(passing) => passing.peer(&self.lines).await,
            None => Error::e_explain(
                ErrorType::InternalError,
                "a request without a route got past the request phase",
            ),
        }
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<Context>,
        error: Box<Error>,
    ) -> Box<Error> {
        match &mut ctx.passing {
            Some(passing) => passing.not_connected(error),
            None => error,
        }
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        fd: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        if let Some(passing) = &mut ctx.passing {
            passing.connected(fd, &self.lines);
        }
        Ok(())
    }

    /// After Pingora has dropped hop-by-hop fields, so that what is set here stays.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        if let Some(passing) = &ctx.passing {
            passing.rewrite(session.req_header(), request, &ctx.client)?;
            request.insert_header(reply::REQUEST_ID, ctx.request_id.as_str())?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        if let Some(heard) = &ctx.peer.heard {
            heard.some(end);
        }
        let (Some(passing), Some(body)) = (&mut ctx.passing, body) else {
            return Ok(());
        };
        passing.heard();
        // Neither what is whole nor another protocol has a rate.
        match end || session.was_upgraded() {
            true => Ok(()),
            false => passing.keeps_pace(body.len(), self.floor),
        }
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<()> {
        if let Some(counts) = ctx.upstream_counts() {
            counts.answered(response.status.as_u16());
        }
        if let Some(passing) = &mut ctx.passing {
            passing.answered(session, response, &self.lines)?;
        }
        response.insert_header(reply::REQUEST_ID, ctx.request_id.as_str())
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Box<Context>,
    ) -> pingora::Result<Option<Duration>> {
        if let Some(passing) = &ctx.passing {
            passing.heard();
        }
        Ok(None)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Box<Context>,
        reused: bool,
    ) -> Box<Error> {
        match &ctx.passing {
            Some(passing) => passing.failed(session, reused, &mut error),
            None => error.set_retry(false),
        }
        error
    }

    /// The one place where a failure of passing through becomes a response.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Box<Context>,
    ) -> FailToProxy {
        upstream::log(error, &ctx.request_id);
        if session.response_written().is_none()
            && let Some(counts) = ctx.upstream_counts()
        {
            counts.failed();
        }
        let passing = ctx.passing.as_ref();
        let all_came = session.as_mut().is_body_done();
        let rejection = match passing {
            Some(passing) => passing.rejection(error, all_came),
            None => upstream::rejection(error),
        };
        let headers = passing.map(Passing::cross_origin).unwrap_or_default();
        session.set_keepalive(None);
        if let Some(rejection) = &rejection
            && session.response_written().is_none()
            && let Err(error) = reply::reject(session, rejection, &ctx.request_id, headers).await
        {
            debug!(%error, "the client left before its answer");
        }
        if session.response_written().is_some() {
            // What came of the answer is sent, and that no more comes: without its end the client knows that it broke off.
            session.shutdown().await;
        }
        FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Box<Context>) {
        if let Some(record) = ctx.record.take() {
            let (client, identity) = (ctx.client.address, ctx.identity.as_ref());
            let identity = identity.map(|identity| identity.name.as_str());
            record.answered(session, &self.metrics, &ctx.request_id, client, identity);
        }
    }

    /// What Pingora's own log lines say about a request: nothing of what the client sent (EDGE A10).
    fn request_summary(&self, _session: &Session, ctx: &Box<Context>) -> String {
        format!("request {}", ctx.request_id)
    }

    /// What Pingora says of an error may hold the head that it could not read; we have said what we know of it.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<Context>, _error: &Error) -> bool {
        true
    }

    /// The same, before a second try.
    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Box<Context>,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

/// The same before the request's body is read: what is left of it is not, the connection ends with the answer (EDGE P4).
async fn refuse_unread(
    session: &mut Session,
    rejection: &Rejection,
    request_id: &RequestId,
    headers: &[Header],
) -> pingora::Result<Served> {
    if request::has_body(&session.req_header().headers) {
        session.set_keepalive(None);
    }
    refuse(session, rejection, request_id, headers).await
}

async fn refuse(
    session: &mut Session,
    rejection: &Rejection,
    request_id: &RequestId,
    headers: &[Header],
) -> pingora::Result<Served> {
    if *rejection == Rejection::Internal {
        error!(
            request_id = request_id.as_str(),
            "a request met a fault of the gateway"
        );
    }
    reply::reject(session, rejection, request_id, headers).await?;
    Ok(Served::Answered)
}
