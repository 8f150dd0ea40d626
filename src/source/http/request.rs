//! What is asked: the request of one channel, with its parameters in place (EDGE U1).

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::{Position, Url};

use super::failure::excerpt;
use crate::config::{HttpFormat, HttpSource, SseSource, Upstream};
use crate::params::{Escape, Forwarded, ParamText, Params};
use crate::source::{Cause, SourceError};

const ACCEPT_JSON: HeaderValue =
    HeaderValue::from_static("application/json, text/plain;q=0.5, */*;q=0.1");
const ACCEPT_EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const ACCEPT_TEXT: HeaderValue = HeaderValue::from_static("text/plain, text/*;q=0.9, */*;q=0.1");

/// All but RFC 3986 unreserved characters.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A request that can be sent again.
#[derive(Clone)]
pub(super) struct Order {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Order {
    /// The request of `spec` for the resource that `params` name, with the headers that its client sent.
    ///
    /// # Errors
    ///
    /// A parameter would change what is asked instead of filling its place. Patterns refuse such values before a channel
    /// exists (EDGE U2); this is the second lock on that door.
    pub(super) fn render(
        spec: &HttpSource,
        params: &Params,
        forwarded: Option<&Forwarded>,
    ) -> Result<Self, SourceError> {
        let accept = match spec.format {
            HttpFormat::Json => ACCEPT_JSON,
            HttpFormat::Text => ACCEPT_TEXT,
        };
        let mut ours = HeaderMap::from_iter([(ACCEPT, accept)]);
        if spec.body.is_some() {
            ours.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let mut headers = headers(ours, &spec.upstream, &spec.headers, params)?;
        if let Some(forwarded) = forwarded {
            forwarded.apply(&spec.forward_headers, &mut headers);
        }
        let escape = match is_form(&headers) {
            true => Escape::Percent,
            false => Escape::Json,
        };
        let body = spec
            .body
            .as_ref()
            .map(|body| Bytes::from(body.render(params, escape)));
        Ok(Self {
            method: spec.method.clone(),
            url: url(&spec.upstream, &spec.path, &spec.query, params)?,
            headers,
            body,
        })
    }

    /// The request for the event stream of `spec`. Errors as [`Order::render`].
    pub(super) fn for_events(spec: &SseSource, params: &Params) -> Result<Self, SourceError> {
        // As a browser's: what some cache has kept of a stream is of no use.
        let ours = HeaderMap::from_iter([
            (ACCEPT, ACCEPT_EVENTS),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ]);
        Ok(Self {
            method: Method::GET,
            url: url(&spec.upstream, &spec.path, &spec.query, params)?,
            headers: headers(ours, &spec.upstream, &spec.headers, params)?,
            body: None,
        })
    }

    /// Whether asking twice is as asking once, and conditions mean anything.
    pub(super) fn is_get(&self) -> bool {
        self.method == Method::GET
    }

    /// What is sent besides the request line and the body.
    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// To be sent.
    pub(super) fn into_request(self) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method, self.url);
        *request.headers_mut() = self.headers;
        *request.body_mut() = self.body.map(Into::into);
        request
    }
}

/// Base, path and query. The origin is that of the upstream by construction: everything else comes after it.
fn url(
    Upstream { url: base, .. }: &Upstream,
    path: &ParamText,
    query: &[(String, ParamText)],
    params: &Params,
) -> Result<Url, SourceError> {
    let path = path.render(params, Escape::Percent);
    let route = path.split(['?', '#']).next().unwrap_or_default();
    if route.split(['/', '\\']).any(is_dot_segment) {
        // The URL parser would resolve it, and ask for another resource than the file names.
        return Err(unaskable(&format!("the path {path} has a dot segment")));
    }
    let text = format!(
        "{}{}{path}",
        &base[..Position::BeforePath],
        base.path().trim_end_matches('/')
    );
    let mut url =
        Url::parse(&text).map_err(|error| unaskable(&format!("the path {path}: {error}")))?;
    if !query.is_empty() {
        let pairs = query.iter().map(|(name, value)| {
            // Literal and parameter alike: what stands in the file is the value, not its encoding.
            let value = value.render(params, Escape::Verbatim);
            format!("{}={}", encode(name), encode(&value))
        });
        let pairs: Vec<String> = url
            .query()
            .map(str::to_owned)
            .into_iter()
            .chain(pairs)
            .collect();
        url.set_query(Some(&pairs.join("&")));
    }
    url.set_fragment(None);
    Ok(url)
}

/// Ours, replaced by the upstream's, replaced by the stream's.
fn headers(
    ours: HeaderMap,
    upstream: &Upstream,
    streams: &[(HeaderName, ParamText)],
    params: &Params,
) -> Result<HeaderMap, SourceError> {
    let mut headers = ours;
    // One poll serves everybody, so decoding is worth less than its risks (EDGE U8).
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // Extending replaces what has the same name, and keeps several lines of one name.
    headers.extend(upstream.headers.clone());
    for (name, value) in streams {
        let value = value.render(params, Escape::Verbatim);
        let mut value = HeaderValue::from_str(&value).map_err(|_| {
            unaskable(&format!(
                "the header {name} has a character that no header may have"
            ))
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn is_form(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| {
        essence
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    })
}

/// RFC 3986 §5.2.4; the URL parser takes `%2e` for a dot too.
fn is_dot_segment(segment: &str) -> bool {
    matches!(
        segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
        "." | ".."
    )
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn unaskable(why: &str) -> SourceError {
    SourceError::new(Cause::Malformed, format!("not asked: {}", excerpt(why)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::tests::spec;
    use super::*;
    use crate::params::{ParamText, Part};

    fn text(literal: &str) -> ParamText {
        ParamText(vec![Part::Literal(literal.into()), Part::Param(0)])
    }

    fn params(value: &str) -> Params {
        Params::from(vec![value.into()])
    }

    fn at(base: &str) -> HttpSource {
        let mut spec = spec("http://127.0.0.1:1");
        let mut upstream = (*spec.upstream).clone();
        upstream.url = Url::parse(base).expect("a URL");
        spec.upstream = Arc::new(upstream);
        spec
    }

    fn ordered(spec: &HttpSource, value: &str) -> Order {
        Order::render(spec, &params(value), None).expect("askable")
    }

    fn line<'a>(order: &'a Order, name: &str) -> &'a str {
        order.headers[name].to_str().expect("text")
    }

    #[test]
    fn the_base_path_goes_before_the_path_and_the_query_after() {
        let mut spec = at("https://h.test:8443/base/");
        spec.path = text("/v1/q'uo;te(s)/@:x/");
        spec.query = vec![
            ("a b".into(), ParamText::literal("c&d=é+{}")),
            ("s".into(), text("x/")),
            ("empty".into(), ParamText::literal("")),
        ];
        assert_eq!(
            ordered(&spec, "A&B").url.as_str(),
            "https://h.test:8443/base/v1/q'uo;te(s)/@:x/A%26B?a%20b=c%26d%3D%C3%A9%2B%7B%7D&s=x%2FA%26B&empty="
        );
    }

    #[test]
    fn a_query_in_the_path_is_kept_and_continued() {
        let mut spec = at("http://h.test");
        spec.path = ParamText::literal("/v1/x?a=%20+b&c#f");
        assert_eq!(
            ordered(&spec, "").url.as_str(),
            "http://h.test/v1/x?a=%20+b&c"
        );
        spec.query = vec![("d".into(), ParamText::literal("e"))];
        assert_eq!(
            ordered(&spec, "").url.as_str(),
            "http://h.test/v1/x?a=%20+b&c&d=e"
        );
    }

    #[test]
    fn trailing_slashes_and_encoded_bytes_of_the_file_are_kept() {
        for path in ["/", "/a/", "//a", "/a%2Fb%20c", "/a/...", "/a;v=1", "/.a"] {
            let mut spec = at("http://h.test/");
            spec.path = ParamText::literal(path);
            assert_eq!(
                ordered(&spec, "").url.as_str(),
                format!("http://h.test{path}")
            );
        }
    }

    /// EDGE U1.
    #[test]
    fn dot_segments_are_not_asked() {
        for value in [".", "..", "%2e", "/../", "\\.."] {
            let mut spec = at("http://h.test/base");
            spec.path = text("/v1/");
            let rendered = Order::render(&spec, &params(value), None);
            // Encoded, only the bare dots are dot segments.
            assert_eq!(rendered.is_err(), matches!(value, "." | ".."), "{value}");
        }
        for path in ["/a/../b", "/a/%2E%2e/b", "/a/.", "/a\\..\\b", "/.?x"] {
            let mut spec = at("http://h.test/base");
            spec.path = ParamText::literal(path);
            assert!(Order::render(&spec, &params(""), None).is_err(), "{path}");
        }
    }

    #[test]
    fn headers_replace_each_other_from_general_to_special() {
        let mut spec = at("http://h.test");
        let order = ordered(&spec, "x");
        assert!(line(&order, "accept").starts_with("application/json,"));
        assert_eq!(line(&order, "accept-encoding"), "identity");
        assert!(!order.headers.contains_key("content-type"));

        let mut upstream = (*spec.upstream).clone();
        upstream
            .headers
            .insert("accept", HeaderValue::from_static("application/vnd.a+json"));
        upstream
            .headers
            .insert("x-key", HeaderValue::from_static("general"));
        upstream
            .headers
            .append("x-two", HeaderValue::from_static("1"));
        upstream
            .headers
            .append("x-two", HeaderValue::from_static("2"));
        spec.upstream = Arc::new(upstream);
        spec.headers = vec![(HeaderName::from_static("x-key"), text("special "))];
        let order = ordered(&spec, "v");
        assert_eq!(line(&order, "accept"), "application/vnd.a+json");
        assert_eq!(
            order.headers.get_all("x-key").iter().collect::<Vec<_>>(),
            ["special v"]
        );
        assert!(order.headers["x-key"].is_sensitive());
        assert_eq!(order.headers.get_all("x-two").iter().count(), 2);

        // EDGE P22.
        assert!(Order::render(&spec, &params("a\r\nx-evil: 1"), None).is_err());
    }

    #[test]
    fn a_body_escapes_its_parameters_as_its_type_asks() {
        let mut spec = at("http://h.test");
        spec.method = Method::POST;
        spec.body = Some(ParamText(vec![
            Part::Literal("{\"s\":\"".into()),
            Part::Param(0),
            Part::Literal("\"}".into()),
        ]));
        let order = ordered(&spec, "a\"b&c");
        assert_eq!(line(&order, "content-type"), "application/json");
        assert_eq!(order.body.as_deref(), Some(&b"{\"s\":\"a\\\"b&c\"}"[..]));

        let form = ParamText::literal("Application/X-WWW-form-urlencoded; charset=utf-8");
        spec.headers = vec![(CONTENT_TYPE, form)];
        spec.body = Some(text("s="));
        let order = ordered(&spec, "a\"b&c");
        assert_eq!(order.body.as_deref(), Some(&b"s=a%22b%26c"[..]));
    }

    proptest! {
        /// EDGE U1: whatever a parameter holds, it stays inside its segment, its query value and its upstream.
        #[test]
        fn a_parameter_never_leaves_its_place(value in "\\PC{0,12}|[./%2eE\\\\?#&=@:;+ ]{0,8}") {
            let mut spec = at("https://user.test/base");
            spec.path = ParamText(vec![Part::Literal("/a/".into()), Part::Param(0), Part::Literal("/z".into())]);
            spec.query = vec![("q".into(), text(""))];
            let Ok(order) = Order::render(&spec, &params(&value), None) else {
                prop_assert!(value == "." || value == "..");
                return Ok(());
            };
            prop_assert_eq!(order.url.host_str(), Some("user.test"));
            let segments: Vec<&str> = order.url.path_segments().expect("a path").collect();
            prop_assert_eq!(segments.len(), 4);
            let decoded = percent_encoding::percent_decode_str(segments[2]).decode_utf8().expect("UTF-8");
            prop_assert_eq!(decoded, value.as_str());
            let query: Vec<_> = order.url.query_pairs().collect();
            prop_assert_eq!(query, vec![("q".into(), value.into())]);
        }
    }
}
