//! The legacy API: plain JSON over HTTP/1.1, asked again and again. It knows nothing of streams or of the gateway; the
//! button on its page makes it fail, so that one sees what readers are told then.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::debug;
use xxhash_rust::xxh3::xxh3_64;

use super::meter::{Meter, Outcome};
use super::page::Page;
use super::readers::Readers;
use super::world::{Resource, TICK, World};

/// How long the API fails when it is asked to and no time is given, and at most; in seconds.
const FAIL_FOR: u64 = 10;
const FAIL_AT_MOST: u64 = 60;

/// Where a browser says which page a request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

type Answer = Response<Full<Bytes>>;

/// The API and what it serves besides: its page, its counters, and two buttons.
#[derive(Debug)]
pub(super) struct Api {
    world: Mutex<World>,
    meter: Meter,
    page: Page,
    readers: Readers,
    failing_until: Mutex<Option<Instant>>,
}

impl Api {
    /// An API that counts from now.
    pub(super) fn new(seed: u64, page: Page, readers: Readers) -> Self {
        Self {
            world: Mutex::new(World::new(seed)),
            meter: Meter::new(),
            page,
            readers,
            failing_until: Mutex::new(None),
        }
    }

    /// Answers on `listener` while the world goes on. Never ends by itself.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) {
        tokio::join!(self.live(), self.accept(&listener));
    }

    async fn live(&self) {
        let ticks_of_a_second = (Duration::from_secs(1).as_millis() / TICK.as_millis()).max(1);
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for _ in 0..ticks_of_a_second {
                clock.tick().await;
                self.world.lock().tick();
            }
            self.meter.second(std::time::Instant::now());
        }
    }

    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((tcp, _)) => {
                    let api = self.clone();
                    let answer = service_fn(move |request| {
                        let answer = api.answer(&request);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let serving = http1::Builder::new().serve_connection(TokioIo::new(tcp), answer);
                    tokio::spawn(async move {
                        if let Err(error) = serving.await {
                            debug!(%error, "a connection to the demo's API broke");
                        }
                    });
                }
                Err(error) => {
                    debug!(%error, "the demo's API cannot accept for the moment");
                    sleep(TICK).await;
                }
            }
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Answer {
        let path = request.uri().path();
        let (method, handler): (_, fn(&Self, &Request<B>) -> Answer) = match path {
            "/" => (Method::GET, |api, _| api.page.response()),
            "/api/_stats" => (Method::GET, |api, _| api.stats()),
            "/api/_fail" => (Method::POST, Self::fail),
            "/api/_readers" => (Method::POST, Self::open_readers),
            _ => match Resource::find(path) {
                Some(index) if request.method() == Method::GET => {
                    return self.resource(index, request);
                }
                Some(_) => return not_allowed(&Method::GET),
                None => return problem(StatusCode::NOT_FOUND, "there is nothing here"),
            },
        };
        if request.method() != method {
            return not_allowed(&method);
        }
        handler(self, request)
    }

    fn resource<B>(&self, index: usize, request: &Request<B>) -> Answer {
        if self.failing_for() > Duration::ZERO {
            self.meter.count(index, Outcome::Failed);
            return problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "out of order, as you asked",
            );
        }
        let resource = Resource::ALL[index];
        let body = self.world.lock().body(resource);
        let etag = resource.has_etag().then(|| etag(&body));
        let known = request.headers().get(IF_NONE_MATCH);
        if etag.is_some() && known == etag.as_ref() {
            self.meter.count(index, Outcome::NotModified);
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().extend(etag.map(|etag| (ETAG, etag)));
            return response;
        }
        self.meter.count(index, Outcome::Given);
        let mut response = respond(StatusCode::OK, resource.content_type(), body);
        response.headers_mut().extend(etag.map(|etag| (ETAG, etag)));
        response
    }

    fn stats(&self) -> Answer {
        let mut stats = self.meter.to_json();
        stats["failing_for"] = self.failing_for().as_secs_f64().ceil().into();
        stats["readers"] = self.readers.to_json();
        respond(StatusCode::OK, "application/json", stats.to_string())
    }

    fn fail<B>(&self, request: &Request<B>) -> Answer {
        if is_cross_site(request) {
            return problem(StatusCode::FORBIDDEN, "only this page may ask for it");
        }
        let seconds = number(request, "seconds")
            .unwrap_or(FAIL_FOR)
            .min(FAIL_AT_MOST);
        *self.failing_until.lock() = Some(Instant::now() + Duration::from_secs(seconds));
        let body = json!({ "failing_for": seconds });
        respond(StatusCode::ACCEPTED, "application/json", body.to_string())
    }

    fn open_readers<B>(&self, request: &Request<B>) -> Answer {
        if is_cross_site(request) {
            return problem(StatusCode::FORBIDDEN, "only this page may ask for it");
        }
        let Some(wanted) = number(request, "n") else {
            return problem(StatusCode::BAD_REQUEST, "say how many, such as ?n=100");
        };
        let opened = self
            .readers
            .set(usize::try_from(wanted).unwrap_or(usize::MAX));
        let body = json!({ "readers": opened });
        respond(StatusCode::ACCEPTED, "application/json", body.to_string())
    }

    fn failing_for(&self) -> Duration {
        let until = *self.failing_until.lock();
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }
}

impl Page {
    fn response(&self) -> Answer {
        let (html, policy) = self.render();
        let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", html);
        let headers = response.headers_mut();
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn problem(status: StatusCode, error: &str) -> Answer {
    respond(
        status,
        "application/json",
        json!({ "error": error }).to_string(),
    )
}

fn not_allowed(method: &Method) -> Answer {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "not with this method");
    if let Ok(allow) = HeaderValue::from_str(method.as_str()) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// The buttons do something: a page of another site must not press them through its visitor's browser.
fn is_cross_site<B>(request: &Request<B>) -> bool {
    let site = request.headers().get(SEC_FETCH_SITE);
    site.is_some_and(|site| site != "same-origin" && site != "none")
}

fn number<B>(request: &Request<B>, name: &str) -> Option<u64> {
    let query = request.uri().query().unwrap_or_default();
    let (_, value) = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name)?;
    value.parse().ok()
}

fn etag(body: &str) -> HeaderValue {
    let tag = format!("\"{:016x}\"", xxh3_64(body.as_bytes()));
    HeaderValue::from_str(&tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::Value;

    fn api() -> Api {
        // Installed once by whoever is first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Nobody listens on port 0: readers would find no gateway.
        let readers = Readers::new(([127, 0, 0, 1], 0).into()).expect("a client");
        Api::new(1, Page::new("{}"), readers)
    }

    fn request(method: Method, uri: &str) -> Request<()> {
        let request = Request::builder().method(method).uri(uri);
        request.body(()).expect("a request")
    }

    fn get(api: &Api, uri: &str) -> Answer {
        api.answer(&request(Method::GET, uri))
    }

    async fn body(answer: Answer) -> String {
        let bytes = answer.into_body().collect().await.expect("a body");
        String::from_utf8(bytes.to_bytes().to_vec()).expect("UTF-8")
    }

    async fn stats(api: &Api) -> Value {
        serde_json::from_str(&body(get(api, "/api/_stats")).await).expect("JSON")
    }

    #[tokio::test]
    async fn what_is_known_by_its_tag_is_not_sent_again() {
        let api = api();
        let first = get(&api, "/api/orders");
        assert_eq!(first.status(), StatusCode::OK);
        let mut again = request(Method::GET, "/api/orders");
        let etag = first.headers()[ETAG].clone();
        again.headers_mut().insert(IF_NONE_MATCH, etag.clone());
        let second = api.answer(&again);
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(second.headers()[ETAG], etag);
        assert_eq!(body(second).await, "");
        let stats = stats(&api).await;
        assert_eq!(
            (&stats["requests"], &stats["not_modified"]),
            (&json!(2), &json!(1))
        );
        for _ in 0..1_000 {
            api.world.lock().tick();
        }
        assert_eq!(api.answer(&again).status(), StatusCode::OK);
    }

    #[tokio::test(start_paused = true)]
    async fn it_fails_for_as_long_as_it_is_asked_to_and_its_counters_do_not() {
        let api = api();
        let asked = api.answer(&request(Method::POST, "/api/_fail?seconds=10"));
        assert_eq!(asked.status(), StatusCode::ACCEPTED);
        let failed = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(get(&api, "/api/sensor").status(), failed);
        let stats = stats(&api).await;
        assert_eq!(
            (&stats["failed"], &stats["failing_for"]),
            (&json!(1), &json!(10.0))
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(get(&api, "/api/sensor").status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn buttons_cannot_be_pressed_from_other_sites() {
        let api = api();
        for uri in ["/api/_fail", "/api/_readers?n=1"] {
            let mut foreign = request(Method::POST, uri);
            let site = HeaderValue::from_static("cross-site");
            foreign.headers_mut().insert(SEC_FETCH_SITE, site);
            assert_eq!(api.answer(&foreign).status(), StatusCode::FORBIDDEN);
            assert_eq!(get(&api, uri).status(), StatusCode::METHOD_NOT_ALLOWED);
        }
        assert_eq!(get(&api, "/api/sensor").status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn the_page_allows_nothing_but_its_own_script() {
        let answer = get(&api(), "/");
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].clone();
        let policy = policy.to_str().expect("ASCII").to_owned();
        let (_, nonce) = policy.split_once("'nonce-").expect("a nonce");
        let (nonce, _) = nonce.split_once('\'').expect("its end");
        assert_eq!(nonce.len(), 32, "{nonce}");
        let html = body(answer).await;
        assert_eq!(html.matches(&format!(r#"nonce="{nonce}""#)).count(), 2);
        assert!(!html.contains("{{"), "every placeholder is filled");
        let other = get(&api(), "/").headers()[CONTENT_SECURITY_POLICY].clone();
        assert_ne!(other, policy, "a nonce is used once");
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_counted() {
        let api = api();
        for uri in ["/api/quotes/NONE", "/api/", "/favicon.ico"] {
            assert_eq!(get(&api, uri).status(), StatusCode::NOT_FOUND, "{uri}");
        }
        let posted = api.answer(&request(Method::POST, "/api/quotes"));
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(posted.headers()[ALLOW], "GET");
        assert_eq!(stats(&api).await["requests"], 0);
    }
}
