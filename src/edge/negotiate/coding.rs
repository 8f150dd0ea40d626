//! Whether a stream is compressed: `Accept-Encoding` (RFC 9110 §12.5.3; EDGE Z1, Z5).

use super::thousandths;
use crate::sse::Coding;

/// The client takes neither what is offered nor the bytes as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) struct NoneAccepted;

/// How a stream that is offered in this coding, and as it is, is given. `accept`: all lines of the header joined by commas.
///
/// A client that says nothing takes anything, by the letter; but what it can decode nobody knows, so it gets the bytes as they
/// are.
pub(in crate::edge) fn coding(
    accept: Option<&str>,
    offered: Option<Coding>,
) -> Result<Option<Coding>, NoneAccepted> {
    let accept = Accept::parse(accept.unwrap_or_default());
    let offered = offered.map(|coding| (coding, accept.quality(coding.name()).unwrap_or(0)));
    match (offered, accept.quality("identity")) {
        // Who does not speak of the bytes as they are takes them, but last.
        (Some((coding, quality)), plain) if quality > 0 && quality >= plain.unwrap_or(0) => {
            Ok(Some(coding))
        }
        (_, Some(0)) => Err(NoneAccepted),
        _ => Ok(None),
    }
}

/// Codings with their qualities, in thousandths.
struct Accept<'a>(Vec<(&'a str, u16)>);

impl<'a> Accept<'a> {
    fn parse(header: &'a str) -> Self {
        let weighted = |item: &'a str| {
            let (name, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight = weight.trim();
            let weight = weight.strip_prefix("q=").or(weight.strip_prefix("Q="))?;
            let name = match name.trim() {
                // RFC 9110 §8.4.1.3.
                name if name.eq_ignore_ascii_case("x-gzip") => "gzip",
                name => name,
            };
            Some((name, thousandths(weight.trim())?))
        };
        Self(header.split(',').filter_map(weighted).collect())
    }

    /// That of `*` for what is not named; `None`: the header does not speak of it.
    fn quality(&self, name: &str) -> Option<u16> {
        let of = |name: &str| {
            let same = |item: &&(&str, u16)| item.0.eq_ignore_ascii_case(name);
            self.0.iter().find(same).map(|item| item.1)
        };
        of(name).or_else(|| of("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GZIP: Result<Option<Coding>, NoneAccepted> = Ok(Some(Coding::Gzip));
    const PLAIN: Result<Option<Coding>, NoneAccepted> = Ok(None);
    const NONE: Result<Option<Coding>, NoneAccepted> = Err(NoneAccepted);

    /// EDGE Z1, Z5, where gzip is on and where nothing is.
    #[test]
    fn qualities_decide() {
        for (accept, on, off) in [
            (None, PLAIN, PLAIN),
            (Some(""), PLAIN, PLAIN),
            (Some("gzip"), GZIP, PLAIN),
            (Some("gzip, deflate, br, zstd"), GZIP, PLAIN),
            (Some("GZip ; Q=0.001"), GZIP, PLAIN),
            (Some("x-gzip"), GZIP, PLAIN),
            (Some("zstd, br"), PLAIN, PLAIN),
            (Some("gzip;q=0"), PLAIN, PLAIN),
            (Some("gzip;q=0, *"), PLAIN, PLAIN),
            (Some("*"), GZIP, PLAIN),
            (Some("*;q=0.1"), GZIP, PLAIN),
            (Some("gzip;q=0.5, zstd"), GZIP, PLAIN),
            (Some("gzip;q=0.5, identity"), PLAIN, PLAIN),
            (Some("gzip;q=0.5, identity;q=0.5"), GZIP, PLAIN),
            (Some("gzip, *;q=0"), GZIP, NONE),
            (Some("gzip, identity;q=0"), GZIP, NONE),
            (Some("identity;q=0, *"), GZIP, NONE),
            (Some("identity;q=0"), NONE, NONE),
            (Some("*;q=0"), NONE, NONE),
            (Some("*;q=0, identity;q=0.1"), PLAIN, PLAIN),
            (Some("zstd, *;q=0"), NONE, NONE),
            (Some("gzip;q=nonsense, ;;, ,gz ip"), PLAIN, PLAIN),
        ] {
            assert_eq!(coding(accept, Some(Coding::Gzip)), on, "on, {accept:?}");
            assert_eq!(coding(accept, None), off, "off, {accept:?}");
        }
    }
}
