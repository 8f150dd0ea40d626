//! `auth`: who may read a stream, or publish to it (EDGE §11).

use std::fmt;
use std::sync::Arc;

use http::HeaderName;
use url::Url;

use crate::token::{KeySet, Rules};

/// Who is let in: whoever one of these knows. Empty: everybody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Auth(pub Vec<AuthMethod>);

/// One way to know somebody.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthMethod {
    /// A key in a header.
    ApiKeys(ApiKeys),
    /// A JSON Web Token.
    Jwt(Jwt),
    /// A name and a password (RFC 7617).
    Basic(Vec<Hashed>),
}

/// Keys that stand in a header.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiKeys {
    /// Lowercase.
    pub header: HeaderName,
    /// At least one; names differ.
    pub keys: Vec<Hashed>,
}

/// Somebody's key or password: only its digest is known here (EDGE A11).
#[derive(Clone, PartialEq, Eq)]
pub struct Hashed {
    /// Whose.
    pub name: String,
    /// SHA-256.
    pub sha256: [u8; 32],
}

impl fmt::Debug for Hashed {
    // The digest of a weak password can be turned back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hashed").field(&self.name).finish()
    }
}

/// Tokens of one issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// What a token must say.
    pub rules: Rules,
    /// Who may have signed it.
    pub keys: JwtKeys,
    /// A cookie that may hold the token.
    pub cookie: Option<String>,
    /// A query parameter that may hold the token of an event stream.
    pub query: Option<String>,
}

/// Where the keys of tokens are.
#[derive(Clone, Debug, PartialEq)]
pub enum JwtKeys {
    /// In the file, or in a file that it names.
    Known(Arc<KeySet>),
    /// To be fetched and kept fresh; https, or http on loopback.
    Url(Url),
}
