//! One request for the path of a stream: what it asks for, and who gives it.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::access_log::{Record, Refused, RequestId};
use super::auth::Identity;
use super::cors::{self, Header};
use super::limit::{Excess, Limits};
use super::negotiate::{self, Answer, NoneAccepted, Offer};
use super::options::{OF_PUBLISH, OF_STREAM, options, other_method};
use super::pass::Passing;
use super::reply::Rejection;
use super::request::{self, Query};
use super::snapshot::Ask;
use super::upstream::PassThrough;
use super::{Edge, PublishError, Served, forward, publish, refuse, snapshot, stream};
use crate::channel::hub::Unavailable;
use crate::channel::{ChannelKey, Form, StreamId};
use crate::config::{Overload, Source, Stream};
use crate::params::Params;
use crate::sse::Coding;

/// When who met a reload is to come back.
const RELOADED: Duration = Duration::from_secs(1);

/// One request for a stream's path.
pub(super) struct Visit<'a> {
    /// Of the stream, in the order of the file.
    pub(super) index: usize,
    pub(super) id: StreamId,
    pub(super) stream: &'a Stream,
    pub(super) limits: &'a Limits,
    /// How streams that everybody may read are compressed for those who take it.
    pub(super) compression: Option<Coding>,
    /// How the stream refuses an EventSource.
    pub(super) overload: Overload,
    /// Whose request it is.
    pub(super) client: IpAddr,
    pub(super) params: Params,
    /// What every response has.
    pub(super) headers: Vec<Header>,
    pub(super) request_id: &'a RequestId,
    pub(super) record: Option<&'a Record>,
    /// Who asks, where the path wants to know.
    pub(super) identity: Option<&'a Identity>,
    /// The route that other methods go to.
    pub(super) route: Option<&'a PassThrough>,
    /// It is a preflight that the gateway answers, whatever the route.
    pub(super) answers_preflight: bool,
}

impl Visit<'_> {
    /// Through to the route, whose answer is under this path's policy (EDGE C12, C13).
    pub(super) fn passing(&self, session: &Session, route: &PassThrough) -> Passing {
        let policy = &self.stream.cors;
        let cross_origin = cors::passed_headers(policy, &session.req_header().headers);
        Passing::new(route.clone(), cross_origin)
    }

    /// The user, as far as the credential tells one from another: a key may be that of a whole application.
    fn user(&self) -> Option<&str> {
        let identity = self.identity?;
        (identity.method == "jwt" && !identity.name.is_empty()).then_some(&identity.name)
    }

    /// Who asks, for the log.
    pub(super) fn user_name(&self) -> Option<&str> {
        self.identity.map(|identity| identity.name.as_str())
    }

    /// Headers of the event stream, which is given in this coding.
    pub(super) fn stream_headers(&self, coding: Option<Coding>) -> Vec<Header> {
        let offered = self.compression();
        stream::headers(&self.headers, self.is_private(), offered, coding)
    }

    /// How the event stream may be compressed. The size of what is compressed tells whether two texts in it are alike, to
    /// whoever sees it pass by and can have one of them written. So what not everybody may read is not compressed (EDGE Z4).
    fn compression(&self) -> Option<Coding> {
        self.compression.filter(|_| !self.is_private())
    }

    /// How the event stream is given to who asks.
    fn coding(&self, request: &RequestHeader) -> Result<Option<Coding>, Rejection> {
        let accept = request::joined(&request.headers, ACCEPT_ENCODING);
        let offered = self.compression();
        negotiate::coding(accept.as_deref(), offered).map_err(|NoneAccepted| {
            let with = offered.map(|coding| format!(", or with {}", coding.name()));
            Rejection::NotAcceptable(format!(
                "the stream without a content coding{}",
                with.unwrap_or_default()
            ))
        })
    }

    /// Whether who asks decides about the answer: by a name, or by headers that its polls carry.
    fn is_private(&self) -> bool {
        self.identity.is_some() || !self.stream.forwards().is_empty()
    }
}

impl Edge {
    pub(super) async fn serve_stream(
        &self,
        session: &mut Session,
        visit: Visit<'_>,
    ) -> pingora::Result<Served> {
        match session.req_header().method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return options(session, &visit, OF_STREAM).await,
            _ => return other_method(session, &visit, OF_STREAM).await,
        }
        let head_only = session.req_header().method == Method::HEAD;
        if request::has_body(&session.req_header().headers) {
            let why = Rejection::BadRequest("A request for a stream has no body.");
            return refuse(session, &why, visit.request_id, &visit.headers).await;
        }
        let query = Query::parse(session.req_header().uri.query().unwrap_or_default());
        let accept = request::joined(&session.req_header().headers, ACCEPT);
        let offer = offer(visit.stream);
        let forwards = visit.stream.forwards();
        let key = match forward::read(forwards, &session.req_header().headers) {
            Ok(forwarded) => ChannelKey {
                stream: visit.id,
                params: visit.params.clone(),
                forwarded,
            },
            Err(why) => return refuse(session, &why, visit.request_id, &visit.headers).await,
        };
        match negotiate::negotiate(accept.as_deref(), query.deliver.as_deref(), offer) {
            Answer::NotAcceptable => {
                let rejection = Rejection::NotAcceptable(offered(offer));
                return refuse(session, &rejection, visit.request_id, &visit.headers).await;
            }
            Answer::Stream(form) => {
                let coding = match visit.coding(session.req_header()) {
                    Ok(coding) => coding,
                    Err(why) => {
                        return refuse(session, &why, visit.request_id, &visit.headers).await;
                    }
                };
                if head_only {
                    let headers = visit.stream_headers(coding);
                    stream::head(session, &headers, visit.request_id).await?;
                    return Ok(Served::Answered);
                }
                let opened = visit.limits.open(visit.index, visit.client, visit.user());
                let permit = match opened {
                    Ok(permit) => permit,
                    Err(excess) => return over(session, &visit, excess, accept.as_deref()).await,
                };
                let subscription = match self.hub.subscribe(&key) {
                    Ok(subscription) => subscription,
                    Err(why) => return unavailable(session, &visit, why, accept.as_deref()).await,
                };
                let last_event_id = query.last_event_id.as_deref();
                let start = (
                    stream::cursor(session, last_event_id, subscription.channel()),
                    form,
                    coding,
                );
                stream::serve(session, &visit, (subscription, permit), start, &self.fanout).await;
                return Ok(Served::HandedOver);
            }
            Answer::Snapshot(representation) => {
                let headers = &session.req_header().headers;
                let ask = Ask::new(headers, representation, visit.identity, visit.is_private());
                // Who waits for a change holds a connection, as a reader of a stream does.
                let held = ask
                    .waits()
                    .then(|| visit.limits.hold(visit.index, visit.client, visit.user()));
                let _permit = match held.transpose() {
                    Ok(permit) => permit,
                    Err(excess) => return over(session, &visit, excess, None).await,
                };
                let subscription = match self.hub.subscribe(&key) {
                    Ok(subscription) => subscription,
                    Err(why) => return unavailable(session, &visit, why, None).await,
                };
                snapshot::serve(
                    session,
                    subscription,
                    ask,
                    visit.stream.every,
                    self.stop.clone(),
                    visit.request_id,
                    &visit.headers,
                )
                .await?;
            }
        }
        Ok(Served::Answered)
    }

    pub(super) async fn serve_publish(
        &self,
        session: &mut Session,
        visit: Visit<'_>,
    ) -> pingora::Result<Served> {
        match session.req_header().method {
            Method::POST => {}
            Method::OPTIONS => return options(session, &visit, OF_PUBLISH).await,
            _ => return other_method(session, &visit, OF_PUBLISH).await,
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
        let value = match publish::message(session, source.max_body, self.floor).await? {
            Ok(value) => value,
            Err(rejection) => {
                // What is left of the body is not read: the connection ends with the answer (EDGE P4).
                session.set_keepalive(None);
                return refuse(session, &rejection, visit.request_id, &visit.headers).await;
            }
        };
        let key = ChannelKey::shared(visit.id, visit.params.clone());
        match self.publish.publish(key, value).await {
            Ok(id) => publish::accepted(session, id, visit.request_id, &visit.headers).await?,
            Err(error) => {
                let rejection = match error {
                    PublishError::Full => {
                        Rejection::Limited(Excess::of_channels(visit.stream.max_channels))
                    }
                    PublishError::Unreachable => Rejection::PublishFailed,
                    PublishError::Retired => Rejection::Reloaded,
                };
                return refuse(session, &rejection, visit.request_id, &visit.headers).await;
            }
        }
        Ok(Served::Answered)
    }
}

/// The resource cannot be followed: the stream follows too many, or went away with a reload since the request came.
async fn unavailable(
    session: &mut Session,
    visit: &Visit<'_>,
    why: Unavailable,
    accept: Option<&str>,
) -> pingora::Result<Served> {
    match why {
        Unavailable::Full => {
            let excess = Excess::of_channels(visit.stream.max_channels);
            over(session, visit, excess, accept).await
        }
        Unavailable::Retired => {
            let told = ("reload", RELOADED);
            turn_away(session, visit, &Rejection::Reloaded, told, accept).await
        }
    }
}

/// There is more than there may be.
async fn over(
    session: &mut Session,
    visit: &Visit<'_>,
    excess: Excess,
    accept: Option<&str>,
) -> pingora::Result<Served> {
    let reason = match excess.is_overload() {
        true => "overloaded",
        false => "limit",
    };
    let told = (reason, excess.retry);
    turn_away(session, visit, &Rejection::Limited(excess), told, accept).await
}

/// Refuses a stream. An EventSource would never come back from a status (EDGE L3): it is told a reason, and when to.
async fn turn_away(
    session: &mut Session,
    visit: &Visit<'_>,
    rejection: &Rejection,
    (reason, retry): (&str, Duration),
    accept: Option<&str>,
) -> pingora::Result<Served> {
    if visit.overload != Overload::Stream || accept != Some("text/event-stream") {
        return refuse(session, rejection, visit.request_id, &visit.headers).await;
    }
    visit.request_id.refused(Refused {
        why: rejection.refusal(),
        softly: true,
    });
    let headers = visit.stream_headers(None);
    stream::soft_reject(session, &headers, reason, retry, visit.request_id).await?;
    Ok(Served::Answered)
}

/// Whether a request gets the event stream, should it be let in.
pub(super) fn wants_stream(stream: &Stream, request: &RequestHeader) -> bool {
    let query = Query::parse(request.uri.query().unwrap_or_default());
    let accept = request::joined(&request.headers, ACCEPT);
    let answer = negotiate::negotiate(accept.as_deref(), query.deliver.as_deref(), offer(stream));
    matches!(request.method, Method::GET | Method::HEAD) && matches!(answer, Answer::Stream(_))
}

fn offer(stream: &Stream) -> Offer<'_> {
    use crate::config::{HttpFormat, RedisFormat, RedisShape};
    let (current, text) = match &stream.source {
        Source::Http(http) => (true, http.format == HttpFormat::Text),
        Source::RedisKey(redis) => (
            true,
            redis.shape == RedisShape::String && redis.format != RedisFormat::Json,
        ),
        Source::RedisPubSub(_) | Source::RedisStream(_) | Source::Sse(_) => (false, true),
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
