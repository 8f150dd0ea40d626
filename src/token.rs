//! JSON Web Tokens (RFC 7519): a token, the keys that may have signed it and the rules of the file in; who it is, and until
//! when, out. Pure: the clock is an argument, and where keys come from is somebody else's business.
//!
//! `jsonwebtoken` takes the token apart and asks our `provider` (ring) about its signature. What it is lenient about is
//! checked here: members of the head, claims that stand twice, which key may speak for which algorithm, and time.

mod claims;
mod head;
mod keys;
mod provider;

use std::time::SystemTime;

use jsonwebtoken::Validation;

pub use jsonwebtoken::{Algorithm, AlgorithmFamily};
pub use keys::{KeySet, NoKey};

use claims::Members;
use head::Head;

/// Bytes of a token; what is longer is none (EDGE A4).
const MAX_TOKEN: usize = 8 * 1024;

/// What the file asks of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be, or hold.
    pub audience: Option<String>,
    /// The only ones that are taken (EDGE A1); never empty.
    pub algorithms: Vec<Algorithm>,
    /// Claims by name, and what they must be, or hold as a word or an element.
    pub require: Vec<(String, String)>,
}

/// A token that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// `sub`, as the issuer wrote it: not for a log as it is.
    pub subject: Option<String>,
    /// `exp`, without any leeway (CONTRACT.md §6).
    pub expires: SystemTime,
}

/// Why a token is not believed. For logs and tests: a client is told no more than that its token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no signed token, or has something that nobody may ignore.
    #[error("malformed")]
    Malformed,
    /// Its algorithm is not one of those allowed.
    #[error("algorithm")]
    Algorithm,
    /// No key that is known fits it, or more than one does.
    #[error("unknown key")]
    UnknownKey,
    /// Its key did not sign it.
    #[error("signature")]
    Signature,
    /// Another issuer's.
    #[error("issuer")]
    Issuer,
    /// For another audience.
    #[error("audience")]
    Audience,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Its time has not come.
    #[error("not yet valid")]
    Early,
    /// It is sound, but lacks a claim that is required.
    #[error("claim missing")]
    Lacking,
}

/// Checks a token (EDGE A1–A4). Nothing of it counts before its signature was found good.
///
/// # Errors
///
/// The first fault there is; [`Fault::Lacking`] only for a token that is sound otherwise.
pub fn verify(
    token: &str,
    keys: &KeySet,
    rules: &Rules,
    now: SystemTime,
) -> Result<Verified, Fault> {
    if token.len() > MAX_TOKEN {
        return Err(Fault::Malformed);
    }
    let head = Head::read(token).ok_or(Fault::Malformed)?;
    if !rules.algorithms.contains(&head.algorithm) {
        return Err(Fault::Algorithm);
    }
    let key = keys.fitting(&head).ok_or(Fault::UnknownKey)?;
    let mut signed = Validation::new(head.algorithm);
    // Claims are read with our rules and our clock, below.
    signed.required_spec_claims.clear();
    signed.validate_exp = false;
    signed.validate_aud = false;
    let token = jsonwebtoken::decode::<Members>(token, key, &signed).map_err(|error| {
        use jsonwebtoken::errors::ErrorKind;
        match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => Fault::Signature,
            _ => Fault::Malformed,
        }
    })?;
    claims::check(&token.claims, rules, now)
}

#[cfg(test)]
mod tests;
