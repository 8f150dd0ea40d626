//! Who may use a path (EDGE §11). Runs before a parameter is looked at, a source asked or anything of a stream given
//! (A13); only a preflight comes before it, as browsers send those without credentials.
//!
//! A [`Guard`] is what `auth` says for one path: a request shows one credential or none (`credential`), and one of the
//! methods knows it or none does. Nothing of a credential leaves this folder: an [`Identity`] has a name and an end.

mod credential;
mod digest;
mod failures;
mod issuer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{HOST, ORIGIN, REFERER, REFERRER_POLICY, VARY};
use http::uri::{PathAndQuery, Uri};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use tracing::info;

use super::cors::{self, Header};
use super::limit::{ClientKey, Excess, Limit, Policy, Quota};
use super::reply::Rejection;
use crate::config::{self, AuthMethod, Cors, Hashed, JwtKeys};
use crate::token::{self, Fault, KeySet, Rules};
use credential::{Credential, Places};
use failures::{Failures, What, Who};
use issuer::{Issuer, Issuers};

/// When to come back while the keys of tokens are not there.
const NO_KEYS_RETRY: Duration = Duration::from_secs(5);

/// Bytes of a name in a log.
const MAX_NAME: usize = 128;

/// Somebody who was let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Fit for a log: of bounded length, without control characters. Empty for a token without a subject.
    pub(super) name: String,
    /// `api-key`, `basic` or `jwt`.
    pub(super) method: &'static str,
    /// When the credential ends, and with it what it was good for (EDGE A6).
    pub(super) expires: Option<SystemTime>,
}

/// What all guards share, of this reading of the file and of the next: who failed is not forgotten, and an issuer's keys need
/// not be fetched again.
#[derive(Debug)]
pub(super) struct Gate {
    failures: Failures,
    issuers: Issuers,
}

/// The `auth` of one path.
#[derive(Debug)]
pub(super) struct Guard {
    methods: Vec<Method>,
    places: Places,
}

#[derive(Debug)]
enum Method {
    ApiKeys(HeaderName, Vec<Hashed>),
    Basic(Vec<Hashed>),
    Jwt(Rules, Keys),
}

#[derive(Debug)]
enum Keys {
    Known(Arc<KeySet>),
    Published(Arc<Issuer>),
}

/// Why somebody is not let in. What weighs more comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refused {
    Unknown,
    /// Nobody can say: the keys of tokens are not there.
    NoKeys,
    /// Known, and without a right to this.
    Lacking,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            failures: Failures::new(),
            issuers: Issuers::default(),
        }
    }

    /// The guard of a path; `None`: everybody is let in. Within a runtime, as keys may have to be fetched.
    pub(super) fn guard(&self, auth: &config::Auth) -> Option<Guard> {
        (!auth.0.is_empty()).then(|| Guard::new(auth, &self.issuers))
    }

    /// Lets a request in, or says why not. `query`: the request's, where a token in it counts; `address`: the client's.
    pub(super) async fn admit(
        &self,
        guard: &Guard,
        request: &RequestHeader,
        (query, cors): (Option<&str>, &Cors),
        address: IpAddr,
        request_id: &str,
    ) -> Result<Identity, Rejection> {
        let address = Who::Client(ClientKey::new(address));
        self.is_due(address)?;
        let Ok(shown) = guard.places.find(&request.headers, query) else {
            return Err(Rejection::BadRequest(
                "The request has more than one credential.",
            ));
        };
        let Some(shown) = shown else {
            return Err(Rejection::Unauthorized(guard.challenges(None)));
        };
        let (user, what) = match &shown.credential {
            Credential::Password(user, _) => (guard.known_user(user), What::Guess),
            Credential::ApiKey(..) => (None, What::Guess),
            Credential::Token(_) | Credential::Unreadable => (None, What::Token),
        };
        if let Some(user) = user {
            self.is_due(Who::User(user))?;
        }
        let why = match guard.check(&shown.credential, SystemTime::now()).await {
            Ok(identity) => {
                return match shown.by_cookie && is_foreign(cors, &request.headers) {
                    true => Err(Rejection::CrossSite),
                    false => Ok(identity),
                };
            }
            Err(why) => why,
        };
        let token = matches!(shown.credential, Credential::Token(_));
        match why {
            Refused::NoKeys => Err(Rejection::NoTokenKeys {
                retry: NO_KEYS_RETRY,
            }),
            Refused::Lacking => {
                let challenges = guard.challenges(token.then_some("insufficient_scope"));
                Err(Rejection::Forbidden(challenges))
            }
            Refused::Unknown => {
                let now = Instant::now();
                self.failures.note(address, what, now);
                if let Some(user) = user {
                    self.failures.note(Who::User(user), what, now);
                }
                info!(request_id, user, "a login failed");
                let challenges = guard.challenges(token.then_some("invalid_token"));
                Err(Rejection::Unauthorized(challenges))
            }
        }
    }

    fn is_due(&self, who: Who<'_>) -> Result<(), Rejection> {
        match self.failures.wait(who, Instant::now()) {
            None => Ok(()),
            Some(retry) => Err(Rejection::Limited(Excess {
                policy: Policy {
                    limit: Limit::FailedLogins,
                    quota: Quota::Rate(failures::QUOTA),
                },
                retry,
            })),
        }
    }
}

impl Guard {
    fn new(auth: &config::Auth, issuers: &Issuers) -> Self {
        let method = |method: &AuthMethod| match method {
            AuthMethod::ApiKeys(api_keys) => {
                Method::ApiKeys(api_keys.header.clone(), api_keys.keys.clone())
            }
            AuthMethod::Basic(users) => Method::Basic(users.clone()),
            AuthMethod::Jwt(jwt) => {
                let keys = match &jwt.keys {
                    JwtKeys::Known(keys) => Keys::Known(keys.clone()),
                    JwtKeys::Url(url) => Keys::Published(issuers.get(url)),
                };
                Method::Jwt(jwt.rules.clone(), keys)
            }
        };
        Self {
            methods: auth.0.iter().map(method).collect(),
            places: Places::of(auth),
        }
    }

    /// What every response of the path has besides.
    pub(super) fn headers(&self) -> Vec<Header> {
        let vary = self.places.vary();
        let names: Vec<&str> = vary.iter().map(HeaderName::as_str).collect();
        let mut headers = Vec::new();
        if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
            headers.push((VARY, names));
        }
        if !self.places.queries().is_empty() {
            // A page that shows such a url must not tell it to others.
            headers.push((REFERRER_POLICY, HeaderValue::from_static("no-referrer")));
        }
        headers
    }

    /// Takes the query away when it has tokens, so that nothing behind sees them, and puts back what else it says; gives what
    /// it was (EDGE A9).
    pub(super) fn take_query(&self, request: &mut RequestHeader) -> Option<String> {
        let referer = request.headers.get(REFERER).map(HeaderValue::as_bytes);
        let names = self.places.queries();
        // A page of the same url may have been opened with its token.
        if referer.is_some_and(|url| names.iter().any(|name| holds(url, name.as_bytes()))) {
            request.remove_header(&REFERER);
        }
        let query = request.uri.query()?.to_owned();
        if let Some(cleared) = self.places.cleared(&query) {
            let path = request.uri.path();
            let target = match cleared.is_empty() {
                true => path.to_owned(),
                false => format!("{path}?{cleared}"),
            };
            let mut parts = request.uri.clone().into_parts();
            // A part of what was one is one.
            parts.path_and_query = target.parse::<PathAndQuery>().ok();
            let uri = Uri::from_parts(parts).unwrap_or_else(|_| Uri::from_static("/"));
            request.set_uri(uri);
        }
        Some(query)
    }

    async fn check(&self, credential: &Credential, now: SystemTime) -> Result<Identity, Refused> {
        let mut refused = Refused::Unknown;
        for method in &self.methods {
            match method.check(credential, now).await {
                Ok(identity) => return Ok(identity),
                Err(why) => refused = refused.max(why),
            }
        }
        Err(refused)
    }

    /// How to be let in (RFC 9110 §11.6.1); `error` about a token (RFC 6750 §3.1).
    fn challenges(&self, error: Option<&str>) -> Vec<HeaderValue> {
        let mut challenges: Vec<HeaderValue> = Vec::new();
        for method in &self.methods {
            let challenge = match (method, error) {
                (Method::Jwt(..), None) => {
                    Ok(HeaderValue::from_static(r#"Bearer realm="wellspring""#))
                }
                (Method::Jwt(..), Some(error)) => {
                    HeaderValue::from_str(&format!(r#"Bearer realm="wellspring", error="{error}""#))
                }
                (Method::Basic(_), _) => Ok(HeaderValue::from_static(
                    r#"Basic realm="wellspring", charset="UTF-8""#,
                )),
                (Method::ApiKeys(header, _), _) => {
                    HeaderValue::from_str(&format!(r#"ApiKey header="{header}""#))
                }
            };
            if let Ok(challenge) = challenge
                && !challenges.contains(&challenge)
            {
                challenges.push(challenge);
            }
        }
        challenges
    }

    fn known_user(&self, name: &str) -> Option<&str> {
        let users = self.methods.iter().filter_map(|method| match method {
            Method::Basic(users) => Some(users),
            _ => None,
        });
        let mut names = users.flatten().map(|user| user.name.as_str());
        names.find(|known| *known == name)
    }
}

impl Method {
    async fn check(&self, credential: &Credential, now: SystemTime) -> Result<Identity, Refused> {
        let known = |method, hashed: Option<&Hashed>| {
            let identity = |hashed: &Hashed| Identity {
                name: shown_name(&hashed.name),
                method,
                expires: None,
            };
            hashed.map(identity).ok_or(Refused::Unknown)
        };
        match (self, credential) {
            (Self::ApiKeys(header, keys), Credential::ApiKey(shown_in, key))
                if header == shown_in =>
            {
                known("api-key", digest::key(keys, key))
            }
            (Self::Basic(users), Credential::Password(user, password)) => {
                known("basic", digest::password(users, user, password))
            }
            (Self::Jwt(rules, keys), Credential::Token(token)) => {
                let verified = keys.verify(token, rules, now).await?;
                Ok(Identity {
                    name: shown_name(verified.subject.as_deref().unwrap_or_default()),
                    method: "jwt",
                    expires: Some(verified.expires),
                })
            }
            _ => Err(Refused::Unknown),
        }
    }
}

impl Keys {
    async fn verify(
        &self,
        token: &str,
        rules: &Rules,
        now: SystemTime,
    ) -> Result<token::Verified, Refused> {
        let refused = |fault| match fault {
            Fault::Lacking => Refused::Lacking,
            _ => Refused::Unknown,
        };
        let issuer = match self {
            Self::Known(keys) => return token::verify(token, keys, rules, now).map_err(refused),
            Self::Published(issuer) => issuer,
        };
        let state = issuer.state().await;
        let first = match &state.keys {
            Some(keys) => token::verify(token, keys, rules, now),
            None => return Err(Refused::NoKeys),
        };
        if first != Err(Fault::UnknownKey) {
            return first.map_err(refused);
        }
        // The issuer may have a new key.
        let newer = issuer.newer(state.round).await;
        match &newer.keys {
            Some(keys) if newer.round > state.round => {
                token::verify(token, keys, rules, now).map_err(refused)
            }
            Some(_) => Err(Refused::Unknown),
            None => Err(Refused::NoKeys),
        }
    }
}

/// Whether a request comes from a page that this path does not know (EDGE C15).
pub(super) fn is_foreign(cors: &Cors, headers: &HeaderMap) -> bool {
    match headers.get(ORIGIN) {
        Some(origin) => !cors::is_listed(cors, headers) && !is_own(origin, headers),
        None => headers
            .get("sec-fetch-site")
            .is_some_and(|site| site.as_bytes() == b"cross-site"),
    }
}

/// Whether an origin is where the request went, as far as `Host` tells. A browser leaves no doubt about it where it can.
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if let Some(site) = site {
        return site == b"same-origin";
    }
    let host = |origin: &HeaderValue| {
        let (_, host) = origin.to_str().ok()?.split_once("://")?;
        Some(host.to_ascii_lowercase())
    };
    let own = headers.get(HOST);
    let own = own.and_then(|own| Some(own.to_str().ok()?.to_ascii_lowercase()));
    own.is_some() && host(origin) == own
}

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A name as a log may have it (EDGE O6).
fn shown_name(name: &str) -> String {
    let mut shown: String = name.escape_debug().take(MAX_NAME).collect();
    while shown.len() > MAX_NAME {
        shown.pop();
    }
    shown
}
