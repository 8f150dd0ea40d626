//! `auth`, of the file, of one stream or of publishing to it

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use url::{Host, Url};

use super::super::keys::ALGORITHMS;
use super::super::read::{Item, Section};
use super::super::{ApiKeys, Auth, AuthMethod, Hashed, Jwt, JwtKeys};
use super::{all, headers, keys};
use crate::token::{Algorithm, AlgorithmFamily, KeySet, Rules};

/// Bytes of a secret: as long as what HS256 makes of it (RFC 7518 §3.2).
const MIN_SECRET: usize = 32;

/// Query parameters that mean something else to a stream.
const OWN_PARAMETERS: [&str; 2] = ["deliver", "lastEventId"];

pub(super) fn read(item: &Item<'_>) -> Option<Arc<Auth>> {
    const HINT: &str = "write none, or one of api_keys, jwt or basic, or a list of such";
    if item.is_none() {
        return Some(Arc::default());
    }
    let methods = match item.is_list() {
        true => item.list()?,
        false if item.is_empty() => Vec::new(),
        false => vec![item.clone()],
    };
    if methods.is_empty() {
        item.problem(format!("there is nothing that lets anybody in ({HINT})"));
        return None;
    }
    all(methods.into_iter().map(method)).map(|methods| Arc::new(Auth(methods)))
}

fn method(item: Item<'_>) -> Option<AuthMethod> {
    let section = item.section(&keys::AUTH)?;
    let api_keys = section.given("api_keys").map(api_keys);
    let jwt = section.given("jwt").map(jwt);
    let basic = section.given("basic").map(basic);
    match (api_keys, jwt, basic) {
        (Some(api_keys), None, None) => api_keys.map(AuthMethod::ApiKeys),
        (None, Some(jwt), None) => jwt.map(AuthMethod::Jwt),
        (None, None, Some(users)) => users.map(AuthMethod::Basic),
        (None, None, None) => {
            section
                .item
                .problem("no method (write one of api_keys, jwt or basic)");
            None
        }
        _ => {
            section.item.problem(
                "more than one method in one map (write a list: [{jwt: ...}, {basic: ...}])",
            );
            None
        }
    }
}

fn api_keys(item: Item<'_>) -> Option<ApiKeys> {
    let section = item.section(&keys::API_KEYS)?;
    let item = section.get("header");
    let header = headers::name(&item);
    if let Some(header) = &header
        && is_taken(header)
    {
        item.problem("this header means something else (write one such as x-api-key)");
    }
    let keys = hashed(&section.get("keys"));
    Some(ApiKeys {
        header: header?,
        keys: keys?,
    })
}

/// Headers that cannot hold a key: they are read as something else, or do not reach us as they were sent.
fn is_taken(header: &HeaderName) -> bool {
    matches!(
        header.as_str(),
        "authorization"
            | "cookie"
            | "host"
            | "origin"
            | "accept"
            | "last-event-id"
            | "connection"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "upgrade"
            | "trailer"
            | "keep-alive"
            | "proxy-authorization"
            | "proxy-connection"
            | "x-request-id"
    ) || header.as_str().starts_with("x-forwarded-")
        || header.as_str().starts_with("sec-")
}

fn basic(item: Item<'_>) -> Option<Vec<Hashed>> {
    let section = item.section(&keys::BASIC)?;
    let item = section.get("users");
    let users = hashed(&item)?;
    // RFC 7617 §2: the first colon ends the name.
    if users.iter().any(|user| user.name.contains(':')) {
        item.problem("a user's name has no colon (write another)");
    }
    Some(users)
}

/// Names with their digests; no name and no digest stands twice.
fn hashed(item: &Item<'_>) -> Option<Vec<Hashed>> {
    let items = item.list()?;
    if items.is_empty() {
        item.problem("nobody is let in (write [{name: web, sha256: \"...\"}])");
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    all(items.into_iter().map(|item| {
        let section = item.section(&keys::HASHED)?;
        let name_item = section.get("name");
        let name = name_item.parsed("write one such as web", |text| {
            let fits = (1..=128).contains(&text.len()) && !text.chars().any(char::is_control);
            fits.then(|| text.to_owned())
                .ok_or_else(|| "a name has 1 to 128 bytes and no control characters".to_owned())
        });
        let sha256 = section
            .get("sha256")
            .hide()
            .parsed("write what `printf %s KEY | sha256sum` prints", |text| {
                sha256(text).ok_or_else(|| "this is no SHA-256 of 64 hexadecimal digits".into())
            });
        if let Some(name) = &name {
            if names.contains(name) {
                name_item.problem("the name stands twice (write another)");
            }
            names.push(name.clone());
        }
        Some(Hashed {
            name: name?,
            sha256: sha256?,
        })
    }))
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(digest)
}

fn jwt(item: Item<'_>) -> Option<Jwt> {
    let section = item.section(&keys::JWT)?;
    let issuer = section.get("issuer").or_null(|item| item.text());
    let audience = section.get("audience").or_null(|item| item.text());
    let secret = section.given("secret").map(secret);
    let file = section.given("jwks_file").map(|item| jwks(&item));
    let url = section.given("jwks_url").map(|item| jwks_url(&item));
    let shared = secret.is_some();
    let algorithms = algorithms(&section, shared);
    let cookie = section.get("cookie").or_null(|item| token(&item, "cookie"));
    let query = section.get("query").or_null(|item| query(&item));
    let require = section.get("require").entries().and_then(|entries| {
        all(entries
            .into_iter()
            .map(|(name, value)| Some((name.text()?, value.text()?))))
    });
    let keys = match (secret, file, url) {
        (Some(secret), None, None) => secret.map(|secret| JwtKeys::Known(Arc::new(secret))),
        (None, Some(file), None) => file.map(|set| JwtKeys::Known(Arc::new(set))),
        (None, None, Some(url)) => url.map(JwtKeys::Url),
        _ => {
            section.item.problem(
                "the keys are needed from exactly one place (write one of jwks_url, jwks_file or secret)",
            );
            None
        }
    };
    let rules = Rules {
        issuer: issuer?,
        audience: audience?,
        algorithms: algorithms?,
        require: require?,
    };
    Some(Jwt {
        rules,
        keys: keys?,
        cookie: cookie?,
        query: query?,
    })
}

/// `shared`: the keys are one secret.
fn algorithms(section: &Section<'_>, shared: bool) -> Option<Vec<Algorithm>> {
    use Algorithm::*;
    let item = section.get("algorithms");
    if item.is_null() {
        return Some(match shared {
            true => vec![HS256],
            false => vec![RS256, ES256, EdDSA],
        });
    }
    let known = [
        HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA,
    ];
    let words: Vec<(&str, Algorithm)> = ALGORITHMS.into_iter().zip(known).collect();
    let items = item.list()?;
    if items.is_empty() {
        item.problem("no algorithm is taken (write [RS256])");
        return None;
    }
    let mut seen = Vec::new();
    all(items.iter().map(|item| {
        let algorithm = section.choice_of("algorithms", item, &words)?;
        // EDGE A1: what verifies with a public key must never be a secret, nor the other way round.
        if (algorithm.family() == AlgorithmFamily::Hmac) != shared {
            item.problem(match shared {
                true => "a secret goes with HS256, HS384 and HS512 alone (remove this one)",
                false => "this algorithm needs a secret (remove it, or write secret instead of a key set)",
            });
            return None;
        }
        if seen.contains(&algorithm) {
            item.problem("the algorithm stands twice (remove one)");
        }
        seen.push(algorithm);
        Some(algorithm)
    }))
}

fn secret(item: Item<'_>) -> Option<KeySet> {
    item.hide()
        .parsed("write a random one", |text| match text.len() < MIN_SECRET {
            true => Err(format!("a secret has {MIN_SECRET} bytes or more")),
            false => Ok(KeySet::of_secret(text)),
        })
}

fn jwks(item: &Item<'_>) -> Option<KeySet> {
    match KeySet::of_jwks(&item.file()?) {
        Ok(keys) => Some(keys),
        Err(why) => {
            item.problem(format!(
                "{} cannot be used: {why} (write the path of the issuer's key set)",
                item.shown()
            ));
            None
        }
    }
}

/// EDGE A5
fn jwks_url(item: &Item<'_>) -> Option<Url> {
    item.parsed(
        "write https://issuer.example/.well-known/jwks.json",
        |text| {
            let url = Url::parse(text).map_err(|_| "this is no url".to_owned())?;
            let loopback = match url.host() {
                Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
                Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
                Some(Host::Domain(name)) => name == "localhost",
                None => false,
            };
            if !url.username().is_empty() || url.password().is_some() {
                return Err("the url has a user or a password".to_owned());
            }
            match url.scheme() {
                "https" => Ok(url),
                "http" if loopback => Ok(url),
                _ => Err("keys come over https, or over http from loopback".to_owned()),
            }
        },
    )
}

/// The name of a cookie (RFC 6265 §4.1.1).
fn token(item: &Item<'_>, what: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    item.parsed("write one such as __Host-session", |text| {
        match !text.is_empty() && text.len() <= 128 && text.bytes().all(fits) {
            true => Ok(text.to_owned()),
            false => Err(format!("this is no name of a {what}")),
        }
    })
}

fn query(item: &Item<'_>) -> Option<String> {
    let name = item.parsed("write one such as access_token", |text| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        match !text.is_empty() && text.len() <= 128 && text.bytes().all(fits) {
            true => Ok(text.to_owned()),
            false => {
                Err("the name of a query parameter has letters, digits and -._~ alone".to_owned())
            }
        }
    })?;
    if OWN_PARAMETERS.contains(&name.as_str()) {
        item.problem("the parameter means something else to a stream (write another)");
        return None;
    }
    Some(name)
}
