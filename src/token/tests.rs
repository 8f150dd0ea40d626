//! Forged tokens, each with one thing wrong.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA512, RsaEncoding,
    RsaKeyPair,
};
use ring::{hmac, rsa};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;
/// For tests alone, PKCS#8 as OpenSSL makes it.
const RSA: &[u8] = include_bytes!("tests/rsa.der");

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn signed(head: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encoded(head), encoded(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", encoded(signature))
}

fn hs256(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |message| hmac::sign(&key, message).as_ref().to_vec()
}

fn rules(algorithms: &[Algorithm]) -> Rules {
    Rules {
        issuer: None,
        audience: None,
        algorithms: algorithms.to_vec(),
        require: Vec::new(),
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// A token of the secret with these members of the head and claims besides a good `exp`.
#[expect(clippy::needless_pass_by_value, reason = "callers write it in place")]
fn token(head: Value, claims: Value) -> String {
    let mut whole = json!({"alg": "HS256"});
    merge(&mut whole, &head);
    let mut all = json!({"exp": NOW + 10, "sub": "ann"});
    merge(&mut all, &claims);
    signed(
        &whole.to_string(),
        &all.to_string(),
        hs256(SECRET.as_bytes()),
    )
}

fn merge(into: &mut Value, from: &Value) {
    for (name, value) in from.as_object().cloned().unwrap_or_default() {
        into[name] = value;
    }
}

fn check(token: &str) -> Result<Verified, Fault> {
    check_with(token, &rules(&[Algorithm::HS256]))
}

fn check_with(token: &str, rules: &Rules) -> Result<Verified, Fault> {
    verify(token, &KeySet::of_secret(SECRET), rules, now())
}

#[test]
fn a_sound_token_tells_who_and_until_when() {
    let verified = check(&token(json!({"typ": "JWT", "kid": "any"}), json!({})));
    let expires = now() + Duration::from_secs(10);
    let subject = Some("ann".to_owned());
    assert_eq!(verified, Ok(Verified { subject, expires }));
}

/// RFC 7515 appendix A.1: somebody else's token, with a key of 64 bytes that are no text.
#[test]
fn the_example_of_the_standard_verifies() {
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const KEY: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    provider::install();
    let key = URL_SAFE_NO_PAD.decode(KEY).expect("base64");
    let key = jsonwebtoken::DecodingKey::from_secret(&key);
    let (message, signature) = TOKEN.rsplit_once('.').expect("three parts");
    let verified =
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256);
    assert!(verified.expect("can be checked"));
}

/// EDGE A4, and A3 for `typ`.
#[test]
fn heads_that_nobody_may_ignore_are_refused() {
    for head in [
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"b64": false}),
        json!({"b64": true}),
        json!({"zip": "DEF"}),
        json!({"enc": "A128GCM"}),
        json!({"kid": 5}),
        json!({"kid": null}),
        json!({"typ": "logout+jwt"}),
        json!({"typ": "dpop+jwt"}),
        json!({"typ": 1}),
        json!({"alg": null}),
        json!({"alg": ["HS256"]}),
    ] {
        let token = token(head.clone(), json!({}));
        assert_eq!(check(&token), Err(Fault::Malformed), "{head}");
    }
    for kind in ["jwt", "at+jwt", "application/at+JWT"] {
        assert!(
            check(&token(json!({"typ": kind}), json!({}))).is_ok(),
            "{kind}"
        );
    }
}

/// EDGE A4: two readers could see two different tokens.
#[test]
fn members_that_stand_twice_are_refused() {
    let good = format!(r#"{{"exp":{}}}"#, NOW + 10);
    let sign = |head: &str, claims: &str| signed(head, claims, hs256(SECRET.as_bytes()));
    assert!(check(&sign(r#"{"alg":"HS256"}"#, &good)).is_ok());
    for (head, claims) in [
        (r#"{"alg":"none","alg":"HS256"}"#, good.as_str()),
        (
            r#"{"alg":"HS256"}"#,
            &format!(r#"{{"exp":{0},"exp":{0}}}"#, NOW + 10),
        ),
        (
            r#"{"alg":"HS256"}"#,
            &format!(r#"{{"sub":"a","exp":{},"sub":"b"}}"#, NOW + 10),
        ),
        (r#"{"alg":"HS256"}"#, "[]"),
        (r#"{"alg":"HS256"}"#, "exp"),
        (r#"{"alg":"HS256"}"#, &format!("{good} {good}")),
        (r#"["HS256"]"#, &good),
    ] {
        assert_eq!(
            check(&sign(head, claims)),
            Err(Fault::Malformed),
            "{head} {claims}"
        );
    }
}

/// EDGE A4: neither encrypted tokens, nor other serialisations, nor endless ones.
#[test]
fn shapes_that_are_no_token_are_refused() {
    let good = token(json!({}), json!({}));
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        format!("{message}."),
        message.to_owned(),
        format!("{good}.x.y"),
        format!("{good}."),
        format!(" {good}"),
        format!("{good}="),
        format!("{message}.{signature}\n"),
        token(json!({}), json!({"x": "y".repeat(8 * 1024)})),
    ] {
        assert!(
            matches!(check(&bad), Err(Fault::Malformed | Fault::Signature)),
            "{bad}"
        );
    }
    let parts: Vec<&str> = good.split('.').collect();
    for flipped in [
        format!(
            "{}.{}.{}",
            parts[0],
            encoded(r#"{"exp":9999999999}"#),
            parts[2]
        ),
        format!("{}.{}.{}", parts[0], parts[1], encoded([0; 32])),
        format!("{}.{}.{}", parts[0], parts[1], encoded([])),
    ] {
        assert_eq!(check(&flipped), Err(Fault::Signature), "{flipped}");
    }
}

/// CONTRACT §6 "Tokens", EDGE A3: no leeway on `exp`, a minute on `nbf` and `iat`.
#[test]
fn time_is_checked_to_the_second() {
    let fault = |claims: Value| check(&token(json!({}), claims)).err();
    for (claims, expected) in [
        (json!({"exp": NOW + 1}), None),
        (json!({"exp": NOW}), Some(Fault::Expired)),
        (json!({"exp": NOW - 1}), Some(Fault::Expired)),
        (json!({"exp": NOW as f64 + 0.5}), None),
        (json!({"exp": 0}), Some(Fault::Expired)),
        (json!({"exp": u64::MAX}), None),
        (json!({"exp": 1e300}), None),
        (json!({"exp": null}), Some(Fault::Malformed)),
        (
            json!({"exp": (NOW + 10).to_string()}),
            Some(Fault::Malformed),
        ),
        (json!({"exp": -1}), Some(Fault::Malformed)),
        (json!({"nbf": NOW + 60}), None),
        (json!({"nbf": NOW + 61}), Some(Fault::Early)),
        (json!({"nbf": "soon"}), Some(Fault::Malformed)),
        (json!({"iat": NOW + 60}), None),
        (json!({"iat": NOW + 61}), Some(Fault::Early)),
        (json!({"iat": 0}), None),
    ] {
        assert_eq!(fault(claims.clone()), expected, "{claims}");
    }
    let without = signed(
        r#"{"alg":"HS256"}"#,
        r#"{"sub":"ann"}"#,
        hs256(SECRET.as_bytes()),
    );
    assert_eq!(check(&without), Err(Fault::Malformed));
}

/// EDGE A3: who made it and for whom, when the file says so; a token that does not say is none.
#[test]
fn issuer_and_audience_are_checked() {
    let rules = Rules {
        issuer: Some("https://issuer.example".into()),
        audience: Some("prices".into()),
        ..rules(&[Algorithm::HS256])
    };
    let (iss, aud) = ("https://issuer.example", "prices");
    for (claims, expected) in [
        (json!({"iss": iss, "aud": aud}), None),
        (json!({"iss": iss, "aud": ["other", aud]}), None),
        (json!({"iss": iss}), Some(Fault::Audience)),
        (json!({"iss": iss, "aud": "price"}), Some(Fault::Audience)),
        (json!({"iss": iss, "aud": []}), Some(Fault::Audience)),
        (
            json!({"iss": iss, "aud": {"prices": 1}}),
            Some(Fault::Audience),
        ),
        (json!({"aud": aud}), Some(Fault::Issuer)),
        (
            json!({"iss": "https://issuer.example/", "aud": aud}),
            Some(Fault::Issuer),
        ),
        (json!({"iss": [iss], "aud": aud}), Some(Fault::Issuer)),
    ] {
        let token = token(json!({}), claims.clone());
        assert_eq!(check_with(&token, &rules).err(), expected, "{claims}");
    }
}

/// EDGE A12: a sound token without the right is another matter than one that is none.
#[test]
fn required_claims_are_equal_or_contained() {
    let rules = |wanted: &str| Rules {
        require: vec![("scope".into(), wanted.into())],
        ..rules(&[Algorithm::HS256])
    };
    for (claim, wanted, fits) in [
        (json!("prices"), "prices", true),
        (json!("admin prices x"), "prices", true),
        (json!(["admin", "prices"]), "prices", true),
        (json!("a b c"), "c a", true),
        (json!(true), "true", true),
        (json!(5), "5", true),
        (json!("pricesx"), "prices", false),
        (json!("prices:write"), "prices", false),
        (json!(["prices x"]), "prices", false),
        (json!({"prices": 1}), "prices", false),
        (json!("a b"), "", false),
        (json!(null), "null", false),
    ] {
        let token = token(json!({}), json!({"scope": claim.clone()}));
        let expected = (!fits).then_some(Fault::Lacking);
        assert_eq!(
            check_with(&token, &rules(wanted)).err(),
            expected,
            "{claim} {wanted}"
        );
    }
    let late = token(json!({}), json!({"exp": NOW}));
    assert_eq!(check_with(&late, &rules("prices")), Err(Fault::Expired));
}

/// EDGE A1: what a token says about its algorithm counts for nothing beside what the file and the key say.
#[test]
fn the_algorithm_is_the_keys_own() {
    let all = [
        Algorithm::HS256,
        Algorithm::RS256,
        Algorithm::ES256,
        Algorithm::EdDSA,
    ];
    let claims = format!(r#"{{"exp":{}}}"#, NOW + 10);
    let none = format!("{}.{}.", encoded(r#"{"alg":"none"}"#), encoded(&claims));
    assert_eq!(check(&none), Err(Fault::Malformed));
    for name in ["HS384", "RS256", "ES256", "EdDSA"] {
        let token = token(json!({"alg": name}), json!({}));
        assert_eq!(check(&token), Err(Fault::Algorithm), "{name}");
    }
    // The secret is not asked with an algorithm of public keys, even where the file would take it.
    let token_of = |name: &str| token(json!({"alg": name}), json!({}));
    assert_eq!(
        check_with(&token_of("RS256"), &rules(&all)),
        Err(Fault::UnknownKey)
    );
    // The public key as a secret: the classic.
    let rsa = Signer::rsa("r");
    let public = encoded(rsa.modulus());
    for secret in [
        public.as_bytes(),
        &rsa.modulus()[..],
        rsa.jwks().to_string().as_bytes(),
    ] {
        let forged = signed(r#"{"alg":"HS256","kid":"r"}"#, &claims, hs256(secret));
        assert_eq!(
            verify(&forged, &rsa.keys(), &rules(&all), now()),
            Err(Fault::UnknownKey)
        );
    }
}

/// Every kind of key with each of its algorithms, and none with another's.
#[test]
fn published_keys_verify_what_they_signed() {
    use Algorithm::{ES256, ES384, EdDSA, HS256, PS512, RS256};
    let signers = [
        Signer::rsa("r"),
        Signer::pss("p"),
        Signer::ec("e", &ECDSA_P256_SHA256_FIXED_SIGNING),
        Signer::ec("f", &ECDSA_P384_SHA384_FIXED_SIGNING),
        Signer::ed("d"),
    ];
    let rules = rules(&[HS256, RS256, PS512, ES256, ES384, EdDSA]);
    for signer in &signers {
        let token = signer.token();
        assert!(
            verify(&token, &signer.keys(), &rules, now()).is_ok(),
            "{}",
            signer.algorithm
        );
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        bytes[10] ^= 1;
        let forged = format!("{message}.{}", encoded(bytes));
        assert_eq!(
            verify(&forged, &signer.keys(), &rules, now()),
            Err(Fault::Signature),
            "{}",
            signer.algorithm
        );
        for other in signers.iter().filter(|other| other.id != signer.id) {
            assert_eq!(
                verify(&token, &other.keys(), &rules, now()),
                Err(Fault::UnknownKey)
            );
        }
    }
}

/// EDGE A2: a key is found by its id to the letter, and a token cannot bring its own.
#[test]
fn the_key_is_looked_up_and_nothing_else() {
    let (ours, theirs) = (Signer::ed("ours"), Signer::ed("theirs"));
    let rules = rules(&[Algorithm::EdDSA]);
    let verdict = |token: &str, keys: &Value| {
        let keys = KeySet::of_jwks(keys.to_string().as_bytes()).expect("a set");
        verify(token, &keys, &rules, now()).err()
    };
    let both = json!({"keys": [ours.jwk(), theirs.jwk()]});
    let of = |signer: &Signer, head: Value| signer.token_with(head);
    assert_eq!(verdict(&ours.token(), &both), None);
    for id in ["Ours", "ours ", "../ours", "", "our", "' or 1=1 --"] {
        let token = of(&ours, json!({"kid": id}));
        assert_eq!(verdict(&token, &both), Some(Fault::UnknownKey), "{id}");
    }
    // One key under another's name.
    let token = of(&theirs, json!({"kid": "ours"}));
    assert_eq!(verdict(&token, &both), Some(Fault::Signature));
    for (name, value) in [
        ("jwk", theirs.jwk()),
        ("jku", json!("http://127.0.0.1/keys")),
        ("x5u", json!("http://127.0.0.1/keys")),
        ("x5c", json!(["AAAA"])),
    ] {
        let only_ours = json!({"keys": [ours.jwk()]});
        let token = of(&theirs, json!({"kid": "ours", name: value.clone()}));
        assert!(verdict(&token, &only_ours).is_some(), "{name}");
        let token = of(&ours, json!({"kid": "ours", name: value}));
        assert_eq!(verdict(&token, &only_ours), None, "{name}");
    }
    // Without an id: only when there is no choice.
    let nameless = of(&ours, json!({"kid": null}));
    assert_eq!(verdict(&nameless, &both), Some(Fault::Malformed));
    let nameless = ours.token_without_id();
    assert_eq!(verdict(&nameless, &both), Some(Fault::UnknownKey));
    assert_eq!(verdict(&nameless, &json!({"keys": [ours.jwk()]})), None);
    let rsa = Signer::rsa("r");
    assert_eq!(
        verdict(&nameless, &json!({"keys": [ours.jwk(), rsa.jwk()]})),
        None
    );
}

/// EDGE A1: of a published set only public keys for signatures count.
#[test]
fn keys_that_are_of_no_use_are_left_out() {
    let ed = Signer::ed("d").jwk();
    let with = |name: &str, value: Value| {
        let mut key = ed.clone();
        key[name] = value;
        json!({"keys": [key]})
    };
    let read = |set: &Value| KeySet::of_jwks(set.to_string().as_bytes()).map(|_| ());
    assert_eq!(read(&with("use", json!("sig"))), Ok(()));
    assert_eq!(read(&with("key_ops", json!(["verify"]))), Ok(()));
    let secret = json!({"kty": "oct", "k": encoded(SECRET), "alg": "HS256"});
    let small = json!({"kty": "RSA", "n": encoded([255; 128]), "e": "AQAB"});
    for set in [
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("RS256")),
        with("alg", json!("HS256")),
        with("crv", json!("Ed448")),
        with("kty", json!("XX")),
        with("x", json!("AAAA")),
        with("x", json!(5)),
        json!({"keys": []}),
        json!({"keys": [secret, small, 5, null]}),
    ] {
        assert_eq!(read(&set), Err(NoKey::NoneFits), "{set}");
    }
    for set in [json!([]), json!({}), json!({"keys": {}}), ed.clone()] {
        assert_eq!(read(&set), Err(NoKey::NoSet), "{set}");
    }
    // One bad key costs nobody the good ones.
    assert_eq!(read(&json!({"keys": [secret, ed]})), Ok(()));
}

proptest! {
    /// Whatever is sent as a token, it is checked and found bad.
    #[test]
    fn no_text_is_a_token_by_chance(text in "[A-Za-z0-9_.-]{0,60}|.{0,40}", head in ".{0,40}", claims in ".{0,40}") {
        prop_assert!(check(&text).is_err());
        let signed = signed(&head, &claims, hs256(SECRET.as_bytes()));
        prop_assert!(check(&signed).is_err());
        let head = r#"{"alg":"HS256"}"#;
        prop_assert!(check(&self::signed(head, &claims, hs256(SECRET.as_bytes()))).is_err());
    }

    #[test]
    fn any_text_is_read_as_a_set(text in ".{0,60}") {
        let _ = KeySet::of_jwks(text.as_bytes());
    }

    /// A token is believed exactly while its time lasts.
    #[test]
    fn believed_exactly_until_it_expires(offset in -100_i64..100) {
        let token = token(json!({}), json!({"exp": NOW.saturating_add_signed(offset)}));
        prop_assert_eq!(check(&token).is_ok(), offset > 0);
    }
}

/// Somebody with a key pair.
struct Signer {
    id: &'static str,
    algorithm: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    fn rsa(id: &'static str) -> Self {
        let pair = Box::new(RsaKeyPair::from_pkcs8(RSA).expect("a key"));
        Self {
            id,
            algorithm: "RS256",
            pair: Pair::Rsa(pair, &RSA_PKCS1_SHA256),
        }
    }

    fn pss(id: &'static str) -> Self {
        let pair = Box::new(RsaKeyPair::from_pkcs8(RSA).expect("a key"));
        Self {
            id,
            algorithm: "PS512",
            pair: Pair::Rsa(pair, &RSA_PSS_SHA512),
        }
    }

    fn ec(id: &'static str, kind: &'static EcdsaSigningAlgorithm) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(kind, key.as_ref(), &random).expect("a key");
        let algorithm = match pair.public_key().as_ref().len() {
            65 => "ES256",
            _ => "ES384",
        };
        Self {
            id,
            algorithm,
            pair: Pair::Ec(pair),
        }
    }

    fn ed(id: &'static str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key");
        Self {
            id,
            algorithm: "EdDSA",
            pair: Pair::Ed(pair),
        }
    }

    fn modulus(&self) -> Vec<u8> {
        let Pair::Rsa(pair, _) = &self.pair else {
            panic!("no RSA key");
        };
        rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public()).n
    }

    fn jwk(&self) -> Value {
        let mut key = match &self.pair {
            Pair::Rsa(pair, _) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": encoded(public.n), "e": encoded(public.e)})
            }
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": encoded(x), "y": encoded(y)})
            }
            Pair::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key())})
            }
        };
        key["kid"] = json!(self.id);
        key
    }

    fn jwks(&self) -> Value {
        json!({"keys": [self.jwk()]})
    }

    fn keys(&self) -> KeySet {
        KeySet::of_jwks(self.jwks().to_string().as_bytes()).expect("a set")
    }

    fn token(&self) -> String {
        self.token_with(json!({}))
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write it in place")]
    fn token_with(&self, more: Value) -> String {
        let mut head = json!({"alg": self.algorithm, "kid": self.id});
        merge(&mut head, &more);
        self.sign(&head)
    }

    fn token_without_id(&self) -> String {
        self.sign(&json!({"alg": self.algorithm}))
    }

    fn sign(&self, head: &Value) -> String {
        let claims = format!(r#"{{"exp":{}}}"#, NOW + 10);
        let random = SystemRandom::new();
        signed(&head.to_string(), &claims, |message| match &self.pair {
            Pair::Rsa(pair, padding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(*padding, &random, message, &mut signature)
                    .expect("signs");
                signature
            }
            Pair::Ec(pair) => pair
                .sign(&random, message)
                .expect("signs")
                .as_ref()
                .to_vec(),
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        })
    }
}
