//! What a token claims, and whether that is enough (RFC 7519 §4.1).

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Fault, Rules, Verified};

/// How far the issuer's clock may be ahead of ours. Never for `exp` (CONTRACT.md §6).
const LEEWAY: Duration = Duration::from_secs(60);

/// The year 10000: a time beyond means "never", and still is one that can be reckoned with.
const FAR: u64 = 253_402_300_800;

/// The members of a JSON object, none of which stands twice: with two, one reader believes the first and one the other.
#[derive(Debug, Default)]
pub(super) struct Members(BTreeMap<String, Value>);

impl Members {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object without duplicate members")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member stands twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// Holds the claims of a signed token against the rules (EDGE A3).
pub(super) fn check(claims: &Members, rules: &Rules, now: SystemTime) -> Result<Verified, Fault> {
    if let Some(issuer) = &rules.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(Fault::Issuer);
    }
    if let Some(audience) = &rules.audience
        && !claims
            .get("aud")
            .is_some_and(|claim| names(claim, audience))
    {
        return Err(Fault::Audience);
    }
    let expires = time(claims, "exp")?.ok_or(Fault::Malformed)?;
    if now >= expires {
        return Err(Fault::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|from| now + LEEWAY < from) {
            return Err(Fault::Early);
        }
    }
    let subject = match claims.get("sub") {
        None => None,
        Some(subject) => Some(subject.as_str().ok_or(Fault::Malformed)?.to_owned()),
    };
    let has = |(name, wanted): &(String, String)| {
        claims.get(name).is_some_and(|claim| holds(claim, wanted))
    };
    match rules.require.iter().all(has) {
        true => Ok(Verified { subject, expires }),
        false => Err(Fault::Lacking),
    }
}

/// A NumericDate: seconds, perhaps with a fraction.
fn time(claims: &Members, name: &str) -> Result<Option<SystemTime>, Fault> {
    let Some(claim) = claims.get(name) else {
        return Ok(None);
    };
    let since = match (claim.as_u64(), claim.as_f64()) {
        (Some(seconds), _) => Duration::from_secs(seconds.min(FAR)),
        (None, Some(seconds)) if seconds >= 0.0 => Duration::from_secs_f64(seconds.min(FAR as f64)),
        _ => return Err(Fault::Malformed),
    };
    Ok(Some(UNIX_EPOCH + since))
}

/// Whether a claim is this text, or a list with it (RFC 7519 §4.1.3).
fn names(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::String(text) => text == wanted,
        Value::Array(elements) => elements.iter().any(|element| element == wanted),
        _ => false,
    }
}

/// Whether a claim is this text or holds it: as words (the `scope` of RFC 8693 §4.2) or as an element.
fn holds(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::String(text) => {
            let has = |word| text.split(' ').any(|known| known == word);
            text == wanted || (!wanted.is_empty() && wanted.split(' ').all(has))
        }
        Value::Array(_) => names(claim, wanted),
        Value::Bool(is) => wanted == if *is { "true" } else { "false" },
        Value::Number(number) => number.to_string() == wanted,
        Value::Null | Value::Object(_) => false,
    }
}
