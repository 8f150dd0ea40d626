//! The head of an HTTP/1 request, read strictly before anybody else sees it (RFC 9112; EDGE P2, P3, P8–P10): what can be read
//! in two ways, here or behind us, is refused. Pure.

use memchr::{memchr, memchr_iter};

use super::super::reply::Rejection;
use super::super::request::is_authority;
use super::body::Framing;

/// Longest request line (EDGE P10).
pub(in crate::edge) const MAX_LINE: usize = 8 * 1024;

/// Most header lines (EDGE P10).
pub(in crate::edge) const MAX_HEADERS: usize = 100;

/// Why a request is not served; its connection ends.
pub(super) type Fault = Box<Rejection>;

/// A head that can be read in one way only.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes up to and with the empty line.
    pub(super) length: usize,
    /// Where its body ends.
    pub(super) framing: Framing,
    /// Whether it asks to speak another protocol afterwards.
    pub(super) upgrade: bool,
    /// Where the authority of an absolute-form target stands, with its scheme: to be cut out, as it says what Host says.
    pub(super) cut: Option<Cut>,
}

/// The part of an absolute-form target before its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) from: usize,
    pub(super) to: usize,
    /// What the target then is, where it has no path of its own.
    pub(super) instead: &'static str,
}

/// Looks for the end of a head in bytes that come bit by bit; each is looked at once.
#[derive(Debug, Default)]
pub(super) struct Scan {
    looked_at: usize,
    line_start: usize,
}

impl Scan {
    /// The length of the head, once it is whole. `buf` is what came so far, from the request line on.
    pub(super) fn end(&mut self, buf: &[u8], max: usize) -> Result<Option<usize>, Fault> {
        // TLS on a plain port, or any other protocol, is noticed without waiting for a line.
        if buf.first().is_some_and(|&byte| !is_token(byte)) {
            return Err(bad("The request line is malformed."));
        }
        while let Some(at) = memchr(b'\n', &buf[self.looked_at..]) {
            let at = self.looked_at + at;
            let line = &buf[self.line_start..at];
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(bad("A line of the head ends without carriage return."));
            };
            if self.line_start == 0 && line.len() > MAX_LINE {
                return Err(Rejection::UriTooLong.into());
            }
            if at >= max {
                return Err(Rejection::HeadTooLarge.into());
            }
            if line.is_empty() {
                return Ok(Some(at + 1));
            }
            self.looked_at = at + 1;
            self.line_start = at + 1;
        }
        self.looked_at = buf.len();
        if self.line_start == 0 && buf.len() > MAX_LINE {
            return Err(Rejection::UriTooLong.into());
        }
        if buf.len() > max {
            return Err(Rejection::HeadTooLarge.into());
        }
        Ok(None)
    }
}

/// Reads a whole head, as [`Scan`] found it.
pub(super) fn parse(head: &[u8]) -> Result<Head, Fault> {
    let mut from = 0;
    let mut lines = memchr_iter(b'\n', head).map(|end| {
        let line = &head[from..end];
        from = end + 1;
        // The scan has seen a carriage return before each of these.
        line.strip_suffix(b"\r").unwrap_or(line)
    });
    let line = RequestLine::parse(lines.next().unwrap_or_default())?;
    let mut fields = Fields::default();
    for (count, text) in lines.take_while(|text| !text.is_empty()).enumerate() {
        if count == MAX_HEADERS {
            return Err(Rejection::HeadTooLarge.into());
        }
        fields.line(text)?;
    }
    let framing = fields.framing(&line)?;
    let cut = fields.host(&line)?;
    Ok(Head {
        length: head.len(),
        framing,
        upgrade: line.is_11 && fields.upgrade && fields.connection_upgrade,
        cut,
    })
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    /// HTTP/1.1, or else 1.0.
    is_11: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Fault> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("The request line is malformed."));
        };
        if method.is_empty() || !method.iter().copied().all(is_token) {
            return Err(bad("The method is no token."));
        }
        let is_11 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Rejection::VersionNotSupported.into());
            }
            _ => return Err(bad("The request line is malformed.")),
        };
        // Nobody behind us agrees on what a tunnel or an echo through a gateway is (EDGE P8).
        if matches!(method, b"CONNECT" | b"TRACE") {
            let allowed = vec!["GET", "HEAD", "OPTIONS"];
            return Err(Rejection::MethodNotAllowed(allowed).into());
        }
        if target.is_empty()
            || !target
                .iter()
                .all(|&byte| byte.is_ascii_graphic() && byte != b'#')
        {
            return Err(bad("The request target holds a byte that it cannot have."));
        }
        // Whoever serves the request reads its target so.
        if target.starts_with(b"/") && http::uri::PathAndQuery::try_from(target).is_err() {
            return Err(bad("The request target holds a byte that it cannot have."));
        }
        Ok(Self {
            method,
            target,
            is_11,
        })
    }

    /// The authority of an absolute-form target, and where it ends in the target.
    fn authority(&self) -> Result<Option<(&'a [u8], usize)>, Fault> {
        match self.target {
            [b'/', ..] => return Ok(None),
            b"*" if self.method == b"OPTIONS" => return Ok(None),
            _ => {}
        }
        let scheme = [&b"http://"[..], b"https://"]
            .into_iter()
            .find(|scheme| starts_with(self.target, scheme));
        let Some(scheme) = scheme else {
            return Err(bad("The request target is neither a path nor a URL."));
        };
        let rest = &self.target[scheme.len()..];
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
        let end = end.unwrap_or(rest.len());
        if !is_authority(&rest[..end]) {
            return Err(bad("The authority of the request target is no host name."));
        }
        Ok(Some((&rest[..end], scheme.len() + end)))
    }
}

/// What of the header lines decides how the request is read.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    /// Codings seen, and whether the last one is `chunked`.
    codings: usize,
    chunked: bool,
    /// Both are needed to ask for another protocol (RFC 9110 §7.8).
    upgrade: bool,
    connection_upgrade: bool,
}

impl<'a> Fields<'a> {
    fn line(&mut self, line: &'a [u8]) -> Result<(), Fault> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(bad("A header is folded over several lines."));
        }
        let Some(colon) = memchr(b':', line) else {
            return Err(bad("A line of the head is no header."));
        };
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(bad("The name of a header is no token."));
        }
        if !value.iter().copied().all(is_text) {
            return Err(bad("A header holds a control character."));
        }
        if name.eq_ignore_ascii_case(b"host") {
            if self.host.replace(value).is_some() {
                return Err(bad("The request has more than one Host."));
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let Some(length) = digits(value) else {
                return Err(bad("Content-Length is no number."));
            };
            if self.length.replace(length).is_some() {
                return Err(bad("The request has more than one Content-Length."));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding(value)?;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            let mut options = value.split(|&byte| byte == b',').map(trim);
            self.connection_upgrade |=
                options.any(|option| option.eq_ignore_ascii_case(b"upgrade"));
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        for coding in value.split(|&byte| byte == b',').map(trim) {
            if self.chunked || coding.is_empty() {
                return Err(bad("Transfer-Encoding does not end in one chunked."));
            }
            self.chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.codings += 1;
        }
        Ok(())
    }

    fn framing(&self, line: &RequestLine<'_>) -> Result<Framing, Fault> {
        match (self.codings, self.length) {
            (0, None | Some(0)) => Ok(Framing::None),
            (0, Some(length)) => Ok(Framing::Length(length)),
            (_, Some(_)) => Err(bad(
                "The request has both Content-Length and Transfer-Encoding.",
            )),
            (_, None) if !line.is_11 => Err(bad("HTTP/1.0 has no Transfer-Encoding.")),
            (_, None) if !self.chunked => {
                Err(bad("Transfer-Encoding does not end in one chunked."))
            }
            (1, None) => Ok(Framing::Chunked),
            (_, None) => Err(Rejection::CodingNotSupported.into()),
        }
    }

    /// Host against the target (RFC 9112 §3.2; EDGE P9).
    fn host(&self, line: &RequestLine<'_>) -> Result<Option<Cut>, Fault> {
        let authority = line.authority()?;
        let Some(host) = self.host else {
            return match line.is_11 {
                true => Err(bad("The request has no Host.")),
                // A URL without Host would lose whom it is for.
                false if authority.is_some() => Err(bad("The request has no Host.")),
                false => Ok(None),
            };
        };
        if !is_authority(host) {
            return Err(bad("Host is no host name."));
        }
        let Some((authority, end)) = authority else {
            return Ok(None);
        };
        if !authority.eq_ignore_ascii_case(host) {
            return Err(bad("Host is not what the request target says."));
        }
        let instead = match (line.target.get(end), line.method) {
            (Some(b'/'), _) => "",
            (None, b"OPTIONS") => "*",
            _ => "/",
        };
        let from = line.method.len() + 1;
        let to = from + end;
        Ok(Some(Cut { from, to, instead }))
    }
}

fn bad(why: &'static str) -> Fault {
    Rejection::BadRequest(why).into()
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    // Every byte of every name is asked about.
    const TOKEN: [bool; 256] = {
        let mut token = [false; 256];
        let others = b"!#$%&'*+-.^_`|~";
        let mut at = 0;
        while at < others.len() {
            token[others[at] as usize] = true;
            at += 1;
        }
        let mut byte = 0_u8;
        while byte < 128 {
            token[byte as usize] |= byte.is_ascii_alphanumeric();
            byte += 1;
        }
        token
    };
    TOKEN[usize::from(byte)]
}

/// RFC 9110 §5.5: visible, space, tab, or not ASCII.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Without the spaces and tabs around it (RFC 9110 §5.6.3), and without those alone.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Digits alone, below 10^18: no sign, no list, no space.
fn digits(text: &[u8]) -> Option<u64> {
    if !(1..=18).contains(&text.len()) || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        text.iter()
            .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')),
    )
}

fn starts_with(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(head: &str) -> Result<Option<Head>, Rejection> {
        read_bytes(head.as_bytes())
    }

    fn read_bytes(head: &[u8]) -> Result<Option<Head>, Rejection> {
        let end = Scan::default()
            .end(head, 32 * 1024)
            .map_err(|fault| *fault)?;
        end.map(|end| parse(&head[..end]))
            .transpose()
            .map_err(|fault| *fault)
    }

    fn status(head: &str) -> u16 {
        match read(head) {
            Ok(Some(_)) => 200,
            Ok(None) => 0,
            Err(rejection) => rejection.status().as_u16(),
        }
    }

    /// EDGE P2, P3, P8, P9, P10.
    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\nHost:a\r\nX:  \t b \r\nY:\r\n\r\n", 200),
            ("GET http://a/b HTTP/1.1\r\nHost: A\r\n\r\n", 200),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
                200,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
                200,
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\n", 0),
            ("GET /\r\n\r\n", 400),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("G\u{1}T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1x\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            ("\u{16}\u{3}\u{1}", 400),
            ("GET / HTTP/1.1\nHost: a\n\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\u{7f}b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\t: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,2\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
                400,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
                400,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                501,
            ),
        ] {
            assert_eq!(status(head), expected, "{head:?}");
        }
    }

    /// EDGE P10: at the bound and one over it.
    #[test]
    fn heads_are_bounded() {
        let line = |length: usize| {
            let path = "a".repeat(length - "GET / HTTP/1.1".len());
            format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")
        };
        assert_eq!(status(&line(MAX_LINE)), 200);
        assert_eq!(status(&line(MAX_LINE + 1)), 414);
        assert_eq!(status(&"a".repeat(MAX_LINE + 1)), 414);
        let many = |count: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "x: y\r\n".repeat(count - 1)
            )
        };
        assert_eq!(status(&many(MAX_HEADERS)), 200);
        assert_eq!(status(&many(MAX_HEADERS + 1)), 431);
        let large = |length: usize| {
            let rest = "GET / HTTP/1.1\r\nHost: a\r\nx: \r\n\r\n".len();
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n",
                "y".repeat(length - rest)
            )
        };
        assert_eq!(status(&large(32 * 1024)), 200);
        assert_eq!(status(&large(32 * 1024 + 1)), 431);
    }

    /// EDGE P9: what stands before the path says what Host says.
    #[test]
    fn absolute_targets_are_cut_to_their_path() {
        let cut = |head: &str| {
            let cut = read(head)
                .expect("fine")
                .expect("whole")
                .cut
                .expect("absolute");
            format!("{}{}{}", &head[..cut.from], cut.instead, &head[cut.to..])
                .split("\r\n")
                .next()
                .map(str::to_owned)
        };
        for (target, expected) in [
            ("GET http://a/b?c", "GET /b?c"),
            ("GET HTTPS://a:8443?c", "GET /?c"),
            ("GET http://a", "GET /"),
            ("OPTIONS http://a", "OPTIONS *"),
        ] {
            let host = if target.contains(":8443") {
                "a:8443"
            } else {
                "a"
            };
            let head = format!("{target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(cut(&head), Some(format!("{expected} HTTP/1.1")));
        }
    }

    proptest! {
        /// However it is cut into pieces, the same head is found, and nothing panics.
        #[test]
        fn pieces_make_no_difference(
            head in "(GET|POST|[ -~\r\n\0]{0,8}) [ -~]{0,8} HTTP/1\\.1(\r\n[ -~]{0,12}){0,4}(\r\n\r\n)?[ -~\r\n]{0,6}",
            cuts in prop::collection::vec(0usize..80, 0..6),
        ) {
            let head = head.as_bytes();
            let whole = Scan::default().end(head, 60);
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < head.len()).collect();
            cuts.sort_unstable();
            cuts.push(head.len());
            let mut scan = Scan::default();
            let mut found = Ok(None);
            for cut in cuts {
                found = scan.end(&head[..cut], 60);
                if found != Ok(None) {
                    break;
                }
            }
            // A bound that is passed early may be told before a fault behind it.
            prop_assert_eq!(found.is_err(), whole.is_err());
            if let (Ok(found), Ok(whole)) = (found, whole) {
                prop_assert_eq!(found, whole);
                if let Some(end) = whole {
                    let _ = parse(&head[..end]);
                }
            }
        }

        /// What passes has no byte in a header that could end it.
        #[test]
        fn no_control_byte_passes(value in prop::collection::vec(any::<u8>(), 0..8)) {
            let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nx: ".to_vec();
            head.extend_from_slice(&value);
            head.extend_from_slice(b"\r\n\r\n");
            let clean = value.iter().copied().all(is_text);
            prop_assert_eq!(matches!(read_bytes(&head), Ok(Some(found)) if found.length == head.len()), clean);
        }
    }
}
