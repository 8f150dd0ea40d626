//! The head of a token (RFC 7515 §4), strictly.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

use super::claims::Members;

/// Members that change what the rest means: nobody may go on without knowing them (EDGE A4). Encrypted and compressed tokens
/// and detached payloads are not taken. Members that name a key or where it is (`jku`, `jwk`, `x5u`, `x5c`) are not among
/// them: they are simply never looked at (EDGE A2).
const REFUSED: [&str; 4] = ["crit", "zip", "b64", "enc"];

/// What a token says of itself: not believed, only used to find the key.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
}

impl Head {
    /// `None`: this is no signed token that we would take.
    pub(super) fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (head, Some(_), Some(_), None) =
            (parts.next()?, parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let head: Members = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
        if REFUSED.iter().any(|name| head.get(name).is_some()) {
            return None;
        }
        let key_id = match head.get("kid") {
            None => None,
            Some(id) => Some(id.as_str()?.to_owned()),
        };
        if let Some(kind) = head.get("typ")
            && !is_access_token(kind.as_str()?)
        {
            return None;
        }
        Some(Self {
            // `none` is no algorithm.
            algorithm: Algorithm::from_str(head.get("alg")?.as_str()?).ok()?,
            key_id,
        })
    }
}

/// Tokens that were made for something else, such as a logout, are no credentials (EDGE A3; RFC 8725 §3.11, RFC 9068 §2.1).
fn is_access_token(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    matches!(kind, "jwt" | "at+jwt")
}
