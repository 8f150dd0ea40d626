//! ring for `jsonwebtoken`, which comes without cryptography and panics when nobody brings some.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use ring::{hmac, signature as kind};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring the provider of this process. Whoever makes keys calls it.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    // It can fail only when there is one already, and ours is the only one in the program.
    INSTALLED.call_once(|| {
        let _ = RING.install_default();
    });
}

/// The gateway signs nothing.
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Ring {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

/// One algorithm with one key of its family.
struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], given: &Vec<u8>) -> Result<(), signature::Error> {
        use Algorithm::*;
        let unspecified = match (self.algorithm.family(), self.key.kind()) {
            (AlgorithmFamily::Hmac, DecodingKeyKind::SecretOrDer(secret)) => {
                let digest = match self.algorithm {
                    HS256 => hmac::HMAC_SHA256,
                    HS384 => hmac::HMAC_SHA384,
                    HS512 => hmac::HMAC_SHA512,
                    _ => return Err(signature::Error::new()),
                };
                // Compares in constant time.
                hmac::verify(&hmac::Key::new(digest, secret), message, given)
            }
            (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let parameters: &RsaParameters = match self.algorithm {
                    RS256 => &kind::RSA_PKCS1_2048_8192_SHA256,
                    RS384 => &kind::RSA_PKCS1_2048_8192_SHA384,
                    RS512 => &kind::RSA_PKCS1_2048_8192_SHA512,
                    PS256 => &kind::RSA_PSS_2048_8192_SHA256,
                    PS384 => &kind::RSA_PSS_2048_8192_SHA384,
                    PS512 => &kind::RSA_PSS_2048_8192_SHA512,
                    _ => return Err(signature::Error::new()),
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, given)
            }
            (_, DecodingKeyKind::SecretOrDer(public)) => match self.algorithm {
                ES256 => UnparsedPublicKey::new(&kind::ECDSA_P256_SHA256_FIXED, public)
                    .verify(message, given),
                ES384 => UnparsedPublicKey::new(&kind::ECDSA_P384_SHA384_FIXED, public)
                    .verify(message, given),
                EdDSA => UnparsedPublicKey::new(&kind::ED25519, public).verify(message, given),
                _ => return Err(signature::Error::new()),
            },
            _ => return Err(signature::Error::new()),
        };
        unspecified.map_err(|_| signature::Error::new())
    }
}
