//! Names of hosts that a listener serves.

/// A host name, or all names under a domain. Lowercase, without port and without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This name or address.
    Name(Box<str>),
    /// `*.example.com`: names that end in `.example.com`; kept with the dot, without the star.
    Under(Box<str>),
}

impl HostPattern {
    /// Reads a name, an address (IPv6 in brackets) or `*.` and a name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(address) = text.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|text| text.parse().ok());
            let address: std::net::Ipv6Addr = address.ok_or("is no address in brackets")?;
            return Ok(Self::Name(format!("[{address}]").into()));
        }
        if text.contains(':') {
            return Err("has a port, which is not looked at");
        }
        let (under, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fits);
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err("is no host name");
        }
        let name = name.to_ascii_lowercase();
        Ok(match under {
            true => Self::Under(format!(".{name}").into()),
            false => Self::Name(name.into()),
        })
    }

    /// Whether `host`, without port, is meant; in any case, with or without a dot at its end.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
        match self {
            Self::Name(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Self::Under(suffix) => {
                let suffix = suffix.as_bytes();
                host.len() > suffix.len()
                    && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE P23, C1: whole names and whole labels are compared.
    #[test]
    fn patterns_match_whole_names() {
        let name = HostPattern::parse("Api.Example").expect("a name");
        for host in ["api.example", "API.example", "api.example."] {
            assert!(name.matches(host), "{host}");
        }
        for host in ["x.api.example", "api.example.evil", "pi.example", "", "."] {
            assert!(!name.matches(host), "{host}");
        }
        let under = HostPattern::parse("*.example.com").expect("a pattern");
        assert!(under.matches("a.example.com") && under.matches("a.B.EXAMPLE.com."));
        for host in [
            "example.com",
            ".example.com",
            "evilexample.com",
            "a.example.com.evil",
        ] {
            assert!(!under.matches(host), "{host}");
        }
        let address = HostPattern::parse("[::0:1]").expect("an address");
        assert!(address.matches("[::1]"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "", "*", "*.", "a..b", "a:80", "http://a", "a/b", "*.*.a", "a b", "[x]", "é",
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }
}
