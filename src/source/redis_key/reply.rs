//! From a reply of the server to a value (CONTRACT.md §6, "Redis shapes"). Pure.

use indexmap::IndexMap;
use xxhash_rust::xxh3::Xxh3;

use super::read;
use crate::config::{RedisFormat, RedisShape};
use crate::source::redis_server::MAX_BYTES;
use crate::source::{Cause, SourceError};
use crate::value::{Json, Malformed, Number, Value};

/// What a key holds, in an order that does not change unless the key does.
#[derive(Debug, PartialEq)]
pub(in crate::source) enum Content {
    /// A string.
    One(Vec<u8>),
    /// A RedisJSON document.
    Document(Vec<u8>),
    /// The elements of a list in order, or of a set sorted by their bytes.
    Many(Vec<Vec<u8>>),
    /// Fields and values of a hash, sorted by field.
    Fields(Vec<(Vec<u8>, Vec<u8>)>),
    /// Members and scores of a sorted set, by rank.
    Ranks(Vec<(Vec<u8>, Vec<u8>)>),
}

/// Takes a RESP2 reply apart; `None` when there is no such key.
pub(super) fn content(
    shape: RedisShape,
    reply: redis::Value,
) -> Result<Option<Content>, SourceError> {
    if reply == redis::Value::Nil {
        return Ok(None);
    }
    let content = match shape {
        RedisShape::String => Content::One(string(reply)?),
        RedisShape::Json => Content::Document(string(reply)?),
        RedisShape::List => Content::Many(strings(reply)?),
        RedisShape::Set => {
            let mut members = strings(reply)?;
            members.sort_unstable();
            Content::Many(members)
        }
        RedisShape::Hash => {
            let mut fields = pairs(reply)?;
            fields.sort_unstable();
            Content::Fields(fields)
        }
        RedisShape::SortedSet => Content::Ranks(pairs(reply)?),
    };
    Ok((!content.is_empty()).then_some(content))
}

impl Content {
    /// The same for the same content. Lengths go in, so that no bytes can move from one string to the next unnoticed.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut hash = Xxh3::new();
        let mut add = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        match self {
            Self::One(bytes) | Self::Document(bytes) => add(bytes),
            Self::Many(elements) => elements.iter().for_each(|element| add(element)),
            Self::Fields(pairs) | Self::Ranks(pairs) => pairs.iter().for_each(|(first, second)| {
                add(first);
                add(second);
            }),
        }
        hash.digest128()
    }

    /// The value that clients get.
    pub(in crate::source) fn value(&self, format: RedisFormat) -> Result<Value, SourceError> {
        let json = match self {
            Self::One(bytes) => return read(bytes, format).map_err(|error| malformed(&error)),
            Self::Document(bytes) => {
                return Value::parse_json(bytes).map_err(|error| malformed(&error));
            }
            Self::Many(elements) => Json::Array(
                elements
                    .iter()
                    .map(|element| part(element, format))
                    .collect::<Result<_, _>>()?,
            ),
            Self::Fields(fields) => Json::Object(
                fields
                    .iter()
                    .map(|(field, value)| Ok((text(field)?, part(value, format)?)))
                    .collect::<Result<_, SourceError>>()?,
            ),
            Self::Ranks(ranks) => Json::Array(
                ranks
                    .iter()
                    .map(|(member, score)| ranked(part(member, format)?, score))
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(Value::from_json(json))
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::One(_) | Self::Document(_) => false,
            Self::Many(elements) => elements.is_empty(),
            Self::Fields(pairs) | Self::Ranks(pairs) => pairs.is_empty(),
        }
    }
}

/// An element of a collection: a string, unless `format` is JSON.
fn part(bytes: &[u8], format: RedisFormat) -> Result<Json, SourceError> {
    match format {
        RedisFormat::Auto | RedisFormat::Text => Ok(Json::String(text(bytes)?)),
        RedisFormat::Json => {
            let value = Value::parse_json(bytes).map_err(|error| malformed(&error))?;
            value.as_json().cloned().ok_or_else(unexpected)
        }
    }
}

/// JSON has no infinite numbers: such a score is told as the string that Redis uses.
fn ranked(member: Json, score: &[u8]) -> Result<Json, SourceError> {
    let score = text(score)?;
    // Redis writes seventeen digits, most of them noise: the shortest text of the same double is what was stored.
    let shortest = score.parse::<f64>().ok().and_then(Number::from_f64);
    let score = shortest.map_or(Json::String(score), Json::Number);
    let members = IndexMap::from_iter([("member".into(), member), ("score".into(), score)]);
    Ok(Json::Object(members))
}

fn text(bytes: &[u8]) -> Result<Box<str>, SourceError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(SourceError::new(
            Cause::Malformed,
            "a string of the key is not UTF-8",
        )),
    }
}

fn string(reply: redis::Value) -> Result<Vec<u8>, SourceError> {
    match reply {
        redis::Value::BulkString(bytes) if bytes.len() > MAX_BYTES => Err(SourceError::new(
            Cause::TooLarge,
            "the reply is larger than 1 MiB",
        )),
        redis::Value::BulkString(bytes) => Ok(bytes),
        _ => Err(unexpected()),
    }
}

fn strings(reply: redis::Value) -> Result<Vec<Vec<u8>>, SourceError> {
    match reply {
        redis::Value::Array(elements) => elements.into_iter().map(string).collect(),
        _ => Err(unexpected()),
    }
}

/// Two strings that belong together.
pub(in crate::source) type Pair = (Vec<u8>, Vec<u8>);

pub(in crate::source) fn pairs(reply: redis::Value) -> Result<Vec<Pair>, SourceError> {
    let mut strings = strings(reply)?.into_iter();
    let mut pairs = Vec::with_capacity(strings.len() / 2);
    while let Some(first) = strings.next() {
        pairs.push((first, strings.next().ok_or_else(unexpected)?));
    }
    Ok(pairs)
}

fn malformed(error: &Malformed) -> SourceError {
    SourceError::new(Cause::Malformed, error.to_string())
}

pub(in crate::source) fn unexpected() -> SourceError {
    SourceError::new(
        Cause::Malformed,
        "the server's reply is not of the kind that the command gives",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bulk(text: &str) -> redis::Value {
        redis::Value::BulkString(text.as_bytes().to_vec())
    }

    fn array(texts: &[&str]) -> redis::Value {
        redis::Value::Array(texts.iter().map(|text| bulk(text)).collect())
    }

    fn encoded(
        shape: RedisShape,
        format: RedisFormat,
        reply: redis::Value,
    ) -> Result<String, Cause> {
        content(shape, reply)
            .and_then(|content| content.expect("there is such a key").value(format))
            .map(|value| value.encoded().to_owned())
            .map_err(|error| error.cause)
    }

    use RedisFormat::{Auto, Json as AsJson, Text};

    #[test]
    fn shapes_are_those_of_the_contract() {
        let cases = [
            (
                RedisShape::Hash,
                Auto,
                array(&["b", "2", "a", "x"]),
                r#"{"a":"x","b":"2"}"#,
            ),
            (
                RedisShape::Hash,
                AsJson,
                array(&["b", "2.50", "a", "[1]"]),
                r#"{"a":[1],"b":2.50}"#,
            ),
            (
                RedisShape::List,
                Text,
                array(&["z", "a", "z"]),
                r#"["z","a","z"]"#,
            ),
            (
                RedisShape::List,
                AsJson,
                array(&["{\"a\" : 1}", "null"]),
                r#"[{"a":1},null]"#,
            ),
            (
                RedisShape::Set,
                Auto,
                array(&["é", "b", "a"]),
                r#"["a","b","é"]"#,
            ),
            (
                RedisShape::SortedSet,
                Auto,
                array(&["low", "-inf", "a", "-1.5", "b", "1e+20", "c", "3"]),
                concat!(
                    r#"[{"member":"low","score":"-inf"},{"member":"a","score":-1.5},"#,
                    r#"{"member":"b","score":1e20},{"member":"c","score":3}]"#
                ),
            ),
            (
                RedisShape::Json,
                Text,
                bulk("{\"a\": 1.10}"),
                r#"{"a":1.10}"#,
            ),
            (RedisShape::String, AsJson, bulk(" [1, 2] "), "[1,2]"),
        ];
        for (shape, format, reply, expected) in cases {
            assert_eq!(
                encoded(shape, format, reply).as_deref(),
                Ok(expected),
                "{shape:?} {format:?}"
            );
        }
    }

    #[test]
    fn strings_are_json_when_they_parse_and_text_otherwise() {
        let read = |text: &str, format| {
            content(RedisShape::String, bulk(text))
                .expect("read")
                .expect("there")
                .value(format)
        };
        assert!(!read("1.50", Auto).expect("JSON").is_text());
        assert!(read("1.50 EUR", Auto).expect("text").is_text());
        assert!(read("1.50", Text).expect("text").is_text());
        // An empty string is a value.
        assert_eq!(read("", Auto).expect("text").encoded(), "");
        assert_eq!(
            read("", AsJson).expect_err("no JSON").cause,
            Cause::Malformed
        );
    }

    /// EDGE R5, E2.
    #[test]
    fn what_cannot_be_read_is_malformed() {
        let bad = || redis::Value::BulkString(vec![0xff]);
        for shape in [RedisShape::List, RedisShape::Set] {
            assert_eq!(
                encoded(shape, Auto, redis::Value::Array(vec![bad()])),
                Err(Cause::Malformed)
            );
        }
        for shape in [RedisShape::Hash, RedisShape::SortedSet] {
            for pair in [vec![bad(), bulk("1")], vec![bulk("1"), bad()]] {
                assert_eq!(
                    encoded(shape, Auto, redis::Value::Array(pair)),
                    Err(Cause::Malformed)
                );
            }
            assert_eq!(
                content(shape, array(&["odd"])).expect_err("odd").cause,
                Cause::Malformed
            );
        }
        assert_eq!(
            encoded(RedisShape::String, Auto, bad()),
            Err(Cause::Malformed)
        );
        assert_eq!(
            encoded(RedisShape::List, AsJson, array(&["{"])),
            Err(Cause::Malformed)
        );
        assert_eq!(
            content(RedisShape::String, redis::Value::Int(1))
                .expect_err("a number")
                .cause,
            Cause::Malformed
        );
    }

    #[test]
    fn nil_and_empty_collections_are_no_key() {
        for shape in [
            RedisShape::Hash,
            RedisShape::List,
            RedisShape::Set,
            RedisShape::SortedSet,
        ] {
            assert_eq!(content(shape, array(&[])).expect("read"), None);
        }
        for shape in [RedisShape::String, RedisShape::Json] {
            assert_eq!(content(shape, redis::Value::Nil).expect("read"), None);
        }
    }

    #[test]
    fn fingerprints_see_where_strings_end_but_not_the_order_of_a_set() {
        let print = |shape, texts: &[&str]| {
            content(shape, array(texts))
                .expect("read")
                .expect("there")
                .fingerprint()
        };
        assert_ne!(
            print(RedisShape::List, &["ab", "c"]),
            print(RedisShape::List, &["a", "bc"])
        );
        assert_ne!(
            print(RedisShape::List, &["a", "b"]),
            print(RedisShape::List, &["b", "a"])
        );
        assert_eq!(
            print(RedisShape::Set, &["a", "b"]),
            print(RedisShape::Set, &["b", "a"])
        );
        assert_eq!(
            print(RedisShape::Hash, &["a", "1", "b", "2"]),
            print(RedisShape::Hash, &["b", "2", "a", "1"])
        );
    }

    proptest! {
        /// Any strings come back as they were, in a document that parses.
        #[test]
        fn collections_become_valid_json(elements in prop::collection::vec(any::<String>(), 1..20)) {
            let texts: Vec<_> = elements.iter().map(String::as_str).collect();
            let encoded = encoded(RedisShape::List, Auto, array(&texts)).expect("read");
            let back: Vec<String> = serde_json::from_str(&encoded).expect("JSON");
            prop_assert_eq!(back, elements);
        }
    }
}
