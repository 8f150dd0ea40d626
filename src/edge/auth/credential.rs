//! What a client shows to be let in, and where it may show it (EDGE A8). Pure.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};

use crate::config::{Auth, AuthMethod};

/// Clients leave the padding out, or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is shown. Without `Debug`: it is nobody's business but the guard's (EDGE A10).
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credential {
    /// A key in this header.
    ApiKey(HeaderName, Vec<u8>),
    /// A token, wherever it stood.
    Token(String),
    /// A user's name and password.
    Password(String, Vec<u8>),
    /// Meant as one of these, and none.
    Unreadable,
}

/// A credential, and whether only a cookie brought it: a browser sends those along unasked.
pub(super) struct Shown {
    pub(super) credential: Credential,
    pub(super) by_cookie: bool,
}

/// A request shows two different credentials: nobody could say whose it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ambiguous;

/// Where to look; nothing else of a request is a credential.
#[derive(Debug, Default)]
pub(super) struct Places {
    bearer: bool,
    basic: bool,
    headers: Vec<HeaderName>,
    cookies: Vec<String>,
    queries: Vec<String>,
}

impl Places {
    pub(super) fn of(auth: &Auth) -> Self {
        let mut places = Self::default();
        for method in &auth.0 {
            match method {
                AuthMethod::ApiKeys(api_keys) => places.headers.push(api_keys.header.clone()),
                AuthMethod::Jwt(jwt) => {
                    places.bearer = true;
                    places.cookies.extend(jwt.cookie.clone());
                    places.queries.extend(jwt.query.clone());
                }
                AuthMethod::Basic(_) => places.basic = true,
            }
        }
        places
    }

    /// The request headers that decide about an answer.
    pub(super) fn vary(&self) -> Vec<HeaderName> {
        let mut names = self.headers.clone();
        if self.bearer || self.basic {
            names.push(AUTHORIZATION);
        }
        if !self.cookies.is_empty() {
            names.push(COOKIE);
        }
        names
    }

    /// Query parameters that may hold a token.
    pub(super) fn queries(&self) -> &[String] {
        &self.queries
    }

    /// The one credential of a request; the same in two places is one. `query`: the request's, where it counts.
    pub(super) fn find(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Option<Shown>, Ambiguous> {
        let mut found: Option<Shown> = None;
        let in_headers = self
            .in_headers(headers)
            .map(|credential| (credential, false));
        let in_cookies = self
            .in_cookies(headers)
            .map(|credential| (credential, true));
        let in_query = self.in_query(query).map(|credential| (credential, false));
        for (credential, by_cookie) in in_headers.chain(in_cookies).chain(in_query) {
            match &mut found {
                None => {
                    found = Some(Shown {
                        credential,
                        by_cookie,
                    });
                }
                Some(first) if first.credential == credential => first.by_cookie &= by_cookie,
                Some(_) => return Err(Ambiguous),
            }
        }
        Ok(found)
    }

    fn in_headers(&self, headers: &HeaderMap) -> impl Iterator<Item = Credential> {
        let authorizations = headers.get_all(AUTHORIZATION).into_iter();
        let authorizations =
            authorizations.filter_map(|line| self.authorization(line.as_bytes().trim_ascii()));
        let keys = self.headers.iter().flat_map(|name| {
            let lines = headers.get_all(name).iter().map(|line| line.as_bytes());
            lines
                .filter(|key| !key.is_empty())
                .map(|key| Credential::ApiKey(name.clone(), key.to_owned()))
        });
        authorizations.chain(keys)
    }

    /// RFC 9110 §11.4. A scheme that is not asked for is left to the upstream.
    fn authorization(&self, line: &[u8]) -> Option<Credential> {
        let end = line.iter().position(|&byte| byte == b' ');
        let (scheme, rest) = line.split_at(end.unwrap_or(line.len()));
        let rest = rest.trim_ascii();
        let read = match scheme.to_ascii_lowercase().as_slice() {
            b"bearer" if self.bearer => bearer(rest),
            b"basic" if self.basic => password(rest),
            _ => return None,
        };
        Some(read.unwrap_or(Credential::Unreadable))
    }

    fn in_cookies(&self, headers: &HeaderMap) -> impl Iterator<Item = Credential> {
        let lines = headers.get_all(COOKIE).into_iter();
        let pairs = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'));
        pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = value.trim();
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap_or(value);
            let ours = self.cookies.iter().any(|known| known == name.trim());
            (ours && !value.is_empty()).then(|| Credential::Token(value.to_owned()))
        })
    }

    fn in_query(&self, query: Option<&str>) -> impl Iterator<Item = Credential> {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        pairs.filter_map(|(name, value)| {
            let ours = self.queries.iter().any(|known| *known == name);
            (ours && !value.is_empty()).then(|| Credential::Token(value.into_owned()))
        })
    }

    /// The query without tokens, to the byte; `None`: it has none (EDGE A9).
    pub(super) fn cleared(&self, query: &str) -> Option<String> {
        // Some upstreams separate pairs by semicolons.
        const BETWEEN: [char; 2] = ['&', ';'];
        let is_token = |pair: &&str| {
            let pair = pair.trim_end_matches(BETWEEN);
            let name = url::form_urlencoded::parse(pair.as_bytes()).next();
            name.is_some_and(|(name, _)| self.queries.iter().any(|known| *known == name))
        };
        let pairs: Vec<&str> = query.split_inclusive(BETWEEN).collect();
        if !pairs.iter().any(is_token) {
            return None;
        }
        let mut kept: String = pairs
            .iter()
            .filter(|pair| !is_token(pair))
            .copied()
            .collect();
        // What stood between a token at the end and the pair before it.
        if !query.ends_with(BETWEEN) && pairs.last().is_some_and(is_token) {
            kept.pop();
        }
        Some(kept)
    }
}

/// RFC 6750 §2.1
fn bearer(token: &[u8]) -> Option<Credential> {
    let token = std::str::from_utf8(token).ok()?;
    (!token.is_empty()).then(|| Credential::Token(token.to_owned()))
}

/// RFC 7617 §2
fn password(encoded: &[u8]) -> Option<Credential> {
    let pair = BASE64.decode(encoded).ok()?;
    let colon = pair.iter().position(|&byte| byte == b':')?;
    let user = String::from_utf8(pair[..colon].to_vec()).ok()?;
    Some(Credential::Password(user, pair[colon + 1..].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn places() -> Places {
        Places {
            bearer: true,
            basic: true,
            headers: vec![HeaderName::from_static("x-api-key")],
            cookies: vec!["session".into()],
            queries: vec!["access_token".into()],
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).expect("a value");
            (HeaderName::from_static(name), value)
        });
        lines.collect()
    }

    /// What is found, in words, and whether by cookie alone.
    fn found(
        places: &Places,
        lines: &[(&'static str, &str)],
        query: Option<&str>,
    ) -> Result<Option<(String, bool)>, Ambiguous> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(places.find(&headers(lines), query)?.map(|shown| {
            let words = match &shown.credential {
                Credential::ApiKey(name, key) => format!("{name}={}", text(key)),
                Credential::Token(token) => format!("token {token}"),
                Credential::Password(user, password) => format!("{user}:{}", text(password)),
                Credential::Unreadable => "unreadable".into(),
            };
            (words, shown.by_cookie)
        }))
    }

    /// EDGE A8: each place, and none other.
    #[test]
    fn credentials_are_found_where_the_file_says() {
        let some = |words: &str, by_cookie| Ok(Some((words.to_owned(), by_cookie)));
        for (lines, query, expected) in [
            (&[][..], None, Ok(None)),
            (
                &[("authorization", "Bearer a.b.c")],
                None,
                some("token a.b.c", false),
            ),
            (
                &[("authorization", "bEARER   a ")],
                None,
                some("token a", false),
            ),
            (
                &[("authorization", "Basic dTpwOnE=")],
                None,
                some("u:p:q", false),
            ),
            (
                &[("authorization", "basic dTpwOnE")],
                None,
                some("u:p:q", false),
            ),
            (&[("x-api-key", "k")], None, some("x-api-key=k", false)),
            (
                &[("cookie", "a=b; session=t; c")],
                None,
                some("token t", true),
            ),
            (&[("cookie", "session=\"t\"")], None, some("token t", true)),
            (&[("cookie", "session=; xsession=t")], None, Ok(None)),
            (
                &[],
                Some("a=1&access_token=t%2Ex"),
                some("token t.x", false),
            ),
            (&[], Some("Access_Token=t"), Ok(None)),
            // Another scheme is the upstream's.
            (&[("authorization", "Digest x")], None, Ok(None)),
            // Meant for us, and nothing.
            (
                &[("authorization", "Bearer")],
                None,
                some("unreadable", false),
            ),
            (
                &[("authorization", "Basic !")],
                None,
                some("unreadable", false),
            ),
            (
                &[("authorization", "Basic dQ==")],
                None,
                some("unreadable", false),
            ),
        ] {
            assert_eq!(
                found(&places(), lines, query),
                expected,
                "{lines:?} {query:?}"
            );
        }
        let nowhere = Places::default();
        let all = [
            ("authorization", "Bearer a"),
            ("x-api-key", "k"),
            ("cookie", "session=t"),
        ];
        assert_eq!(found(&nowhere, &all, Some("access_token=t")), Ok(None));
    }

    /// EDGE A8: two different credentials are none; the same twice is one, and a cookie beside it is no cookie's alone.
    #[test]
    fn two_different_credentials_are_ambiguous() {
        for (lines, query) in [
            (
                &[("authorization", "Bearer a"), ("x-api-key", "a")][..],
                None,
            ),
            (
                &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
                None,
            ),
            (
                &[
                    ("authorization", "Bearer a"),
                    ("authorization", "Basic dTpw"),
                ],
                None,
            ),
            (
                &[("authorization", "Bearer a"), ("cookie", "session=b")],
                None,
            ),
            (&[("cookie", "session=a; session=b")], None),
            (&[("x-api-key", "a"), ("x-api-key", "b")], None),
            (&[("authorization", "Bearer a")], Some("access_token=b")),
            (&[], Some("access_token=a&access_token=b")),
        ] {
            assert_eq!(
                found(&places(), lines, query),
                Err(Ambiguous),
                "{lines:?} {query:?}"
            );
        }
        let twice = [("authorization", "Bearer a"), ("cookie", "session=a")];
        assert_eq!(
            found(&places(), &twice, Some("access_token=a")),
            Ok(Some(("token a".into(), false)))
        );
    }

    /// EDGE A9: the token goes, the rest stays to the byte.
    #[test]
    fn tokens_are_cleared_from_the_query() {
        let cleared = |query| places().cleared(query);
        assert_eq!(cleared("a=1&b=+%20"), None);
        assert_eq!(
            cleared("a=+%20&access_token=x&&b").as_deref(),
            Some("a=+%20&&b")
        );
        assert_eq!(cleared("access%5Ftoken=x").as_deref(), Some(""));
        assert_eq!(cleared("access_token").as_deref(), Some(""));
        assert_eq!(cleared("x=1;access_token=t").as_deref(), Some("x=1"));
        assert_eq!(cleared("a&access_token=t;b;").as_deref(), Some("a&b;"));
        assert_eq!(cleared("a=1&access_token=t&").as_deref(), Some("a=1&"));
    }

    proptest! {
        #[test]
        fn any_request_is_read(line in "(Bearer|Basic|basic )?[ -~]{0,40}", cookie in "[ -~]{0,40}", query in "[ -~]{0,40}") {
            let lines = headers(&[("authorization", line.trim()), ("cookie", &cookie)]);
            let _ = places().find(&lines, Some(&query));
            let cleared = places().cleared(&query).unwrap_or_default();
            prop_assert!(places().cleared(&cleared).is_none());
        }
    }
}
