//! Issuers of tokens, good and forged.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use ring::{digest, hmac};
use serde_json::{Value, json};

/// What gateways of these tests share with whoever signs for them.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Seconds since the epoch.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// A token of [`SECRET`] with these claims besides an `exp` in an hour.
pub fn token(claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let head = json!({"alg": "HS256", "typ": "JWT"});
    signed(&head, claims, |message| {
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

/// `Authorization` of a user.
pub fn basic(user: &str, password: &str) -> String {
    format!(
        "authorization: Basic {}",
        STANDARD.encode(format!("{user}:{password}"))
    )
}

/// SHA-256 in hexadecimal digits, as the file wants it.
pub fn sha256(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Somebody who signs with a key pair of their own.
pub struct Issuer {
    id: String,
    pair: Ed25519KeyPair,
}

impl Issuer {
    pub fn new(id: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self {
            id: id.into(),
            pair: Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key"),
        }
    }

    /// The key set that the issuer publishes.
    pub fn jwks(&self) -> String {
        let public = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        let key = json!({"kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": public});
        json!({"keys": [key]}).to_string()
    }

    pub fn token(&self, claims: &Value) -> String {
        let head = json!({"alg": "EdDSA", "kid": self.id});
        signed(&head, claims, |message| {
            self.pair.sign(message).as_ref().to_vec()
        })
    }
}

fn signed(head: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let mut all = json!({"exp": now() + 3600, "sub": "ann"});
    for (name, value) in claims.as_object().cloned().unwrap_or_default() {
        all[name] = value;
    }
    let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encoded(head), encoded(&all));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}
