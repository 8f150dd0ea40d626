//! Spellings of a path that an upstream may read as that of a stream (EDGE P13). Pure.
//!
//! Here they are other paths, and served by other rules. Where the stream asks who reads it, they must not be the way around
//! that question.

use percent_encoding::percent_decode;

/// How often a path may have been escaped.
const ESCAPED: usize = 3;

/// The path of a stream, as those upstreams read it that forgive most; `None`: any segment.
#[derive(Debug)]
pub(super) struct Alike(Vec<Option<String>>);

impl Alike {
    /// Of a template as it stands in the file.
    pub(super) fn new(template: &str) -> Self {
        let segments = template.split('/').filter(|segment| !segment.is_empty());
        let fold = |segment: &str| match segment.starts_with('{') {
            true => None,
            false => Some(folded(segment).concat()),
        };
        Self(segments.map(fold).collect())
    }

    /// Whether `path`, folded, may be read as this one.
    pub(super) fn is(&self, path: &[String]) -> bool {
        let fits =
            |(own, given): (&Option<String>, &String)| own.as_ref().is_none_or(|own| own == given);
        self.0.len() == path.len() && self.0.iter().zip(path).all(fits)
    }
}

/// The segments of a path: unescaped again and again, without dot segments, parameters and what some take off the end, in
/// small letters.
pub(super) fn folded(path: &str) -> Vec<String> {
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..ESCAPED {
        bytes = percent_decode(&bytes).collect();
    }
    let text =
        String::from_utf8_lossy(&bytes.iter().copied().fold(Vec::new(), overlong)).to_lowercase();
    let mut segments: Vec<String> = Vec::new();
    for segment in text.split(['/', '\\']) {
        let segment = segment.split([';', '\0']).next().unwrap_or_default();
        match segment {
            ".." => drop(segments.pop()),
            _ => match segment.trim_end_matches(['.', ' ']) {
                "" => {}
                kept => segments.push(kept.to_owned()),
            },
        }
    }
    segments
}

/// Two bytes that old decoders take for one of ASCII (RFC 3629 §10).
fn overlong(mut bytes: Vec<u8>, byte: u8) -> Vec<u8> {
    match bytes.last() {
        Some(&first @ (0xc0 | 0xc1)) if byte & 0xc0 == 0x80 => {
            bytes.pop();
            bytes.push((first & 1) << 6 | byte & 0x3f);
        }
        _ => bytes.push(byte),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// EDGE P13: what a reviewer got through with.
    #[test]
    fn spellings_are_seen_through() {
        for (template, spellings) in [
            (
                "/v1/prices/{symbol}",
                &[
                    "/v1/prices/A",
                    "/v1/prices/A/",
                    "/V1/prices/A",
                    "/v1/prices;/A",
                    "/v1;a/prices/A",
                    "/..;/v1/prices/A",
                    "/x/%252e%252e/v1/prices/A",
                    "/v1/prices%c0%afA",
                    "/v1/prices./A ",
                ][..],
            ),
            (
                "/v1/quotes:latest",
                &["/v1/quotes%3Alatest", "/v1/Quotes:latest;x"][..],
            ),
            ("/caf%C3%A9", &["/caf%c3%a9", "/café"][..]),
            ("/", &["/", "/;x"][..]),
        ] {
            let alike = Alike::new(template);
            for spelling in spellings {
                assert!(alike.is(&folded(spelling)), "{template} {spelling}");
            }
        }
        let alike = Alike::new("/v1/prices/{symbol}");
        for other in ["/v1/prices", "/v1/prices/a/b", "/v1/price/a", "/"] {
            assert!(!alike.is(&folded(other)), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_folded(path in ".{0,60}") {
            let once = folded(&path);
            prop_assert!(once.iter().all(|segment| !segment.is_empty() && segment != ".."));
        }
    }
}
