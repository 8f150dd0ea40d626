//! The headers in which proxies tell for whom they ask. Pure.
//!
//! Every element is read for itself: one that makes no sense is a hop that nobody knows, and never hides the ones after it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO};

/// One hop of `Forwarded` (RFC 7239 §4).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// `for`
    pub(super) client: Option<IpAddr>,
    /// `proto`
    pub(super) proto: Option<&'static str>,
    /// `host`
    pub(super) host: Option<HeaderValue>,
}

/// The hops of all `X-Forwarded-For` lines in order; `None` is one that is no address (EDGE Q2).
pub(super) fn forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    elements(headers, &FORWARDED_FOR)
        .map(|element| std::str::from_utf8(element).ok().and_then(node))
        .collect()
}

/// The hops of all `Forwarded` lines in order.
pub(super) fn forwarded(headers: &HeaderMap) -> Vec<Element> {
    let lines = headers.get_all(FORWARDED).iter();
    lines
        .flat_map(|line| match line.to_str() {
            Ok(line) => split(line, b',')
                .filter(|element| !element.trim().is_empty())
                .map(element)
                .collect(),
            Err(_) => vec![Element::default()],
        })
        .collect()
}

/// The nearest proxy's word about how the client speaks.
pub(super) fn proto(headers: &HeaderMap) -> Option<&'static str> {
    elements(headers, &FORWARDED_PROTO)
        .next_back()
        .and_then(|proto| scheme(std::str::from_utf8(proto).ok()?))
}

/// The nearest proxy's word about which host the client asked for.
pub(super) fn host(headers: &HeaderMap) -> Option<HeaderValue> {
    elements(headers, &FORWARDED_HOST)
        .next_back()
        .and_then(authority)
}

/// What stands between commas, in all lines. Empty elements are none (RFC 9110 §5.6.1).
fn elements<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'h [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Pieces of `text` at `separator`, but not within a quoted string.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.bytes().position(|byte| {
            let was_escaped = std::mem::take(&mut escaped);
            match byte {
                b'\\' if quoted && !was_escaped => escaped = true,
                b'"' if !was_escaped => quoted = !quoted,
                _ => {}
            }
            byte == separator && !quoted
        });
        let (piece, then) = match end {
            Some(end) => (&text[..end], Some(&text[end + 1..])),
            None => (text, None),
        };
        rest = then;
        Some(piece)
    })
}

/// `for=192.0.2.60;proto=http;by=203.0.113.43`. Wrong in one place, it says nothing at all.
fn element(text: &str) -> Element {
    let mut element = Element::default();
    let mut seen: Vec<String> = Vec::new();
    for pair in split(text, b';')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let pair = pair
            .split_once('=')
            .and_then(|(name, value)| Some((name.to_ascii_lowercase(), unquoted(value)?)));
        let Some((name, value)) = pair.filter(|(name, _)| !seen.contains(name)) else {
            return Element::default();
        };
        match name.as_str() {
            "for" => element.client = node(&value),
            "proto" => element.proto = scheme(&value),
            "host" => element.host = authority(value.as_bytes()),
            _ => {}
        }
        seen.push(name);
    }
    element
}

/// A token, or what a quoted string says (RFC 9110 §5.6.4). Tokens may hold what proxies forget to quote: `[` `]` `:`.
fn unquoted(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else {
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
        return value.bytes().all(plain).then(|| value.to_owned());
    };
    let mut text = String::new();
    let mut characters = rest.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(text),
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
}

/// An address with or without a port: `192.0.2.1:80`, `[2001:db8::1]:80`, `2001:db8::1`, each also in quotes. `unknown`, `_hidden` and
/// all else are nobody's address (RFC 7239 §6).
fn node(text: &str) -> Option<IpAddr> {
    let text = match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => text,
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let bare = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return bare.then(|| IpAddr::from(address).to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    is_port(port).then(|| IpAddr::from(address))
}

/// Digits, or a name that hides them (RFC 7239 §6.2).
fn is_port(text: &str) -> bool {
    let obfuscated = |rest: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !rest.is_empty() && rest.bytes().all(known)
    };
    match text.strip_prefix('_') {
        Some(rest) => obfuscated(rest),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn scheme(text: &str) -> Option<&'static str> {
    ["https", "http"]
        .into_iter()
        .find(|known| text.eq_ignore_ascii_case(known))
}

/// A host with or without a port, in the characters that such have.
fn authority(text: &[u8]) -> Option<HeaderValue> {
    let known = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    };
    let sound = (1..=255).contains(&text.len()) && text.iter().all(known);
    sound.then(|| HeaderValue::from_bytes(text).ok()).flatten()
}
