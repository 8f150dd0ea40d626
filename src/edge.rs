//! The edge: Pingora's phases in order, each with why it stands there.
//!
//! A request is read in one way only or not at all; what serves it is found by its path; cross-origin headers are
//! decided before anything can fail, so that failures carry them; then the method, and only then the source.
//! Every refusal is a [`Rejection`] and becomes a response in `reply`, nowhere else.

pub mod accept;
mod conn;
mod cors;
mod detach;
mod negotiate;
mod publish;
mod reply;
mod route;
mod snapshot;
mod stream;
mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tracing::{debug, error};

use crate::channel::{ChannelKey, EventId, Form, Hub};
use crate::config::{Config, Overload, Source, Stream};
use crate::fanout::Fanout;
use crate::params::Params;
use crate::value::Value;
use cors::Header;
use negotiate::{Answer, Offer};
use reply::Rejection;
use route::{Router, Target};
use upstream::PassThrough;

/// How long an idle client connection is kept for its next request, in seconds.
const KEEPALIVE: u64 = 75;

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
}

/// What the edge knows.
pub struct Edge {
    config: Arc<Config>,
    router: Router,
    hub: Arc<Hub>,
    fanout: Arc<Fanout>,
    publish: Box<dyn Publish>,
    upstreams: BTreeMap<String, PassThrough>,
}

/// What one request gathers on its way.
#[derive(Debug, Default)]
pub struct Context {
    request_id: String,
    pass_through: Option<PassThrough>,
}

/// One request for a stream's path.
struct Visit<'a> {
    index: usize,
    stream: &'a Stream,
    params: Params,
    headers: Vec<Header>,
    request_id: &'a str,
    /// The route that other methods go to.
    route: Option<&'a PassThrough>,
}

impl Edge {
    /// An edge over running parts.
    pub fn new(
        config: Arc<Config>,
        hub: Arc<Hub>,
        fanout: Arc<Fanout>,
        publish: Box<dyn Publish>,
    ) -> Self {
        let pass_through = |(name, upstream): (&String, &Arc<_>)| {
            (name.clone(), PassThrough::new(Arc::clone(upstream)))
        };
        Self {
            router: Router::new(&config),
            upstreams: config.upstreams.iter().map(pass_through).collect(),
            config,
            hub,
            fanout,
            publish,
        }
    }

    /// Answers, or says with `None` that the connection was handed over or that the route's upstream answers.
    async fn serve(&self, session: &mut Session, ctx: &mut Context) -> pingora::Result<Served> {
        let path = session.req_header().uri.path().to_owned();
        // Before anything is looked up: what is matched here and what an upstream serves must be the same (EDGE P12).
        if let Some(why) = route::ambiguity(&path) {
            return refuse(session, &Rejection::BadRequest(why), &ctx.request_id, &[]).await;
        }
        if matches!(session.req_header().method, Method::CONNECT | Method::TRACE) {
            let allowed = Rejection::MethodNotAllowed(vec!["GET", "HEAD", "OPTIONS"]);
            return refuse(session, &allowed, &ctx.request_id, &[]).await;
        }
        let route = self
            .router
            .route(&path)
            .and_then(|route| self.upstreams.get(&route.upstream.name));
        let (index, params, publishing) = match self.router.target(&path) {
            Target::Stream(index, params) => (index, params, false),
            Target::Publish(index, params) => (index, params, true),
            Target::Refused(index) => {
                let headers = self.path_headers(index, session);
                return refuse(session, &Rejection::NotFound, &ctx.request_id, &headers).await;
            }
            Target::Other => {
                return match route {
                    Some(pass) => Ok(Served::Pass(pass.clone())),
                    None => refuse(session, &Rejection::NotFound, &ctx.request_id, &[]).await,
                };
            }
        };
        let visit = Visit {
            index,
            stream: &self.config.streams[index],
            params,
            headers: self.path_headers(index, session),
            request_id: &ctx.request_id,
            route,
        };
        match publishing {
            true => self.serve_publish(session, visit).await,
            false => self.serve_stream(session, visit).await,
        }
    }

    async fn serve_stream(
        &self,
        session: &mut Session,
        visit: Visit<'_>,
    ) -> pingora::Result<Served> {
        const METHODS: &[&str] = &["GET", "HEAD", "OPTIONS"];
        match session.req_header().method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return options(session, &visit, METHODS).await,
            _ => return other_method(session, &visit, METHODS).await,
        }
        let head_only = session.req_header().method == Method::HEAD;
        if has_body(session.req_header()) {
            let why = Rejection::BadRequest("A request for a stream has no body.");
            return refuse(session, &why, visit.request_id, &visit.headers).await;
        }
        let query = Query::parse(session.req_header().uri.query().unwrap_or_default());
        let accept = joined(session.req_header(), ACCEPT);
        let offer = offer(visit.stream);
        let answer = match negotiate::negotiate(accept.as_deref(), query.deliver.as_deref(), offer)
        {
            Answer::Stream(_) if head_only => {
                stream::head(session, visit.stream, &visit.headers, visit.request_id).await?;
                return Ok(Served::Answered);
            }
            Answer::NotAcceptable => {
                let rejection = Rejection::NotAcceptable(offered(offer));
                return refuse(session, &rejection, visit.request_id, &visit.headers).await;
            }
            answer => answer,
        };
        let key = ChannelKey {
            stream: visit.index,
            params: visit.params.clone(),
        };
        let Ok(subscription) = self.hub.subscribe(&key) else {
            return self.full(session, &visit, accept.as_deref()).await;
        };
        match answer {
            Answer::Stream(form) => {
                let cursor = stream::cursor(session, query.last_event_id.as_deref());
                let start = (cursor, form);
                stream::serve(
                    session,
                    visit.stream,
                    subscription,
                    start,
                    &visit.headers,
                    visit.request_id,
                    &self.fanout,
                )
                .await;
                Ok(Served::HandedOver)
            }
            Answer::Snapshot | Answer::NotAcceptable => {
                let every = visit.stream.every;
                snapshot::serve(
                    session,
                    subscription,
                    every,
                    visit.request_id,
                    &visit.headers,
                )
                .await?;
                Ok(Served::Answered)
            }
        }
    }

    async fn serve_publish(
        &self,
        session: &mut Session,
        visit: Visit<'_>,
    ) -> pingora::Result<Served> {
        const METHODS: &[&str] = &["POST", "OPTIONS"];
        match session.req_header().method {
            Method::POST => {}
            Method::OPTIONS => return options(session, &visit, METHODS).await,
            _ => return other_method(session, &visit, METHODS).await,
        }
        let Source::Publish(source) = &visit.stream.source else {
            return refuse(
                session,
                &Rejection::Internal,
                visit.request_id,
                &visit.headers,
            )
            .await;
        };
        let value = match publish::message(session, source.max_body).await? {
            Ok(value) => value,
            Err(rejection) => {
                // What is left of the body is not read: the connection ends with the answer (EDGE P4).
                session.set_keepalive(None);
                return refuse(session, &rejection, visit.request_id, &visit.headers).await;
            }
        };
        let key = ChannelKey {
            stream: visit.index,
            params: visit.params.clone(),
        };
        match self.publish.publish(key, value).await {
            Ok(id) => publish::accepted(session, id, visit.request_id, &visit.headers).await?,
            Err(error) => {
                let rejection = match error {
                    PublishError::Full => Rejection::TooManyChannels(visit.stream.max_channels),
                    PublishError::Unreachable => Rejection::PublishFailed,
                };
                return refuse(session, &rejection, visit.request_id, &visit.headers).await;
            }
        }
        Ok(Served::Answered)
    }

    /// The stream follows as many resources as it may. An EventSource would never come back from a status (EDGE L3).
    async fn full(
        &self,
        session: &mut Session,
        visit: &Visit<'_>,
        accept: Option<&str>,
    ) -> pingora::Result<Served> {
        if self.config.limits.overload == Overload::Stream && accept == Some("text/event-stream") {
            stream::soft_reject(
                session,
                visit.stream,
                &visit.headers,
                "limit",
                visit.request_id,
            )
            .await?;
            return Ok(Served::Answered);
        }
        let rejection = Rejection::TooManyChannels(visit.stream.max_channels);
        refuse(session, &rejection, visit.request_id, &visit.headers).await
    }

    fn path_headers(&self, index: usize, session: &Session) -> Vec<Header> {
        cors::response_headers(
            &self.config.streams[index].cors,
            &session.req_header().headers,
        )
    }
}

/// How a request ended in the request phase.
enum Served {
    /// With a response.
    Answered,
    /// The session has no connection any more.
    HandedOver,
    /// An upstream is to answer.
    Pass(PassThrough),
}

#[async_trait]
impl ProxyHttp for Edge {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::default()
    }

    /// Everything that the gateway answers by itself happens here, before an upstream is chosen.
    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> pingora::Result<bool> {
        ctx.request_id = request_id(session.get_header_bytes(reply::REQUEST_ID));
        // Pingora's default after the first response is to wait for ever.
        session.set_keepalive(Some(KEEPALIVE));
        match self.serve(session, ctx).await? {
            Served::Answered | Served::HandedOver => Ok(true),
            Served::Pass(pass) => {
                ctx.pass_through = Some(pass);
                Ok(false)
            }
        }
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Context,
    ) -> pingora::Result<Box<HttpPeer>> {
        match &ctx.pass_through {
            Some(pass) => pass.peer().await,
            None => Error::e_explain(
                ErrorType::InternalError,
                "a request without a route got past the request phase",
            ),
        }
    }

    /// After Pingora has dropped hop-by-hop fields, so that what is set here stays.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        if let Some(pass) = &ctx.pass_through {
            pass.rewrite(session, request)?;
            request.insert_header(reply::REQUEST_ID, ctx.request_id.as_str())?;
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> pingora::Result<()> {
        // An HTTP/1.0 client cannot read chunks; its body ends with the connection.
        if session.req_header().version == http::Version::HTTP_10 {
            response.remove_header(&TRANSFER_ENCODING);
        }
        response.insert_header(reply::REQUEST_ID, ctx.request_id.as_str())
    }

    /// The one place where a failure of passing through becomes a response.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        debug!(%error, "passing through failed");
        let rejection = upstream::rejection(error);
        if let Some(rejection) = &rejection
            && session.response_written().is_none()
            && let Err(error) = reply::reject(session, rejection, &ctx.request_id, &[]).await
        {
            debug!(%error, "the client left before its answer");
        }
        FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        }
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, error: &Error) -> bool {
        // Clients that leave are no errors.
        *error.esource() == pingora::ErrorSource::Downstream
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

async fn refuse(
    session: &mut Session,
    rejection: &Rejection,
    request_id: &str,
    headers: &[Header],
) -> pingora::Result<Served> {
    if *rejection == Rejection::Internal {
        error!(request_id, "a request met a fault of the gateway");
    }
    reply::reject(session, rejection, request_id, headers).await?;
    Ok(Served::Answered)
}

/// A preflight is answered before anything else could cost something (EDGE C6); any other `OPTIONS` is the route's, or
/// gets `Allow` (C7).
async fn options(
    session: &mut Session,
    visit: &Visit<'_>,
    methods: &'static [&'static str],
) -> pingora::Result<Served> {
    let request = &session.req_header().headers;
    if cors::is_preflight(request) {
        let headers = cors::preflight_headers(&visit.stream.cors, request, methods);
        reply::respond(
            session,
            StatusCode::NO_CONTENT,
            &headers,
            None,
            visit.request_id,
        )
        .await?;
        return Ok(Served::Answered);
    }
    if let Some(pass) = visit.route {
        return Ok(Served::Pass(pass.clone()));
    }
    let mut headers = visit.headers.clone();
    headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
        headers.push((ALLOW, allow));
    }
    reply::respond(
        session,
        StatusCode::NO_CONTENT,
        &headers,
        None,
        visit.request_id,
    )
    .await?;
    Ok(Served::Answered)
}

async fn other_method(
    session: &mut Session,
    visit: &Visit<'_>,
    methods: &'static [&'static str],
) -> pingora::Result<Served> {
    match visit.route {
        Some(pass) => Ok(Served::Pass(pass.clone())),
        None => {
            session.set_keepalive(None);
            let rejection = Rejection::MethodNotAllowed(methods.to_vec());
            refuse(session, &rejection, visit.request_id, &visit.headers).await
        }
    }
}

fn offer(stream: &Stream) -> Offer<'_> {
    use crate::config::{HttpFormat, RedisFormat, RedisShape};
    let (current, text) = match &stream.source {
        Source::Http(http) => (true, http.format == HttpFormat::Text),
        Source::RedisKey(redis) => (
            true,
            redis.shape == RedisShape::String && redis.format != RedisFormat::Json,
        ),
        Source::RedisPubSub(_) => (false, true),
        Source::Publish(publish) => (publish.retain, true),
    };
    Offer {
        forms: &stream.deliver,
        snapshot: stream.snapshot && current,
        text,
    }
}

fn offered(offer: Offer<'_>) -> String {
    let forms: Vec<&str> = offer
        .forms
        .iter()
        .map(|form: &Form| negotiate::form_name(*form))
        .collect();
    let snapshot = match (offer.snapshot, offer.text) {
        (true, true) => ", application/json or text/plain",
        (true, false) => ", application/json",
        (false, _) => "",
    };
    format!(
        "text/event-stream (deliver: {}){snapshot}",
        forms.join(", ")
    )
}

/// What a stream's query may say; other parameters mean nothing here (EDGE I10).
#[derive(Default)]
struct Query {
    deliver: Option<String>,
    last_event_id: Option<String>,
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "deliver" => parsed.deliver = Some(value.into_owned()),
                "lastEventId" => parsed.last_event_id = Some(value.into_owned()),
                _ => {}
            }
        }
        parsed
    }
}

/// All lines of a header as one, `None` when there is none.
fn joined(request: &RequestHeader, name: http::HeaderName) -> Option<String> {
    let lines: Vec<&str> = request
        .headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn has_body(request: &RequestHeader) -> bool {
    let length = request
        .headers
        .get(CONTENT_LENGTH)
        .map(HeaderValue::as_bytes);
    request.headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != b"0")
}

/// The client's own id when it is a harmless one (EDGE O9), else a new one.
fn request_id(given: &[u8]) -> String {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match std::str::from_utf8(given) {
        Ok(given) if (1..=64).contains(&given.len()) && given.as_bytes().iter().all(harmless) => {
            given.to_owned()
        }
        _ => format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)),
    }
}
