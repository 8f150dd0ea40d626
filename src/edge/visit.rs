//! One request for the path of a stream: what it asks for, and who gives it.

use std::net::IpAddr;

use http::Method;
use http::header::ACCEPT;
use pingora::proxy::Session;

use super::access_log::{Record, Refused, RequestId};
use super::cors::{self, Header};
use super::negotiate::{self, Answer, Offer};
use super::options::{options, other_method};
use super::reply::Rejection;
use super::request::{self, Query};
use super::snapshot::Ask;
use super::upstream::PassThrough;
use super::{Edge, Passing, PublishError, Served, publish, refuse, snapshot, stream};
use crate::channel::{ChannelKey, Form};
use crate::config::{Limits, Overload, Source, Stream};
use crate::metrics::Refusal;
use crate::params::Params;

/// One request for a stream's path.
pub(super) struct Visit<'a> {
    pub(super) index: usize,
    pub(super) stream: &'a Stream,
    pub(super) limits: &'a Limits,
    pub(super) params: Params,
    /// What every response has.
    pub(super) headers: Vec<Header>,
    pub(super) request_id: &'a RequestId,
    pub(super) record: Option<&'a Record>,
    /// Whose request it is.
    pub(super) client: IpAddr,
    /// The route that other methods go to.
    pub(super) route: Option<&'a PassThrough>,
}

impl Visit<'_> {
    /// Through to the route, whose answer is under this path's policy (EDGE C12, C13).
    pub(super) fn passing(&self, session: &Session, route: &PassThrough) -> Passing {
        let policy = &self.stream.cors;
        Passing {
            upstream: route.clone(),
            cross_origin: cors::passed_headers(policy, &session.req_header().headers),
        }
    }
}

impl Edge {
    pub(super) async fn serve_stream(
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
        if request::has_body(&session.req_header().headers) {
            let why = Rejection::BadRequest("A request for a stream has no body.");
            return refuse(session, &why, visit.request_id, &visit.headers).await;
        }
        let query = Query::parse(session.req_header().uri.query().unwrap_or_default());
        let accept = request::joined(&session.req_header().headers, ACCEPT);
        let offer = offer(visit.stream);
        let key = ChannelKey {
            stream: visit.index,
            params: visit.params.clone(),
        };
        match negotiate::negotiate(accept.as_deref(), query.deliver.as_deref(), offer) {
            Answer::NotAcceptable => {
                let rejection = Rejection::NotAcceptable(offered(offer));
                return refuse(session, &rejection, visit.request_id, &visit.headers).await;
            }
            Answer::Stream(_) if head_only => {
                stream::head(session, &visit.headers, visit.request_id).await?;
            }
            Answer::Stream(form) => {
                let Ok(subscription) = self.hub.subscribe(&key) else {
                    return self.full(session, &visit, accept.as_deref()).await;
                };
                let start = (
                    stream::cursor(session, query.last_event_id.as_deref()),
                    form,
                );
                stream::serve(session, &visit, subscription, start, &self.fanout).await;
                return Ok(Served::HandedOver);
            }
            Answer::Snapshot(representation) => {
                let Ok(subscription) = self.hub.subscribe(&key) else {
                    return self.full(session, &visit, accept.as_deref()).await;
                };
                let ask = Ask::new(&session.req_header().headers, representation);
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
        if visit.limits.overload == Overload::Stream && accept == Some("text/event-stream") {
            let refused = Refused {
                why: Refusal::Channels,
                softly: true,
            };
            visit.request_id.refused(refused);
            stream::soft_reject(session, &visit.headers, "limit", visit.request_id).await?;
            return Ok(Served::Answered);
        }
        let rejection = Rejection::TooManyChannels(visit.stream.max_channels);
        refuse(session, &rejection, visit.request_id, &visit.headers).await
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
