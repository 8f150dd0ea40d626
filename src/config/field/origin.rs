//! Origins that may read across (WHATWG Fetch, "CORS check"; EDGE C1, C4).

use std::fmt;

/// An allowed origin. Compared part by part to the parsed `Origin`, never as text (EDGE C1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigin {
    /// `scheme://host[:port]`
    Exact {
        /// Lowercase.
        scheme: Box<str>,
        /// Lowercase; an IPv6 address has its brackets.
        host: Box<str>,
        /// `None` is the scheme's own port.
        port: Option<u16>,
    },
    /// `scheme://*.domain[:port]`: any sub-domain at any depth, not the domain itself.
    Subdomains {
        /// Lowercase.
        scheme: Box<str>,
        /// Lowercase, without the `*.`.
        domain: Box<str>,
        /// `None` is the scheme's own port.
        port: Option<u16>,
    },
    /// `*`
    Any,
    /// `null`: sandboxed frames, files. Allowed only when it is written in the list (EDGE C4).
    Null,
}

impl CorsOrigin {
    /// Reads one entry of the list. The error is one sentence without the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Null),
            _ => {}
        }
        let wildcard = text.replacen("://*.", "://", 1);
        let origin = Parts::parse(&wildcard)?;
        let (scheme, host, port) = (origin.scheme.into(), origin.host.into(), origin.port);
        if wildcard == text {
            return Ok(Self::Exact { scheme, host, port });
        }
        let domain: Box<str> = host;
        if domain.starts_with('[') || domain.parse::<std::net::Ipv4Addr>().is_ok() {
            return Err("an address has no sub-domains".into());
        }
        if !domain.contains('.') && &*domain != "localhost" {
            return Err("a whole top-level domain is too wide".into());
        }
        Ok(Self::Subdomains {
            scheme,
            domain,
            port,
        })
    }

    /// Whether a request with the header `Origin: {origin}` is meant. What is no origin matches nothing but [`Self::Any`].
    pub fn matches(&self, origin: &str) -> bool {
        let parts = || Parts::parse(origin).ok();
        match self {
            Self::Any => true,
            Self::Null => origin == "null",
            Self::Exact { scheme, host, port } => {
                parts().is_some_and(|p| p.scheme == **scheme && p.host == **host && p.port == *port)
            }
            Self::Subdomains {
                scheme,
                domain,
                port,
            } => parts().is_some_and(|p| {
                let below = p.host.strip_suffix(&**domain);
                let below = below.and_then(|labels| labels.strip_suffix('.'));
                p.scheme == **scheme && p.port == *port && below.is_some_and(|l| !l.is_empty())
            }),
        }
    }
}

impl fmt::Display for CorsOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, wildcard, host, port) = match self {
            Self::Any => return f.write_str("*"),
            Self::Null => return f.write_str("null"),
            Self::Exact { scheme, host, port } => (scheme, "", host, port),
            Self::Subdomains {
                scheme,
                domain,
                port,
            } => (scheme, "*.", domain, port),
        };
        write!(f, "{scheme}://{wildcard}{host}")?;
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A parsed origin (RFC 6454 §7): no path, query or userinfo.
struct Parts {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Parts {
    fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, authority)) = text.split_once("://") else {
            return Err("the scheme is missing".into());
        };
        let scheme = scheme.to_ascii_lowercase();
        let starts_well = scheme.starts_with(|c: char| c.is_ascii_lowercase());
        let scheme_byte = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if !starts_well || !scheme.bytes().all(scheme_byte) {
            return Err("the scheme is not one".into());
        }
        if authority.contains(['/', '?', '#', '@']) {
            return Err("an origin has no path, query or user".into());
        }
        let (host, port) = split_port(authority)?;
        let host = host.to_ascii_lowercase();
        if !is_host(&host) {
            return Err("the host is not one".into());
        }
        let own_port = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = port.filter(|&port| Some(port) != own_port);
        Ok(Self { scheme, host, port })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let after_address = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_address..].find(':') {
        None => Ok((authority, None)),
        Some(at) => {
            let (host, port) = authority.split_at(after_address + at);
            let digits = &port[1..];
            let port = digits.parse().ok().filter(|_| !digits.starts_with('+'));
            port.map(|port| (host, Some(port)))
                .ok_or_else(|| "the port is not one".into())
        }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    host.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> CorsOrigin {
        CorsOrigin::parse(text).expect("an origin")
    }

    /// EDGE C1: no substring or suffix match, no other scheme or port.
    #[test]
    fn an_exact_origin_matches_itself_alone() {
        let app = origin("https://app.example");
        assert!(app.matches("https://app.example") && app.matches("https://app.example:443"));
        for other in [
            "https://app.example.evil",
            "https://evilapp.example",
            "http://app.example",
            "https://app.example:8443",
            "https://app.example/",
            "https://app.example@evil",
            "https://evil?https://app.example",
            "https://app.example\0",
            "null",
            "",
        ] {
            assert!(!app.matches(other), "{other}");
        }
        assert!(origin("http://[::1]:3000").matches("http://[::1]:3000"));
        assert!(origin("HTTPS://App.Example").matches("https://app.example"));
        assert!(origin("capacitor://localhost").matches("capacitor://localhost"));
    }

    /// EDGE C1: sub-domains, at any depth, of this domain only.
    #[test]
    fn a_wildcard_matches_subdomains_alone() {
        let any = origin("https://*.example.com");
        assert!(any.matches("https://a.example.com") && any.matches("https://a.b.example.com"));
        for other in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://a.example.com.evil",
            "http://a.example.com",
            "https://a.example.com:1",
        ] {
            assert!(!any.matches(other), "{other}");
        }
    }

    /// EDGE C4.
    #[test]
    fn null_is_allowed_only_when_listed() {
        assert!(origin("null").matches("null"));
        assert!(!origin("null").matches("https://a.example"));
        assert!(!origin("https://*.example.com").matches("null"));
        assert!(origin("*").matches("null"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "example.com",
            "https://",
            "https://a.example/",
            "https://a.example/path",
            "https://user@a.example",
            "https://a example",
            "https://bücher.example",
            "https://*.com",
            "https://*.[::1]",
            "https://*.10.0.0.1",
            "https://*",
            "https://a.*.example",
            "https://a.example:",
            "https://a.example:99999",
            "https://a.example:+1",
            "://a",
            "1s://a",
        ] {
            assert!(CorsOrigin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_written_as_a_browser_writes_it() {
        for text in [
            "https://a.example",
            "http://a.example:8080",
            "https://*.a.example",
            "null",
            "*",
        ] {
            assert_eq!(origin(text).to_string(), text);
        }
        assert_eq!(
            origin("https://a.example:443").to_string(),
            "https://a.example"
        );
    }
}
