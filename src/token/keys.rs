//! The keys that may have signed a token: one shared secret, or a published set (RFC 7517).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::head::Head;
use super::provider;

/// Bytes of the smallest RSA modulus that is taken: 2048 bits.
const MIN_MODULUS: usize = 256;

/// Keys, each with the algorithms that it can speak for. Debug output shows none of them.
#[derive(Clone)]
pub struct KeySet {
    keys: Keys,
    /// Stands for the text that they were read from.
    text: u64,
}

/// Read from the same text.
impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySet").field(&self.keys).finish()
    }
}

#[derive(Clone, Debug)]
enum Keys {
    /// For HMAC; a token's `kid` means nothing to it.
    Secret(DecodingKey),
    /// Public keys.
    Published(Vec<Key>),
}

/// The algorithms are the key's own, not what a token says (EDGE A1).
#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A text holds no key that could verify a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// `{"keys": [...]}` is wanted.
    #[error("it is no JSON Web Key Set")]
    NoSet,
    /// None of its keys is a public one for signatures, of a kind that is known.
    #[error(
        "it has no public key for signatures (RSA of 2048 bits or more, P-256, P-384, Ed25519)"
    )]
    NoneFits,
}

impl KeySet {
    /// A secret that whoever signs has, too.
    pub fn of_secret(secret: &str) -> Self {
        provider::install();
        Self {
            keys: Keys::Secret(DecodingKey::from_secret(secret.as_bytes())),
            text: xxh3_64(secret.as_bytes()),
        }
    }

    /// Reads a JSON Web Key Set. Keys for encryption, of unknown kinds, and secrets that stand in it (`kty: oct`) are left out.
    ///
    /// # Errors
    ///
    /// No set, or none of its keys is of use.
    pub fn of_jwks(text: &[u8]) -> Result<Self, NoKey> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        provider::install();
        let set: Set = serde_json::from_slice(text).map_err(|_| NoKey::NoSet)?;
        let keys: Vec<Key> = set.keys.into_iter().filter_map(Key::read).collect();
        match keys.is_empty() {
            true => Err(NoKey::NoneFits),
            false => Ok(Self {
                keys: Keys::Published(keys),
                text: xxh3_64(text),
            }),
        }
    }

    /// The key for a token: by its `kid`, to the letter (EDGE A2), or, if it has none, the only one that there can be.
    pub(super) fn fitting(&self, head: &Head) -> Option<&DecodingKey> {
        match &self.keys {
            Keys::Secret(key) => (head.algorithm.family() == AlgorithmFamily::Hmac).then_some(key),
            Keys::Published(keys) => {
                let fits = |key: &&Key| {
                    (head.key_id.is_none() || key.id == head.key_id)
                        && key.algorithms.contains(&head.algorithm)
                };
                let mut fitting = keys.iter().filter(fits);
                match (fitting.next(), fitting.next()) {
                    (Some(key), None) => Some(&key.key),
                    _ => None,
                }
            }
        }
    }
}

/// A member of a set; what else it has (certificates, urls, private parts) is not looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    fn read(member: Value) -> Option<Self> {
        use Algorithm::{ES256, ES384, EdDSA};
        let jwk: Jwk = serde_json::from_value(member).ok()?;
        let for_signatures = jwk.r#use.as_deref().is_none_or(|purpose| purpose == "sig")
            && jwk
                .key_ops
                .as_ref()
                .is_none_or(|operations| operations.iter().any(|name| name == "verify"));
        if !for_signatures {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
        let point = |length: usize| {
            let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
            let fits = x.len() == length && y.len() == length;
            fits.then(|| DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
        };
        let (key, of_kind) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let modulus = bytes(&jwk.n)?;
                let zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
                let modulus = &modulus[zeros..];
                let of_kind = AlgorithmFamily::Rsa.algorithms();
                (modulus.len() >= MIN_MODULUS).then_some(())?;
                let key = DecodingKey::from_rsa_raw_components(modulus, &bytes(&jwk.e)?);
                (key, of_kind)
            }
            ("EC", Some("P-256")) => (point(32)?, &[ES256][..]),
            ("EC", Some("P-384")) => (point(48)?, &[ES384][..]),
            ("OKP", Some("Ed25519")) => {
                let public = bytes(&jwk.x).filter(|public| public.len() == 32)?;
                (DecodingKey::from_ed_der(&public), &[EdDSA][..])
            }
            _ => return None,
        };
        let algorithms: Vec<Algorithm> = match &jwk.alg {
            None => of_kind.to_vec(),
            Some(name) => {
                let only = name.parse().ok().filter(|only| of_kind.contains(only))?;
                vec![only]
            }
        };
        Some(Self {
            id: jwk.kid,
            algorithms,
            key,
        })
    }
}
